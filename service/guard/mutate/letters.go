package mutate

import (
	"math/rand/v2"
	"strings"
	"unicode"
)

// each makes a mutation of what happens to every character.
func each(f func(c rune, r *rand.Rand) string) func(string, *rand.Rand) string {
	return func(s string, r *rand.Rand) string {
		var b strings.Builder
		for _, c := range s {
			b.WriteString(f(c, r))
		}
		return b.String()
	}
}

// words makes a mutation of what happens to every run of letters and digits.
func words(f func(w string, r *rand.Rand) string) func(string, *rand.Rand) string {
	return func(s string, r *rand.Rand) string {
		var b strings.Builder
		for len(s) > 0 {
			n := strings.IndexFunc(s, func(c rune) bool { return !inWord(c) })
			if n < 0 {
				n = len(s)
			}
			if n > 0 {
				b.WriteString(f(s[:n], r))
				s = s[n:]
				continue
			}
			if n = strings.IndexFunc(s, inWord); n < 0 {
				n = len(s)
			}
			b.WriteString(s[:n])
			s = s[n:]
		}
		return b.String()
	}
}

func inWord(c rune) bool { return unicode.IsLetter(c) || unicode.IsDigit(c) || unicode.IsMark(c) }

func same(s string) string { return s }

func cases() []Mutation {
	odd := func(s string, _ *rand.Rand) string {
		var b strings.Builder
		up := false
		for _, c := range s {
			if up {
				c = unicode.ToUpper(c)
			} else {
				c = unicode.ToLower(c)
			}
			up = up != unicode.IsLetter(c)
			b.WriteRune(c)
		}
		return b.String()
	}
	return []Mutation{
		{Name: "case.upper", Family: Case, folds: true, invert: same, apply: func(s string, _ *rand.Rand) string { return strings.ToUpper(s) }},
		{Name: "case.lower", Family: Case, folds: true, invert: same, apply: func(s string, _ *rand.Rand) string { return strings.ToLower(s) }},
		{Name: "case.alternating", Family: Case, folds: true, invert: same, apply: odd},
		{Name: "case.random", Family: Case, folds: true, invert: same, apply: each(func(c rune, r *rand.Rand) string {
			if r.IntN(2) == 0 {
				return string(unicode.ToUpper(c))
			}
			return string(unicode.ToLower(c))
		})},
		{Name: "case.title", Family: Case, folds: true, invert: same, apply: words(func(w string, _ *rand.Rand) string {
			c := []rune(strings.ToLower(w))
			c[0] = unicode.ToUpper(c[0])
			return string(c)
		})},
	}
}

// apart puts a separator between the letters of words and a wider one between words.
func apart(separator, between string) func(string, *rand.Rand) string {
	letters := words(func(w string, _ *rand.Rand) string { return strings.Join(strings.Split(w, ""), separator) })
	return func(s string, r *rand.Rand) string {
		parts := strings.Fields(s)
		for i := range parts {
			parts[i] = letters(parts[i], r)
		}
		return strings.Join(parts, between)
	}
}

func spacings() []Mutation {
	odd := []string{"\u00a0", "\u2002", "\u2003", "\u2009", "\u202f", "\u205f", "\u3000", "\t"}
	return []Mutation{
		{Name: "spacing.letters", Family: Spacing, apply: apart(" ", "   ")},
		{Name: "spacing.dots", Family: Spacing, apply: apart(".", " ")},
		{Name: "spacing.dashes", Family: Spacing, apply: apart("-", "  ")},
		{Name: "spacing.odd", Family: Spacing, apply: each(func(c rune, r *rand.Rand) string {
			if c == ' ' {
				return odd[r.IntN(len(odd))]
			}
			return string(c)
		}), invert: func(s string) string {
			for _, o := range odd {
				s = strings.ReplaceAll(s, o, " ")
			}
			return s
		}},
		{Name: "spacing.wide", Family: Spacing, apply: each(func(c rune, r *rand.Rand) string {
			if c == ' ' {
				return strings.Repeat(" ", 2+r.IntN(6))
			}
			return string(c)
		})},
		{Name: "spacing.lines", Family: Spacing, apply: each(func(c rune, r *rand.Rand) string {
			if c == ' ' && r.IntN(2) == 0 {
				return "\n"
			}
			return string(c)
		})},
		{Name: "spacing.underscores", Family: Spacing, apply: func(s string, _ *rand.Rand) string { return strings.ReplaceAll(s, " ", "_") }},
		{Name: "spacing.camel", Family: Spacing, apply: func(s string, _ *rand.Rand) string {
			parts := strings.Fields(s)
			for i, p := range parts {
				c := []rune(p)
				c[0] = unicode.ToUpper(c[0])
				parts[i] = string(c)
			}
			return strings.Join(parts, "")
		}},
	}
}

