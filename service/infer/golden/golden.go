// Package golden compares a text encoder with the vectors that it must give, and measures it.
//
// The set inside the program is 200 texts in English and Tamil, mixed, of odd Unicode and of every length, with
// what ONNX Runtime makes of them with the built-in encoder's weights: whoever doubts the arithmetic of a machine
// runs it there. Nothing is written and nothing leaves the process.
package golden

import (
	"bufio"
	"bytes"
	"context"
	_ "embed"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"path"
	"slices"
	"time"

	"aran/service/infer/minilm"
)

//go:embed vectors.jsonl
var vectors []byte

// Case is a text and the vector that it must get.
type Case struct {
	Text   string
	Query  bool      // it asks; only some models make a difference
	Vector []float32 // nil: not known
	Tokens int       // that the model must see, with its markers; 0: not known
}

// Bounds of a set.
const (
	maxCases = 200_000
	maxLine  = 4 << 20 // bytes
	maxDim   = 1 << 14
)

// Builtin is the set inside the program.
func Builtin() ([]Case, error) { return parse(nil, "the built-in set", bytes.NewReader(vectors)) }

// Read reads all .jsonl files of a folder, by name. A line is an object with `text` and, when they are known,
// `vector` (an array of numbers, or base64 of little-endian float32), `query` (true: the text asks) and `tokens`;
// what else it has is ignored, but for BEIR's `title`, which goes in front of the text. All vectors have one
// length.
func Read(dir fs.FS) ([]Case, error) {
	names, err := fs.Glob(dir, "*.jsonl")
	if err != nil {
		return nil, fmt.Errorf("look for .jsonl files: %w", err)
	}
	slices.Sort(names)
	var all []Case
	for _, name := range names {
		f, err := dir.Open(name)
		if err != nil {
			return nil, fmt.Errorf("read texts: %w", err)
		}
		all, err = parse(all, path.Base(name), f)
		_ = f.Close() // it was read only
		if err != nil {
			return nil, err
		}
	}
	if len(all) == 0 {
		return nil, errors.New("there is no text in the folder's .jsonl files")
	}
	return all, nil
}

type line struct {
	Title  string          `json:"title"`
	Text   *string         `json:"text"`
	Query  bool            `json:"query"`
	Tokens int             `json:"tokens"`
	Vector json.RawMessage `json:"vector"`
}

func parse(all []Case, name string, r io.Reader) ([]Case, error) {
	s := bufio.NewScanner(r)
	s.Buffer(nil, maxLine)
	n := 0
	for s.Scan() {
		n++
		if len(bytes.TrimSpace(s.Bytes())) == 0 {
			continue
		}
		c, err := parseLine(s.Bytes())
		if err != nil {
			return nil, fmt.Errorf("%s, line %d: %w", name, n, err)
		}
		if len(all) == maxCases {
			return nil, fmt.Errorf("%s, line %d: more than %d texts", name, n, maxCases)
		}
		for i := range min(1, len(all)) {
			if c.Vector != nil && all[i].Vector != nil && len(c.Vector) != len(all[i].Vector) {
				return nil, fmt.Errorf("%s, line %d: a vector of %d numbers, others have %d", name, n, len(c.Vector), len(all[i].Vector))
			}
		}
		all = append(all, c)
	}
	if err := s.Err(); err != nil {
		return nil, fmt.Errorf("%s, line %d: %w", name, n+1, err)
	}
	return all, nil
}

func parseLine(b []byte) (Case, error) {
	var l line
	if err := json.Unmarshal(b, &l); err != nil {
		return Case{}, fmt.Errorf("not an object with text and vector: %w", err)
	}
	if l.Text == nil {
		return Case{}, errors.New("it has no text")
	}
	c := Case{Text: *l.Text, Query: l.Query, Tokens: l.Tokens}
	if l.Title != "" {
		c.Text = l.Title + "\n" + c.Text
	}
	if len(l.Vector) == 0 || string(l.Vector) == "null" {
		return c, nil
	}
	var packed string
	if err := json.Unmarshal(l.Vector, &packed); err != nil {
		err = json.Unmarshal(l.Vector, &c.Vector)
		return c, errors.Join(err, check(c.Vector))
	}
	raw, err := base64.StdEncoding.DecodeString(packed)
	if err != nil || len(raw)%4 != 0 || len(raw) > 4*maxDim {
		return Case{}, fmt.Errorf("its vector is not base64 of float32 (%d bytes)", len(raw))
	}
	for ; len(raw) > 0; raw = raw[4:] {
		c.Vector = append(c.Vector, math.Float32frombits(binary.LittleEndian.Uint32(raw)))
	}
	return c, check(c.Vector)
}

