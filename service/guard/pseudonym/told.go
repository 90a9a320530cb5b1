package pseudonym

import (
	"bytes"
	"index/suffixarray"
	"strings"
)

// tagOf is what tells words apart.
func tagOf(text string) string {
	text = strings.TrimSuffix(text, "@"+Host)
	return text[strings.LastIndexAny(text, "-/")+1:]
}

// lettered reports whether a stem has a letter. Such a one is contained in another, or contains it, only if both have one tag:
// nothing but a tag follows the one hyphen or the path of a link, and addresses of one kind have one length.
func lettered(text string) bool {
	return strings.ContainsFunc(text, func(r rune) bool { return r >= 'a' && r <= 'z' })
}

// stems are pseudonyms that are taken. To ask for another takes a time that does not depend on how many they are.
type stems struct {
	tags  map[string]bool         // of words
	whole map[string]bool         // without a letter: numbers, addresses
	sizes map[int]bool            // of whole, in bytes
	parts map[int]map[string]bool // what whole ones contain, by its size; for sizes that were asked for
}

func (m *Map) taken() *stems {
	s := &stems{tags: map[string]bool{}, whole: map[string]bool{}, sizes: map[int]bool{}, parts: map[int]map[string]bool{}}
	for _, st := range m.stems {
		s.add(st.text, st.digits)
	}
	return s
}

func (s *stems) add(text string, digits bool) { //nolint:revive // what stemOf returns
	if !digits {
		s.tags[tagOf(text)] = true
	}
	if lettered(text) || s.whole[text] {
		return
	}
	s.whole[text], s.sizes[len(text)] = true, true
	for n, parts := range s.parts {
		cut(text, n, parts)
	}
}

// cut adds all parts of n bytes.
func cut(text string, n int, parts map[string]bool) {
	for i := 0; i+n <= len(text); i++ {
		parts[text[i:i+n]] = true
	}
}

// clash reports whether a stem can't be told from one that is taken: one contains the other, or both are words with one tag.
func (s *stems) clash(text string, digits bool) bool { //nolint:revive // what stemOf returns
	if !digits && s.tags[tagOf(text)] {
		return true
	}
	if lettered(text) {
		return false
	}
	for n := range s.sizes {
		for i := 0; i+n <= len(text); i++ {
			if s.whole[text[i:i+n]] {
				return true
			}
		}
	}
	parts := s.parts[len(text)]
	if parts == nil {
		parts = map[string]bool{}
		for w := range s.whole {
			cut(w, len(text), parts)
		}
		s.parts[len(text)] = parts
	}
	return parts[text]
}

// shortest stem without a tag: seven digits.
const shortest = 7

// script is what texts hold that could be taken for a pseudonym. It is read once, when first asked.
type script struct {
	texts   []string
	tags    map[string]bool    // what stands where a tag may stand
	numbers *suffixarray.Index // what may hold a number or an address, with a line for each
}

// holds reports whether a stem may be found in the texts. It errs on one side: of a word it looks at the tag only.
func (s *script) holds(text string) bool {
	if s.numbers == nil {
		s.read()
	}
	if tag := tagOf(text); lettered(text) && len(tag) == tagSize {
		return s.tags[tag]
	}
	return len(s.numbers.Lookup([]byte(text), 1)) > 0
}

func (s *script) read() {
	s.tags = map[string]bool{}
	var lines []byte
	for _, text := range s.texts {
		lines = s.words(text, lines)
		lines = digitLines(text, lines)
	}
	s.numbers = suffixarray.New(lines)
}

// words reads a text as a matcher of words does, but for backslashes, all of which it passes over.
func (s *script) words(text string, lines []byte) []byte {
	var last [tagSize + 1]byte // what was read before
	begun := len(lines)
	for i := 0; i < len(text); {
		b, size, sort := classify(text[i:])
		i += size
		if sort == escape {
			continue
		}
		copy(last[:], last[1:])
		last[tagSize] = b
		if (last[0] == '-' || last[0] == '/') && isTag(last[1:]) {
			s.tags[string(last[1:])] = true
		}
		if b >= '0' && b <= '9' || b >= 'a' && b <= 'f' || strings.IndexByte(":.()+-", b) >= 0 {
			lines = append(lines, b)
			continue
		}
		lines = addressLine(lines, begun)
		begun = len(lines)
	}
	return addressLine(lines, begun)
}

// addressLine keeps a line that may hold an address, or a number with points: without one of these there is none.
func addressLine(lines []byte, begun int) []byte {
	if !bytes.ContainsAny(lines[begun:], ".:") {
		return lines[:begun]
	}
	return endLine(lines, begun)
}

// digitLines reads a text as a matcher of numbers does.
func digitLines(text string, lines []byte) []byte {
	begun, between := len(lines), 0
	for i := 0; i < len(text); {
		b, size, sort := classify(text[i:])
		i += size
		switch {
		case sort == digit:
			lines, between = append(lines, b), 0
		case sort == other || between == betweenMost:
			lines = endLine(lines, begun)
			begun = len(lines)
		default:
			between++
		}
	}
	return endLine(lines, begun)
}

// endLine keeps a line that has digits enough for an address or a number.
func endLine(lines []byte, begun int) []byte {
	if countDigits(string(lines[begun:])) < shortest-2 { // an address of IPv6 has five that are always there
		return lines[:begun]
	}
	return append(lines, '\n')
}

// isTag reports whether a tag could be made like this.
func isTag(b []byte) bool {
	if strings.IndexByte(letters, b[0]) < 0 {
		return false
	}
	for _, c := range b {
		if strings.IndexByte(symbols, c) < 0 {
			return false
		}
	}
	return true
}
