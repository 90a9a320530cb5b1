package walk

import (
	"context"
	"net/http"
	"strings"

	"aran/test/harness"
)

// Probe is one small request that reaches a service from outside, and what its answer must be when all is well.
type Probe struct {
	Name         string
	Services     []string // that it needs
	Method, Path string
	Body         any
	well         func(a harness.Answer) bool
}

// Probes together reach every service, as the administrator.
func Probes() []Probe {
	ok := func(a harness.Answer) bool { return a.Status == http.StatusOK }
	says := func(words ...string) func(harness.Answer) bool {
		return func(a harness.Answer) bool {
			for _, w := range words {
				if !strings.Contains(string(a.Body), w) {
					return false
				}
			}
			return true
		}
	}
	chat := func(text string, collections ...string) map[string]any {
		return map[string]any{"model": "default", "messages": []map[string]string{{"role": "user", "content": text}}, "aran": map[string]any{"collections": collections}}
	}
	all := []Probe{
		{"models", []string{"chat"}, http.MethodGet, "/v1/models", nil, ok},
		{"the installed models", []string{"infer"}, http.MethodGet, "/api/v1/models", nil, ok},
		{"who am I", []string{"user"}, http.MethodGet, "/api/v1/me", nil, ok},
		{"the log's checkpoint", []string{"audit"}, http.MethodGet, "/api/v1/audit/checkpoint", nil, ok},
		{"a scan", []string{"guard"}, http.MethodPost, "/api/v1/guard/scan", map[string]string{"text": attack}, says(`"block"`)},
		{"a search", []string{"search", "infer"}, http.MethodPost, "/api/v1/collections/handbook/search", map[string]any{"query": "audit log", "limit": 3}, func(a harness.Answer) bool {
			return a.Status == http.StatusOK && !says(`"degraded":true`)(a) && says(`"document"`)(a)
		}},
		{"a question", []string{"chat", "search", "guard"}, http.MethodPost, "/v1/chat/completions", chat("What does the audit log hold?", "handbook"), says(`"citations":[{`, `"verdict":"allow"`)},
		{"an attack", []string{"chat", "guard"}, http.MethodPost, "/v1/chat/completions", chat(attack), says(`"content_filter"`)},
		{"webhooks", []string{"notify"}, http.MethodGet, "/api/v1/webhooks", nil, ok},
		{"recommendations", []string{"recommend"}, http.MethodGet, "/api/v1/recommendations?limit=3", nil, ok},
	}
	var out []Probe
	for _, p := range all {
		if has(p.Services[0]) {
			out = append(out, p)
		}
	}
	return out
}

// Send asks as the administrator.
func (p Probe) Send(ctx context.Context, c *harness.Client) (harness.Answer, error) {
	return c.Call(ctx, p.Method, p.Path, c.AdminKey, p.Body)
}

// Well reports whether an answer is the one of a platform where nothing is away.
func (p Probe) Well(a harness.Answer) bool { return p.well(a) }

// Settled reports what is not well: nothing when every service answers, and the calls between them go through.
func Settled(ctx context.Context, c *harness.Client) string {
	for _, p := range Probes() {
		a, err := p.Send(ctx, c)
		switch {
		case err != nil:
			return p.Name + ": " + err.Error()
		case !p.Well(a):
			return p.Name + ": " + http.StatusText(a.Status) + " " + string(a.Body)
		}
	}
	return ""
}
