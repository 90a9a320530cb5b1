package gateway_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"

	userv1 "aran/api/gen/aran/user/v1"
	"aran/api/gen/aran/user/v1/userv1connect"
	"aran/platform/bus"
	"aran/platform/fault"
	"aran/platform/limit"
	"aran/platform/rpc"
	"aran/platform/rpc/rpctest"
	"aran/platform/store"
	"aran/platform/watch"
	"aran/service/gateway"
)

// users is the service user, as far as the edge needs it: credentials by name.
type users struct {
	userv1connect.UnimplementedUserServiceHandler

	mu    sync.Mutex
	known map[string]*userv1.TokenResponse
	away  bool
	asked int
}

func (u *users) Authenticate(_ context.Context, r *userv1.AuthenticateRequest) (*userv1.TokenResponse, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.asked++
	if u.away {
		return nil, connect.NewError(connect.CodeUnavailable, errors.New("away"))
	}
	if t := u.known[r.GetCredential()]; t != nil {
		return t, nil
	}
	return nil, fault.New(fault.Unauthenticated, "invalid_session", "The session is not valid.")
}

func (u *users) set(f func()) {
	u.mu.Lock()
	defer u.mu.Unlock()
	f()
}

func token(credential string, scopes ...string) *userv1.TokenResponse {
	return &userv1.TokenResponse{Token: "inner-" + credential, ExpiresIn: 300, Tenant: "t1", Subject: "user:" + credential, Scopes: scopes, Tier: "standard", CredentialId: credential}
}

// edge is a gateway before a scripted service.
type edge struct {
	t     *testing.T
	url   string
	users *users
	db    *store.DB
	serve atomic.Pointer[http.HandlerFunc] // what the service chat does
	seen  atomic.Pointer[http.Request]
}

func start(t *testing.T, change func(*gateway.Config)) *edge {
	t.Helper()
	e := &edge{t: t, users: &users{known: map[string]*userv1.TokenResponse{"meena": token("meena", "chat:use"), "root": token("root", "*")}}}
	e.users.known["root"].Tier = "unlimited"
	e.answer(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "answer") })
	log := slog.New(slog.DiscardHandler)
	server, err := bus.StartServer(t.Context(), t.TempDir(), log)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := bus.Connect(t.Context(), server, "gateway", log)
	if err != nil {
		t.Fatal(err)
	}
	sender, db := sender(t, server, log)
	e.db = db
	cfg := gateway.Default()
	cfg.Listen = "127.0.0.1:0"
	if change != nil {
		change(&cfg)
	}
	if err := cfg.Check(); err != nil {
		t.Fatal(err)
	}
	own := rpctest.NewAuthority(t).Server("user", "gateway")
	_, handler := userv1connect.NewUserServiceHandler(e.users, own.HandlerOptions(userv1connect.UserServiceAuthenticateProcedure)...)
	open, closed := rpc.Access{Anyone: true}, rpc.Access{Scope: "chat:use"}
	service := func(w http.ResponseWriter, r *http.Request) {
		e.seen.Store(r.Clone(context.WithoutCancel(r.Context())))
		(*e.serve.Load())(w, r)
	}
	door, err := gateway.Open(t.Context(), cfg, log)
	if err != nil {
		t.Fatal(err)
	}
	e.url = door.Address()
	if a := e.call("GET", "/v1/models", "meena", ""); a.status != http.StatusServiceUnavailable || a.header.Get("Retry-After") == "" {
		t.Errorf("before the start: %d", a.status)
	}
	s, err := gateway.New(cfg, gateway.Deps{
		Door: door, Bus: conn, Limits: limit.NewMemory(1000), Users: userv1connect.NewUserServiceClient(&http.Client{Transport: rpc.InProcess("gateway", own.Internal(handler))}, "http://user", rpc.ClientOptions("user", nil)...),
		Upstreams: map[string]gateway.Upstream{
			"chat": {Transport: rpc.InProcess("gateway", http.HandlerFunc(service)), Routes: []rpc.Route{{Method: "POST", Pattern: "/v1/chat/completions", Access: closed}, {Method: "POST", Pattern: "/v1/messages", Access: closed}}},
			"user": {Transport: rpc.InProcess("gateway", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "signed in") })), Routes: []rpc.Route{{Method: "POST", Pattern: "/api/v1/sessions", Access: open}}},
		},
		OpenAPI: []byte(`{"openapi":"3.1.0"}`), Services: func(context.Context) any { return map[string]any{"services": []string{"chat"}} }, Health: &watch.Health{}, Log: log,
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 5*time.Second)
		defer cancel()
		for _, stop := range []func(context.Context) error{s.Stop, conn.Close, sender.Close, server.Stop} {
			if err := stop(ctx); err != nil {
				t.Error(err)
			}
		}
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return e
}

