// Command make builds the handbook from README.md and docs/, in app/handbook. With -check it only compares: texts and
// cuts exactly, vectors by their cosine, for kernels of different processors round differently.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"aran/service/infer/minilm"
	"aran/service/search"
)

const (
	root   = "../.." // from app/handbook, where go generate runs
	file   = "handbook.bin"
	atOnce = 32

	sameVector = 0.999
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	check := flag.Bool("check", false, "write nothing; fail when the handbook is not current")
	flag.Parse()
	handle := write
	if *check {
		handle = compare
	}
	if err := run(ctx, handle); err != nil {
		_, _ = fmt.Fprintln(os.Stderr, "handbook:", err)
		os.Exit(1) //nolint:gocritic // nothing is open
	}
}

func run(ctx context.Context, handle func(made []byte) error) error {
	e, err := minilm.Load()
	if err != nil {
		return err
	}
	p, contexts, err := collect(root, e)
	if err != nil {
		return err
	}
	if err := encode(ctx, e, &p, contexts); err != nil {
		return err
	}
	b, err := p.Encode()
	if err != nil {
		return err
	}
	return handle(b)
}

func write(made []byte) error {
	return os.WriteFile(file, made, 0o644) //nolint:gosec // a source file
}

func compare(made []byte) error {
	old, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	has, err := search.DecodePack(old)
	if err != nil {
		return err
	}
	wants, err := search.DecodePack(made)
	if err != nil {
		return err
	}
	a, b := vectors(has), vectors(wants)
	same := reflect.DeepEqual(has, wants) && len(a) == len(b)
	for i := range a {
		same = same && cosine(a[i], b[i]) > sameVector
	}
	if !same {
		return errors.New("app/handbook/" + file + " is not current; run make generate")
	}
	return nil
}

// vectors takes the vectors out of a pack.
func vectors(p search.Pack) (out [][]float32) {
	for i := range p.Documents {
		for j := range p.Documents[i].Passages {
			q := &p.Documents[i].Passages[j]
			out, q.Vector, q.Packed = append(out, q.Vector), nil, ""
		}
	}
	return out
}

func cosine(a, b []float32) (dot float32) {
	for i := range min(len(a), len(b)) {
		dot += a[i] * b[i]
	}
	return dot
}

// collect reads and cuts the documentation. contexts are what the encoder is to see, passage by passage.
func collect(root string, e *minilm.Encoder) (search.Pack, []string, error) {
	p := search.Pack{Collection: "handbook", Description: "The documentation of Aran.", Encoder: e.Digest(), Dim: minilm.Dim}
	paths, err := sources(root)
	if err != nil {
		return p, nil, err
	}
	var contexts []string
	for _, path := range paths {
		b, err := os.ReadFile(filepath.Join(root, path)) //nolint:gosec // a path of ours
		if err != nil {
			return p, nil, err
		}
		text := string(b)
		if strings.TrimSpace(text) == "" {
			continue
		}
		d := search.PackDocument{ID: name(path), Title: title(text, path), Text: text, ContentType: "text/markdown", Source: path}
		var more []string
		d.Passages, more = search.Default().Cut(d.Title, d.ContentType, text, e.Tokenizer().Count)
		contexts = append(contexts, more...)
		p.Documents = append(p.Documents, d)
	}
	if len(contexts) == 0 {
		return p, nil, errors.New("there is no documentation")
	}
	return p, contexts, nil
}

// sources lists README.md and all of docs, in order of name.
func sources(root string) ([]string, error) {
	paths := []string{}
	if _, err := os.Stat(filepath.Join(root, "README.md")); err == nil {
		paths = append(paths, "README.md")
	}
	err := fs.WalkDir(os.DirFS(root), "docs", func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && strings.HasSuffix(path, ".md") {
			paths = append(paths, path)
		}
		return err
	})
	slices.Sort(paths)
	return paths, err
}

// name is a document's id: its path in dots.
func name(path string) string {
	return strings.ToLower(strings.ReplaceAll(strings.TrimSuffix(strings.TrimPrefix(path, "docs/"), ".md"), "/", "."))
}

// title is the first heading, or the path.
func title(text, path string) string {
	for line := range strings.SplitSeq(text, "\n") {
		if t, ok := strings.CutPrefix(line, "# "); ok {
			return strings.TrimSpace(strings.ReplaceAll(t, "`", ""))
		}
	}
	return path
}

// encode fills in the vectors.
func encode(ctx context.Context, e *minilm.Encoder, p *search.Pack, contexts []string) error {
	var vectors [][]float32
	for batch := range slices.Chunk(contexts, atOnce) {
		list, err := e.Encode(ctx, batch)
		if err != nil {
			return err
		}
		for i, v := range list {
			if v.Truncated {
				return fmt.Errorf("a passage is longer than the encoder sees: %.80q", batch[i])
			}
			vectors = append(vectors, v.Vector)
		}
	}
	for i := range p.Documents {
		for j := range p.Documents[i].Passages {
			p.Documents[i].Passages[j].Vector = vectors[0]
			vectors = vectors[1:]
		}
	}
	return nil
}
