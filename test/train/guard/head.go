package main

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"

	"aran/service/guard/classify/train"
	"aran/service/infer/heads"
	"aran/service/infer/minilm"
)

// headData encodes some rows of each source.
func headData(ctx context.Context, rows []train.Row, most int, cache string) ([]train.HeadRow, error) {
	var out []train.HeadRow
	var texts []string
	for _, r := range train.Thin(train.Thin(rows, most), headRows) {
		if text, ok := headText(r); ok {
			out, texts = append(out, train.HeadRow{Row: r}), append(texts, text)
		}
	}
	vectors, err := textVectors(ctx, cache, texts)
	if err != nil {
		return nil, err
	}
	for i := range out {
		out[i].Vector = vectors[i]
	}
	return out, nil
}

// headFile writes a head in the form that infer reads: two outputs whose difference is the logit.
func headFile(h train.Head) ([]byte, error) {
	e, err := minilm.Load()
	if err != nil {
		return nil, err
	}
	labels, err := json.Marshal([]string{heads.Harmless, heads.Attack})
	if err != nil {
		return nil, fmt.Errorf("write the labels: %w", err)
	}
	const size = 4 * 2 * minilm.Dim
	header, err := json.Marshal(map[string]any{
		"__metadata__": map[string]string{"kind": heads.Classify, "encoder": e.Digest(), "labels": string(labels)},
		"weight":       map[string]any{"dtype": "F32", "shape": []int{2, minilm.Dim}, "data_offsets": []int{0, size}},
		"bias":         map[string]any{"dtype": "F32", "shape": []int{2}, "data_offsets": []int{size, size + 8}},
	})
	if err != nil {
		return nil, fmt.Errorf("write the header: %w", err)
	}
	b := append(binary.LittleEndian.AppendUint64(nil, uint64(len(header))), header...)
	number := func(x float64) { b = binary.LittleEndian.AppendUint32(b, math.Float32bits(float32(x))) }
	for _, sign := range []float64{-0.5, 0.5} {
		for _, w := range h[:minilm.Dim] {
			number(sign * w)
		}
	}
	number(-0.5 * h[minilm.Dim])
	number(0.5 * h[minilm.Dim])
	return b, nil
}
