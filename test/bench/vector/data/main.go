// Command data makes the vectors that bench-vector compares on: real text, encoded by the built-in encoder.
//
//	go run ./test/bench/vector/data CORPUS OUT
//
// CORPUS is a folder in BEIR's layout. Its documents are cut into windows of one, two and three sentences, so that
// vectors lie as close together as passages of real documents do. OUT/base.f32 and OUT/query.f32 are float32,
// little-endian, one vector after the other. What OUT has is not made again.
package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"aran/service/infer/minilm"
)

const (
	wanted  = 100_000
	queried = 1000 // the corpus's queries, then titles
	batch   = 64
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: data CORPUS OUT")
		os.Exit(2)
	}
	if err := run(context.Background(), os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, "data:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, corpus, out string) error {
	if err := os.MkdirAll(out, 0o755); err != nil {
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
	return write(ctx, enc, filepath.Join(out, "base.f32"), windows(docs))
}

// windows lists what is encoded: all sentences, then pairs, then threes, until there are enough.
func windows(docs []string) (out []string) {
	for size := 1; size <= 4; size++ {
		for _, d := range docs {
			s := sentences(d)
			for i := 0; i+size <= len(s) && len(out) < wanted; i++ {
				out = append(out, strings.Join(s[i:i+size], " "))
			}
		}
	}
	return out
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
	f, err := os.Open(path)
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
	if _, err := os.Stat(path); err == nil {
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
	return errors.Join(os.WriteFile(path+".tmp", vectors, 0o644), os.Rename(path+".tmp", path))
}
