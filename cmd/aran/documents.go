package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"aran/client"
)

const (
	linesAtOnce = 500
	bytesAtOnce = 4 << 20
	maxLine     = 6 << 20
	maxFile     = 32 << 20
	sendAtOnce  = 2
	sendWithin  = 10 * time.Minute // one batch, with all its pauses
	namedErrors = 20
)

var formats = []string{".txt", ".text", ".md", ".markdown", ".html", ".htm", ".xhtml", ".pdf", ".docx", ".ndjson", ".jsonl"} //nolint:gochecknoglobals // a set

func documents(ctx context.Context, t terminal, args []string) error {
	what, args, err := subcommand("documents", args, []string{"add", "list", "release"})
	switch {
	case err != nil:
		return err
	case what == "list":
		return listDocuments(ctx, t, args)
	case what == "release":
		return releaseDocument(ctx, t, args)
	}
	f := flags(t, "documents add", "[--create] [--ids content|path] [--no-wait] COLLECTION FILE…|DIR|-")
	create := f.Bool("create", false, "make the collection if it is not there")
	ids := f.String("ids", "content", "what a file's id is made of: content (what is there is skipped), or path (a changed file becomes a new version)")
	noWait := f.Bool("no-wait", false, "do not wait until all is indexed")
	c, rest, err := platform(f, args)
	if err != nil {
		return err
	}
	if len(rest) < 2 || *ids != "content" && *ids != "path" {
		return fmt.Errorf("%w: aran documents add [--create] [--ids content|path] [--no-wait] COLLECTION FILE…|DIR|-", errUsage)
	}
	a := &adding{c: c, t: t, collection: rest[0], byPath: *ids == "path", there: map[string]bool{}, bar: newBar(t.err)}
	if *create {
		if err := c.MakeCollection(ctx, a.collection); err != nil {
			return err
		}
	}
	files, err := a.find(rest[1:])
	if err != nil {
		return err
	}
	if err := a.run(ctx, files); err != nil {
		return err
	}
	if !*noWait {
		if err := a.wait(ctx); err != nil {
			return err
		}
	}
	return a.summary()
}

// source is a file that is to be added.
type source struct {
	path, name string // name is the path from the folder that was given
	size       int64
}

// adding is one run of the command. Only run's own goroutine uses it.
type adding struct {
	c          *client.Client
	t          terminal
	collection string
	byPath     bool
	there      map[string]bool // ids of the collection's documents
	bar        *bar

	stored, skipped, duplicates, failed, ignored int
	bytes, total                                 int64
}

