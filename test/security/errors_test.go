package security

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"aran/test/harness"
)

// TestErrorsAreClear sends each kind of bad request and reads the answer as a client does.
func TestErrorsAreClear(t *testing.T) {
	p := harness.Start(t, harness.Options{})
	p.Must(t, http.StatusCreated, http.MethodPost, "/api/v1/collections", p.AdminKey, map[string]string{"name": "docs"})
	var short struct{ Key string }
	p.Must(t, http.StatusCreated, http.MethodPost, "/api/v1/keys", p.AdminKey, map[string]any{"name": "short", "scopes": []string{"chat:use", "models:read"}, "expires_in": 1}).JSON(t, &short)
	harness.Eventually(t, 5*time.Second, "the key expires", func() bool {
		a, err := p.Call(t.Context(), http.MethodGet, "/v1/models", short.Key, nil)
		return err == nil && a.Status == http.StatusUnauthorized
	})
	const chat, messages, own = "/v1/chat/completions", "/v1/messages", "/api/v1/collections"
	ask := func(model string) map[string]any {
		return map[string]any{"model": model, "max_tokens": 8, "messages": []map[string]string{{"role": "user", "content": "Hello?"}}}
	}
	wrong := "aran_live_" + strings.Repeat("x", 40)
	for _, c := range []struct {
		name       string
		path, key  string
		body       any
		status     int
		code, says string
	}{
		{"wrong key, own API", own, wrong, map[string]string{"name": "x"}, 401, "invalid_api_key", "not valid"},
		{"wrong key, OpenAI", chat, wrong, ask("default"), 401, "invalid_api_key", "not valid"},
		{"wrong key, Anthropic", messages, wrong, ask("default"), 401, "authentication_error", "not valid"},
		{"no key", chat, "", ask("default"), 401, "invalid_api_key", "key"},
		{"expired key", chat, short.Key, ask("default"), 401, "invalid_api_key", "expired"},
		{"expired key, own API", own, short.Key, map[string]string{"name": "x"}, 401, "expired", "expired"},
		{"unknown model, OpenAI", chat, p.AdminKey, ask("gpt-99"), 404, "model_not_found", "gpt-99"},
		{"unknown model, Anthropic", messages, p.AdminKey, ask("claude-99"), 404, "not_found_error", "claude-99"},
		{"model missing", chat, p.AdminKey, ask("smollm2-135m-instruct"), 404, "model_missing", "aran model pull smollm2-135m-instruct"},
		{"body too large, own API", own, p.AdminKey, `{"name":"` + strings.Repeat("x", 2<<20) + `"}`, 413, "body_too_large", "at most"},
		{"body too large, OpenAI", chat, p.AdminKey, `{"model":"` + strings.Repeat("x", 5<<20) + `"}`, 413, "body_too_large", "at most"},
		{"malformed JSON, own API", own, p.AdminKey, `{"name":`, 400, "malformed_json", "JSON"},
		{"malformed JSON, OpenAI", chat, p.AdminKey, `{"model":`, 400, "malformed_json", "JSON"},
		{"malformed JSON, Anthropic", messages, p.AdminKey, `nope`, 400, "invalid_request_error", "JSON"},
		{"unknown field", own, p.AdminKey, map[string]string{"name": "x", "colour": "red"}, 400, "invalid", "colour"},
		{"unknown field of ours in a vendor's format", chat, p.AdminKey, map[string]any{"model": "default", "messages": ask("")["messages"], "aran": map[string]any{"collection": "docs"}}, 400, "", "collection"},
		{"a value that breaks a rule", own, p.AdminKey, map[string]string{"name": "No spaces!"}, 400, "invalid", "name"},
		{"unknown path", "/api/v1/nothing", p.AdminKey, map[string]string{}, 404, "", "nothing"},
		{"unknown path of the model API", "/v1/nothing", p.AdminKey, map[string]string{}, 404, "no_such_route", "nothing"},
		{"a method that is not there", "/v1/models", p.AdminKey, map[string]string{}, 405, "invalid_request_error", "GET"},
		{"wrong type of body", own, p.AdminKey, "name=x", 415, "content_type", "application/json"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var header []string
			if c.status == http.StatusUnsupportedMediaType {
				header = []string{"Content-Type", "application/x-www-form-urlencoded"}
			}
			a, err := p.Call(t.Context(), http.MethodPost, c.path, c.key, c.body, header...)
			if err != nil {
				t.Fatal(err)
			}
			if a.Status != c.status || !bytes.Contains(a.Body, []byte(c.code)) || !bytes.Contains(bytes.ToLower(a.Body), []byte(strings.ToLower(c.says))) {
				t.Errorf("%d %s\nwant %d with %q and %q", a.Status, a.Body, c.status, c.code, c.says)
			}
			if a.Header.Get("Aran-Request-Id") == "" {
				t.Error("no request id")
			}
			if strings.HasPrefix(c.path, "/api/") && a.Header.Get("Content-Type") != "application/problem+json" {
				t.Errorf("Content-Type %q, want application/problem+json (RFC 9457)", a.Header.Get("Content-Type"))
			}
			if !json.Valid(a.Body) {
				t.Errorf("not JSON: %s", a.Body)
			}
			clean(t, p.AdminKey, string(a.Body))
		})
	}
	clean(t, p.AdminKey, p.Output())
}

