package encoder

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"

	"aran/service/infer/minilm"
)

// maxAnswer is more than any answer to maxTexts texts of a usual model.
const maxAnswer = 64 << 20

// Encode asks the program behind the client. With query the texts ask; else they are to be found. An answer that is not of the right shape, or holds what is no
// number, is an error.
func Encode(ctx context.Context, c *http.Client, texts []string, query bool) ([]minilm.Embedding, error) {
	raw, err := json.Marshal(request{texts, query})
	if err != nil {
		return nil, fmt.Errorf("encode texts: %w", err)
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://model/encode", bytes.NewReader(raw))
	if err != nil {
		return nil, fmt.Errorf("make request: %w", err)
	}
	r.Header.Set("Content-Type", "application/json")
	resp, err := c.Do(r)
	if err != nil {
		return nil, fmt.Errorf("ask the encoder: %w", err)
	}
	defer resp.Body.Close() //nolint:errcheck // only read
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return nil, fmt.Errorf("read the encoder's answer: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the encoder says %d: %.200q", resp.StatusCode, b)
	}
	out, err := unpack(b, len(texts))
	if err != nil {
		return nil, fmt.Errorf("read the encoder's answer: %w", err)
	}
	return out, nil
}

// unpack reads what pack wrote, for n texts.
func unpack(b []byte, n int) ([]minilm.Embedding, error) {
	if len(b) < headerBytes || len(b) > maxAnswer {
		return nil, fmt.Errorf("it has %d bytes", len(b))
	}
	count, dim := int(binary.LittleEndian.Uint32(b)), int(binary.LittleEndian.Uint32(b[4:]))
	if count != n || dim < 1 || dim > maxDim {
		return nil, fmt.Errorf("%d vectors of %d numbers for %d texts", count, dim, n)
	}
	b = b[headerBytes:]
	if len(b) != count*(rowBytes+4*dim) {
		return nil, fmt.Errorf("%d bytes for %d vectors of %d numbers", len(b), count, dim)
	}
	out, numbers := make([]minilm.Embedding, count), make([]float32, count*dim)
	for i := range out {
		tokens, truncated := binary.LittleEndian.Uint32(b), binary.LittleEndian.Uint32(b[4:])
		if tokens > math.MaxInt32 || truncated > 1 {
			return nil, fmt.Errorf("text %d: %d tokens, truncated %d", i, tokens, truncated)
		}
		b = b[rowBytes:]
		v := numbers[i*dim : (i+1)*dim : (i+1)*dim]
		for j := range v {
			v[j] = math.Float32frombits(binary.LittleEndian.Uint32(b[4*j:]))
			if x := float64(v[j]); math.IsNaN(x) || math.IsInf(x, 0) {
				return nil, fmt.Errorf("text %d: number %d is none", i, j)
			}
		}
		b = b[4*dim:]
		out[i] = minilm.Embedding{Vector: v, Tokens: int(tokens), Truncated: truncated == 1}
	}
	return out, nil
}
