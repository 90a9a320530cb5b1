package canon

import (
	"encoding/base64"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Bounds of what is decoded.
const (
	decodeRuns  = 8
	decodeBytes = 64 << 10
)

var base64Run = regexp.MustCompile(`[A-Za-z0-9+/]{40,}={0,2}`)

// Hidden is a text that was found inside another one, in a code. Start and End are where it stood there.
type Hidden struct {
	Text       string
	How        string // base64
	Start, End int
}

// Decode finds what a text hides in codes.
func Decode(s string) (out []Hidden) {
	budget := decodeBytes
	for _, m := range base64Run.FindAllStringIndex(s, decodeRuns) {
		run := strings.TrimRight(s[m[0]:m[1]], "=")
		if len(run) > budget {
			break
		}
		budget -= len(run)
		b, err := base64.RawStdEncoding.DecodeString(run[:len(run)-len(run)%4])
		if err == nil && readable(b) {
			out = append(out, Hidden{string(b), "base64", m[0], m[1]})
		}
	}
	return out
}

func readable(b []byte) bool {
	if !utf8.Valid(b) {
		return false
	}
	good, all := 0, 0
	for _, r := range string(b) {
		all++
		if unicode.IsLetter(r) || unicode.IsSpace(r) || unicode.IsPunct(r) {
			good++
		}
	}
	return all > 0 && good*10 >= all*8
}