// sender is another service that sends revocations.
func sender(t *testing.T, server *bus.Server, log *slog.Logger) (*bus.Conn, *store.DB) {
	t.Helper()
	db, err := store.Open(t.Context(), store.Options{Service: "user", Path: filepath.Join(t.TempDir(), "user.db"), Log: log})
	if err != nil {
		t.Fatal(err)
	}
	conn, err := bus.Connect(t.Context(), server, "user", log)
	if err != nil {
		t.Fatal(err)
	}
	if err := conn.Relay(t.Context(), db, false); err != nil {
		t.Fatal(err)
	}
	return conn, db
}

func (e *edge) answer(h http.HandlerFunc) { e.serve.Store(&h) }

type reply struct {
	status int
	header http.Header
	body   string
}

func (e *edge) call(method, path, credential, body string, header ...string) reply {
	e.t.Helper()
	req, err := http.NewRequestWithContext(e.t.Context(), method, e.url+path, strings.NewReader(body))
	if err != nil {
		e.t.Fatal(err)
	}
	if credential != "" {
		req.Header.Set("Authorization", "Bearer "+credential)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	res, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		e.t.Fatal(err)
	}
	defer res.Body.Close() //nolint:errcheck // read whole
	b, err := io.ReadAll(res.Body)
	if err != nil {
		e.t.Fatal(err)
	}
	return reply{res.StatusCode, res.Header, string(b)}
}

const completions = "/v1/chat/completions"

func (e *edge) want(r reply, status int, says string) {
	e.t.Helper()
	if r.status != status || !strings.Contains(r.body, says) {
		e.t.Errorf("%d %s, want %d with %q", r.status, r.body, status, says)
	}
}

func TestWhoMayPass(t *testing.T) {
	e := start(t, nil)
	e.want(e.call("POST", completions, "meena", "{}"), 200, "answer")
	e.want(e.call("POST", completions, "", "{}", "X-Api-Key", "meena"), 200, "answer")
	e.want(e.call("POST", completions, "", "{}"), 401, "invalid_api_key")
	e.want(e.call("POST", completions, "stranger", "{}"), 401, "not valid")
	e.want(e.call("POST", completions, "meena", "{}", "X-Api-Key", "root"), 401, "different credentials")
	e.want(e.call("POST", completions, "", "{}", "Authorization", "Basic bWVlbmE6"), 401, "Bearer")
	e.want(e.call("POST", "/api/v1/sessions", "", "{}"), 200, "signed in")
	e.want(e.call("GET", "/api/v1/nothing", "root", ""), 404, "no_such_route")
	e.want(e.call("GET", "/api/v1/services", "meena", ""), 403, "scope")
	e.want(e.call("GET", "/api/v1/services", "", ""), 401, "no_credential")
	e.want(e.call("GET", "/api/v1/services", "root", ""), 200, "chat")
}

func TestErrorsSpeakTheClientsLanguage(t *testing.T) {
	e := start(t, nil)
	for _, c := range []struct{ path, version, says string }{
		{completions, "", `"code":"invalid_api_key"`},
		{"/v1/messages", "", `"type":"authentication_error"`},
		{"/v1/models", "2023-06-01", `"type":"authentication_error"`},
		{"/api/v1/services", "", `"status":401`},
	} {
		r := e.call("GET", c.path, "stranger", "", "Anthropic-Version", c.version)
		e.want(r, 401, c.says)
		if r.header.Get("WWW-Authenticate") == "" && c.path != "/api/v1/services" {
			t.Errorf("%s: no WWW-Authenticate", c.path)
		}
	}
}

