package minilm

import (
	"encoding/binary"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"aran/service/infer/bert"
)

func TestAnEncoderFromAFileIsTheSameEncoder(t *testing.T) {
	path := filepath.Join(t.TempDir(), "encoder.bin")
	if err := os.WriteFile(path, []byte(packed), 0o600); err != nil {
		t.Fatal(err)
	}
	e, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, 100); err != nil { // changes nothing any more
		t.Fatal(err)
	}
	if e.Digest() != digest {
		t.Errorf("Digest() = %s, want %s", e.Digest(), digest)
	}
	const text = "What does the audit log hold?"
	got, err := e.Encode(t.Context(), []string{text})
	if err != nil {
		t.Fatal(err)
	}
	want, err := encoder(t, bert.Kernels()[0]).Encode(t.Context(), []string{text})
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(got[0].Vector, want[0].Vector) {
		t.Error("another vector than the built-in encoder's")
	}
}

func TestAnotherFileIsAnotherModel(t *testing.T) {
	b := []byte(packed)
	b[len(b)-1] ^= 1 // the last bias, by a little
	e, err := New(string(b))
	if err != nil {
		t.Fatal(err)
	}
	if e.Digest() == digest {
		t.Error("the digest of other weights is the same")
	}
}

func TestDamagedFilesAreRefused(t *testing.T) {
	words, rules, weights, err := sections(packed)
	if err != nil {
		t.Fatal(err)
	}
	places := len(packed) - len(weights) + vocabSize*(Dim+Dim/group*2)
	damaged := func(at int, with ...byte) string {
		b := []byte(packed)
		copy(b[at:], with)
		return string(b)
	}
	nan := binary.LittleEndian.AppendUint32(nil, math.Float32bits(float32(math.NaN())))
	for _, c := range []struct{ name, file, want string }{
		{"nothing", "", "not a packed model"},
		{"a header without an end", packed[:15], "not a packed model"},
		{"another format", damaged(0, 'x'), "not a packed model"},
		{"words longer than the file", damaged(8, 0xff, 0xff, 0xff, 0xff), "cut off"},
		{"rules longer than the file", damaged(12, 0xff, 0xff, 0xff, 0xff), "cut off"},
		{"no weights", packed[:len(packed)-len(weights)], "cut off"},
		{"half of the weights", packed[:len(packed)/2], "cut off"},
		{"a byte too few", packed[:len(packed)-1], "cut off"},
		{"a byte too many", packed + "x", "behind"},
		{"a word less", damaged(16+len(words)-1, 'x'), "one word a line"},
		{"two words in one", damaged(16+strings.IndexByte(words, '\n'), 'x'), "words"},
		{"a word that is no text", damaged(16+1, 0xff), "UTF-8"},
		{"a rule of no kind", damaged(16+len(words)+8, 9), "rule"},
		{"a rule for no character", damaged(16+len(words)+4, 0xff, 0xff, 0xff, 0xff), "rule"},
		{"a rule without an end", damaged(16+len(words)+9, 0xff), "rule"},
		{"a position that is no number", damaged(places, nan...), "no number"},
		{"a scale without a bound", damaged(places-1, 0x7f), ""},
		{"a bias without a bound", damaged(len(packed)-4, 0, 0, 0x80, 0x7f), "no number"},
	} {
		_, err := New(c.file)
		if c.want == "" { // a large number is one
			if err != nil {
				t.Errorf("%s: %v", c.name, err)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: err = %v, want one that says %q", c.name, err, c.want)
		}
	}
	if _, err := parseChars(rules[:len(rules)-1]); err == nil {
		t.Error("rules without their last byte were read")
	}
}

func TestWildWeightsGiveAnError(t *testing.T) {
	b := []byte(packed)
	copy(b[len(b)-4:], binary.LittleEndian.AppendUint32(nil, math.Float32bits(math.MaxFloat32))) // a bias
	e, err := New(string(b))
	if err != nil {
		t.Fatal(err)
	}
	if v, err := e.Encode(t.Context(), []string{"hello"}); err == nil {
		t.Errorf("a vector of %v", v[0].Vector[:4])
	}
}

func TestALargeFileIsNotRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "large")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, maxFile+1); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(path); err == nil || !strings.Contains(err.Error(), "more than") {
		t.Errorf("err = %v, want one about its size", err)
	}
	if _, err := Open(filepath.Join(path, "none")); err == nil {
		t.Error("no error for a file that is not there")
	}
}

// Whatever rules a file has, the tokenizer ends and its places stay inside the text.
func FuzzRules(f *testing.F) {
	words, rules, _, err := sections(packed)
	if err != nil {
		f.Fatal(err)
	}
	v, err := parseVocab(words)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(rules[:400], "Hello, World! வணக்கம்")
	f.Add("\x41\x00\x00\x00\x41\x00\x00\x00\x03\x01a", "A\xff[SEP]")
	f.Fuzz(func(t *testing.T, rules, text string) {
		c, err := parseChars(rules)
		if err != nil {
			return
		}
		tok := Tokenizer{tables: func() tables { return tables{v, c} }}
		for _, got := range tok.Tokens(text) {
			if got.ID < 0 || got.ID >= vocabSize || got.Start < 0 || got.End > len(text) || got.Start > got.End {
				t.Errorf("token %+v of %d bytes", got, len(text))
			}
		}
		for _, r := range text {
			if to := c.of(r).to; !utf8.ValidString(to) {
				t.Errorf("%q becomes %q", r, to)
			}
		}
	})
}

func FuzzSections(f *testing.F) {
	f.Add([]byte(packed[:64]), uint32(3), uint32(4))
	f.Fuzz(func(t *testing.T, b []byte, words, rules uint32) {
		if len(b) >= 16 {
			copy(b, magic)
			binary.LittleEndian.PutUint32(b[8:], words)
			binary.LittleEndian.PutUint32(b[12:], rules)
		}
		w, r, weights, err := sections(string(b))
		if err == nil && 16+len(w)+len(r)+len(weights) > len(b) {
			t.Errorf("%d bytes have parts of %d, %d and %d", len(b), len(w), len(r), len(weights))
		}
		if _, err := New(string(b)); err == nil {
			t.Error("a model of a few bytes")
		}
	})
}
