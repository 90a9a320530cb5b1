package security

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"aran/app"
	"aran/platform/rpc"
	"aran/test/harness"
)

const password = "correct horse battery"

// world is the whole platform in this process, as a client sees it and as its handlers are.
type world struct {
	*harness.Process
	app *app.App
}

func start(t *testing.T) world {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "data")
	cfg, err := app.Load("", map[string]string{
		"data.dir": dir, "gateway.listen": "127.0.0.1:0", "watch.listen": "127.0.0.1:0",
		"gateway.sign_in_rate.per_minute": "100000", "gateway.sign_in_rate.burst": "100000", // the walk is not to be slowed down; the limit has its own test
		"infer.models_dir": filepath.Join(t.TempDir(), "models"),
	})
	if err != nil {
		t.Fatal(err)
	}
	a, err := app.Open(t.Context(), cfg, app.Options{Services: app.Names(), Log: io.Discard})
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 10*time.Second)
		defer cancel()
		if err := a.Stop(ctx); err != nil {
			t.Error(err)
		}
	})
	p := &harness.Process{Client: harness.Client{URL: a.PublicAddress()}, Data: dir}
	if err := p.ReadAdminKey(); err != nil {
		t.Fatal(err)
	}
	return world{p, a}
}

// person signs up and gets a key with every scope that a person may have.
func (w world) person(t *testing.T, mail string) (session, key, keyID string) {
	t.Helper()
	w.Must(t, http.StatusCreated, http.MethodPost, "/api/v1/accounts", "", map[string]string{"email": mail, "password": password})
	var s struct {
		AccessToken string `json:"access_token"`
		Scopes      []string
	}
	w.Must(t, http.StatusCreated, http.MethodPost, "/api/v1/sessions", "", map[string]string{"email": mail, "password": password}).JSON(t, &s)
	id, key := w.key(t, s.AccessToken, w.scopes(t, s.AccessToken), 0)
	return s.AccessToken, key, id
}

func (w world) scopes(t *testing.T, session string) []string {
	t.Helper()
	var me struct{ Scopes []string }
	w.Must(t, http.StatusOK, http.MethodGet, "/api/v1/me", session, nil).JSON(t, &me)
	if len(me.Scopes) < 5 {
		t.Fatalf("a person has the scopes %v", me.Scopes)
	}
	return me.Scopes
}

func (w world) key(t *testing.T, as string, scopes []string, expiresIn int) (id, key string) {
	t.Helper()
	var k struct{ ID, Key string }
	w.Must(t, http.StatusCreated, http.MethodPost, "/api/v1/keys", as, map[string]any{"name": "walk", "scopes": scopes, "expires_in": expiresIn}).JSON(t, &k)
	return k.ID, k.Key
}

// scene sets up a victim with a collection, a document, a key and an audit entry, and those who have no business with it.
func scene(t *testing.T, w world) (victim, credentials, string) {
	t.Helper()
	session, key, keyID := w.person(t, "meena@example.org")
	_, foreign, _ := w.person(t, "ravi@example.org")
	w.Must(t, http.StatusCreated, http.MethodPost, "/api/v1/collections", key, map[string]string{"name": "secrets"})
	w.Must(t, http.StatusAccepted, http.MethodPost, "/api/v1/collections/secrets/documents", key, map[string]string{"id": "lighthouse", "text": "The lighthouse is kept by Valluvar Quillfeather."})
	harness.Eventually(t, 20*time.Second, "the document is indexed", func() bool {
		a, err := w.Call(t.Context(), http.MethodGet, "/api/v1/collections/secrets/documents/lighthouse", key, nil)
		return err == nil && strings.Contains(string(a.Body), `"indexed"`)
	})
	var answer struct{ Aran struct{ Audit string } }
	w.Must(t, http.StatusOK, http.MethodPost, "/v1/chat/completions", key, map[string]any{
		"model": "default", "messages": []map[string]string{{"role": "user", "content": "Who keeps the lighthouse?"}}, "aran": map[string]any{"collections": []string{"secrets"}},
	}).JSON(t, &answer)
	harness.Eventually(t, 10*time.Second, "the answer is in the log", func() bool {
		a, err := w.Call(t.Context(), http.MethodGet, "/api/v1/audit/proof/"+answer.Aran.Audit, key, nil)
		return err == nil && a.Status == http.StatusOK
	})

	scopes := w.scopes(t, session)
	_, expired := w.key(t, session, scopes, 1)
	revokedID, revoked := w.key(t, session, scopes, 0)
	w.Must(t, http.StatusOK, http.MethodGet, "/api/v1/me", revoked, nil)
	w.Must(t, http.StatusNoContent, http.MethodDelete, "/api/v1/keys/"+revokedID, session, nil)
	var ended struct {
		AccessToken string `json:"access_token"`
	}
	w.Must(t, http.StatusCreated, http.MethodPost, "/api/v1/sessions", "", map[string]string{"email": "meena@example.org", "password": password}).JSON(t, &ended)
	w.Must(t, http.StatusNoContent, http.MethodDelete, "/api/v1/sessions/current", ended.AccessToken, nil)
	for _, gone := range []string{expired, revoked, ended.AccessToken} {
		harness.Eventually(t, 5*time.Second, "a credential that ended is refused", func() bool {
			a, err := w.Call(t.Context(), http.MethodGet, "/api/v1/me", gone, nil)
			return err == nil && a.Status == http.StatusUnauthorized
		})
	}
	poor := map[string]string{}
	for _, s := range scopes {
		without := slices.DeleteFunc(slices.Clone(scopes), func(x string) bool { return x == s })
		_, poor[s] = w.key(t, session, without, 0)
	}
	_, poor["operate:read"] = w.key(t, session, scopes, 0)
	v := victim{
		params: map[string]string{"collections.name": "secrets", "collections.id": "lighthouse", "keys.id": keyID, "proof.event": answer.Aran.Audit},
		words:  []string{"Quillfeather", "meena@example.org", keyID, answer.Aran.Audit, "lighthouse"},
	}
	return v, credentials{
		refused: map[string]string{
			"expired": expired, "revoked": revoked, "a session that ended": ended.AccessToken, "made up": "aran_live_" + strings.Repeat("A", 40),
			"changed": key[:len(key)-1] + other(key[len(key)-1]), "unsigned": "eyJhbGciOiJub25lIn0.eyJzdWIiOiJ1c2VyOjEifQ.", "not a credential": "hello",
		},
		foreign: foreign, poor: poor,
	}, key
}