func TestWhatOnlyServicesMaySayIsDropped(t *testing.T) {
	e := start(t, nil)
	e.want(e.call("POST", completions, "meena", "{}", rpc.IdentityHeader, "forged", rpc.RequestIDHeader, "forged", "X-Forwarded-For", "10.0.0.1", "Forwarded", "for=10.0.0.1",
		"Traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "Baggage", "a=b", "Cookie", "session=1"), 200, "answer")
	h := e.seen.Load().Header
	if h.Get(rpc.IdentityHeader) != "inner-meena" || h.Get(rpc.RequestIDHeader) == "forged" || h.Get("Authorization") != "" || h.Get("X-Api-Key") != "" || h.Get("Cookie") != "" {
		t.Errorf("the service got %v", h)
	}
	for name, values := range h {
		for _, v := range values {
			if strings.Contains(v, "forged") || strings.Contains(v, "10.0.0.1") || strings.Contains(v, "0af7651916cd43dd8448eb211c80319c") || v == "a=b" {
				t.Errorf("%s: %s came through", name, v)
			}
		}
	}
	e.answer(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set(rpc.IdentityHeader, r.Header.Get(rpc.IdentityHeader))
		w.Header().Set("Content-Security-Policy", "default-src *")
	})
	r := e.call("POST", completions, "meena", "{}")
	for name, values := range r.header {
		if strings.Contains(strings.Join(values, " "), "inner-meena") {
			t.Errorf("the inner token leaves in %s", name)
		}
	}
	if r.header.Get("Content-Security-Policy") != "default-src 'none'; frame-ancestors 'none'" {
		t.Errorf("the service changed the policy to %q", r.header.Values("Content-Security-Policy"))
	}
}

func TestEveryAnswerCarriesTheSameProtection(t *testing.T) {
	e := start(t, nil)
	ids := map[string]bool{}
	for _, r := range []reply{e.call("POST", completions, "meena", "{}"), e.call("POST", completions, "", "{}"), e.call("GET", "/healthz", "", ""), e.call("GET", "/nothing", "root", ""), e.call("GET", "/api/docs", "", "")} {
		for name, want := range map[string]string{"X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY", "Referrer-Policy": "no-referrer", "Cross-Origin-Resource-Policy": "same-origin"} {
			if got := r.header.Get(name); got != want {
				t.Errorf("%d: %s is %q, want %q", r.status, name, got, want)
			}
		}
		if !strings.Contains(r.header.Get("Content-Security-Policy"), "default-src 'none'") || !strings.Contains(r.header.Get("Content-Security-Policy"), "frame-ancestors 'none'") {
			t.Errorf("%d: policy %q", r.status, r.header.Get("Content-Security-Policy"))
		}
		ids[r.header.Get(rpc.RequestIDHeader)] = true
		if r.header.Get("Access-Control-Allow-Origin") != "" || r.header.Get("Set-Cookie") != "" {
			t.Errorf("%d: %v", r.status, r.header)
		}
	}
	if len(ids) != 5 || ids[""] {
		t.Errorf("request ids %v", ids)
	}
	for _, path := range []string{"/api/docs", "/api/docs/start.js", "/api/docs/swagger-ui.css", "/api/docs/swagger-ui-bundle.js", "/api/openapi.json"} {
		if r := e.call("GET", path, "", ""); r.status != 200 || r.body == "" {
			t.Errorf("%s: %d", path, r.status)
		}
	}
	e.want(e.call("GET", "/api/docs/../gateway.go", "", ""), 400, "plain form")
	e.want(e.call("GET", "/api/docs/%2e%2e%2fgateway.go", "", ""), 400, "plain form")
	e.want(e.call("GET", "/api/docs/gateway.go", "", ""), 404, "no_such_route")
}

func TestPagesOfOtherSites(t *testing.T) {
	e := start(t, func(c *gateway.Config) { c.AllowOrigins = []string{"https://app.example"} })
	ask := func(origin string) http.Header {
		return e.call("OPTIONS", completions, "", "", "Origin", origin, "Access-Control-Request-Method", "POST").header
	}
	if h := ask("https://app.example"); h.Get("Access-Control-Allow-Origin") != "https://app.example" || h.Get("Access-Control-Allow-Credentials") != "" {
		t.Errorf("%v", h)
	}
	if h := ask("https://evil.example"); h.Get("Access-Control-Allow-Origin") != "" || h.Get("Access-Control-Allow-Methods") != "" {
		t.Errorf("%v", h)
	}
}

func TestRates(t *testing.T) {
	e := start(t, func(c *gateway.Config) {
		c.Rate = gateway.Rate{PerMinute: 60, Burst: 3}
		c.SignInRate = gateway.Rate{PerMinute: 60, Burst: 4}
	})
	for i := range 3 {
		r := e.call("POST", completions, "meena", "{}")
		e.want(r, 200, "answer")
		if want := fmt.Sprintf(`"standard";r=%d;`, 2-i); !strings.HasPrefix(r.header.Get("RateLimit"), want) || r.header.Get("RateLimit-Policy") != `"standard";q=60;w=60` {
			t.Errorf("RateLimit %q, RateLimit-Policy %q, want %s", r.header.Get("RateLimit"), r.header.Get("RateLimit-Policy"), want)
		}
	}
	r := e.call("POST", completions, "meena", "{}")
	e.want(r, 429, "rate_limit_exceeded")
	if r.header.Get("Retry-After") != "1" {
		t.Errorf("Retry-After %q", r.header.Get("Retry-After"))
	}
	for range 20 {
		e.want(e.call("POST", completions, "root", "{}"), 200, "answer") // the administrator has no limit
	}
	last := 0
	for i := range 8 { // another wrong one each time: guessing is slowed down per address
		last = e.call("POST", completions, fmt.Sprint("guess", i), "{}").status
	}
	if last != 429 {
		t.Errorf("the eighth guess is answered %d", last)
	}
	e.want(e.call("POST", completions, "root", "{}"), 200, "answer")
}

func TestConcurrencyPerKey(t *testing.T) {
	e := start(t, func(c *gateway.Config) { c.MaxPerKey = 2 })
	entered, leave := make(chan struct{}), make(chan struct{})
	e.answer(func(http.ResponseWriter, *http.Request) { entered <- struct{}{}; <-leave })
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() { e.call("POST", completions, "meena", "{}") })
		<-entered
	}
	r := e.call("POST", completions, "meena", "{}")
	e.want(r, 429, "at once")
	close(leave)
	wg.Wait()
	e.answer(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "answer") })
	e.want(e.call("POST", completions, "meena", "{}"), 200, "answer")
}

