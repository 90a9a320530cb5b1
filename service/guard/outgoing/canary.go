package outgoing

import (
	"encoding/base64"
	"encoding/hex"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"aran/platform/cache"
	"aran/service/guard/canon"
	"aran/service/guard/detect"
)

const (
	// fewestKnown is how many signs of a canary must have been said until the rest is waited for.
	fewestKnown = 8
	// canarySpan is how far a canary may be stretched by what stands between its signs, in bytes.
	canarySpan = 512
	keepMarks  = 256
	// fewestCoded is how long a word in a code is at least, in bytes.
	fewestCoded = 24
	keepFor     = time.Hour
)

// Marks finds canaries: random marks that stand only in the instructions. Safe for concurrent use.
type Marks struct{ spellings []spelling }

type spelling struct{ text, how string }

// MarkCache keeps the spellings of canaries that were asked for lately. Safe for concurrent use.
type MarkCache struct{ marks *cache.Cache[string, *Marks] }

// NewMarkCache makes an empty cache.
func NewMarkCache() *MarkCache {
	return &MarkCache{cache.New[string, *Marks](keepMarks, keepFor)}
}

// Marks returns the finder of canaries.
func (c *MarkCache) Marks(canaries []string) *Marks {
	key := strings.Join(canaries, "\x00")
	if m, ok := c.marks.Get(key); ok {
		return m
	}
	m := NewMarks(canaries)
	c.marks.Put(key, m)
	return m
}

// NewMarks spells canaries in all the ways in which they are found. In all of them case, spaces, punctuation, invisible signs
// and look-alike letters make no difference.
func NewMarks(canaries []string) *Marks {
	m := &Marks{}
	add := func(how, text string) {
		if s := squeeze(text); len(s.Plain) >= fewestKnown && !slices.ContainsFunc(m.spellings, func(o spelling) bool { return o.text == s.Plain }) {
			m.spellings = append(m.spellings, spelling{s.Plain, how})
		}
	}
	for _, c := range canaries {
		add("", c)
		for _, v := range []string{c, strings.ToLower(c), strings.ToUpper(c)} {
			add("hex", hex.EncodeToString([]byte(v)))
			for shift := range 3 {
				add("base64", inner(v, shift))
			}
			for _, base := range []int{2, 8, 10} {
				add("codes", codes(v, base))
			}
		}
		add("rot13", strings.Map(rot13, c))
		add("reversed", reversed(c))
	}
	return m
}

// inner is the part of a base64 text that does not depend on what stands beside s: shift is where s begins, modulo 3.
func inner(s string, shift int) string {
	e := base64.RawStdEncoding.EncodeToString([]byte(strings.Repeat("\x00", shift) + s))
	skip := (shift*8 + 5) / 6
	whole := (shift + len(s)) * 8 / 6 // the last sign may hold bits of what follows
	return e[skip:whole]
}

// codes writes each byte as a number.
func codes(s string, base int) string {
	var b strings.Builder
	for i := range len(s) {
		n := strconv.FormatInt(int64(s[i]), base)
		if base == 2 {
			n = strings.Repeat("0", 8-len(n)) + n
		}
		b.WriteString(n)
	}
	return b.String()
}

func rot13(r rune) rune {
	switch {
	case r >= 'a' && r <= 'z':
		return 'a' + (r-'a'+13)%26
	case r >= 'A' && r <= 'Z':
		return 'A' + (r-'A'+13)%26
	}
	return r
}

func reversed(s string) string {
	r := []rune(s)
	slices.Reverse(r)
	return string(r)
}

// squeeze keeps the letters and digits of a text's plain form.
func squeeze(s string) canon.Text {
	t := canon.Plain(s)
	out := make([]byte, 0, len(t.Plain))
	at := make([]int32, 0, len(t.At))
	for i, r := range t.Plain {
		if unicode.IsLetter(r) || unicode.IsNumber(r) {
			n := i
			for range len(string(r)) {
				out, at = append(out, t.Plain[n]), append(at, t.At[n])
				n++
			}
		}
	}
	return canon.Text{Plain: string(out), At: append(at, t.At[len(t.At)-1])}
}

// Find finds canaries in a text, as they are and disguised: in other case, spaced, with invisible signs between, as hex,
// base64, numbers, rot13 or backwards.
func (m *Marks) Find(text string) []detect.Finding {
	if len(m.spellings) == 0 || text == "" {
		return nil
	}
	out := m.in(text)
	if !longWord(text) {
		return out
	}
	for _, h := range canon.Decode(text) {
		for _, f := range m.in(h.Text) {
			f.Rule, f.Start, f.End = f.Rule+"+"+h.How, h.Start, h.End
			out = append(out, f)
		}
	}
	return out
}

// longWord reports whether a text has a word long enough to hide something in a code.
func longWord(s string) bool {
	n := 0
	for i := range len(s) {
		if n++; s[i] <= ' ' {
			n = 0
		}
		if n >= fewestCoded {
			return true
		}
	}
	return false
}

func (m *Marks) in(text string) (out []detect.Finding) {
	s := squeeze(text)
	for _, p := range m.spellings {
		i := strings.Index(s.Plain, p.text)
		if i < 0 {
			continue
		}
		f := detect.Finding{Kind: "canary", Rule: "canary", Score: 1, Why: "It repeats a random mark that stands only in the instructions."}
		if p.how != "" {
			f.Rule += "." + p.how
			f.Why = "It repeats a random mark that stands only in the instructions, written as " + p.how + "."
		}
		f.Start, f.End = int(s.At[i]), int(s.At[i+len(p.text)-1])+1
		if end := int(s.At[i+len(p.text)]); end > f.End {
			f.End = end
		}
		out = append(out, f)
	}
	return out
}

// Pending reports whether a canary has begun at the end of a text: then its rest is waited for.
func (m *Marks) Pending(text string) bool {
	if len(m.spellings) == 0 {
		return false
	}
	s := squeeze(tail(text, canarySpan)).Plain
	for _, p := range m.spellings {
		for n := min(len(p.text)-1, len(s)); n >= fewestKnown; n-- {
			if s[len(s)-1] == p.text[n-1] && strings.HasSuffix(s, p.text[:n]) {
				return true
			}
		}
	}
	return false
}

// Canaries finds the marks that stand only in the instructions.
func Canaries(s string, canaries []string) []detect.Finding { return NewMarks(canaries).Find(s) }

// tail is the end of a text, at most n bytes, beginning with a whole character.
func tail(s string, n int) string {
	if len(s) <= n {
		return s
	}
	s = s[len(s)-n:]
	for i := range min(len(s), 4) {
		if s[i]&0xc0 != 0x80 {
			return s[i:]
		}
	}
	return s
}
