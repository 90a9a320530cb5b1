package main

import (
	"strings"
	"testing"
	"unicode/utf8"
)

// written is what a stream hands on for the pieces.
func written(t *testing.T, pieces, stops []string) (text string, stopped bool) {
	t.Helper()
	var b strings.Builder
	s := &textStream{stops: stops, emit: func(p string) error {
		if !utf8.ValidString(p) {
			t.Errorf("piece %q is not whole characters", p)
		}
		b.WriteString(p)
		return nil
	}}
	for _, p := range pieces {
		stopped, err := s.write([]byte(p))
		if err != nil {
			t.Fatal(err)
		}
		if stopped {
			return b.String(), true
		}
	}
	stopped, err := s.close()
	if err != nil {
		t.Fatal(err)
	}
	return b.String(), stopped
}

func TestText(t *testing.T) {
	for _, c := range []struct {
		name          string
		pieces, stops []string
		want          string
		stopped       bool
	}{
		{"pieces join", []string{"Hel", "lo"}, nil, "Hello", false},
		{"a character in two pieces stays whole", []string{"a\xe0\xae", "\x85b"}, nil, "aஅb", false},
		{"half a character at the end is replaced", []string{"a\xe0\xae"}, nil, "a\uFFFD\uFFFD", false},
		{"bytes that are no text are replaced", []string{"a\xffb"}, nil, "a\uFFFDb", false},
		{"a stop word in one piece ends the text", []string{"one\n\ntwo"}, []string{"\n\n"}, "one", true},
		{"a stop word over three pieces ends the text", []string{"one E", "N", "D two"}, []string{"END"}, "one ", true},
		{"what only begins like a stop word is kept", []string{"one EN", "ough"}, []string{"END"}, "one ENough", false},
		{"what begins like a stop word at the end is kept", []string{"one EN"}, []string{"END"}, "one EN", false},
		{"a stop word of several bytes per character", []string{"ab\xe0\xae", "\x85c"}, []string{"அ"}, "ab", true},
		{"the stop word that is complete first wins", []string{"xabc"}, []string{"abc", "b"}, "xa", true},
		{"a stop word that overlaps itself", []string{"aa", "ab"}, []string{"aab"}, "a", true},
	} {
		got, stopped := written(t, c.pieces, c.stops)
		if got != c.want || stopped != c.stopped {
			t.Errorf("%s: %q, stopped %v; want %q, %v", c.name, got, stopped, c.want, c.stopped)
		}
	}
}

// FuzzText: however an answer is cut into pieces, the same text comes out.
func FuzzText(f *testing.F) {
	f.Add([]byte("one END two"), "END", "two", uint8(3))
	f.Add([]byte("\xe0\xae\x85\xff\xe0"), "\xe0", "அ", uint8(1))
	f.Add([]byte("aabaab"), "aab", "b", uint8(2))
	f.Fuzz(func(t *testing.T, text []byte, stop1, stop2 string, size uint8) {
		var stops []string
		for _, s := range []string{stop1, stop2} {
			if s != "" && utf8.ValidString(s) {
				stops = append(stops, s)
			}
		}
		step := max(1, int(size))
		var pieces []string
		for rest := string(text); rest != ""; {
			n := min(step, len(rest))
			pieces, rest = append(pieces, rest[:n]), rest[n:]
		}
		got, stopped := written(t, pieces, stops)
		want := string([]rune(string(text)))
		at := firstStop(want, stops)
		if at >= 0 {
			want = want[:at]
		}
		if got != want || stopped != (at >= 0) {
			t.Errorf("in pieces of %d: %q, stopped %v; whole: %q", step, got, stopped, want)
		}
	})
}
