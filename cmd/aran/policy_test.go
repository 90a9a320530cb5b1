package main

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestPolicyCheckNamesTheField(t *testing.T) {
	dir := t.TempDir()
	config := filepath.Join(dir, "aran.yaml")
	if err := os.WriteFile(config, []byte("guard: {policy: {input: {contact: flag}}, floor: {output: {secret: redact}}}"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ text, out, err string }{
		"a good one":           {"input: {pii: block}", "pii: block", ""},
		"with the operator's":  {"input: {pii: block}", "contact: flag", ""},
		"as JSON":              {`{"thresholds": {"user": {"block": 0.5}}}`, "block: 0.5", ""},
		"a field out of range": {"thresholds: {user: {block: 1.5}}", "", "thresholds.user.block: 1.5 is no probability"},
		"an unknown field":     {"inputs: {pii: block}", "", "inputs"},
		"no JSON schema":       {`schemas: ['{"type": "object"}', '{"type": 5}']`, "", "schemas[1]: the schema can't be used"},
		"a schema elsewhere":   {`schemas: ['{"$ref": "http://x.example/y"}']`, "", "schemas[0]: the schema can't be used"},
		"below the floor":      {"output: {secret: allow}", "", "looser than the operator's guard.floor in output.secret"},
	} {
		var out bytes.Buffer
		err := policies(t.Context(), terminal{strings.NewReader(c.text), &out, &out}, []string{"check", "--config", config, "-"})
		switch {
		case c.err == "" && (err != nil || !strings.Contains(out.String(), c.out)):
			t.Errorf("%s: %v\n%s", name, err, out.String())
		case c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err) || errors.Is(err, errUsage)):
			t.Errorf("%s: %v, want %q", name, err, c.err)
		}
	}
	if err := policies(t.Context(), terminal{nil, &bytes.Buffer{}, &bytes.Buffer{}}, []string{"check"}); !errors.Is(err, errUsage) {
		t.Errorf("without a file: %v", err)
	}
}
