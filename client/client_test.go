package client_test

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"aran/client"
)

func serve(t *testing.T, h http.HandlerFunc) *client.Client {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return client.New(s.URL+"/", "aran_test_x", s.Client().Transport)
}

func TestAskStreams(t *testing.T) {
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil || r.Header.Get("Authorization") != "Bearer aran_test_x" || !strings.Contains(string(body), `"collections":["handbook"]`) {
			t.Errorf("request %s %q %v", body, r.Header.Get("Authorization"), err)
		}
		_, _ = io.WriteString(w, "data: {\"choices\":[{\"delta\":{\"content\":\"Every \"}}]}\n\n: still there\n\ndata: {\"choices\":[{\"delta\":{\"content\":\"decision.\"}}],\"aran\":{\"rung\":\"local\",\"audit\":\"e1\",\"citations\":[{\"title\":\"Audit\"}]}}\n\ndata: [DONE]\n\n")
	})
	var text strings.Builder
	out, err := c.Ask(t.Context(), client.Question{Text: "What?", Collections: []string{"handbook"}}, func(s string) error { text.WriteString(s); return nil })
	if err != nil {
		t.Fatal(err)
	}
	if text.String() != "Every decision." || out.Rung != "local" || out.Audit != "e1" || out.Citations[0].Title != "Audit" {
		t.Errorf("answer %q, outcome %+v", text.String(), out)
	}
}

func TestAskNoticesAStreamThatBreaks(t *testing.T) {
	for name, body := range map[string]string{
		"ends early":     "data: {\"choices\":[{\"delta\":{\"content\":\"Every \"}}]}\n\n",
		"terminal error": "data: {\"error\":{\"message\":\"the model went away\",\"code\":\"unavailable\"}}\n\ndata: [DONE]\n\n",
		"not JSON":       "data: {\n\n",
	} {
		c := serve(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, body) })
		if _, err := c.Ask(t.Context(), client.Question{Text: "What?"}, func(string) error { return nil }); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestRefusals(t *testing.T) {
	for _, c := range []struct{ body, code, detail string }{
		{`{"status":401,"code":"key_revoked","title":"Unauthorized","detail":"This key was revoked."}`, "key_revoked", "This key was revoked."},
		{`{"error":{"message":"no such model","type":"invalid_request_error","code":"model_not_found"}}`, "model_not_found", "no such model"},
		{`<html>`, "", "401 Unauthorized"},
	} {
		cl := serve(t, func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusUnauthorized)
			_, _ = io.WriteString(w, c.body)
		})
		_, err := cl.Keys(t.Context())
		var e *client.Error
		if !errors.As(err, &e) || e.Code != c.code || e.Detail != c.detail || e.Status != http.StatusUnauthorized {
			t.Errorf("%s: %v", c.body, err)
		}
	}
}

func TestKeysFollowsPages(t *testing.T) {
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("cursor") == "" {
			_, _ = io.WriteString(w, `{"keys":[{"id":"a"}],"next_cursor":"n&1"}`)
			return
		}
		if r.URL.Query().Get("cursor") != "n&1" {
			t.Errorf("cursor %q", r.URL.Query().Get("cursor"))
		}
		_, _ = io.WriteString(w, `{"keys":[{"id":"b"}]}`)
	})
	keys, err := c.Keys(t.Context())
	if err != nil || len(keys) != 2 {
		t.Errorf("keys %v, %v", keys, err)
	}
}
