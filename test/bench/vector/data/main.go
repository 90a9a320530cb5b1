// Command data makes the vectors that bench-vector compares on: real text, encoded by the built-in encoder.
//
//	go run ./test/bench/vector/data OUT [CORPUS]
//
// CORPUS is a folder in BEIR's layout. Its documents are cut into windows of three sentences, of which 10,000 are
// encoded; the other vectors are mixtures of one of these with one of its twenty nearest, and a little noise. Without one, vectors are drawn: three thousand
// clusters in 64 dimensions of falling weight, turned into the 384 of the encoder, with a little noise; they are
// quickly made, and harder than text. OUT/base.f32 and OUT/query.f32 are float32, little-endian, one vector after the
// other. What OUT has is not made again.
package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"aran/platform/vector"
	"aran/service/infer/minilm"
)

const (
	wanted  = 100_000
	encoded = 10_000
	window  = 3    // sentences
	queried = 1000 // the corpus's queries, then titles
	batch   = 64
)

func main() {
	var err error
	switch len(os.Args) {
	case 2:
		err = draw(os.Args[1])
	case 3:
		err = run(context.Background(), os.Args[2], os.Args[1])
	default:
		err = errors.New("usage: data OUT [CORPUS]")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "data:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, corpus, out string) error {
	if err := os.MkdirAll(out, 0o750); err != nil { //nolint:gosec // named on the command line
		return err
	}
	enc, err := minilm.Load()
	if err != nil {
		return err
	}
	_, queries, err := lines(filepath.Join(corpus, "queries.jsonl"))
	if err != nil {
		return err
	}
	titles, docs, err := lines(filepath.Join(corpus, "corpus.jsonl"))
	if err != nil {
		return err
	}
	queries = append(queries, titles...)
	if err := write(ctx, enc, filepath.Join(out, "query.f32"), queries[:min(len(queries), queried)]); err != nil {
		return err
	}
	text := filepath.Join(out, "text.f32")
	if err := write(ctx, enc, text, windows(docs)); err != nil {
		return err
	}
	return mix(ctx, text, filepath.Join(out, "base.f32"))
}

const (
	clusters = 3000
	latent   = 64
)

// draw makes vectors of no text.
func draw(out string) error {
	if err := os.MkdirAll(out, 0o750); err != nil { //nolint:gosec // named on the command line
		return err
	}
	rnd := rand.New(rand.NewPCG(1, 1)) //nolint:gosec // test data
	normal := func(n int, weight func(i int) float64) []float64 {
		v := make([]float64, n)
		for i := range v {
			v[i] = rnd.NormFloat64() * weight(i)
		}
		return v
	}
	one := func(int) float64 { return 1 }
	turn := make([][]float64, latent)
	for i := range turn {
		turn[i] = normal(minilm.Dim, func(int) float64 { return math.Pow(0.9, float64(i)) })
	}
	centres := make([][]float64, clusters)
	for i := range centres {
		centres[i] = normal(latent, one)
	}
	for _, f := range []struct {
		name string
		n    int
	}{{"query.f32", queried}, {"base.f32", wanted}} {
		path := filepath.Join(out, f.name)
		if _, err := os.Stat(path); err == nil { //nolint:gosec // named on the command line
			continue
		}
		raw := make([]byte, 0, 4*f.n*minilm.Dim)
		for range f.n {
			x := normal(minilm.Dim, func(int) float64 { return 0.15 })
			c, z := centres[rnd.IntN(clusters)], normal(latent, func(int) float64 { return 0.7 })
			var ss float64
			for j := range x {
				for i := range z {
					x[j] += (c[i] + z[i]) * turn[i][j]
				}
				ss += x[j] * x[j]
			}
			for _, f := range x {
				raw = binary.LittleEndian.AppendUint32(raw, math.Float32bits(float32(f/math.Sqrt(ss))))
			}
		}
		if err := keep(path, raw); err != nil {
			return err
		}
	}
	return nil
}

// keep writes a file whole or not at all.
func keep(path string, raw []byte) error {
	return errors.Join(os.WriteFile(path+".tmp", raw, 0o600), os.Rename(path+".tmp", path)) //nolint:gosec // named on the command line
}

// windows lists what is encoded.
func windows(docs []string) (out []string) {
	for _, d := range docs {
		s := sentences(d)
		for i := 0; i < len(s) && len(out) < encoded; i += window {
			out = append(out, strings.Join(s[i:min(i+window, len(s))], " "))
		}
	}
	return out
}

// mix makes as many vectors as are wanted of those that were encoded, which come first.
func mix(ctx context.Context, from, to string) error {
	if _, err := os.Stat(to); err == nil { //nolint:gosec // named on the command line
		return nil
	}
	raw, err := os.ReadFile(from) //nolint:gosec // named on the command line
	if err != nil {
		return err
	}
	near := vector.NewMemory("text", minilm.Dim)
	var text [][]float32
	for row := range slices.Chunk(raw, 4*minilm.Dim) {
		v := make([]float32, minilm.Dim)
		for i := range v {
			v[i] = math.Float32frombits(binary.LittleEndian.Uint32(row[4*i:]))
		}
		if err := near.Put(ctx, vector.Item{ID: int64(len(text)), Vector: v}); err != nil {
			return err
		}
		text = append(text, v)
	}
	rnd := rand.New(rand.NewPCG(2, 2)) //nolint:gosec // test data
	neighbours := make([][]vector.Hit, len(text))
	for i := len(text); i < wanted; i++ {
		of := i % len(text)
		if neighbours[of] == nil {
			if neighbours[of], err = near.Search(ctx, vector.Query{Model: "text", Vector: text[of]}, 21, nil); err != nil {
				return err
			}
		}
		other := text[neighbours[of][rnd.IntN(len(neighbours[of]))].ID]
		part := 0.5 + 0.5*rnd.Float64()
		x := make([]float64, minilm.Dim)
		var ss float64
		for j := range x {
			x[j] = part*float64(text[of][j]) + (1-part)*float64(other[j]) + rnd.NormFloat64()*0.3/math.Sqrt(minilm.Dim)
			ss += x[j] * x[j]
		}
		for _, f := range x {
			raw = binary.LittleEndian.AppendUint32(raw, math.Float32bits(float32(f/math.Sqrt(ss))))
		}
	}
	return keep(to, raw)
}

func sentences(text string) (out []string) {
	for s := range strings.SplitSeq(strings.ReplaceAll(text, "? ", "?. "), ". ") {
		if s = strings.TrimSpace(s); len(s) > 20 {
			out = append(out, s)
		}
	}
	return out
}

// lines reads titles and texts of a JSON lines file.
func lines(path string) (titles, texts []string, err error) {
	f, err := os.Open(path) //nolint:gosec // named on the command line
	if err != nil {
		return nil, nil, err
	}
	defer f.Close() //nolint:errcheck // read only
	in := bufio.NewScanner(f)
	in.Buffer(nil, 16<<20)
	for in.Scan() {
		var row struct{ Title, Text string }
		if err := json.Unmarshal(in.Bytes(), &row); err != nil {
			return nil, nil, fmt.Errorf("%s: %w", path, err)
		}
		titles, texts = append(titles, row.Title), append(texts, row.Text)
	}
	return titles, texts, in.Err()
}

// write encodes texts into a file, the short ones together.
func write(ctx context.Context, enc *minilm.Encoder, path string, texts []string) error {
	if _, err := os.Stat(path); err == nil { //nolint:gosec // named on the command line
		return nil
	}
	order := make([]int, len(texts))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int { return len(texts[a]) - len(texts[b]) })
	vectors := make([]byte, len(texts)*minilm.Dim*4)
	for part := range slices.Chunk(order, batch) {
		in := make([]string, len(part))
		for i, at := range part {
			in[i] = texts[at]
		}
		got, err := enc.Encode(ctx, in)
		if err != nil {
			return err
		}
		for i, at := range part {
			for j, f := range got[i].Vector {
				binary.LittleEndian.PutUint32(vectors[(at*minilm.Dim+j)*4:], math.Float32bits(f))
			}
		}
	}
	return keep(path, vectors)
}
