// Command rerank writes what the built-in encoder makes of a corpus and its queries, to train a rerank head with
// (train.py).
//
//	go run ./test/bench/rerank DIR DUMP
//
// DIR is in BEIR layout. DUMP.json gets the tokens of each query and document, a line each, and DUMP for each
// document and query the cosine of both and, for each token of the query, that of the document's nearest one
// (little-endian float32). It may be stopped early: what is there can be used.
package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"

	"aran/service/infer/minilm"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if len(os.Args) != 3 {
		_, _ = fmt.Fprintln(os.Stderr, "usage: rerank DIR DUMP")
		os.Exit(2) //nolint:gocritic // nothing is open
	}
	if err := run(ctx, os.Args[1], os.Args[2]); err != nil {
		_, _ = fmt.Fprintln(os.Stderr, "rerank:", err)
		os.Exit(1)
	}
}

type text struct {
	ID    string `json:"_id"`
	Title string `json:"title"`
	Text  string `json:"text"`
}

func read(path string) (out []text, _ error) {
	b, err := os.ReadFile(path) //nolint:gosec // whoever runs this names the folder
	if err != nil {
		return nil, err
	}
	for line := range bytes.Lines(b) {
		var t text
		if err := json.Unmarshal(line, &t); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		out = append(out, t)
	}
	return out, nil
}

func run(ctx context.Context, dir, dump string) error {
	docs, err := read(filepath.Join(dir, "corpus.jsonl"))
	if err != nil {
		return err
	}
	asked, err := read(filepath.Join(dir, "queries.jsonl"))
	if err != nil {
		return err
	}
	e, err := minilm.Load()
	if err != nil {
		return err
	}
	var in []string
	for _, q := range asked {
		in = append(in, q.Text)
	}
	queries, err := e.Sequences(ctx, in)
	if err != nil {
		return err
	}
	numbers, err := os.Create(dump) //nolint:gosec // whoever runs this names the file
	if err != nil {
		return err
	}
	tokens, err := os.Create(dump + ".json") //nolint:gosec // whoever runs this names the file
	if err != nil {
		return err
	}
	w, about := bufio.NewWriterSize(numbers, 1<<20), json.NewEncoder(tokens)
	err = about.Encode(map[string]any{"encoder": e.Digest()})
	for i, q := range asked {
		err = errors.Join(err, about.Encode(map[string]any{"q": q.ID, "ids": queries[i].IDs}))
	}
	const each = 8
	for at := 0; at < len(docs) && err == nil && ctx.Err() == nil; at += each {
		part := docs[at:min(at+each, len(docs))]
		in = in[:0]
		for _, d := range part {
			in = append(in, d.Title+". "+d.Text)
		}
		passages, failed := e.Sequences(ctx, in)
		if failed != nil {
			return failed
		}
		for i := range passages {
			err = errors.Join(err, about.Encode(map[string]any{"d": part[i].ID, "ids": passages[i].IDs}), write(w, e, queries, &passages[i]))
		}
	}
	return errors.Join(err, w.Flush(), numbers.Close(), tokens.Close())
}

func write(w *bufio.Writer, e *minilm.Encoder, queries []minilm.Sequence, passage *minilm.Sequence) error {
	for q := range queries {
		var cosine float32
		for i, v := range queries[q].Vector {
			cosine += v * passage.Vector[i]
		}
		if err := binary.Write(w, binary.LittleEndian, append([]float32{cosine}, e.Best(&queries[q], passage)...)); err != nil {
			return err
		}
	}
	return nil
}
