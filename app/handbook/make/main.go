// Command make builds the handbook from README.md and docs/: run it by `go generate ./app/handbook`.
package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"

	"aran/service/infer/minilm"
	"aran/service/search"
)

const (
	root   = "../.." // from app/handbook, where go generate runs
	file   = "handbook.bin"
	atOnce = 32
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx); err != nil {
		_, _ = fmt.Fprintln(os.Stderr, "handbook:", err)
		os.Exit(1) //nolint:gocritic // nothing is open
	}
}

func run(ctx context.Context) error {
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
	return os.WriteFile(file, b, 0o644) //nolint:gosec // a source file
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
