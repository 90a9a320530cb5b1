package guard

import (
	"context"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"aran/service/guard/detect"
	"aran/service/guard/outgoing"
)

const (
	// longestHold bounds what is held back: beyond it a piece is released although a match might begin in it.
	longestHold = 8 << 10
	// stillOpen is how far back an image, link or key block that has not ended yet is waited for.
	stillOpen = 4 << 10
)

// Checked is what of an answer may be shown, and what is to be sent again with the next piece.
type Checked struct {
	Verdict  string
	Release  string
	Hold     string
	Findings []detect.Finding
	Policy   string
}

// CheckOutput judges the part of an answer that is not released yet. Unless it is final, the end where something could still
// begin is held back, so that nothing is released in two halves that would have been removed as a whole: cutting an answer into
// pieces in any way releases the same text in total.
func (s *Service) CheckOutput(ctx context.Context, text string, canaries []string, final bool, collections ...string) (Checked, error) { //nolint:revive // a fact about the text
	book, err := s.rulebook(ctx, Job{Collections: collections})
	if err != nil {
		return Checked{}, err
	}
	if len(outgoing.Canaries(text, canaries)) > 0 {
		if r := s.output(text, canaries, book); r.Verdict == Block {
			return Checked{Verdict: Block, Findings: r.Findings, Policy: r.Policy}, s.record(ctx, []string{text}, detect.Output, []Result{r})
		}
	}
	cut := len(text)
	if !final {
		cut = boundary(text)
	}
	head := text[:cut]
	r := s.output(head, nil, book)
	out := Checked{Verdict: r.Verdict, Release: head, Hold: text[cut:], Findings: r.Findings, Policy: r.Policy}
	switch {
	case r.Verdict == Block:
		out.Release, out.Hold = "", ""
	case r.Redacted != "":
		out.Release = r.Redacted
	}
	return out, s.record(ctx, []string{head}, detect.Output, []Result{r})
}

// boundary is the last place where no finding can lie across: white space between two words neither of which could be part of
// a number or code, outside of anything in brackets or a key block that has not ended.
func boundary(s string) int {
	end := len(s)
	if i := open(s); i >= 0 {
		end = i
	}
	floor := 0
	if len(s) > longestHold {
		floor = len(s) - longestHold
		for floor < len(s) && !utf8.RuneStart(s[floor]) {
			floor++
		}
	}
	blocks := keyBlock.FindAllStringIndex(s[floor:], -1)
	for i := end - 1; i > floor; i-- {
		if s[i] != ' ' && s[i] != '\n' && s[i] != '\t' {
			continue
		}
		if slices.ContainsFunc(blocks, func(b []int) bool { return floor+b[0] < i && i < floor+b[1] }) {
			continue
		}
		after := word(s[i+1 : end])
		if i+1+len(after) == end && end == len(s) && !strings.ContainsAny(s[i+1+len(after):], " \n\t") {
			// A word that may go on: it is held as a whole, what stands before it decides.
			if codeLike(lastWord(s[:i])) {
				continue
			}
			return i
		}
		if !codeLike(after) && !codeLike(lastWord(s[:i])) {
			return i
		}
	}
	return floor
}

// keyBlock is a whole key block (RFC 7468 §2).
var keyBlock = regexp.MustCompile(`-----BEGIN [A-Z0-9 ]{0,40}-----[A-Za-z0-9+/=\s]*-----END [A-Z0-9 ]{0,40}-----`)

// open finds the start of a Markdown link or image, or of a key block, that has not ended.
func open(s string) int {
	from := max(0, len(s)-stillOpen)
	tail := s[from:]
	first := -1
	note := func(i int) {
		if i >= 0 && (first < 0 || from+i < first) {
			first = from + i
		}
	}
	if i := strings.LastIndex(tail, "-----BEGIN"); i >= 0 {
		if !keyBlock.MatchString(tail[i:]) {
			note(i)
		}
	}
	for i := strings.LastIndexByte(tail, '['); i >= 0; i = strings.LastIndexByte(tail[:i], '[') {
		rest := tail[i:]
		if strings.ContainsRune(rest, '\n') && !strings.Contains(rest, "](") {
			break
		}
		closing := strings.IndexByte(rest, ']')
		switch {
		case closing < 0:
			note(before(tail, i))
		case closing+1 >= len(rest):
			note(before(tail, i))
		case rest[closing+1] == '(' && !strings.ContainsAny(rest[closing:], ")\n"):
			note(before(tail, i))
		}
	}
	return first
}

// before includes the mark that makes a link an image.
func before(s string, i int) int {
	if i > 0 && s[i-1] == '!' {
		return i - 1
	}
	return i
}

func word(s string) string {
	if i := strings.IndexAny(s, " \n\t"); i >= 0 {
		return s[:i]
	}
	return s
}

func lastWord(s string) string { return s[strings.LastIndexAny(s, " \n\t")+1:] }

// codeLike reports whether a word could be a part of a number or code that is written in groups.
func codeLike(w string) bool {
	if strings.ContainsAny(w, "0123456789+") || strings.HasPrefix(w, "-----") {
		return true
	}
	w = strings.Trim(w, ".,;:!?()")
	if len(w) == 0 || len(w) > 4 {
		return false
	}
	return w == strings.ToUpper(w) && w != strings.ToLower(w)
}
