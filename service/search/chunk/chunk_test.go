package chunk_test

import (
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"aran/service/search/chunk"
)

// count is a small word-piece tokenizer: marks count for one, words for one in four letters, wide characters for one each.
func count(s string) (n int) {
	letters := 0
	end := func() {
		n += (letters + 3) / 4
		letters = 0
	}
	for _, r := range s {
		switch {
		case unicode.IsSpace(r):
			end()
		case r > 0x2E80 || unicode.IsPunct(r) || unicode.IsSymbol(r):
			end()
			n++
		default:
			letters++
		}
	}
	end()
	return n
}

func options() chunk.Options {
	return chunk.Options{Max: 64, Overlap: 12, Title: "Guide", Count: count}
}

func texts(s string, ps []chunk.Passage) (out []string) {
	for _, p := range ps {
		out = append(out, s[p.Start:p.End])
	}
	return out
}

// check states what holds for every text.
func check(t *testing.T, s string, o chunk.Options, ps []chunk.Passage) {
	t.Helper()
	covered, last := 0, -1
	for _, p := range ps {
		if p.Start < 0 || p.End > len(s) || p.Start >= p.End {
			t.Fatalf("passage [%d,%d) of a text of %d bytes", p.Start, p.End, len(s))
		}
		piece := s[p.Start:p.End]
		if !utf8.ValidString(piece) {
			t.Fatalf("passage [%d,%d) cuts a character", p.Start, p.End)
		}
		if p.Start > covered && strings.TrimFunc(s[covered:p.Start], space) != "" {
			t.Fatalf("%q belongs to no passage", s[covered:p.Start])
		}
		if p.End <= last {
			t.Fatalf("passage [%d,%d) brings nothing new after %d", p.Start, p.End, last)
		}
		covered, last = p.End, p.End
		context := chunk.Context(o.Title, p.Headings, o.Max, o.Count)
		if n := o.Count(context) + o.Count(piece); n > o.Max {
			t.Fatalf("passage %q has %d tokens with its context %q; at most %d", piece, n, context, o.Max)
		}
		if len(piece) > o.Max*16 {
			t.Fatalf("passage has %d bytes", len(piece))
		}
	}
	if strings.TrimFunc(s[covered:], space) != "" {
		t.Fatalf("%q belongs to no passage", s[covered:])
	}
}

func space(r rune) bool { return unicode.IsSpace(r) || r == '\uFEFF' }

func TestMarkdownFollowsStructure(t *testing.T) {
	code := "```go\nfunc main() {\n\n\tprintln(1)\n}\n```"
	table := "| key | value |\n|---|---|\n| a | 1 |\n| b | 2 |"
	listing := "- one thing\n- another thing\n\n  with a second paragraph\n- a third"
	s := "# Install\n\nRun the installer and wait until it says that it is done with its work.\n\n" +
		"## Linux\n\n" + strings.Repeat("Words about Linux stand here. ", 6) + "\n\n" + code + "\n\n" + listing + "\n\n" +
		"## Settings\n\n" + strings.Repeat("Every setting has a name. ", 6) + "\n\n" + table + "\n"
	ps := chunk.Markdown(s, options())
	check(t, s, options(), ps)
	for _, whole := range []string{code, table, listing} {
		if !slices.ContainsFunc(texts(s, ps), func(p string) bool { return strings.Contains(p, whole) }) {
			t.Errorf("cut although it fits: %q", whole)
		}
	}
	var paths []string
	for _, p := range ps {
		paths = append(paths, strings.Join(p.Headings, "/"))
	}
	if got := strings.Join(slices.Compact(paths), " "); got != "Install Install/Linux Install/Settings" {
		t.Errorf("headings %q", got)
	}
}

func TestHeadingsAloneJoinWhatFollows(t *testing.T) {
	s := "# One\n\n## Two\n\n### Three\n\n" + strings.Repeat("Text of the third level. ", 5)
	ps := chunk.Markdown(s, options())
	if len(ps) != 1 || strings.Join(ps[0].Headings, "/") != "One/Two/Three" {
		t.Errorf("%d passages, first under %v", len(ps), ps[0].Headings)
	}
}

func TestSetextHeadingAndQuoteAndFrontMatter(t *testing.T) {
	s := "---\ntitle: x\ntags: [a]\n---\nThe name\n========\n\n> # not a heading\n> quoted\n\nText.\n"
	ps := chunk.Markdown(s, options())
	check(t, s, options(), ps)
	if len(ps) != 2 || len(ps[0].Headings) != 0 || !slices.Equal(ps[1].Headings, []string{"The name"}) {
		t.Errorf("%+v", ps)
	}
}

func TestLongParagraphIsCutBetweenSentencesAndOverlaps(t *testing.T) {
	var sb strings.Builder
	for range 40 {
		sb.WriteString("This sentence says a little. ")
	}
	s := sb.String()
	ps := chunk.Text(s, options())
	check(t, s, options(), ps)
	for i, p := range ps {
		if got := s[p.Start:p.End]; !strings.HasSuffix(got, ".") || !strings.HasPrefix(got, "This") {
			t.Errorf("passage %d is not made of sentences: %q", i, got)
		}
		if i > 0 && p.Start >= ps[i-1].End {
			t.Errorf("passage %d repeats nothing of the one before", i)
		}
	}
}

