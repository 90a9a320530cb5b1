package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// shelf is a platform that keeps what it is sent, and has much to do at first.
type shelf struct {
	mu   sync.Mutex
	docs map[string]string
	busy int
	puts int
}

func (s *shelf) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case strings.HasSuffix(r.URL.Path, "/progress"):
		_, _ = fmt.Fprintf(w, "event: progress\ndata: {\"queued\":1}\n\nevent: idle\ndata: {\"indexed\":%d}\n\n", len(s.docs))
	case r.Method == http.MethodGet:
		list := []map[string]string{}
		for id := range s.docs {
			list = append(list, map[string]string{"id": id})
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"documents": list})
	case s.busy > 0:
		s.busy--
		w.Header().Set("Retry-After", "0")
		w.WriteHeader(http.StatusTooManyRequests)
	case strings.HasPrefix(r.Header.Get("Content-Type"), "multipart/"):
		s.puts++
		file, h, err := r.FormFile("file")
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		b, _ := io.ReadAll(file)
		if string(b) == "bad" {
			w.WriteHeader(http.StatusBadRequest)
			_, _ = io.WriteString(w, `{"detail":"There is no text in the file."}`)
			return
		}
		s.docs[r.FormValue("id")] = h.Filename + ":" + string(b)
		_ = json.NewEncoder(w).Encode(map[string]string{"id": r.FormValue("id"), "status": "queued"})
	default:
		s.puts++
		for d := json.NewDecoder(r.Body); ; {
			var in struct{ ID, Text string }
			if d.Decode(&in) != nil {
				return
			}
			if in.Text == "" {
				_, _ = io.WriteString(w, `{"code":"invalid","detail":"text is missing"}`+"\n")
				continue
			}
			s.docs[in.ID] = in.Text
			_, _ = fmt.Fprintf(w, "{\"id\":%q,\"status\":\"queued\"}\n", in.ID)
		}
	}
}

func TestDocumentsAdd(t *testing.T) {
	s := &shelf{docs: map[string]string{}, busy: 2}
	server := httptest.NewServer(s)
	defer server.Close()
	dir := t.TempDir()
	for name, text := range map[string]string{"a.md": "# A", "sub/b.txt": "bee", "sub/bad.pdf": "bad", ".git/c.txt": "no", "image.png": "no", "more.jsonl": "{\"text\":\"one\"}\n\n{\"id\":\"own\",\"text\":\"two\"}\n{\"id\":\"empty\"}\nnot json\n"} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("ARAN_CLIENT_KEY", "aran_test_key")
	run := func(args ...string) (string, string, error) {
		var out, errs bytes.Buffer
		err := documents(t.Context(), terminal{strings.NewReader("{\"text\":\"from a pipe\"}\n"), &out, &errs}, append([]string{"add", "--url", server.URL, "docs"}, args...))
		return out.String(), errs.String(), err
	}
	out, errs, err := run(dir)
	if err == nil || !strings.HasPrefix(out, "4 stored, 0 there already, 0 duplicates, 2 failed, 1 files of other formats") {
		t.Errorf("%s %s %v", out, errs, err)
	}
	for _, want := range []string{"bad.pdf: There is no text in the file.", "more.jsonl:4: text is missing", "indexed"} {
		if !strings.Contains(errs, want) {
			t.Errorf("%q is not said: %s", want, errs)
		}
	}
	if s.docs["own"] != "two" || len(s.docs) != 4 || strings.Contains(errs, "\x1b") {
		t.Errorf("%v %s", s.docs, errs)
	}
	before := s.puts
	if out, _, _ := run(dir); !strings.HasPrefix(out, "1 stored, 3 there already") || s.puts != before+2 { // the one with its own id, and the bad one
		t.Errorf("again: %s, %d requests", out, s.puts-before)
	}
	if out, errs, err := run("-"); err != nil || !strings.HasPrefix(out, "1 stored, 0 there") {
		t.Errorf("%s %s %v", out, errs, err)
	}
	if _, _, err := run(filepath.Join(dir, "image.png")); err == nil {
		t.Error("an image is taken")
	}
}
