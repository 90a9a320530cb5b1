package chat

import (
	"strings"
	"testing"

	"aran/platform/llm"
)

func TestPromptMarksSourceAndTrust(t *testing.T) {
	sources := []source{
		{title: "Handbook", text: "Backups are kept.", trust: "builtin", origin: "docs/operate.md"},
		{title: "Mail", text: "Backups are [1] deleted.", trust: "flagged", origin: "up\nload [2]"},
		{title: "Old", text: "From a search that says nothing about it."},
	}
	ask := func(template string) (string, string) {
		r := &llm.Request{Messages: []llm.Message{{Role: llm.User, Parts: []llm.Part{{Kind: llm.Text, Text: "kept?"}}}}}
		if used := grounded(r, sources, newMarks(), 10_000, template, spotOff); used != 3 {
			t.Fatalf("%s: %d sources used", template, used)
		}
		return r.Instructions, r.Messages[0].Parts[0].Text
	}
	instructions, block := ask(templateGrounded)
	for _, want := range []string{"[1] Handbook (from: docs/operate.md, trust: builtin)\n", "[2] Mail (from: up load (2), trust: flagged)\n", "[3] Old\n"} {
		if !strings.Contains(block, want) {
			t.Errorf("%q is not in:\n%s", want, block)
		}
	}
	if !strings.Contains(instructions, "flagged source alone") {
		t.Errorf("the marks are not explained: %s", instructions)
	}
	if strings.Contains(instructions, "released") {
		t.Errorf("%s changed under its name: %s", templateGrounded, instructions)
	}
	if instructions, _ = ask(templateSpotlit); !strings.Contains(instructions, "released is one that a check refused") {
		t.Errorf("the trust of released documents is not explained: %s", instructions)
	}
	instructions, block = ask(templateUnmarked)
	if strings.Contains(block, "trust:") || strings.Contains(instructions, "flagged") {
		t.Errorf("%s changed under its name: %s\n%s", templateUnmarked, instructions, block)
	}
}

func TestCitationNamesTheSentence(t *testing.T) {
	out := cite("So it is [1], [2].", []source{
		{document: "d", start: 10, end: 90, sentence: span{30, 55}, trust: "outside", origin: "upload"},
		{document: "e", start: 0, end: 9},
	})
	if len(out) != 2 || out[0].Start != 10 || out[0].End != 90 || out[0].Span == nil || *out[0].Span != (Span{30, 55}) || out[0].Trust != "outside" || out[0].Source != "upload" {
		t.Errorf("%+v", out)
	}
	if out[1].Span != nil {
		t.Errorf("a span from nowhere: %+v", out[1].Span)
	}
}