func other(c byte) string {
	if c == 'a' {
		return "b"
	}
	return "a"
}

func TestEveryRouteDeniesWhoMayNotCall(t *testing.T) {
	w := start(t)
	v, c, key := scene(t, w)
	routes := w.app.Routes()
	if len(routes) < 30 {
		t.Fatalf("only %d routes are served", len(routes))
	}
	problems, calls := walk(t.Context(), w.Process, routes, v, c)
	for _, p := range problems {
		t.Error(p)
	}
	t.Logf("%d routes, %d calls by those who may not", len(routes), calls)
	// And it is all still there.
	w.Must(t, http.StatusOK, http.MethodGet, "/api/v1/collections/secrets/documents/lighthouse", key, nil)
	w.Must(t, http.StatusOK, http.MethodGet, "/api/v1/keys/"+v.params["keys.id"], key, nil)
}

// TestAPlantedUnguardedRouteIsFound puts routes into the way that deny nobody, and expects the walk to find each.
func TestAPlantedUnguardedRouteIsFound(t *testing.T) {
	w := start(t)
	v, c, key := scene(t, w)
	target, err := url.Parse(w.URL)
	if err != nil {
		t.Fatal(err)
	}
	proxy := httputil.NewSingleHostReverseProxy(target)
	leaky := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/api/v1/planted": // checks nothing
			_, _ = io.WriteString(rw, "welcome")
		case r.URL.Path == "/api/v1/leaky" && r.Header.Get("Authorization") == "":
			rw.WriteHeader(http.StatusUnauthorized)
		case r.URL.Path == "/api/v1/leaky" && !slices.Contains(allowed(c, key), strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")):
			rw.WriteHeader(http.StatusUnauthorized)
		case r.URL.Path == "/api/v1/leaky": // checks the credential, not the tenant
			_, _ = io.WriteString(rw, "kept by Valluvar Quillfeather")
		default:
			proxy.ServeHTTP(rw, r)
		}
	}))
	t.Cleanup(leaky.Close)
	planted := []app.Route{
		{Service: "search", Route: rpc.Route{Method: http.MethodGet, Pattern: "/api/v1/planted", Access: rpc.Access{Signed: true}}},
		{Service: "search", Route: rpc.Route{Method: http.MethodGet, Pattern: "/api/v1/leaky", Access: rpc.Access{Signed: true}}},
		{Service: "search", Route: rpc.Route{Method: http.MethodGet, Pattern: "/api/v1/forgotten", Access: rpc.Access{Anyone: true}}},
	}
	problems, _ := walk(t.Context(), &harness.Process{Client: harness.Client{URL: leaky.URL}}, append(w.app.Routes(), planted...), v, c)
	for _, want := range []string{"/api/v1/planted: without a credential it answers 200", "/api/v1/planted: with a credential that is revoked it answers 200", `/api/v1/leaky: a foreign tenant reads "Quillfeather"`, "/api/v1/forgotten: is open to anyone and not on the list"} {
		if !slices.ContainsFunc(problems, func(p string) bool { return strings.Contains(p, want) }) {
			t.Errorf("not found: %s", want)
		}
	}
	for _, p := range problems {
		if !strings.Contains(p, "planted") && !strings.Contains(p, "leaky") && !strings.Contains(p, "forgotten") {
			t.Errorf("more was found than was planted: %s", p)
		}
	}
}

func allowed(c credentials, key string) []string {
	out := []string{key, c.foreign}
	for _, k := range c.poor {
		out = append(out, k)
	}
	return out
}

