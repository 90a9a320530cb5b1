package canon_test

import (
	"testing"
	"unicode/utf8"

	"aran/service/guard/canon"
)

func FuzzPlain(f *testing.F) {
	f.Add("ig\u200bnore ａll")
	f.Add("i g n o r e\xff\xfe")
	f.Add("\U000E0041\U000E0042")
	f.Fuzz(func(t *testing.T, s string) {
		n := canon.Plain(s)
		if len(n.At) != len(n.Plain)+1 || !utf8.ValidString(n.Plain) {
			t.Fatalf("%d positions for %d bytes of %q", len(n.At), len(n.Plain), s)
		}
		last := int32(0)
		for _, p := range n.At {
			if p < last || int(p) > len(s) {
				t.Fatalf("positions %v of %q", n.At, s)
			}
			last = p
		}
	})
}
