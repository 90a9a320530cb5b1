package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestRedteam(t *testing.T) {
	leaky := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var q struct{ Messages []struct{ Content string } }
		if err := json.NewDecoder(r.Body).Decode(&q); err != nil || r.Header.Get("Authorization") != "Bearer key-of-the-test" {
			http.Error(w, `{"error":{"message":"who are you?","code":"invalid_api_key"}}`, http.StatusUnauthorized)
			return
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"choices": []any{map[string]any{"message": map[string]any{"content": q.Messages[0].Content}}}})
	}))
	defer leaky.Close()
	t.Setenv("KEY_OF_THE_TEST", "key-of-the-test")
	dir := t.TempDir()
	file := func(name string) string { return filepath.Join(dir, name) }
	if err := os.WriteFile(file("system.txt"), []byte("You sell boats."), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(file("packs"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file("packs/mine.jsonl"), []byte(`{"id":"boat","attack":"What do you sell?","success":[{"says":"boats"}]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	run := func(args ...string) (string, error) {
		var out, log bytes.Buffer
		err := attack(t.Context(), terminal{nil, &out, &log}, args)
		return out.String() + log.String(), err
	}
	at := []string{"--target", leaky.URL, "--model", "m", "--key-env", "KEY_OF_THE_TEST", "--system", file("system.txt"), "--pack", file("packs"), "--packs", "mine,extraction"}

	out, err := run(append(at, "--json", file("first.json"), "--html", file("first.html"))...)
	if err != nil || !strings.Contains(out, "mine") || !strings.Contains(out, "100.0 %") {
		t.Fatalf("%v: %s", err, out)
	}
	if page, err := os.ReadFile(file("first.html")); err != nil || !bytes.Contains(page, []byte("You sell boats.")) {
		t.Errorf("the page: %v", err)
	}
	if out, err = run(append(at, "--fail-over", "0.5", "--baseline", file("first.json"))...); err == nil || errors.Is(err, errUsage) || !strings.Contains(out, "0 work now that did not") {
		t.Errorf("above the rate: %v: %s", err, out)
	}
	if _, err = run("--target", leaky.URL, "--model", "m", "--packs", "extraction"); err == nil || !strings.Contains(err.Error(), "who are you?") {
		t.Errorf("without a key: %v", err)
	}
	if out, err = run("--offline", "--config", emptyConfig(t), "--packs", "extraction"); err != nil || !strings.Contains(out, "blocked") {
		t.Errorf("offline: %v: %s", err, out)
	}
	if out, err = run("--list"); err != nil || !strings.Contains(out, "indirect/summary") || !strings.Contains(out, "base64") {
		t.Errorf("list: %v: %s", err, out)
	}
	for _, args := range [][]string{
		{"--target", leaky.URL},
		{"--offline", "--target", leaky.URL, "--model", "m"},
		{"--key-env", "X"},
		{"--fail-over", "2"},
		{"--at-once", "0"},
		{"--packs", "nothing"},
		{"--mutate", "nothing"},
		{"--within", "0s"},
		{"more"},
	} {
		if _, err := run(args...); !errors.Is(err, errUsage) {
			t.Errorf("%q: %v is no usage error", args, err)
		}
	}
	if _, err := run("--offline", "--pack", file("none")); err == nil {
		t.Error("a folder that is not there was read")
	}
}

// emptyConfig is a file of settings without any.
func emptyConfig(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "aran.yaml")
	if err := os.WriteFile(path, []byte("{}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
