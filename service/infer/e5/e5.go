// Package e5 runs multilingual-e5-small, a text encoder for about a hundred languages (Wang et al. 2024), in Go.
//
// Its weights are a file of 72 MB, not part of the program: outside data, which is looked at before it computes
// anything, and belongs into a process of its own. It sees the first 512 tokens of a text. It was trained with
// a word in front of each text that says whether it asks or answers: Encode and EncodeQueries write it.
// Vectors of different digests must not be compared; those of queries and passages of one digest are meant to be.
package e5

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"strings"

	"aran/service/infer/bert"
	"aran/service/infer/minilm"
)

// What the model is.
const (
	Dim    = bert.Dim // length of a vector
	Window = 512      // tokens that the model sees of a text, its two markers and the word in front included
)

// What stands in front of each text, as the model's authors prescribe.
const (
	queryWord   = "query: "
	passageWord = "passage: "
)

// Encoder turns texts into vectors. Safe for concurrent use: it computes on no more processors than GOMAXPROCS
// was when it was made, whoever calls; others wait.
type Encoder struct {
	tok    *Tokenizer
	model  *bert.Model
	digest string
	run    *bert.Runner
}

// New returns the encoder of a file's content, and keeps it. All of it is checked: what is cut off, has another
// form, or holds numbers or pieces that the encoder could not compute with, is an error. It takes 110 MB besides.
func New(file string) (*Encoder, error) {
	tok, m, err := parse(file)
	if err != nil {
		return nil, err
	}
	h := sha256.New()
	if _, err := io.Copy(h, strings.NewReader(file)); err != nil {
		return nil, fmt.Errorf("hash the model: %w", err)
	}
	return &Encoder{tok: tok, model: m, digest: hex.EncodeToString(h.Sum(nil)), run: bert.NewRunner(Window, bert.Kernels()[0])}, nil
}

// maxFile bounds what is read as a model, in bytes.
const maxFile = 96 << 20

// Open reads the model from a file, all of it: what happens to the file afterwards changes nothing. The errors
// are New's and those of reading.
func Open(path string) (*Encoder, error) {
	f, err := os.Open(path) //nolint:gosec // the caller names the file
	if err != nil {
		return nil, fmt.Errorf("open the encoder: %w", err)
	}
	defer f.Close() //nolint:errcheck // it was read only
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("read the encoder %s: %w", path, err)
	}
	if info.Size() > maxFile {
		return nil, fmt.Errorf("the encoder %s has %d bytes, more than %d: it is no such model", path, info.Size(), maxFile)
	}
	var b strings.Builder
	b.Grow(int(info.Size()))
	if _, err := io.Copy(&b, io.LimitReader(f, maxFile)); err != nil {
		return nil, fmt.Errorf("read the encoder %s: %w", path, err)
	}
	e, err := New(b.String())
	if err != nil {
		return nil, fmt.Errorf("the encoder %s: %w", path, err)
	}
	return e, nil
}

// Is reports whether a file that begins like this is one for this package. Four bytes are enough.
func Is(head string) bool { return strings.HasPrefix(head, magic) }

// Encode returns one embedding for each text, in order, as of passages to be found. It stops early when ctx
// ends. A text's vector does not depend on the others.
func (e *Encoder) Encode(ctx context.Context, texts []string) ([]minilm.Embedding, error) {
	return e.encode(ctx, passageWord, texts)
}

// EncodeQueries is Encode for texts that ask.
func (e *Encoder) EncodeQueries(ctx context.Context, texts []string) ([]minilm.Embedding, error) {
	return e.encode(ctx, queryWord, texts)
}

func (e *Encoder) encode(ctx context.Context, word string, texts []string) ([]minilm.Embedding, error) {
	out := make([]minilm.Embedding, len(texts))
	all := bert.Batches(Window, len(texts), func(i int) []int32 {
		ids, more := e.tok.ids(word, texts[i])
		out[i].Tokens, out[i].Truncated = len(ids), more
		return ids
	})
	err := e.run.Run(ctx, e.model, all, func(text int, rows bert.Rows) (err error) {
		out[text].Vector, err = rows.Mean()
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("encode %d texts: %w", len(texts), err)
	}
	return out, nil
}

// Digest is the SHA-256 (hex) of the model's file.
func (e *Encoder) Digest() string { return e.digest }

// Tokenizer returns the model's tokenizer.
func (e *Encoder) Tokenizer() *Tokenizer { return e.tok }
