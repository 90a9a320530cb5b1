package mutate

import (
	"encoding/base32"
	"encoding/base64"
	"encoding/hex"
	"html"
	"math/rand/v2"
	"net/url"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf16"
)

// coded makes an exact mutation of a code and its way back.
func coded(name string, to, from func(string) string) Mutation {
	return Mutation{Name: "encoding." + name, Family: Encoding, apply: func(s string, _ *rand.Rand) string { return to(s) }, invert: from}
}

// broken leaves a text alone that is no text of the code.
func broken(b []byte, err error, s string) string {
	if err != nil {
		return s
	}
	return string(b)
}

func inBase64(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

func fromBase64(s string) string {
	b, err := base64.StdEncoding.DecodeString(s)
	return broken(b, err, s)
}

// numbers writes bytes as numbers of a base, padded to a width.
func numbers(base, width int, before, between string) func(string) string {
	return func(s string) string {
		parts := make([]string, len(s))
		for i := range len(s) {
			n := strconv.FormatInt(int64(s[i]), base)
			parts[i] = before + strings.Repeat("0", max(0, width-len(n))) + n
		}
		return strings.Join(parts, between)
	}
}

func fromNumbers(base int) func(string) string {
	return func(s string) string {
		var out []byte
		for f := range strings.FieldsSeq(s) {
			n, err := strconv.ParseUint(f, base, 8)
			if err != nil {
				return s
			}
			out = append(out, byte(n))
		}
		return string(out)
	}
}

// units writes UTF-16 code units, as escapes in programs do.
func units(s string) string {
	var b strings.Builder
	for _, u := range utf16.Encode([]rune(s)) {
		b.WriteString(`\u` + strings.Repeat("0", max(0, 4-len(strconv.FormatUint(uint64(u), 16)))) + strconv.FormatUint(uint64(u), 16))
	}
	return b.String()
}

func fromUnits(s string) string {
	var out []uint16
	for _, f := range strings.Split(s, `\u`)[1:] {
		n, err := strconv.ParseUint(f, 16, 16)
		if err != nil {
			return s
		}
		out = append(out, uint16(n))
	}
	return string(utf16.Decode(out))
}

func entities(before string, base int) func(string) string {
	return func(s string) string {
		var b strings.Builder
		for _, c := range s {
			b.WriteString(before + strconv.FormatInt(int64(c), base) + ";")
		}
		return b.String()
	}
}

func turned(by rune) func(string) string {
	return func(s string) string {
		return strings.Map(func(c rune) rune {
			switch {
			case c >= 'a' && c <= 'z':
				return 'a' + (c-'a'+by)%26
			case c >= 'A' && c <= 'Z':
				return 'A' + (c-'A'+by)%26
			}
			return c
		}, s)
	}
}

func mirrored(s string) string {
	return strings.Map(func(c rune) rune {
		switch {
		case c >= 'a' && c <= 'z':
			return 'z' - (c - 'a')
		case c >= 'A' && c <= 'Z':
			return 'Z' - (c - 'A')
		}
		return c
	}, s)
}

// morse is ITU-R M.1677-1, with the usual signs that it lacks.
var morse = map[rune]string{ //nolint:gochecknoglobals // a constant table
	'a': ".-", 'b': "-...", 'c': "-.-.", 'd': "-..", 'e': ".", 'f': "..-.", 'g': "--.", 'h': "....", 'i': "..", 'j': ".---", 'k': "-.-", 'l': ".-..", 'm': "--",
	'n': "-.", 'o': "---", 'p': ".--.", 'q': "--.-", 'r': ".-.", 's': "...", 't': "-", 'u': "..-", 'v': "...-", 'w': ".--", 'x': "-..-", 'y': "-.--", 'z': "--..",
	'0': "-----", '1': ".----", '2': "..---", '3': "...--", '4': "....-", '5': ".....", '6': "-....", '7': "--...", '8': "---..", '9': "----.",
	'.': ".-.-.-", ',': "--..--", '?': "..--..", '\'': ".----.", '!': "-.-.--", '/': "-..-.", '(': "-.--.", ')': "-.--.-", '&': ".-...", ':': "---...", ';': "-.-.-.", '=': "-...-", '+': ".-.-.", '-': "-....-", '_': "..--.-", '"': ".-..-.", '$': "...-..-", '@': ".--.-.",
}

// inMorse drops what Morse has no sign for.
func inMorse(s string, _ *rand.Rand) string {
	var out []string
	for w := range strings.FieldsSeq(strings.ToLower(s)) {
		var signs []string
		for _, c := range w {
			if m := morse[c]; m != "" {
				signs = append(signs, m)
			}
		}
		if len(signs) > 0 {
			out = append(out, strings.Join(signs, " "))
		}
	}
	return strings.Join(out, " / ")
}

const (
	tag       = 0xE0000 // invisible copies of ASCII
	mimeWidth = 76
)

func inTags(s string) string {
	return strings.Map(func(c rune) rune {
		if c < unicode.MaxASCII {
			return c + tag
		}
		return c
	}, s)
}

func fromTags(s string) string {
	return strings.Map(func(c rune) rune {
		if c >= tag && c < tag+unicode.MaxASCII {
			return c - tag
		}
		return c
	}, s)
}

func folded(s string) string {
	var b strings.Builder
	for len(s) > mimeWidth {
		b.WriteString(s[:mimeWidth] + "\n")
		s = s[mimeWidth:]
	}
	return b.String() + s
}

func encodings() []Mutation {
	return []Mutation{
		coded("base64", inBase64, fromBase64),
		coded("base64-url", func(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }, func(s string) string {
			b, err := base64.RawURLEncoding.DecodeString(s)
			return broken(b, err, s)
		}),
		coded("base64-lines", func(s string) string { return folded(inBase64(s)) }, func(s string) string { return fromBase64(strings.ReplaceAll(s, "\n", "")) }),
		coded("base64-twice", func(s string) string { return inBase64(inBase64(s)) }, func(s string) string { return fromBase64(fromBase64(s)) }),
		coded("base32", func(s string) string { return base32.StdEncoding.EncodeToString([]byte(s)) }, func(s string) string {
			b, err := base32.StdEncoding.DecodeString(s)
			return broken(b, err, s)
		}),
		coded("hex", func(s string) string { return hex.EncodeToString([]byte(s)) }, func(s string) string {
			b, err := hex.DecodeString(s)
			return broken(b, err, s)
		}),
		coded("hex-spaced", numbers(16, 2, "", " "), fromNumbers(16)),
		coded("hex-escaped", numbers(16, 2, `\x`, ""), func(s string) string { return fromNumbers(16)(strings.ReplaceAll(s, `\x`, " ")) }),
		coded("decimal", numbers(10, 0, "", " "), fromNumbers(10)),
		coded("binary", numbers(2, 8, "", " "), fromNumbers(2)),
		coded("unicode-escaped", units, fromUnits),
		coded("entities", entities("&#", 10), html.UnescapeString),
		coded("entities-hex", entities("&#x", 16), html.UnescapeString),
		coded("url", func(s string) string { return numbers(16, 2, "%", "")(s) }, func(s string) string {
			out, err := url.PathUnescape(s)
			return broken([]byte(out), err, s)
		}),
		coded("rot13", turned(13), turned(13)),
		coded("caesar", turned(3), turned(23)),
		coded("atbash", mirrored, mirrored),
		coded("reversed", reversed, reversed),
		coded("tags", inTags, fromTags),
		{Name: "encoding.morse", Family: Encoding, apply: inMorse},
		// A code of a code: what a single decoder does not see.
		coded("hex-of-rot13", func(s string) string { return hex.EncodeToString([]byte(turned(13)(s))) }, func(s string) string {
			b, err := hex.DecodeString(s)
			return turned(13)(broken(b, err, s))
		}),
		coded("base64-of-reversed", func(s string) string { return inBase64(reversed(s)) }, func(s string) string { return reversed(fromBase64(s)) }),
	}
}
