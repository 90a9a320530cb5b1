package chunk_test

import (
	"strings"
	"testing"
	"unicode/utf8"

	"aran/service/search/chunk"
)

func TestWindowsShowEveryByte(t *testing.T) {
	words := func(s string) int { return len(strings.Fields(s)) }
	for name, text := range map[string]string{
		"one passage":   "Short.",
		"many passages": strings.Repeat("தமிழ் text stands here.\n\n", 2_000),
		"a long gap":    "First words." + strings.Repeat(" ", 50_000) + "Last words.",
		"one long word": strings.Repeat("அ", 30_000),
	} {
		ps := chunk.Text(text, chunk.Options{Max: 64, Overlap: 8, Count: words})
		at, passage := 0, 0
		for i, w := range chunk.Windows(text, ps, 8<<10, 256) {
			if w.End-w.Start > 8<<10 || !utf8.ValidString(text[w.Start:w.End]) {
				t.Fatalf("%s: window %d is [%d,%d)", name, i, w.Start, w.End)
			}
			if w.Start > max(0, at-200) {
				t.Fatalf("%s: window %d begins at %d, the one before ends at %d", name, i, w.Start, at)
			}
			if w.Passage < passage || len(ps) > 0 && w.Passage >= len(ps) {
				t.Fatalf("%s: window %d is of passage %d", name, i, w.Passage)
			}
			at, passage = max(at, w.End), w.Passage
		}
		if at != len(text) {
			t.Errorf("%s: %d of %d bytes were seen", name, at, len(text))
		}
	}
}