func TestAStreamComesThroughAsItIsWritten(t *testing.T) {
	e := start(t, nil)
	next, gone := make(chan struct{}), make(chan struct{})
	e.answer(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		for i := range 3 {
			_, _ = fmt.Fprintf(w, "data: %d\n\n", i)
			w.(http.Flusher).Flush()
			select {
			case <-next:
			case <-r.Context().Done():
				close(gone)
				return
			}
		}
	})
	ctx, leave := context.WithCancel(t.Context())
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, e.url+completions, strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer meena")
	res, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close() //nolint:errcheck // it is cut off
	lines := bufio.NewScanner(res.Body)
	for i := range 2 { // each event is here before the next one is written
		if !lines.Scan() || lines.Text() != fmt.Sprint("data: ", i) {
			t.Fatalf("event %d: %q %v", i, lines.Text(), lines.Err())
		}
		lines.Scan()
		if i == 0 {
			next <- struct{}{}
		}
	}
	leave()
	select {
	case <-gone:
	case <-time.After(5 * time.Second):
		t.Fatal("the service goes on although its client left")
	}
}

func TestBodiesAreBounded(t *testing.T) {
	e := start(t, func(c *gateway.Config) { c.MaxBody = 1 << 20 })
	e.answer(func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			w.WriteHeader(http.StatusTeapot) // what the service says then is not the point
		}
	})
	e.want(e.call("POST", completions, "meena", strings.Repeat("x", 1<<20+1)), 413, "body_too_large")
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, e.url+completions, io.LimitReader(endless{}, 2<<20)) // without a length
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer meena")
	res, err := http.DefaultTransport.RoundTrip(req)
	if err == nil {
		_ = res.Body.Close()
		if res.StatusCode < 400 {
			t.Errorf("two megabytes were taken: %d", res.StatusCode)
		}
	}
	e.want(e.call("POST", completions, "meena", strings.Repeat("x", 1<<20)), 200, "")
}

type endless struct{}

func (endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 'x'
	}
	return len(p), nil
}

// TestWhoIsAwaySaysWhenToTryAgain: a service's 503 has a Retry-After, its own or the gateway's.
func TestWhoIsAwaySaysWhenToTryAgain(t *testing.T) {
	e := start(t, nil)
	for own, want := range map[string]string{"": "1", "7": "7"} {
		e.answer(func(w http.ResponseWriter, _ *http.Request) {
			if own != "" {
				w.Header().Set("Retry-After", own)
			}
			w.WriteHeader(http.StatusServiceUnavailable)
		})
		if got := e.call("POST", completions, "root", "{}").header.Get("Retry-After"); got != want {
			t.Errorf("after the service's %q the client gets %q, want %q", own, got, want)
		}
	}
}