// letters maps each of from to the one of to at the same place.
func letters(from, to string) map[rune]rune {
	m, t := map[rune]rune{}, []rune(to)
	for i, c := range []rune(from) {
		m[c] = t[i]
	}
	return m
}

func shifted(lower, upper rune) map[rune]rune {
	m := map[rune]rune{}
	for i := range rune(26) {
		m['a'+i], m['A'+i] = lower+i, upper+i
	}
	return m
}

// swapped makes an exact mutation of a table in which no two letters become the same.
func swapped(name, family string, m map[rune]rune) Mutation {
	out := Mutation{Name: name, Family: family, apply: each(func(c rune, _ *rand.Rand) string {
		if o, ok := m[c]; ok {
			c = o
		}
		return string(c)
	})}
	back := map[rune]rune{}
	for k, v := range m {
		back[v] = k
	}
	out.invert = func(s string) string {
		return strings.Map(func(c rune) rune {
			if o, ok := back[c]; ok {
				return o
			}
			return c
		}, s)
	}
	return out
}

func homoglyphs() []Mutation {
	cyrillic := letters("acehijopsxyABCEHIJKMOPSTX", "асеһіјорѕхуАВСЕНІЈКМОРЅТХ")
	greek := letters("ovABEHIKMNOPTXYZ", "ονΑΒΕΗΙΚΜΝΟΡΤΧΥΖ")
	wide := map[rune]rune{}
	for c := '!'; c <= '~'; c++ {
		wide[c] = c + 0xFEE0
	}
	some := swapped("homoglyph.some", Homoglyph, cyrillic)
	some.apply = each(func(c rune, r *rand.Rand) string {
		if o, ok := cyrillic[c]; ok && r.IntN(3) == 0 {
			c = o
		}
		return string(c)
	})
	small := swapped("homoglyph.small-capitals", Homoglyph, letters("abcdefghijklmnoprtuvwyz", "ᴀʙᴄᴅᴇꜰɢʜɪᴊᴋʟᴍɴᴏᴘʀᴛᴜᴠᴡʏᴢ"))
	return []Mutation{
		some,
		swapped("homoglyph.cyrillic", Homoglyph, cyrillic),
		swapped("homoglyph.greek", Homoglyph, greek),
		swapped("homoglyph.fullwidth", Homoglyph, wide),
		swapped("homoglyph.bold", Homoglyph, shifted(0x1D41A, 0x1D400)),
		swapped("homoglyph.script", Homoglyph, shifted(0x1D4EA, 0x1D4D0)),
		swapped("homoglyph.monospace", Homoglyph, shifted(0x1D68A, 0x1D670)),
		swapped("homoglyph.circled", Homoglyph, shifted(0x24D0, 0x24B6)),
		small,
	}
}

// strewn puts one of some invisible characters between letters, with a chance of one in n.
func strewn(name string, n int, between ...string) Mutation {
	return Mutation{Name: name, Family: Invisible, apply: words(func(w string, r *rand.Rand) string {
		var b strings.Builder
		for i, c := range w {
			if i > 0 && r.IntN(n) == 0 {
				b.WriteString(between[r.IntN(len(between))])
			}
			b.WriteRune(c)
		}
		return b.String()
	}), invert: func(s string) string {
		for _, o := range between {
			s = strings.ReplaceAll(s, o, "")
		}
		return s
	}}
}

func reversed(s string) string {
	c := []rune(s)
	for i, j := 0, len(c)-1; i < j; i, j = i+1, j-1 {
		c[i], c[j] = c[j], c[i]
	}
	return string(c)
}

