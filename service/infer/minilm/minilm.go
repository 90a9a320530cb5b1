// Package minilm is the built-in text encoder: all-MiniLM-L6-v2 in Go, its weights inside the
// binary.
//
// It knows English, sees the first 256 tokens of a text, and never reads a file or the network.
// Vectors of different digests must not be compared.
package minilm

import "context"

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

// Token is one word piece and where it stands in the text: text[Start:End].
type Token struct {
	ID         int32
	Start, End int // byte offsets
}

// Encoder turns texts into vectors. Safe for concurrent use.
type Encoder struct{}

// Load checks the packed model and returns its encoder. The weights expand at the first Encode.
func Load() (*Encoder, error) { panic("not built") }

// Encode returns one embedding for each text, in order. It stops early when ctx ends.
func (e *Encoder) Encode(ctx context.Context, texts []string) ([]Embedding, error) {
	panic("not built")
}

// Digest is the SHA-256 (hex) of the packed weights and tokenizer.
func (e *Encoder) Digest() string { panic("not built") }

// Tokenizer returns the model's tokenizer.
func (e *Encoder) Tokenizer() *Tokenizer { panic("not built") }

// Tokenizer splits text as the model was trained on it (BERT, uncased). Safe for concurrent use.
type Tokenizer struct{}

// Count is how many tokens a text has, without the two markers and without a limit.
func (t *Tokenizer) Count(text string) int { panic("not built") }

// Tokens returns the text's tokens in order, without the two markers and without a limit.
func (t *Tokenizer) Tokens(text string) []Token { panic("not built") }