// clean fails when a text for outside holds a stack, a path of the source or a secret.
func clean(t *testing.T, secret, text string) {
	t.Helper()
	for _, bad := range []string{"goroutine ", ".go:", "panic", "runtime.", secret, "correct horse battery", "SELECT ", "INSERT "} {
		if bad != "" && strings.Contains(text, bad) {
			t.Errorf("it holds %q: %.600s", bad, text)
		}
	}
}

// TestADiskThatIsFull needs a small file system of its own.
func TestADiskThatIsFull(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=24m"); err != nil {
		t.Skipf("no small file system can be had here: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	p := harness.Start(t, harness.Options{Data: filepath.Join(dir, "data")})
	p.Must(t, http.StatusCreated, http.MethodPost, "/api/v1/collections", p.AdminKey, map[string]string{"name": "before"})
	filler := filepath.Join(dir, "filler")
	fill(t, filler)
	// A log that was emptied into its database has room of its own: what is taken there is kept, until one is refused.
	kept := []string{"before"}
	a := untilFull(t, func(i int) harness.Answer {
		name := fmt.Sprintf("during-%d", i)
		a, err := p.Call(t.Context(), http.MethodPost, "/api/v1/collections", p.AdminKey, map[string]string{"name": name, "description": strings.Repeat("x", 500)})
		if err != nil {
			t.Fatal(err)
		}
		if a.Status == http.StatusCreated {
			kept = append(kept, name)
		}
		return a
	})
	if !bytes.Contains(a.Body, []byte("disk_full")) || !bytes.Contains(a.Body, []byte("nothing was changed")) {
		t.Errorf("%s", a.Body)
	}
	clean(t, p.AdminKey, string(a.Body))
	untilFull(t, func(int) harness.Answer { // an answer that could not be recorded is not given
		a, err := p.Call(t.Context(), http.MethodPost, "/v1/chat/completions", p.AdminKey, map[string]any{
			"model": "default", "messages": []map[string]string{{"role": "user", "content": "Hello?"}}, "aran": map[string]any{"collections": []string{"handbook"}},
		})
		if err != nil {
			t.Fatal(err)
		}
		return a
	})
	for _, name := range kept {
		p.Must(t, http.StatusOK, http.MethodGet, "/api/v1/collections/"+name, p.AdminKey, nil)
	}
	p.Must(t, http.StatusNotFound, http.MethodGet, fmt.Sprintf("/api/v1/collections/during-%d", len(kept)-1), p.AdminKey, nil)

	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	harness.Eventually(t, 10*time.Second, "it goes on by itself", func() bool {
		a, err := p.Call(t.Context(), http.MethodPost, "/api/v1/collections", p.AdminKey, map[string]string{"name": "after"})
		return err == nil && (a.Status == http.StatusCreated || a.Status == http.StatusConflict)
	})
	harness.Eventually(t, 10*time.Second, "it is ready again", func() bool {
		a, err := p.Call(t.Context(), http.MethodGet, "/readyz", "", nil)
		return err == nil && a.Status == http.StatusOK
	})
}

// untilFull calls until the answer is that there is no room, and returns it. Until then calls succeed.
func untilFull(t *testing.T, call func(i int) harness.Answer) harness.Answer {
	t.Helper()
	for i := range 2000 {
		switch a := call(i); a.Status {
		case http.StatusServiceUnavailable:
			return a
		case http.StatusOK, http.StatusCreated:
		default:
			t.Fatalf("call %d: %d %s", i, a.Status, a.Body)
		}
	}
	t.Fatal("a full disk took everything")
	return harness.Answer{}
}

// fill writes until nothing more fits.
func fill(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close() //nolint:errcheck // full anyway
	for chunk := make([]byte, 64<<10); len(chunk) > 0; {
		if _, err := f.Write(chunk); err != nil {
			chunk = chunk[:len(chunk)/2]
		}
	}
}

// TestStartsThatAreRefused is about what a person at a terminal reads.
func TestStartsThatAreRefused(t *testing.T) {
	running := harness.Start(t, harness.Options{})
	file := func(text string) string {
		path := filepath.Join(t.TempDir(), "aran.yaml")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	port := strings.TrimPrefix(running.URL, "http://")
	for _, c := range []struct {
		name string
		args []string
		env  string
		says []string
	}{
		{"port taken", []string{"up", "--data", filepath.Join(t.TempDir(), "d"), "--listen", port}, "", []string{port, "in use", "gateway.listen"}},
		{"operator's port taken", []string{"up", "--data", filepath.Join(t.TempDir(), "d"), "--listen", "127.0.0.1:0"}, "ARAN_OPERATOR_LISTEN=" + strings.TrimPrefix(running.Operator, "http://"), []string{"in use", "watch.listen"}},
		{"data directory in use", []string{"up", "--data", running.Data, "--listen", "127.0.0.1:0"}, "", []string{running.Data, "in use"}},
		{"a typo in the file", []string{"up", "--config", file("gateway:\n  lisen: 127.0.0.1:1\n")}, "", []string{"gateway.lisen", "gateway.listen", "aran.yaml:2"}},
		{"a typo in the environment", []string{"config", "check"}, "ARAN_GATEWAY_LISEN=x", []string{"ARAN_GATEWAY_LISEN", "ARAN_GATEWAY_LISTEN"}},
		{"a value that does not fit", []string{"config", "check", "--config", file("gateway:\n  read_timeout: soon\n")}, "", []string{"gateway.read_timeout", "soon"}},
		{"an unknown command", []string{"upp"}, "", []string{"upp", "aran help"}},
		{"an unknown service", []string{"run", "chatt"}, "", []string{"chatt", "chat"}},
		{"audit of nothing", []string{"audit", "verify", "--data", filepath.Join(t.TempDir(), "none")}, "", []string{"none"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			cmd := exec.CommandContext(ctx, filepath.Join(harness.Root(), "bin", "aran"), c.args...)
			cmd.Env = append(harness.Environment(harness.NoModels(t)), "ARAN_OPERATOR_LISTEN=127.0.0.1:"+harness.Port(t), c.env)
			out, err := cmd.CombinedOutput()
			if err == nil || ctx.Err() != nil {
				t.Fatalf("it ended with %v and said %s", err, out)
			}
			for _, s := range c.says {
				if !bytes.Contains(out, []byte(s)) {
					t.Errorf("it does not say %q: %s", s, out)
				}
			}
			if n := bytes.Count(bytes.TrimSpace(out), []byte("\n")); n > 4 {
				t.Errorf("%d lines for one mistake: %s", n+1, out)
			}
			clean(t, running.AdminKey, string(out))
		})
	}
	running.Must(t, http.StatusOK, http.MethodGet, "/readyz", "", nil) // the others did not disturb it
}
