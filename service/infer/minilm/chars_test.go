package minilm

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"testing"
)

// Every code point is treated as the reference treats it: the digest is the last line of
// pack/chars.txt, computed from the reference's own answers (test/bench/embed/chars.py).
func TestEveryCodePointEqualsTheReference(t *testing.T) {
	const want = "c3bdc9f87599c784b323b0ce00ee0412e54a877cb67fdb22456e412f94acec2a"
	_, rules, _, err := sections(packed)
	if err != nil {
		t.Fatal(err)
	}
	chars, err := parseChars(rules)
	if err != nil {
		t.Fatal(err)
	}
	h := sha256.New()
	for r := rune(0); r <= 0x10ffff; r++ {
		if r >= 0xd800 && r <= 0xdfff {
			continue
		}
		c := chars.of(r)
		to := ""
		if c.kind == part || c.kind == alone {
			if c.to == "" {
				c.to = string(r)
			}
			for i, x := range []rune(c.to) {
				if i > 0 {
					to += " "
				}
				to += fmt.Sprintf("%x", x)
			}
		}
		name := [...]string{drop: "drop", space: "space", alone: "alone", part: "word"}[c.kind]
		h.Write(fmt.Appendf(nil, "%x %s %s\n", r, name, to))
	}
	if got := hex.EncodeToString(h.Sum(nil)); got != want {
		t.Errorf("sha256 %s, want %s", got, want)
	}
}

func TestPackedFileIsThePinnedOne(t *testing.T) {
	if err := verify(packed); err != nil {
		t.Error(err)
	}
	changed := []byte(packed)
	changed[len(changed)/2] ^= 1
	if verify(string(changed)) == nil {
		t.Error("a changed bit was not seen")
	}
}

func FuzzParseChars(f *testing.F) {
	f.Add("\x00\x00\x00\x00\x08\x00\x00\x00\x00\x00A\x00\x00\x00A\x00\x00\x00\x03\x01a")
	f.Fuzz(func(t *testing.T, b string) {
		if c, err := parseChars(b); err == nil {
			for _, r := range []rune{0, 'A', 0xac00, 0x10ffff} {
				c.of(r)
			}
		}
	})
}
