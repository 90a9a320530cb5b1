package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"testing"
)

func TestEvalEmbed(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "texts.jsonl"), []byte("{\"text\":\"hello\"}\n{\"text\":\"வணக்கம்\"}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var out, log bytes.Buffer
	if err := dispatch(t.Context(), terminal{out: &out, err: &log}, []string{"eval", "embed", dir, "--format", "json"}); err != nil {
		t.Fatal(err)
	}
	var got map[string]any
	if err := json.Unmarshal(out.Bytes(), &got); err != nil {
		t.Fatalf("%v: %s", err, out.String())
	}
	if got["texts"] != 2.0 || got["dim"] != 384.0 || got["max_abs_diff"] != nil || len(got) != 6 {
		t.Errorf("got %v", got)
	}
	for _, args := range [][]string{{"a", "b"}, {"--format", "xml"}, {filepath.Join(dir, "texts.jsonl")}, {filepath.Join(dir, "none")}} {
		if err := dispatch(t.Context(), terminal{out: &out, err: &log}, append([]string{"eval", "embed"}, args...)); !errors.Is(err, errUsage) {
			t.Errorf("%v: err = %v, want a usage error", args, err)
		}
	}
	if err := dispatch(t.Context(), terminal{out: &out, err: &log}, []string{"eval", "embed", dir, "--weights", filepath.Join(dir, "texts.jsonl")}); err == nil {
		t.Error("a text was taken for an encoder")
	}
}