func TestWindowsLineEndsAndByteOrderMark(t *testing.T) {
	s := "\uFEFF# Titel\r\n\r\nErster Absatz.\r\n\r\n```\r\ncode\r\n```\r\n"
	ps := chunk.Markdown(s, options())
	check(t, s, options(), ps)
	if len(ps) != 1 || !strings.HasPrefix(s[ps[0].Start:], "# Titel") || ps[0].Headings[0] != "Titel" {
		t.Errorf("%+v", ps)
	}
	ps = chunk.Text("\uFEFFone\r\n\r\ntwo\r\n", options())
	if len(ps) != 1 || ps[0].Start != 3 {
		t.Errorf("plain: %+v", ps)
	}
}

func TestTextWithoutSpaces(t *testing.T) {
	for name, s := range map[string]string{
		"chinese":   strings.Repeat("安全的人工智能平台需要记录每一个决定。", 60),
		"base64":    strings.Repeat("QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVo", 300),
		"one line":  strings.Repeat("word ", 20000),
		"only dots": strings.Repeat(".", 5000),
		"spaces":    "a" + strings.Repeat(" ", 100000) + "b",
		"tamil":     strings.Repeat("அரண் ஒரு பாதுகாப்பான தளம். ", 100),
	} {
		ps := chunk.Text(s, options())
		check(t, s, options(), ps)
		check(t, s, options(), chunk.Markdown(s, options()))
		if len(ps) < 2 {
			t.Errorf("%s: %d passages", name, len(ps))
		}
	}
}

func TestContextIsBounded(t *testing.T) {
	long := strings.Repeat("very long heading ", 50)
	got := chunk.Context("Title", []string{long, long}, 64, count)
	if n := count(got); n > 16 || n == 0 || !strings.HasPrefix(got, "Title") {
		t.Errorf("%d tokens: %q", n, got)
	}
	if got := chunk.Context("Same", []string{"Same", "Part"}, 64, count); got != "Same › Part" {
		t.Errorf("%q", got)
	}
	if got := chunk.Context("", nil, 64, count); got != "" {
		t.Errorf("%q", got)
	}
	if got := chunk.Context(strings.Repeat("x", 9999), nil, 64, count); got != "" {
		t.Errorf("%q", got)
	}
}

// Each of these once took some parser more than linear time or a deep stack.
func TestHostileTextTakesLinearTime(t *testing.T) {
	const size = 1 << 18
	for name, s := range map[string]string{
		"quotes":      strings.Repeat(">", size),
		"lists":       strings.Repeat("- ", size/2) + "x",
		"numbers":     strings.Repeat("1. ", size/3) + "x",
		"fences":      strings.Repeat("```\n", size/4),
		"brackets":    strings.Repeat("[", size),
		"references":  strings.Repeat("[a]: b\n", size/7),
		"table":       "|a|b|\n|-|-|\n" + strings.Repeat("|x|y|\n", size/6),
		"headings":    strings.Repeat("# a\n", size/4),
		"wide table":  "|" + strings.Repeat("a|", size/4) + "\n|" + strings.Repeat("-|", size/4) + "\n",
		"indented":    nested(1500),
		"indented ok": nested(60),
		"setext":      strings.Repeat("a\n", size/4) + "===\n",
		"html":        strings.Repeat("<div>\n", size/6),
	} {
		began := cpu(t)
		o := options()
		o.Max = 240
		ps := chunk.Markdown(s, o)
		took := cpu(t) - began
		check(t, s, o, ps)
		if took > 5*time.Second {
			t.Errorf("%s: %v for %d bytes", name, took, len(s))
		}
		t.Logf("%s: %v, %d passages", name, took, len(ps))
	}
}

// cpu is what this process has computed so far: unlike the clock, it stands still while others use the machine.
func cpu(t *testing.T) time.Duration {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func nested(depth int) string {
	var sb strings.Builder
	for i := range depth {
		sb.WriteString(strings.Repeat("  ", i) + "- x\n")
	}
	return sb.String()
}

func FuzzMarkdown(f *testing.F) {
	f.Add("# a\n\ntext. More text.\n\n- x\n- y\n", 40, "t")
	f.Add("```\ncode\n", 32, "")
	f.Add("| a |\n|---|\n| b |\n", 240, "title")
	f.Add("\uFEFF---\na: b\n---\n", 32, "x y z")
	f.Add("0\n-:\n-\n", 32, "")
	f.Add("\ta\r\n\r\n1) b\r\n   c", 33, "t")
	f.Fuzz(func(t *testing.T, s string, limit int, title string) {
		s, title = strings.ToValidUTF8(s, "?"), strings.ToValidUTF8(title, "?")
		o := chunk.Options{Max: 32 + (limit & 0xff), Overlap: limit & 15, Title: title, Count: count}
		check(t, s, o, chunk.Markdown(s, o))
		check(t, s, o, chunk.Text(s, o))
	})
}
