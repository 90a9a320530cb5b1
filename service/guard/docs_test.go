package guard_test

import (
	"os"
	"path/filepath"
	"regexp"
	"testing"
)

var comment = regexp.MustCompile(`<!--[^>]*-->`)

// Pages that are written like good answers, with tables, code, commands and links, are released as they are.
func TestOurOwnDocumentationIsReleasedAsItIs(t *testing.T) {
	pages, err := filepath.Glob("../../docs/*.md")
	if err != nil || len(pages) < 10 {
		t.Fatal(pages, err)
	}
	trial := everything()
	trial.Action = map[string]string{"code.shell": "flag", "sql": "flag", "pii.email": "allow", "pii.ip": "allow", "pii.phone": "allow"}
	for _, p := range pages {
		text, err := os.ReadFile(p)
		if err != nil {
			t.Fatal(err)
		}
		text = comment.ReplaceAll(text, nil)
		text = text[:min(len(text), 600)]
		got := trial.Answer(string(text))
		if got.Released == string(text) {
			continue
		}
		for _, f := range got.Findings {
			t.Errorf("%s: %s %s %q: %s", filepath.Base(p), f.Kind, f.Rule, text[max(0, f.Start-30):min(len(text), f.End+30)], f.Why)
		}
	}
}
