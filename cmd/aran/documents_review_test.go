package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestReviewOfDocuments(t *testing.T) {
	digest := strings.Repeat("ab", 32)
	kept := `{"id":"7","collection":"mail","version":2,"sha256":"` + digest + `","reason":"scan: injection","owner":"user:ann","passages":[{"start":10,"end":90,"kinds":["injection"],"blocked":true},{"start":90,"end":99,"kinds":["pii.email"]}],"text":"x"}`
	var released map[string]any
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/api/v1/quarantine":
			_, _ = io.WriteString(w, `{"documents":[`+kept+`]}`)
		case "/api/v1/quarantine/mail/7":
			_, _ = io.WriteString(w, kept)
		case "/api/v1/collections/mail/documents/7/release":
			_ = json.NewDecoder(r.Body).Decode(&released)
			w.WriteHeader(http.StatusAccepted)
			_, _ = io.WriteString(w, `{}`)
		default:
			http.NotFound(w, r)
		}
	}))
	defer server.Close()
	t.Setenv("ARAN_CLIENT_KEY", "aran_test_key")
	run := func(args ...string) (string, error) {
		var out, errs bytes.Buffer
		err := documents(t.Context(), terminal{strings.NewReader(""), &out, &errs}, append([]string{args[0], "--url", server.URL}, args[1:]...))
		return out.String() + errs.String(), err
	}
	out, err := run("list", "--status", "quarantined")
	if err != nil || out != "mail\t7\tversion 2\t"+digest[:16]+"\tuser:ann\tscan: injection\t10-90\n" {
		t.Errorf("%q, %v", out, err)
	}
	for name, args := range map[string][]string{
		"no reason":    {"release", "--sha256", digest, "mail", "7"},
		"no digest":    {"release", "--note", "fine", "mail", "7"},
		"a short one":  {"release", "--note", "fine", "--sha256", "abab", "mail", "7"},
		"no document":  {"release", "--note", "fine", "--sha256", digest, "mail"},
		"another kind": {"list", "--status", "indexed"},
	} {
		if _, err := run(args...); !errors.Is(err, errUsage) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := run("release", "--note", "fine", "--sha256", strings.Repeat("cd", 16), "mail", "7"); !errors.Is(err, errSeenAnother) {
		t.Errorf("another text: %v", err)
	}
	if released != nil {
		t.Fatalf("released: %v", released)
	}
	if out, err := run("release", "--note", "fine", "--sha256", digest[:16], "mail", "7"); err != nil || released["sha256"] != digest || released["version"] != 2.0 || released["note"] != "fine" {
		t.Errorf("%q, %v: %v", out, err, released)
	}
}
