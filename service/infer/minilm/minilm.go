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
	"strings"
	"sync"

	"aran/service/infer/bert"
)

// What the model is.
const (
	Dim    = bert.Dim // length of a vector
	Window = 256      // tokens that the model sees of a text, its two markers included
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
	model  func() (*bert.Model, error) // checked and laid out at first use
	digest string
	run    *bert.Runner
}

// Load returns the encoder of the model inside the program. It is quick and touches little memory: the
// weights are checked and laid out at the first Encode.
func Load() (*Encoder, error) {
	words, rules, weights, err := sections(packed)
	if err != nil {
		return nil, err
	}
	return newEncoder(digest, func() tables { return mustTables(words, rules) }, func() (*bert.Model, error) {
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
	return newEncoder(sum(file), func() tables { return tab }, func() (*bert.Model, error) { return m, nil }), nil
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

func newEncoder(digest string, tab func() tables, m func() (*bert.Model, error)) *Encoder {
	return &Encoder{
		tok:    &Tokenizer{tables: sync.OnceValue(tab)},
		model:  sync.OnceValues(m),
		digest: digest,
		run:    bert.NewRunner(Window, bert.Kernels()[0]),
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
	all := bert.Batches(Window, len(texts), func(i int) []int32 { return e.tokens(texts[i], &out[i]) })
	err = e.run.Run(ctx, m, all, func(text int, rows bert.Rows) (err error) {
		out[text].Vector, err = rows.Mean()
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("encode %d texts: %w", len(texts), err)
	}
	return out, nil
}

// tokens are what the model sees of a text, and notes in out how many.
func (e *Encoder) tokens(text string, out *Embedding) []int32 {
	ids, more := e.tok.ids([]int32{first}, text, Window-2)
	ids = append(ids, last)
	out.Tokens, out.Truncated = len(ids), more
	return ids
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
