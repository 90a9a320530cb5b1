// Package minilm is the built-in text encoder: all-MiniLM-L6-v2 in Go, its weights inside the
// binary.
//
// It knows English, sees the first 256 tokens of a text, and never uses the network. Another version of it
// can be read from a file: that is outside data, and is checked before it computes anything.
// Vectors of different digests must not be compared.
package minilm

import (
	"context"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"
)

// What the model is.
const (
	Dim    = 384 // length of a vector
	Window = 256 // tokens that the model sees of a text, its two markers included
)

// Embedding is a text's vector, of unit length.
type Embedding struct {
	Vector    []float32 // [Dim]
	Tokens    int       // tokens that the model saw, its two markers included
	Truncated bool      // the text went on after the window
}

// Encoder turns texts into vectors. Safe for concurrent use: it computes on no more processors
// than GOMAXPROCS was when it was loaded, whoever calls; others wait.
type Encoder struct {
	tok    *Tokenizer
	model  func() (*model, error) // checked and laid out at first use
	digest string
	fast   kernel
	slots  chan struct{} // one for each pass that may run
	spare  sync.Pool     // of *scratch, about 4 MB each
}

// Load returns the encoder of the model inside the program. It is quick and touches little memory: the
// weights are checked and laid out at the first Encode.
func Load() (*Encoder, error) {
	words, rules, weights, err := sections(packed)
	if err != nil {
		return nil, err
	}
	return newEncoder(digest, func() tables { return mustTables(words, rules) }, func() (*model, error) {
		if err := verify(packed); err != nil {
			return nil, err
		}
		return newModel(weights)
	}), nil
}

// New returns the encoder of a packed model of the same shape, as pack/ writes them; it keeps the string.
// All of it is read and checked: what is cut off, too long, or holds numbers or words that the encoder
// could not compute with, is an error.
func New(file string) (*Encoder, error) {
	words, rules, weights, err := sections(file)
	if err != nil {
		return nil, err
	}
	tab, err := parseTables(words, rules)
	if err != nil {
		return nil, err
	}
	m, err := newModel(weights)
	if err != nil {
		return nil, err
	}
	return newEncoder(sum(file), func() tables { return tab }, func() (*model, error) { return m, nil }), nil
}

// Open reads a packed model from a file, all of it: what happens to the file afterwards changes nothing.
// It needs 33 MB. The errors are New's and those of reading.
func Open(path string) (*Encoder, error) {
	f, err := os.Open(path) //nolint:gosec // the caller names the file
	if err != nil {
		return nil, fmt.Errorf("open the encoder: %w", err)
	}
	defer f.Close() //nolint:errcheck // it was read only
	var b strings.Builder
	b.Grow(len(packed)) // the size that it has, if it is one
	n, err := io.Copy(&b, io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("read the encoder %s: %w", path, err)
	}
	if n > maxFile {
		return nil, fmt.Errorf("the encoder %s has more than %d bytes: it is not a packed model", path, maxFile)
	}
	e, err := New(b.String())
	if err != nil {
		return nil, fmt.Errorf("the encoder %s: %w", path, err)
	}
	return e, nil
}

func newEncoder(digest string, tab func() tables, m func() (*model, error)) *Encoder {
	return &Encoder{
		tok:    &Tokenizer{tables: sync.OnceValue(tab)},
		model:  sync.OnceValues(m),
		digest: digest,
		fast:   fastest(),
		slots:  make(chan struct{}, runtime.GOMAXPROCS(0)),
		spare:  sync.Pool{New: func() any { return newScratch() }},
	}
}

// Encode returns one embedding for each text, in order. It stops early when ctx ends. A text's
// vector does not depend on the others.
func (e *Encoder) Encode(ctx context.Context, texts []string) ([]Embedding, error) {
	m, err := e.model()
	if err != nil {
		return nil, err
	}
	out := make([]Embedding, len(texts))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(cap(e.slots))
	for _, b := range e.batches(texts, out) {
		g.Go(func() error { return e.pass(ctx, m, b, out) })
	}
	if err := g.Wait(); err != nil {
		return nil, fmt.Errorf("encode %d texts: %w", len(texts), err)
	}
	return out, nil
}

// batch is some texts whose tokens go through the model together.
type batch struct {
	ids   []int32
	texts []int    // which they are
	spans [][2]int // of each in ids
}

// batches cuts texts into tokens, and notes in out what the model sees of them.
func (e *Encoder) batches(texts []string, out []Embedding) []batch {
	var all []batch
	var b batch
	for i, text := range texts {
		ids, more := e.tok.ids([]int32{first}, text, Window-2)
		ids = append(ids, last)
		out[i].Tokens, out[i].Truncated = len(ids), more
		if len(b.ids)+len(ids) > Window {
			all = append(all, b)
			b = batch{}
		}
		b.texts = append(b.texts, i)
		b.spans = append(b.spans, [2]int{len(b.ids), len(b.ids) + len(ids)})
		b.ids = append(b.ids, ids...)
	}
	if len(b.ids) > 0 {
		all = append(all, b)
	}
	return all
}

// pass runs a batch when a processor is free.
func (e *Encoder) pass(ctx context.Context, m *model, b batch, out []Embedding) error {
	select {
	case e.slots <- struct{}{}:
		defer func() { <-e.slots }()
	case <-ctx.Done():
		return ctx.Err()
	}
	s, _ := e.spare.Get().(*scratch)
	defer e.spare.Put(s)
	if err := m.forward(ctx, &e.fast, s, b); err != nil {
		return err
	}
	for i, t := range b.texts {
		v, err := s.pool(b.spans[i])
		if err != nil {
			return fmt.Errorf("text %d: %w", t, err)
		}
		out[t].Vector = v
	}
	return nil
}

// Digest is the SHA-256 (hex) of the packed weights and tokenizer.
func (e *Encoder) Digest() string { return e.digest }

// Tokenizer returns the model's tokenizer.
func (e *Encoder) Tokenizer() *Tokenizer { return e.tok }

type tables struct {
	vocab *vocab
	chars *charTable
}

// mustTables cannot fail for a file with the right digest.
func mustTables(words, rules string) tables {
	t, err := parseTables(words, rules)
	if err != nil {
		panic(fmt.Errorf("minilm: %w", err))
	}
	return t
}

func parseTables(words, rules string) (tables, error) {
	v, err := parseVocab(words)
	if err != nil {
		return tables{}, fmt.Errorf("read the vocabulary: %w", err)
	}
	c, err := parseChars(rules)
	if err != nil {
		return tables{}, fmt.Errorf("read the character rules: %w", err)
	}
	return tables{v, c}, nil
}
