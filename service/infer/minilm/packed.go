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

// maxFile bounds what is read as a packed model, in bytes: the weights' size is known, words and rules
// take a third of a megabyte.
const maxFile = 32 << 20

// verify reads the whole file, about 20 ms. It is done once, before the first use.
func verify(b string) error {
	if got := sum(b); got != digest {
		return fmt.Errorf("the built-in encoder is damaged: its sha256 is %s, want %s", got, digest)
	}
	return nil
}

// sum is a file's SHA-256, in hexadecimal.
func sum(b string) string {
	h := sha256.New()
	const step = 1 << 16 // a string cannot be hashed without copying it
	buf := make([]byte, step)
	for at := 0; at < len(b); at += step {
		h.Write(buf[:copy(buf, b[at:])])
	}
	return hex.EncodeToString(h.Sum(nil))
}

// sections are the parts of the file; their layout is described in pack/.
func sections(b string) (words, rules, weights string, err error) {
	if len(b) < 16 || b[:8] != magic {
		return "", "", "", errors.New("it is not a packed model")
	}
	nw := int64(binary.LittleEndian.Uint32([]byte(b[8:12])))
	nr := int64(binary.LittleEndian.Uint32([]byte(b[12:16])))
	end := 16 + nw + nr
	end += -end & 63
	if end > int64(len(b)) {
		return "", "", "", errors.New("the packed model is cut off")
	}
	return b[16 : 16+nw], b[16+nw : 16+nw+nr], b[end:], nil
}

// reader takes parts off the front of the packed weights. What is asked of it behind their end is lost, and
// short says so.
type reader struct {
	b     string
	short bool
	wild  bool // there was a number that is none
}

func (r *reader) take(n int) string {
	if n > len(r.b) {
		r.b, r.short = "", true
		return ""
	}
	s := r.b[:n]
	r.b = r.b[n:]
	return s
}

func (r *reader) floats(n int) []float32 {
	s := r.take(4 * n)
	out := make([]float32, len(s)/4)
	for i := range out {
		out[i] = math.Float32frombits(binary.LittleEndian.Uint32([]byte(s[4*i : 4*i+4])))
		if out[i]-out[i] != 0 { // NaN, or beyond all numbers
			r.wild = true
		}
	}
	return out
}

// halves takes n numbers of 16 bits (bfloat16) and leaves them as they are.
func (r *reader) halves(n int) string {
	s := r.take(2 * n)
	for i := 1; i < len(s); i += 2 {
		if s[i]&0x7f == 0x7f && s[i-1]&0x80 != 0 {
			r.wild = true
		}
	}
	return s
}