func invisibles() []Mutation {
	const override, end = "\u202e", "\u202c"
	return []Mutation{
		strewn("invisible.zero-width", 1, "\u200b"),
		strewn("invisible.mixed", 2, "\u200b", "\u200c", "\u200d", "\u2060", "\ufeff"),
		strewn("invisible.soft-hyphen", 2, "\u00ad"),
		strewn("invisible.direction", 2, "\u200e", "\u200f", "\u2066\u2069", "\u061c"),
		strewn("invisible.variation", 2, "\ufe00", "\ufe0f"),
		// Shown as the text is, stored back to front (the "trojan source" trick).
		{
			Name: "invisible.override", Family: Invisible, apply: func(s string, _ *rand.Rand) string { return override + reversed(s) + end },
			invert: func(s string) string {
				return reversed(strings.TrimSuffix(strings.TrimPrefix(s, override), end))
			},
		},
	}
}

// marked puts combining marks onto letters.
func marked(name string, most int, first, last rune) Mutation {
	return Mutation{Name: name, Family: Marks, apply: each(func(c rune, r *rand.Rand) string {
		if !unicode.IsLetter(c) {
			return string(c)
		}
		out := []rune{c}
		for range 1 + r.IntN(most) {
			out = append(out, first+r.Int32N(last-first+1))
		}
		return string(out)
	}), invert: func(s string) string {
		return strings.Map(func(c rune) rune {
			if c >= first && c <= last {
				return -1
			}
			return c
		}, s)
	}}
}

func marks() []Mutation {
	return []Mutation{
		marked("marks.strike", 1, 0x336, 0x336),
		marked("marks.underline", 1, 0x332, 0x332),
		marked("marks.flood", 5, 0x300, 0x315),
		swapped("marks.accents", Marks, letters("aeioucnsAEIOUCN", "áèíöüçñšÁÈÍÖÜÇÑ")),
	}
}

func leets() []Mutation {
	light, heavy := letters("aeo", "430"), letters("aeiost", "431057")
	some := func(m map[rune]rune, n int) func(string, *rand.Rand) string {
		return words(func(w string, r *rand.Rand) string {
			if r.IntN(n) > 0 {
				return w
			}
			return strings.Map(func(c rune) rune {
				if o, ok := m[unicode.ToLower(c)]; ok {
					return o
				}
				return c
			}, w)
		})
	}
	return []Mutation{
		{Name: "leet.light", Family: Leet, apply: some(light, 1)},
		{Name: "leet.half", Family: Leet, apply: some(heavy, 2)},
		{Name: "leet.heavy", Family: Leet, apply: some(heavy, 1)},
		{Name: "leet.signs", Family: Leet, apply: some(letters("aeios", "@3!0$"), 1)},
	}
}

const longWord = 5 // letters of a word that can still be read with a slip in it

// slip makes a mutation that slips in every third long word, or so.
func slip(name string, f func(c []rune, at int, r *rand.Rand) []rune) Mutation {
	return Mutation{Name: name, Family: Typo, apply: words(func(w string, r *rand.Rand) string {
		c := []rune(w)
		if len(c) < longWord || r.IntN(3) > 0 {
			return w
		}
		return string(f(c, 1+r.IntN(len(c)-3), r)) // never the first or the last two letters
	})}
}

func typos() []Mutation {
	beside := map[rune]string{'a': "sq", 'b': "vn", 'c': "xv", 'd': "sf", 'e': "wr", 'f': "dg", 'g': "fh", 'h': "gj", 'i': "uo", 'j': "hk", 'k': "jl", 'l': "ko", 'm': "n", 'n': "bm", 'o': "ip", 'p': "ol", 'q': "wa", 'r': "et", 's': "ad", 't': "ry", 'u': "yi", 'v': "cb", 'w': "qe", 'x': "zc", 'y': "tu", 'z': "xa"}
	return []Mutation{
		slip("typo.swap", func(c []rune, at int, _ *rand.Rand) []rune { c[at], c[at+1] = c[at+1], c[at]; return c }),
		slip("typo.drop", func(c []rune, at int, _ *rand.Rand) []rune { return append(c[:at], c[at+1:]...) }),
		slip("typo.double", func(c []rune, at int, _ *rand.Rand) []rune { return append(c[:at+1], c[at:]...) }),
		slip("typo.beside", func(c []rune, at int, r *rand.Rand) []rune {
			if near := beside[unicode.ToLower(c[at])]; near != "" {
				c[at] = rune(near[r.IntN(len(near))])
			}
			return c
		}),
	}
}