// TestInternalMethodsRefusePublicCredentials replays each public credential against each internal method, from outside and
// with a foot in the door: past the gateway, at the handler itself.
func TestInternalMethodsRefusePublicCredentials(t *testing.T) {
	w := start(t)
	session, key, _ := w.person(t, "meena@example.org")
	public := map[string]string{"no credential": "", "a key": key, "a session": session, "the administrator's key": w.AdminKey}
	methods, calls := 0, 0
	for _, name := range app.Names() {
		h := w.app.Internal(name)
		if h == nil {
			continue
		}
		for _, m := range methodsOf(t, name) {
			methods++
			path := fmt.Sprintf("/%s/%s", m.Parent().FullName(), m.Name())
			for what, credential := range public {
				calls++
				if a, err := w.Call(t.Context(), http.MethodPost, path, credential, "{}"); err != nil || a.Status < 400 || a.Status >= 500 {
					t.Errorf("%s from outside with %s: %d %v", path, what, a.Status, err)
				}
				for _, peer := range append(app.Names(), "", "stranger") {
					calls++
					if code := direct(t, h, peer, path, m, credential); code != http.StatusUnauthorized && code != http.StatusForbidden && !isOwn(peer, path) {
						t.Errorf("%s called as %q with %s answers %d", path, peer, what, code)
					}
				}
			}
		}
	}
	if methods < 7 {
		t.Errorf("only %d internal methods were found", methods)
	}
	t.Logf("%d internal methods, %d calls with public credentials", methods, calls)
}

// isOwn reports whether a method takes a public credential as its argument from a service, instead of an internal token: the
// gateway has nothing else before it asked, and a service asks for tokens with what it was given. They are tested in service/user.
func isOwn(peer, path string) bool {
	switch strings.TrimPrefix(path, "/aran.user.v1.UserService/") {
	case "Authenticate":
		return peer == rpc.Gateway
	case "Exchange", "Keys":
		return slices.Contains(app.Names(), peer)
	}
	return false
}

// direct calls a handler as a peer and returns the status; of a stream, what its end says.
func direct(t *testing.T, h http.Handler, peer, path string, m protoreflect.MethodDescriptor, credential string) int {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	body, kind := fmt.Sprintf(`{"credential":%q,"audience":"chat"}`, cmp.Or(credential, "none")), "application/json"
	if m.Name() != "Authenticate" {
		body = "{}"
	}
	if m.IsStreamingServer() {
		body, kind = "\x00\x00\x00\x00\x02{}", "application/connect+json"
	}
	req := httptest.NewRequestWithContext(ctx, http.MethodPost, "http://internal"+path, strings.NewReader(body))
	req.Header.Set("Content-Type", kind)
	req.Header.Set("Connect-Protocol-Version", "1")
	if credential != "" {
		req.Header.Set("Authorization", "Bearer "+credential)
		req.Header.Set(rpc.IdentityHeader, credential)
	}
	if peer == "" {
		rec := httptest.NewRecorder()
		h.ServeHTTP(rec, req)
		return rec.Code
	}
	req.RequestURI = ""
	res, err := rpc.InProcess(peer, h).RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close() //nolint:errcheck // read below
	said, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	switch {
	case m.IsStreamingServer() && strings.Contains(string(said), `"code":"unauthenticated"`):
		return http.StatusUnauthorized
	case m.IsStreamingServer() && strings.Contains(string(said), `"code":"permission_denied"`):
		return http.StatusForbidden
	}
	return res.StatusCode
}

// methodsOf lists the methods of a service's contract.
func methodsOf(t *testing.T, name string) (methods []protoreflect.MethodDescriptor) {
	t.Helper()
	protoregistry.GlobalFiles.RangeFilesByPackage(protoreflect.FullName("aran."+name+".v1"), func(f protoreflect.FileDescriptor) bool {
		for i := range f.Services().Len() {
			s := f.Services().Get(i)
			for j := range s.Methods().Len() {
				methods = append(methods, s.Methods().Get(j))
			}
		}
		return true
	})
	if len(methods) == 0 {
		t.Fatalf("%s has an internal handler and no contract", name)
	}
	return methods
}

// TestItListensOnTwoAddressesOnly looks at the operator's address as well: what it shows needs no credential and stays on loopback.
func TestItListensOnTwoAddressesOnly(t *testing.T) {
	if _, err := app.Load("", map[string]string{"watch.listen": "0.0.0.0:9090"}); err == nil || !strings.Contains(err.Error(), "watch.unsafe_public") {
		t.Errorf("the operator's address left loopback: %v", err)
	}
	if _, err := app.Load("", map[string]string{"gateway.listen": "0.0.0.0:8080"}); err == nil || !strings.Contains(err.Error(), "gateway.unsafe_plain_http") {
		t.Errorf("plain HTTP left loopback: %v", err)
	}
	p := harness.Start(t, harness.Options{})
	got := listeners(t, p.Pid())
	want := []string{strings.TrimPrefix(p.URL, "http://"), strings.TrimPrefix(p.Operator, "http://")}
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("it listens on %v, want %v", got, want)
	}
}
