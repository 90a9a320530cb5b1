package minilm

import (
	"crypto/sha256"
	_ "embed"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
)

//go:embed minilm.bin
var packed string

// digest is the SHA-256 of minilm.bin: weights, vocabulary and character rules. A new file is a
// new model: whoever changes this makes every stored vector useless.
const digest = "07c7bd71ad357e4736b2cc125b80d33720212b355ec1838b52fca9e50396c05e"

const magic = "aranmlm1"

// verify reads the whole file, about 20 ms. It is done once, before the first use.
func verify(b string) error {
	h := sha256.New()
	const step = 1 << 16 // a string cannot be hashed without copying it
	buf := make([]byte, step)
	for at := 0; at < len(b); at += step {
		h.Write(buf[:copy(buf, b[at:])])
	}
	if got := hex.EncodeToString(h.Sum(nil)); got != digest {
		return fmt.Errorf("the built-in encoder is damaged: its sha256 is %s, want %s", got, digest)
	}
	return nil
}

// sections are the parts of the file; their layout is described in pack/.
func sections(b string) (words, rules, weights string, err error) {
	if len(b) < 16 || b[:8] != magic {
		return "", "", "", errors.New("the built-in encoder is not a packed model")
	}
	nw := int(binary.LittleEndian.Uint32([]byte(b[8:12])))
	nr := int(binary.LittleEndian.Uint32([]byte(b[12:16])))
	end := 16 + nw + nr
	end += -end & 63
	if end > len(b) {
		return "", "", "", errors.New("the built-in encoder is cut off")
	}
	return b[16 : 16+nw], b[16+nw : 16+nw+nr], b[end:], nil
}

// reader takes parts off the front of the packed weights.
type reader struct{ b string }

func (r *reader) take(n int) string {
	s := r.b[:n]
	r.b = r.b[n:]
	return s
}

func (r *reader) floats(n int) []float32 {
	s, out := r.take(4*n), make([]float32, n)
	for i := range out {
		out[i] = math.Float32frombits(binary.LittleEndian.Uint32([]byte(s[4*i : 4*i+4])))
	}
	return out
}
