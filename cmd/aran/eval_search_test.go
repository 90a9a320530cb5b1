package main

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"aran/client"
	"aran/service/search/beir"
)

func TestEvalSearchArguments(t *testing.T) {
	for _, c := range []struct {
		name string
		args []string
		says string
	}{
		{"no folder", []string{"search"}, "one folder"},
		{"two folders", []string{"search", "a", "b"}, "one folder"},
		{"an unknown format", []string{"search", "a", "--format", "xml"}, "xml"},
		{"an unknown mode", []string{"search", "--mode", "magic", "a"}, "magic"},
	} {
		var out, errs bytes.Buffer
		err := eval(t.Context(), terminal{strings.NewReader(""), &out, &errs}, c.args)
		if !errors.Is(err, errUsage) || !strings.Contains(err.Error(), c.says) || out.Len() > 0 {
			t.Errorf("%s: %v, printed %q", c.name, err, out.String())
		}
	}
	var out, errs bytes.Buffer
	if err := eval(t.Context(), terminal{strings.NewReader(""), &out, &errs}, []string{"search", t.TempDir()}); err == nil || out.Len() > 0 {
		t.Errorf("an empty folder: %v, printed %q", err, out.String())
	}
}

func TestDocumentLineFitsTheAPI(t *testing.T) {
	for name, c := range map[string]struct {
		in          beir.Document
		title, text string
	}{
		"as it is":        {beir.Document{Title: " T ", Text: "x"}, "T", "x"},
		"a title alone":   {beir.Document{Title: "T"}, "", "T"},
		"a NUL":           {beir.Document{Title: "T", Text: "a\x00b"}, "T", "a b"},
		"a long title":    {beir.Document{Title: strings.Repeat("t", 501), Text: "x"}, "", strings.Repeat("t", 501) + "\n\nx"},
		"no title at all": {beir.Document{Text: "x"}, "", "x"},
	} {
		if got := documentLine(7, c.in); got["title"] != c.title || got["text"] != c.text || got["id"] != "d0000007" {
			t.Errorf("%s: %v", name, got)
		}
	}
	if got := documentLine(0, beir.Document{Text: strings.Repeat("é", longestText)}); len(got["text"]) > longestText || !strings.HasSuffix(got["text"], "é") {
		t.Errorf("a long text is cut to %d bytes", len(got["text"]))
	}
}

func TestRankingLeavesTheQueryItselfOut(t *testing.T) {
	x := corpus{[]beir.Document{{ID: "q", Text: "same"}, {ID: "other", Text: "same"}, {ID: "r", Text: "text"}}}
	hits := []client.Hit{{Document: "d0000000"}, {Document: "d0000001"}, {Document: "d0000002"}, {Document: "d0000009"}, {Document: "stray"}}
	if got := strings.Join(x.ranking(beir.Query{ID: "q", Text: "same"}, hits), " "); got != "other r" {
		t.Errorf("%q", got)
	}
	if got := strings.Join(x.ranking(beir.Query{ID: "r", Text: "a question"}, hits), " "); got != "q other r" {
		t.Errorf("an id that a document has by chance: %q", got)
	}
}