func check(v []float32) error {
	if len(v) == 0 || len(v) > maxDim {
		return fmt.Errorf("its vector has %d numbers, want 1 to %d", len(v), maxDim)
	}
	for _, x := range v {
		if x-x != 0 {
			return errors.New("its vector holds what is no number")
		}
	}
	return nil
}

// Encoder is what is measured.
type Encoder interface {
	Encode(ctx context.Context, texts []string) ([]minilm.Embedding, error)
}

// asker is an encoder that makes a difference between texts that ask and texts that answer.
type asker interface {
	EncodeQueries(ctx context.Context, texts []string) ([]minilm.Embedding, error)
}

// Result is how near an encoder comes, and how fast it is. Without any vector known, the two in the middle are nil.
type Result struct {
	Texts      int      `json:"texts"`
	Dim        int      `json:"dim"`
	MaxAbsDiff *float64 `json:"max_abs_diff"` // of one number of a vector
	CosineMin  *float64 `json:"cosine_min"`
	TextsPerS  float64  `json:"texts_per_s"` // in calls of 32, on all processors
	LatencyUS  float64  `json:"latency_us"`  // of a call with one text, the median
}

const (
	callSize = 32
	latent   = 100 // texts whose latency is measured
)

// Run encodes all texts. It is an error when the encoder sees other tokens than it must, or its vectors have another length.
func Run(ctx context.Context, e Encoder, all []Case) (Result, error) {
	if len(all) == 0 {
		return Result{}, errors.New("there are no texts")
	}
	if _, err := encode(ctx, e, all[:1]); err != nil { // the first lays out the weights
		return Result{}, err
	}
	r := Result{Texts: len(all)}
	largest, lowest, known := 0.0, 1.0, false
	var busy time.Duration
	for part := range slices.Chunk(all, callSize) {
		from := time.Now()
		got, err := encode(ctx, e, part)
		if err != nil {
			return Result{}, err
		}
		busy += time.Since(from)
		for i, c := range part {
			r.Dim = len(got[i].Vector)
			if c.Tokens > 0 && got[i].Tokens != c.Tokens {
				return Result{}, fmt.Errorf("the encoder sees %d tokens of %.40q, not %d: it has another tokenizer", got[i].Tokens, c.Text, c.Tokens)
			}
			if c.Vector == nil {
				continue
			}
			if len(c.Vector) != r.Dim {
				return Result{}, fmt.Errorf("the encoder's vectors have %d numbers, those given %d", r.Dim, len(c.Vector))
			}
			known = true
			diff, cosine := compare(got[i].Vector, c.Vector)
			largest, lowest = max(largest, diff), min(lowest, cosine)
		}
	}
	if known {
		r.MaxAbsDiff, r.CosineMin = &largest, &lowest
	}
	r.TextsPerS = float64(len(all)) / busy.Seconds()
	var times []float64
	for i := 0; i < len(all) && len(times) < latent; i += max(1, len(all)/latent) {
		from := time.Now()
		if _, err := encode(ctx, e, all[i:i+1]); err != nil {
			return Result{}, err
		}
		times = append(times, float64(time.Since(from).Nanoseconds())/1e3)
	}
	slices.Sort(times)
	r.LatencyUS = times[len(times)/2]
	return r, nil
}

// encode asks for each text what it is for.
func encode(ctx context.Context, e Encoder, cases []Case) ([]minilm.Embedding, error) {
	a, differs := e.(asker)
	if !differs {
		return e.Encode(ctx, texts(cases, func(Case) bool { return true }))
	}
	asked, err := a.EncodeQueries(ctx, texts(cases, func(c Case) bool { return c.Query }))
	if err != nil {
		return nil, err
	}
	answers, err := e.Encode(ctx, texts(cases, func(c Case) bool { return !c.Query }))
	if err != nil {
		return nil, err
	}
	out := make([]minilm.Embedding, 0, len(cases))
	for _, c := range cases {
		from := &answers
		if c.Query {
			from = &asked
		}
		out, *from = append(out, (*from)[0]), (*from)[1:]
	}
	return out, nil
}

func texts(cases []Case, of func(Case) bool) []string {
	var out []string
	for _, c := range cases {
		if of(c) {
			out = append(out, c.Text)
		}
	}
	return out
}

// compare returns the largest difference of two numbers, and the cosine.
func compare(a, b []float32) (diff, cosine float64) {
	var dot, aa, bb float64
	for i := range a {
		x, y := float64(a[i]), float64(b[i])
		diff = max(diff, math.Abs(x-y))
		dot, aa, bb = dot+x*y, aa+x*x, bb+y*y
	}
	if aa == 0 || bb == 0 {
		return diff, 0
	}
	return diff, dot / math.Sqrt(aa*bb)
}