// find lists the files that were named, those of folders too. Hidden ones and unknown formats in folders are left out.
func (a *adding) find(paths []string) (out []source, err error) {
	for _, root := range paths {
		if root == "-" {
			out = append(out, source{"-", "-", 0})
			continue
		}
		err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			hidden := path != root && strings.HasPrefix(d.Name(), ".")
			if d.IsDir() {
				if hidden {
					return fs.SkipDir
				}
				return nil
			}
			if hidden || !d.Type().IsRegular() || !slices.Contains(formats, strings.ToLower(filepath.Ext(path))) {
				if path == root {
					return fmt.Errorf("%s: not a file of a known format (%s)", path, strings.Join(formats, " "))
				}
				a.ignored++
				return nil
			}
			info, err := d.Info()
			if err != nil {
				return err
			}
			name, err := filepath.Rel(root, path)
			if err != nil || name == "." {
				name = filepath.Base(path)
			}
			out = append(out, source{path, filepath.ToSlash(name), info.Size()})
			a.total += info.Size()
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}

// batch is what is sent at once: lines, or one file.
type batch struct {
	lines bytes.Buffer
	where []string // of each line, for messages
	file  *source
	id    string
	body  []byte
	size  int64

	skipped bool
	why     string // it is not sent
}

// outcome is what became of a batch.
type outcome struct {
	b   *batch
	got []client.Stored
	err error
}

func (a *adding) run(ctx context.Context, files []source) error {
	if err := a.list(ctx); err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	g, gctx := errgroup.WithContext(ctx)
	todo, done := make(chan *batch), make(chan outcome)
	g.Go(func() error {
		defer close(todo)
		r := &reading{a: a, ctx: gctx, todo: todo, now: &batch{}}
		for _, f := range files {
			if err := r.read(f); err != nil {
				return err
			}
		}
		return r.flush()
	})
	senders, sctx := errgroup.WithContext(gctx)
	for range sendAtOnce {
		senders.Go(func() error {
			for b := range todo {
				got, err := a.send(sctx, b)
				select {
				case done <- outcome{b, got, err}:
				case <-sctx.Done():
					return sctx.Err()
				}
			}
			return nil
		})
	}
	g.Go(func() error { defer close(done); return senders.Wait() })
	for o := range done {
		if err := a.count(o); err != nil {
			stop()
			_ = g.Wait() // they end because we do
			return err
		}
	}
	return g.Wait()
}

// list learns what is there, so that a run that was broken off does not send it again.
func (a *adding) list(ctx context.Context) error {
	for cursor := ""; ; {
		ids, next, err := a.c.DocumentIDs(ctx, a.collection, cursor)
		if err != nil {
			return err
		}
		for _, id := range ids {
			a.there[id] = true
		}
		if cursor = next; cursor == "" {
			return nil
		}
	}
}

// send sends a batch, with patience for a platform that has much to do.
func (a *adding) send(ctx context.Context, b *batch) (got []client.Stored, err error) {
	if b.skipped {
		return nil, nil
	}
	err = patiently(ctx, func(ctx context.Context) (err error) {
		if b.file == nil {
			got, err = a.c.PutDocuments(ctx, a.collection, b.lines.Bytes())
			return err
		}
		one, err := a.c.PutFile(ctx, a.collection, b.id, filepath.Base(b.file.name), b.body)
		got = []client.Stored{one}
		return err
	})
	return got, err
}

// patiently repeats what is safe to repeat while the platform has much to do, or cannot be reached, for sendWithin.
func patiently(ctx context.Context, do func(ctx context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, sendWithin)
	defer cancel()
	for pause := time.Second; ; pause = min(2*pause, 30*time.Second) {
		err := do(ctx)
		e, refused := errors.AsType[*client.Error](err)
		if err == nil || ctx.Err() != nil || refused && !slices.Contains(passing, e.Status) {
			return err
		}
		wait := pause
		if refused {
			if n, bad := strconv.Atoi(e.RetryAfter); bad == nil {
				wait = time.Duration(n) * time.Second
			}
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(wait):
		}
	}
}

// passing are the statuses of what may go well a little later.
var passing = []int{http.StatusRequestTimeout, http.StatusTooManyRequests, 499, http.StatusServiceUnavailable, http.StatusGatewayTimeout} //nolint:gochecknoglobals // constant

// count adds up what became of a batch. A refusal of one document is counted; what would befall all ends the command.
func (a *adding) count(o outcome) error {
	a.bytes += o.b.size
	if o.b.skipped {
		if o.b.why != "" {
			a.fail(o.b.where[0], o.b.why)
		} else {
			a.skipped++
		}
		return nil
	}
	if e, ok := errors.AsType[*client.Error](o.err); ok && o.b.file != nil && (e.Status == 400 || e.Status == 409 || e.Status == 413 || e.Status == 415 || e.Status == 422) {
		a.fail(o.b.file.path, e.Detail)
		o.err, o.got = nil, nil
	}
	if o.err != nil {
		return o.err
	}
	for i, s := range o.got {
		switch {
		case s.Code != "":
			where := a.collection
			if i < len(o.b.where) {
				where = o.b.where[i]
			}
			a.fail(where, s.Detail)
		case s.Status == "skipped" || s.DuplicateOf != "" && s.DuplicateOf == s.ID:
			a.duplicates++
		case s.Status != "empty":
			a.stored++
		}
	}
	a.bar.show(a.bytes, a.total, fmt.Sprintf("%d stored, %d skipped, %d failed", a.stored, a.skipped, a.failed))
	return nil
}

func (a *adding) fail(where, detail string) {
	if a.failed++; a.failed <= namedErrors {
		a.bar.print(where + ": " + detail)
	} else if a.failed == namedErrors+1 {
		a.bar.print("more failed; they are only counted from here on")
	}
}

// reading makes batches of files.
type reading struct {
	a    *adding
	ctx  context.Context //nolint:containedctx // of one run
	todo chan<- *batch
	now  *batch
}

func (r *reading) hand(b *batch) error {
	select {
	case r.todo <- b:
		return nil
	case <-r.ctx.Done():
		return r.ctx.Err()
	}
}

func (r *reading) flush() error {
	if len(r.now.where) == 0 {
		return nil
	}
	b := r.now
	r.now = &batch{}
	return r.hand(b)
}

func (r *reading) read(f source) error {
	switch strings.ToLower(filepath.Ext(f.path)) {
	case ".ndjson", ".jsonl":
		return r.lines(f)
	}
	if f.path == "-" {
		return r.lines(f)
	}
	if f.size > maxFile {
		return r.skip(f.path, fmt.Sprintf("it has %d bytes; a file may have %d", f.size, maxFile), f.size)
	}
	body, err := os.ReadFile(f.path)
	if err != nil {
		return err
	}
	id := r.a.idOf(f, body)
	if r.a.there[id] && !r.a.byPath {
		return r.skip(f.path, "", f.size)
	}
	return r.hand(&batch{file: &f, id: id, body: body, size: f.size})
}

// skip has something counted that is not sent: as failed with a reason, as there already without.
func (r *reading) skip(where, why string, size int64) error {
	return r.hand(&batch{skipped: true, where: []string{where}, why: why, size: size})
}

var idPattern = regexp.MustCompile(`[^A-Za-z0-9._:-]+`)

const hashLength = 32

func hashID(b []byte) string {
	h := sha256.Sum256(b)
	return "sha256-" + hex.EncodeToString(h[:])[:hashLength]
}

// idOf is a file's id: of its content, or of its path.
func (a *adding) idOf(f source, body []byte) string {
	if !a.byPath {
		return hashID(append([]byte(f.name+"\x00"), body...))
	}
	id := strings.TrimLeft(idPattern.ReplaceAllString(f.name, "_"), "._:-")
	if id == "" || len(id) > 100 || id != f.name && strings.Contains(id, "_") {
		return hashID([]byte(f.name))
	}
	return id
}

// lines hands on the lines of a file. Those without an id get one that is made of what they say.
func (r *reading) lines(f source) error {
	in := r.a.t.in
	if f.path != "-" {
		file, err := os.Open(f.path)
		if err != nil {
			return err
		}
		defer file.Close() //nolint:errcheck // read only
		in = file
	}
	scan := bufio.NewScanner(in)
	scan.Buffer(make([]byte, 64<<10), maxLine)
	for n := 1; scan.Scan(); n++ {
		line, id := withID(bytes.TrimSpace(scan.Bytes()))
		if len(line) == 0 {
			continue
		}
		if id != "" && r.a.there[id] {
			if err := r.skip(f.path, "", int64(len(scan.Bytes()))+1); err != nil {
				return err
			}
			continue
		}
		b := r.now
		b.lines.Write(line)
		b.lines.WriteByte('\n')
		b.where = append(b.where, f.path+":"+strconv.Itoa(n))
		b.size += int64(len(scan.Bytes())) + 1
		if len(b.where) >= linesAtOnce || b.lines.Len() >= bytesAtOnce {
			if err := r.flush(); err != nil {
				return err
			}
		}
	}
	if err := scan.Err(); err != nil {
		return fmt.Errorf("%s: %w", f.path, err)
	}
	return nil
}

// withID gives a line an id of its content, unless it has one or can't be read; the id is returned when it was made.
func withID(line []byte) (out []byte, id string) {
	var m map[string]json.RawMessage
	if json.Unmarshal(line, &m) != nil || m == nil {
		return line, "" // the platform says what is wrong with it
	}
	if raw, there := m["id"]; there && string(raw) != `""` {
		return line, ""
	}
	id = hashID(line)
	m["id"] = json.RawMessage(strconv.Quote(id))
	out, err := json.Marshal(m)
	if err != nil {
		return line, ""
	}
	return out, id
}

// wait shows how far indexing is until nothing is in work.
func (a *adding) wait(ctx context.Context) error {
	a.bar.begin()
	for {
		err := a.c.WatchProgress(ctx, a.collection, func(p client.IndexingProgress) {
			ended := p.Indexed + p.Quarantined + p.Failed
			a.bar.show(ended, ended+p.Queued, fmt.Sprintf("%d indexed, %d to go, %d quarantined, %d failed", p.Indexed, p.Queued, p.Quarantined, p.Failed))
		})
		if err == nil || ctx.Err() != nil {
			return err
		}
		if e, ok := errors.AsType[*client.Error](err); ok && e.Status != 503 && e.Status != 429 {
			return err
		}
		select { // a stream that broke off is opened again
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(2 * time.Second):
		}
	}
}

func (a *adding) summary() error {
	a.bar.end()
	if _, err := fmt.Fprintf(a.t.out, "%d stored, %d there already, %d duplicates, %d failed, %d files of other formats\n", a.stored, a.skipped, a.duplicates, a.failed, a.ignored); err != nil {
		return err
	}
	if a.failed > 0 {
		return fmt.Errorf("%d documents were refused", a.failed)
	}
	return nil
}
