package extract

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/klippa-app/go-pdfium"
	pdfiumerrors "github.com/klippa-app/go-pdfium/errors"
	"github.com/klippa-app/go-pdfium/references"
	"github.com/klippa-app/go-pdfium/requests"
	"github.com/klippa-app/go-pdfium/webassembly"
	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/experimental"

	"aran/platform/fault"
)

const (
	pdfWithin  = 30 * time.Second // for one file, once the engine is compiled
	startLimit = 2 * time.Minute  // for compiling it
	pdfAtOnce  = 2
	maxPages   = 5000
	pdfMemory  = 4096 // pages of 64 KiB: 256 MiB for one file
	keptFor    = 5 * time.Minute
)

// engine is PDFium, compiled to WebAssembly. Each file is read in an instance of its own: memory of its own, no files, no
// network, and it ends with its context. What is kept between files is only the compiled code, until nobody needed it
// for some minutes. Safe for concurrent use.
type engine struct {
	dir   string
	slots chan struct{}

	mu       sync.Mutex
	cache    wazero.CompilationCache
	users    int
	idle     *time.Timer
	compiled bool
}

func newEngine(dir string) *engine { return &engine{dir: dir, slots: make(chan struct{}, pdfAtOnce)} }

func (e *engine) close(ctx context.Context) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.idle != nil {
		e.idle.Stop()
	}
	return e.drop(ctx)
}

func (e *engine) drop(ctx context.Context) error {
	if e.cache == nil || e.users > 0 {
		return nil
	}
	err := e.cache.Close(ctx)
	e.cache, e.compiled = nil, false
	return err
}

// use returns the cache of compiled code, and what to call when it is done with.
func (e *engine) use(ctx context.Context) (cache wazero.CompilationCache, compiled bool, done func(), err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.cache == nil {
		if e.dir == "" {
			e.cache = wazero.NewCompilationCache()
		} else if e.cache, err = wazero.NewCompilationCacheWithDir(e.dir); err != nil {
			return nil, false, nil, fmt.Errorf("cache of the PDF engine: %w", err)
		}
	}
	if e.idle != nil {
		e.idle.Stop()
	}
	e.users++
	return e.cache, e.compiled, func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.users--
		e.idle = time.AfterFunc(keptFor, func() {
			e.mu.Lock()
			defer e.mu.Unlock()
			_ = e.drop(context.WithoutCancel(ctx)) // in memory it does not fail
		})
	}, nil
}

// read takes the text out of a PDF file, page by page.
func (e *engine) read(ctx context.Context, file []byte) (out Result, err error) {
	select {
	case e.slots <- struct{}{}:
	case <-ctx.Done():
		return out, fault.New(fault.Unavailable, "busy", "Other files are being read; send it again in a moment.").Because(ctx.Err())
	}
	defer func() { <-e.slots }()
	cache, compiled, done, err := e.use(ctx)
	if err != nil {
		return out, err
	}
	defer done()
	limit := pdfWithin
	if !compiled {
		limit += startLimit
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	defer func() {
		if v := recover(); v != nil {
			err = malformed("PDF", fmt.Errorf("panic: %v", v))
		}
		if err != nil && ctx.Err() != nil {
			err = fault.New(fault.Invalid, "file_too_slow", "Reading the PDF file took longer than %s; divide it, or save it anew with another program.", pdfWithin).Because(err)
		}
	}()
	config := wazero.NewRuntimeConfig().WithCoreFeatures(api.CoreFeaturesV2 | experimental.CoreFeaturesExceptionHandling).
		WithMemoryLimitPages(pdfMemory).WithCloseOnContextDone(true).WithCompilationCache(cache)
	pool, err := webassembly.Init(webassembly.Config{
		Context: ctx, MaxIdle: 1, MaxTotal: 1, RuntimeConfig: config,
		FSConfig: wazero.NewFSConfig(), // nothing: the default would be the whole disk
		Stdout:   io.Discard, Stderr: io.Discard,
	})
	if err != nil {
		return out, fmt.Errorf("start the PDF engine: %w", err)
	}
	defer pool.Close() //nolint:errcheck // it ends with its context besides
	e.mu.Lock()
	e.compiled = true
	e.mu.Unlock()
	p, err := pool.GetInstance(pdfWithin)
	if err != nil {
		return out, fmt.Errorf("start the PDF engine: %w", err)
	}
	return pdfText(ctx, p, file)
}

func pdfText(ctx context.Context, p pdfium.Pdfium, file []byte) (out Result, err error) {
	doc, err := p.OpenDocument(&requests.OpenDocument{File: &file})
	switch {
	case errors.Is(err, pdfiumerrors.ErrPassword), errors.Is(err, pdfiumerrors.ErrSecurity):
		return out, fault.New(fault.Invalid, "encrypted", "The PDF file is encrypted; send it without a password.")
	case err != nil:
		return out, malformed("PDF", err)
	}
	n, err := p.FPDF_GetPageCount(&requests.FPDF_GetPageCount{Document: doc.Document})
	if err != nil {
		return out, malformed("PDF", err)
	}
	if n.PageCount > maxPages {
		return out, fault.New(fault.TooLarge, "too_many_pages", "The PDF file has %d pages; divide it into files of up to %d.", n.PageCount, maxPages)
	}
	var w writer
	for i := range n.PageCount {
		if err := ctx.Err(); err != nil {
			return out, err
		}
		text, err := pageText(p, doc.Document, i)
		if err != nil {
			return out, malformed("PDF", err)
		}
		at := w.sb.Len()
		if at > 0 && text != "" {
			at += len("\n\n")
		}
		out.Pages = append(out.Pages, at)
		w.block(text)
		if w.full {
			return out, tooLarge()
		}
	}
	out.Text, out.ContentType = w.sb.String(), Plain
	if m, err := p.FPDF_GetMetaText(&requests.FPDF_GetMetaText{Document: doc.Document, Tag: "Title"}); err == nil {
		out.Title = clean(m.Value)
	}
	for i := range out.Pages { // empty pages at the end begin where the text ends
		out.Pages[i] = min(out.Pages[i], len(out.Text))
	}
	return out, nil
}

func pageText(p pdfium.Pdfium, doc references.FPDF_DOCUMENT, i int) (string, error) {
	t, err := p.GetPageText(&requests.GetPageText{Page: requests.Page{ByIndex: &requests.PageByIndex{Document: doc, Index: i}}})
	if err != nil {
		return "", err
	}
	return lines(t.Text), nil
}

// lines cleans a page's text and keeps its lines. PDFium marks a hyphen at the end of a line by U+0002: the word goes on.
func lines(s string) string {
	s = strings.NewReplacer("\r\n", "\n", "\r", "\n", "\x02", "", "\uFFFE", "", "\uFFFF", "").Replace(strings.ToValidUTF8(s, "\uFFFD"))
	var out []string
	for l := range strings.SplitSeq(s, "\n") {
		l = strings.TrimRightFunc(strings.Map(func(r rune) rune {
			if unicode.IsControl(r) {
				return ' '
			}
			return r
		}, l), unicode.IsSpace)
		if l == "" && len(out) > 0 && out[len(out)-1] == "" {
			continue
		}
		out = append(out, l)
	}
	return strings.Trim(strings.Join(out, "\n"), "\n")
}
