package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"log"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"aran/service/guard/classify/train"
	"aran/service/infer/minilm"
)

const (
	headRows  = 45  // rows of a source for the head
	headBytes = 700 // of a text: its front
)

// headText is what the head sees of a row: the front. Attacks that are longer may stand behind it and are left out, but for
// collections of jailbreaks, which are attacks from front to end.
func headText(r train.Row) (string, bool) {
	if len(r.Text) <= headBytes {
		return r.Text, true
	}
	if r.Attack && r.Group != "verazuo" && !strings.Contains(r.Source, "jailbreak") {
		return "", false
	}
	return strings.ToValidUTF8(r.Text[:headBytes], ""), true
}

// textVectors encodes texts; those that were encoded before are kept in a folder.
func textVectors(ctx context.Context, cache string, texts []string) ([][]float32, error) {
	e, err := minilm.Load()
	if err != nil {
		return nil, err
	}
	file := filepath.Join(cache, e.Digest()[:16]+".texts")
	known, err := readVectors(file)
	if err != nil {
		return nil, err
	}
	var fresh []string
	asked := map[uint64]bool{}
	for _, t := range texts {
		if k := key(t); known[k] == nil && !asked[k] {
			asked[k] = true
			fresh = append(fresh, t)
		}
	}
	if len(fresh) > 0 {
		log.Printf("encoding %d texts", len(fresh))
		if err := os.MkdirAll(cache, 0o755); err != nil { //nolint:gosec // not secret
			return nil, fmt.Errorf("keep the vectors: %w", err)
		}
		f, err := os.OpenFile(file, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644) //nolint:gosec // not secret
		if err != nil {
			return nil, fmt.Errorf("keep the vectors: %w", err)
		}
		defer f.Close() //nolint:errcheck // what is not kept is made again
		for part := range slices.Chunk(fresh, 64) {
			all, err := e.Encode(ctx, part)
			if err != nil {
				return nil, err
			}
			var b []byte
			for i, v := range all {
				known[key(part[i])] = v.Vector
				b = binary.LittleEndian.AppendUint64(b, key(part[i]))
				if b, err = binary.Append(b, binary.LittleEndian, v.Vector); err != nil {
					return nil, fmt.Errorf("write a vector: %w", err)
				}
			}
			if _, err := f.Write(b); err != nil {
				return nil, fmt.Errorf("keep the vectors: %w", err)
			}
		}
	}
	out := make([][]float32, len(texts))
	for i, t := range texts {
		out[i] = known[key(t)]
	}
	return out, nil
}

func key(text string) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(text))
	return h.Sum64()
}

func readVectors(file string) (map[uint64][]float32, error) {
	out := map[uint64][]float32{}
	b, err := os.ReadFile(file) //nolint:gosec // a file of the trainer's
	if errors.Is(err, fs.ErrNotExist) {
		return out, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the vectors: %w", err)
	}
	const size = 8 + 4*minilm.Dim
	r := bytes.NewReader(b[:len(b)/size*size])
	for range len(b) / size {
		var k uint64
		v := make([]float32, minilm.Dim)
		if err := errors.Join(binary.Read(r, binary.LittleEndian, &k), binary.Read(r, binary.LittleEndian, v)); err != nil {
			return nil, fmt.Errorf("read the vectors: %w", err)
		}
		out[k] = v
	}
	return out, nil
}
