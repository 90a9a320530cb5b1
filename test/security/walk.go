// Package security looks at the platform as one who wants to get where he may not.
//
// The routes come from the served handlers: what is served and not walked does not exist.
package security

import (
	"context"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"

	"aran/app"
	"aran/test/harness"
)

// open are the routes that need no credential. A new one is a decision, not an accident: it is written down here too.
func open() []string {
	return []string{
		"POST /api/v1/accounts", "POST /api/v1/sessions", "POST /api/v1/sessions/refresh", "GET /.well-known/jwks.json", "GET /.well-known/security.txt",
		"GET /", "GET /healthz", "GET /readyz", "GET /api/openapi.json", "GET /api/docs", "GET /api/docs/{file}",
	}
}

// victim is what belongs to one tenant, by the name of the path's parameter, and words that only its owner may see.
type victim struct {
	params map[string]string
	words  []string
}

// credentials that must not open anything of the victim's.
type credentials struct {
	refused map[string]string // what it is → credential; answered 401
	foreign string            // every scope, another tenant
	poor    map[string]string // scope → a key of the victim's tenant with every scope but that one
}

var parameter = regexp.MustCompile(`\{([a-z]+)(?:\.\.\.)?\}`)

// path fills in a pattern.
func (v victim) path(route app.Route) string {
	return parameter.ReplaceAllStringFunc(route.Pattern, func(p string) string {
		name := parameter.FindStringSubmatch(p)[1]
		if s := v.params[owner(route)+"."+name]; s != "" {
			return s
		}
		return "anything"
	})
}

// owner is the kind of thing that a path is about: its last literal element.
func owner(route app.Route) string {
	parts := strings.Split(route.Pattern, "/")
	if i := slices.IndexFunc(parts, func(s string) bool { return s == "collections" }); i >= 0 {
		return "collections"
	}
	for i := len(parts) - 1; i > 0; i-- {
		if strings.HasPrefix(parts[i], "{") {
			return parts[i-1]
		}
	}
	return ""
}

// walk calls every route as those who may not and returns what was not denied.
func walk(ctx context.Context, p *harness.Process, routes []app.Route, v victim, c credentials) (problems []string, calls int) {
	say := func(r app.Route, format string, args ...any) {
		problems = append(problems, r.Method+" "+r.Pattern+": "+fmt.Sprintf(format, args...))
	}
	for _, r := range routes {
		if r.Access.Anyone {
			if !slices.Contains(open(), r.Method+" "+r.Pattern) {
				say(r, "is open to anyone and not on the list")
			}
			continue
		}
		call := func(key string) harness.Answer {
			calls++
			a, err := p.Call(ctx, r.Method, v.path(r), key, body(r))
			if err != nil {
				say(r, "%v", err)
			}
			return a
		}
		if a := call(""); a.Status != http.StatusUnauthorized {
			say(r, "without a credential it answers %d", a.Status)
		}
		for what, key := range c.refused {
			if a := call(key); a.Status != http.StatusUnauthorized {
				say(r, "with a credential that is %s it answers %d", what, a.Status)
			}
		}
		if key := c.poor[r.Access.Scope]; r.Access.Scope != "" && key != "" {
			if a := call(key); a.Status != http.StatusForbidden {
				say(r, "without the scope %s it answers %d", r.Access.Scope, a.Status)
			}
		}
		a := call(c.foreign)
		if strings.Contains(r.Pattern, "{") && a.Status < 400 && owns(v, r) {
			say(r, "a foreign tenant gets %d for what is not its own", a.Status)
		}
		for _, w := range v.words {
			if strings.Contains(strings.ReplaceAll(string(a.Body), asked(v, r), ""), w) { // its own question may come back
				say(r, "a foreign tenant reads %q", w)
			}
		}
	}
	return problems, calls
}

// asked is what the path named, which an error may repeat.
func asked(v victim, r app.Route) string {
	parts := strings.Split(v.path(r), "/")
	if strings.HasSuffix(r.Pattern, "/rotate") {
		parts = parts[:len(parts)-1]
	}
	return parts[len(parts)-1]
}

// owns reports whether a route is about a thing that the victim owns (a model belongs to nobody).
func owns(v victim, r app.Route) bool {
	for _, m := range parameter.FindAllStringSubmatch(r.Pattern, -1) {
		if v.params[owner(r)+"."+m[1]] != "" {
			return true
		}
	}
	return false
}

// body is what a route takes, so that a denial is not the body's fault.
func body(r app.Route) any {
	if r.Method == http.MethodGet || r.Method == http.MethodDelete {
		return nil
	}
	switch r.Pattern {
	case "/api/v1/collections":
		return map[string]any{"name": "walked"}
	case "/api/v1/collections/{name}/documents":
		return map[string]any{"id": "walked", "text": "Nothing of value."}
	case "/api/v1/collections/{name}/search":
		return map[string]any{"query": "Who keeps the lighthouse?", "limit": 5}
	case "/api/v1/keys":
		return map[string]any{"name": "walked", "scopes": []string{"search:read"}}
	case "/api/v1/guard/scan":
		return map[string]any{"text": "Good morning."}
	case "/v1/embeddings":
		return map[string]any{"model": "default", "input": "Good morning."}
	case "/v1/chat/completions", "/v1/messages", "/v1/messages/count_tokens":
		return map[string]any{"model": "default", "max_tokens": 16, "messages": []map[string]string{{"role": "user", "content": "Who keeps the lighthouse?"}}, "aran": map[string]any{"collections": []string{"secrets"}}}
	}
	return map[string]any{}
}
