package main

import (
	"strings"
	"unicode/utf8"
)

// textStream turns a model's pieces into text that can be shown: whole characters only (a piece may end
// inside one; bytes that are no character become U+FFFD), and nothing of a stop word, which may begin in one
// piece and end in another. What it hands on does not depend on where the pieces were cut.
type textStream struct {
	stops []string
	emit  func(text string) error
	raw   []byte // the beginning of a character
	held  string // text that may be the beginning of a stop word
}

// write takes the next piece. It reports whether a stop word ended the text; nothing may follow then.
func (s *textStream) write(piece []byte) (stopped bool, err error) {
	s.raw = append(s.raw, piece...)
	whole := len(s.raw)
	for i := max(0, whole-utf8.UTFMax+1); i < whole; i++ {
		if utf8.RuneStart(s.raw[i]) && !utf8.FullRune(s.raw[i:]) {
			whole = i
			break
		}
	}
	text := string([]rune(string(s.raw[:whole])))
	s.raw = append(s.raw[:0], s.raw[whole:]...)
	return s.text(text)
}

// close hands on what was held back: the answer ended without a stop word.
func (s *textStream) close() (stopped bool, err error) {
	rest := string([]rune(string(s.raw)))
	s.raw = nil
	if stopped, err = s.text(rest); stopped || err != nil {
		return stopped, err
	}
	return false, s.send(s.held)
}

func (s *textStream) text(text string) (stopped bool, err error) {
	s.held += text
	if at := firstStop(s.held, s.stops); at >= 0 {
		return true, s.send(s.held[:at])
	}
	keep := longestBeginning(s.held, s.stops)
	out := s.held[:len(s.held)-keep]
	s.held = s.held[len(s.held)-keep:]
	return false, s.send(out)
}

func (s *textStream) send(text string) error {
	if text == "" {
		return nil
	}
	return s.emit(text)
}

// firstStop is where the stop word begins that is complete first, or -1. Of two that end together the longer counts.
func firstStop(text string, stops []string) int {
	start, end := -1, len(text)+1
	for _, stop := range stops {
		at := strings.Index(text, stop)
		if at < 0 || stop == "" {
			continue
		}
		if e := at + len(stop); e < end || e == end && at < start {
			start, end = at, e
		}
	}
	return start
}

// longestBeginning is how many bytes at the end of text begin a stop word.
func longestBeginning(text string, stops []string) int {
	longest := 0
	for _, stop := range stops {
		for n := min(len(stop)-1, len(text)); n > longest; n-- {
			if strings.HasSuffix(text, stop[:n]) {
				longest = n
				break
			}
		}
	}
	return longest
}