func TestADeadServiceIsCutOff(t *testing.T) {
	e := start(t, nil)
	e.answer(func(http.ResponseWriter, *http.Request) { panic("dead") })
	opened := false
	for range 60 {
		r := e.call("POST", completions, "root", "{}")
		if r.status != http.StatusServiceUnavailable || r.header.Get("Retry-After") == "" {
			t.Fatalf("%d %s (Retry-After %q)", r.status, r.body, r.header.Get("Retry-After"))
		}
		if e.seen.Swap(nil) == nil {
			opened = true // it was not even asked
			break
		}
	}
	if !opened {
		t.Error("a dead service is asked for ever")
	}
	e.want(e.call("POST", "/api/v1/sessions", "", "{}"), 200, "signed in") // the others go on
}

func TestABrokenStreamIsNoWholeAnswer(t *testing.T) {
	e := start(t, nil)
	e.answer(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "half an ")
		w.(http.Flusher).Flush()
		panic("broken")
	})
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, e.url+completions, strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer meena")
	res, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close() //nolint:errcheck // broken
	if b, err := io.ReadAll(res.Body); err == nil {
		t.Errorf("half an answer looks whole: %q", b)
	}
}

func TestRevocationIsAtOnce(t *testing.T) {
	e := start(t, nil)
	e.want(e.call("POST", completions, "meena", "{}"), 200, "answer")
	e.users.set(func() { delete(e.users.known, "meena") })
	e.want(e.call("POST", completions, "meena", "{}"), 200, "answer") // it is remembered for a moment
	revoke(t, e.db, map[string]string{"credential": "somebody"})
	revoke(t, e.db, map[string]string{"credential": "meena"})
	deadline := time.Now().Add(time.Second)
	for e.call("POST", completions, "meena", "{}").status != 401 {
		if time.Now().After(deadline) {
			t.Fatal("a revoked credential is good for longer than a second")
		}
	}
}

func revoke(t *testing.T, db *store.DB, what map[string]string) {
	t.Helper()
	err := db.Tx(t.Context(), func(tx *store.Tx) error {
		return tx.Emit(t.Context(), store.Event{Type: "aran.user.revoked.v1", Tenant: "t1", Actor: "user:meena", Data: what})
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestWhenUserIsAway(t *testing.T) {
	e := start(t, nil)
	e.want(e.call("POST", completions, "meena", "{}"), 200, "answer")
	e.users.set(func() { e.users.away = true })
	e.want(e.call("POST", completions, "meena", "{}"), 200, "answer") // known and not expired
	r := e.call("POST", completions, "root", "{}")
	e.want(r, 503, "checked now")
	if r.header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	if e.seen.Load().Header.Get(rpc.IdentityHeader) != "inner-meena" {
		t.Error("an unknown credential reached the service")
	}
}

func TestAWrongCredentialIsAskedForOnce(t *testing.T) {
	e := start(t, nil)
	for range 5 {
		e.want(e.call("POST", completions, "stranger", "{}"), 401, "")
	}
	e.users.set(func() {
		if e.users.asked != 1 {
			t.Errorf("user was asked %d times", e.users.asked)
		}
	})
	e.want(e.call("POST", completions, "aran_live_"+strings.Repeat("x", 38), "{}"), 401, "API key is not valid")
	e.users.set(func() {
		if e.users.asked != 1 {
			t.Error("user was asked about a key whose checksum is wrong")
		}
	})
}

func TestReadiness(t *testing.T) {
	e := start(t, nil)
	var state struct{ Status string }
	r := e.call("GET", "/readyz", "", "")
	if err := json.Unmarshal([]byte(r.body), &state); err != nil || r.status != 503 || state.Status != "not ready" || len(r.body) > 40 {
		t.Errorf("%d %s", r.status, r.body) // not open yet; and nothing more is told outside
	}
	e.want(e.call("GET", "/healthz", "", ""), 200, "ok")
}

func TestSettingsThatAreRefused(t *testing.T) {
	for name, change := range map[string]func(*gateway.Config){
		"gateway.unsafe_plain_http": func(c *gateway.Config) { c.Listen = "0.0.0.0:80" },
		"gateway.tls_key":           func(c *gateway.Config) { c.TLSCert = "x" },
		"gateway.allow_origins":     func(c *gateway.Config) { c.AllowOrigins = []string{"*"} },
		"gateway.rate":              func(c *gateway.Config) { c.Rate.Burst = 0 },
		"gateway.credential_cache":  func(c *gateway.Config) { c.CredentialCache = time.Hour },
		"gateway.listen":            func(c *gateway.Config) { c.Listen = "8080" },
	} {
		c := gateway.Default()
		change(&c)
		if err := c.Check(); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
