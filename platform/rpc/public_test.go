package rpc_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/danielgtaylor/huma/v2"

	"aran/platform/auth"
	"aran/platform/fault"
	"aran/platform/rpc"
	"aran/platform/rpc/rpctest"
)

type thingIn struct {
	Body struct {
		Name string `json:"name" minLength:"2"`
	}
}

type thingOut struct{ Body struct{ Owner string } }

func public(a *rpctest.Authority) *rpc.Public {
	p := rpc.NewPublic(a.Server("probe"), "Probe")
	rpc.Register(p, huma.Operation{OperationID: "make", Method: http.MethodPost, Path: "/api/v1/things"}, rpc.Access{Scope: "things:write"}, func(ctx context.Context, in *thingIn) (*thingOut, error) {
		switch in.Body.Name {
		case "gone":
			return nil, fault.NotFound("thing", "gone")
		case "bug":
			return nil, errors.New("password=hunter2")
		case "panic":
			panic("hunter2")
		}
		out := &thingOut{}
		out.Body.Owner = auth.From(ctx).Subject
		return out, nil
	})
	p.Handle(http.MethodPost, "/api/v1/raw", rpc.Access{Anyone: true}, 16, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var v struct {
			Title string `json:"title"`
		}
		if err := rpc.DecodeJSON(r, &v); err != nil {
			rpc.Problem(w, r, err)
			return
		}
		w.WriteHeader(http.StatusNoContent)
	}))
	return p
}

func TestPublicErrors(t *testing.T) {
	a := rpctest.NewAuthority(t)
	p := public(a)
	writer := &auth.Identity{Tenant: "t", Subject: "user:1", Scopes: []string{"things:write"}}
	reader := &auth.Identity{Tenant: "t", Subject: "user:1", Scopes: []string{"things:read"}}
	for _, c := range []struct {
		name, method, path string
		id                 *auth.Identity
		body               any
		status             int
		code, says         string
	}{
		{"works", "POST", "/api/v1/things", writer, map[string]string{"name": "lamp"}, 200, "", "user:1"},
		{"nobody", "POST", "/api/v1/things", nil, map[string]string{"name": "lamp"}, 401, "no_credential", ""},
		{"a scope is missing", "POST", "/api/v1/things", reader, map[string]string{"name": "lamp"}, 403, "scope_missing", "things:write"},
		{"a broken rule", "POST", "/api/v1/things", writer, map[string]string{"name": "l"}, 400, "invalid", `"location":"name"`},
		{"an unknown field", "POST", "/api/v1/things", writer, map[string]string{"name": "lamp", "wattage": "x"}, 400, "invalid", "wattage"},
		{"malformed", "POST", "/api/v1/things", writer, `{"name":`, 400, "", ""},
		{"not there", "POST", "/api/v1/things", writer, map[string]string{"name": "gone"}, 404, "thing_not_found", ""},
		{"a bug", "POST", "/api/v1/things", writer, map[string]string{"name": "bug"}, 500, "internal", "request id"},
		{"a panic", "POST", "/api/v1/things", writer, map[string]string{"name": "panic"}, 500, "internal", "request id"},
		{"no such route", "GET", "/api/v1/nothing", writer, nil, 404, "no_such_route", ""},
		{"another method", "DELETE", "/api/v1/things", writer, nil, 405, "method_not_allowed", "POST"},
		{"too large", "POST", "/api/v1/raw", nil, `{"title":"0123456789abcdef"}`, 413, "body_too_large", "16"},
		{"a near field", "POST", "/api/v1/raw", nil, `{"tittle":"x"}`, 400, "unknown_field", `did you mean \"title\"`},
		{"more after it", "POST", "/api/v1/raw", nil, `{"title":""}{}`, 400, "malformed_json", ""},
		{"a wrong type", "POST", "/api/v1/raw", nil, `{"title":1}`, 400, "invalid", `"location":"title"`},
	} {
		got := a.Gateway(p, "probe", c.id, c.method, c.path, c.body)
		if got.Status != c.status || !strings.Contains(string(got.Body), c.says) || strings.Contains(string(got.Body), "hunter2") {
			t.Errorf("%s: %d %s", c.name, got.Status, got.Body)
			continue
		}
		if c.status < 400 {
			continue
		}
		var problem struct {
			Status      int
			Code, Title string
			RequestID   string `json:"request_id"`
		}
		if err := json.Unmarshal(got.Body, &problem); err != nil || problem.Status != c.status || c.code != "" && problem.Code != c.code || problem.RequestID != "test-request" || problem.Title == "" {
			t.Errorf("%s: %s (%v)", c.name, got.Body, err)
		}
		if ct := got.Header.Get("Content-Type"); ct != "application/problem+json" {
			t.Errorf("%s: content type %q", c.name, ct)
		}
	}
}

func TestPublicIsForTheGatewayOnly(t *testing.T) {
	a := rpctest.NewAuthority(t)
	p := public(a)
	for _, peer := range []string{"", "chat"} {
		req := httptest.NewRequestWithContext(rpc.WithPeer(t.Context(), peer), http.MethodPost, "/api/v1/raw", strings.NewReader("{}"))
		w := httptest.NewRecorder()
		p.ServeHTTP(w, req)
		if w.Code != http.StatusForbidden {
			t.Errorf("peer %q: %d", peer, w.Code)
		}
	}
}

func TestARouteWithoutAccessIsRefused(t *testing.T) {
	a := rpctest.NewAuthority(t)
	for _, access := range []rpc.Access{{}, {Scope: "x", Anyone: true}} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("access %+v was taken", access)
				}
			}()
			rpc.NewPublic(a.Server("probe"), "Probe").Handle(http.MethodGet, "/x", access, 0, http.NotFoundHandler())
		}()
	}
}

func TestMergedOpenAPI(t *testing.T) {
	a := rpctest.NewAuthority(t)
	one, err := rpc.Merge("Aran", "1", map[string]*huma.OpenAPI{"probe": public(a).OpenAPI()})
	if err != nil {
		t.Fatal(err)
	}
	two, err := rpc.Merge("Aran", "1", map[string]*huma.OpenAPI{"probe": public(a).OpenAPI()})
	if err != nil || string(one) != string(two) {
		t.Errorf("not the same bytes twice (%v)", err)
	}
	for _, want := range []string{`"/api/v1/things"`, `"#/components/schemas/Probe`, `things:write`, `"3.1.0"`} {
		if !strings.Contains(string(one), want) {
			t.Errorf("no %s in %s", want, one)
		}
	}
	if strings.Contains(string(one), "$schema") {
		t.Error("it prints $schema")
	}
}
