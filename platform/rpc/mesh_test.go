package rpc_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"aran/platform/auth/ca"
	"aran/platform/fault"
	"aran/platform/rpc"
	"aran/platform/rpc/rpctest"
)

const domain = "test.example"

var silent = slog.New(slog.DiscardHandler)

func authority(t *testing.T) *ca.Authority {
	t.Helper()
	a, err := ca.Open(t.TempDir(), domain)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// identity issues a certificate and opens it.
func identity(t *testing.T, a *ca.Authority, service string, life time.Duration) *rpc.Identity {
	t.Helper()
	dir := t.TempDir()
	if err := a.Issue(dir, service, life); err != nil {
		t.Fatal(err)
	}
	return openIdentity(t, dir, service)
}

func openIdentity(t *testing.T, dir, service string) *rpc.Identity {
	t.Helper()
	i, err := rpc.OpenIdentity(t.Context(), dir, service, domain, silent)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = i.Close() })
	return i
}

// hosted is a service called "guard": chat may call its Internal handler, the gateway its Public one.
func hosted(t *testing.T, id *rpc.Identity, internal, public http.Handler) string {
	t.Helper()
	m, err := rpc.NewMesh(domain, silent)
	if err != nil {
		t.Fatal(err)
	}
	m.Add(id, rpc.KindInternal, []string{"chat"}, internal)
	m.Add(id, rpc.KindPublic, []string{rpc.Gateway}, public)
	if err := m.Listen(t.Context(), "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 10*time.Second)
		defer cancel()
		if err := m.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	return m.Address()
}

func dial(t *testing.T, id *rpc.Identity, callee string, k rpc.Kind, address string) *rpc.Far {
	t.Helper()
	f := rpc.Dial(id, callee, k, address)
	t.Cleanup(f.Close)
	return f
}

// TestOverMutualTLS: between two processes a call is what it is in one.
func TestOverMutualTLS(t *testing.T) {
	a := authority(t)
	rpctest.Run(t, func(t *testing.T, h http.Handler) http.RoundTripper {
		address := hosted(t, identity(t, a, "guard", time.Hour), h, h)
		return dial(t, identity(t, a, "chat", time.Hour), "guard", rpc.KindInternal, address)
	})
}

func get(ctx context.Context, rt http.RoundTripper, host string) (int, string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+host+"/", nil)
	if err != nil {
		return 0, "", err
	}
	res, err := rt.RoundTrip(req)
	if err != nil {
		return 0, "", err
	}
	defer res.Body.Close() //nolint:errcheck // read whole
	b, err := io.ReadAll(res.Body)
	return res.StatusCode, string(b), err
}

func says(text string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, text+" to "+rpc.Peer(r.Context()))
	})
}

func TestOnlyListedCallersReachAHandler(t *testing.T) {
	a := authority(t)
	address := hosted(t, identity(t, a, "guard", time.Hour), says("internal"), says("public"))
	for _, c := range []struct {
		caller string
		kind   rpc.Kind
		status int
		body   string
	}{
		{"chat", rpc.KindInternal, 200, "internal to chat"},
		{"gateway", rpc.KindPublic, 200, "public to gateway"},
		{"chat", rpc.KindPublic, 403, "caller_refused"},
		{"gateway", rpc.KindInternal, 403, "caller_refused"},
		{"infer", rpc.KindInternal, 403, "caller_refused"},
		{"infer", rpc.KindPublic, 403, "caller_refused"},
	} {
		// The Host header says what the caller likes; the handshake decides.
		status, body, err := get(t.Context(), dial(t, identity(t, a, c.caller, time.Hour), "guard", c.kind, address), "guard.public."+domain)
		if err != nil || status != c.status || !strings.Contains(body, c.body) {
			t.Errorf("%s to %s: %d %q, %v; want %d %q", c.caller, c.kind, status, body, err, c.status, c.body)
		}
	}
}

func TestStrangersAreRefusedInTheHandshake(t *testing.T) {
	a := authority(t)
	server := identity(t, a, "guard", time.Hour)
	address := hosted(t, server, says("internal"), says("public"))
	good := identity(t, a, "chat", time.Hour)
	refused := func(what string, rt http.RoundTripper) {
		t.Helper()
		status, _, err := get(t.Context(), rt, "guard")
		if err == nil || fault.KindOf(err) != fault.Unavailable {
			t.Errorf("%s: %d, %v", what, status, err)
		}
	}
	refused("a service that is not here", dial(t, good, "search", rpc.KindInternal, address))

	// A server of the same authority that answers for another service.
	other := hosted(t, identity(t, a, "infer", time.Hour), says("x"), says("x"))
	refused("a server that is another service", dial(t, good, "guard", rpc.KindInternal, other))

	stranger, err := rpc.OpenIdentity(t.Context(), func() string {
		dir := t.TempDir()
		if err := authority(t).Issue(dir, "chat", time.Hour); err != nil {
			t.Fatal(err)
		}
		// It trusts our server, but nobody trusts it.
		return dir
	}(), "chat", domain, silent)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = stranger.Close() })
	refused("a caller of another authority", dial(t, stranger, "guard", rpc.KindInternal, address))

	for what, c := range map[string]*tls.Config{
		"no certificate":    {InsecureSkipVerify: true, ServerName: "guard.internal." + domain, NextProtos: []string{"h2"}},
		"an older protocol": {InsecureSkipVerify: true, ServerName: "guard.internal." + domain, MaxVersion: tls.VersionTLS12, NextProtos: []string{"h2"}},
	} {
		conn, err := (&tls.Dialer{Config: c}).DialContext(t.Context(), "tcp", address)
		if err == nil {
			_, err = conn.Read(make([]byte, 1)) // with TLS 1.3 a client learns of it when it reads
			_ = conn.Close()
		}
		if err == nil {
			t.Errorf("%s was let in", what)
		}
	}
	plain, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close() //nolint:errcheck // a test's
	_, _ = io.WriteString(plain, "GET / HTTP/1.1\r\nHost: guard\r\n\r\n")
	_ = plain.SetReadDeadline(time.Now().Add(5 * time.Second))
	if b, _ := io.ReadAll(plain); strings.Contains(string(b), "internal") || strings.Contains(string(b), "HTTP/1.1 200") {
		t.Errorf("plain text got %q", b)
	}
}

// TestRenewalInFlight: certificates live for seconds and are renewed ten times, and the authority's key once, under calls
// and a stream that nothing disturbs.
func TestRenewalInFlight(t *testing.T) {
	t.Parallel()
	const (
		life     = 6 * time.Second
		renewals = 8
		callers  = 4
	)
	at, dir := t.TempDir(), t.TempDir()
	a, err := ca.Open(at, domain)
	if err != nil {
		t.Fatal(err)
	}
	b, err := ca.Open(at, domain) // another process
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []string{"guard", "chat"} {
		if err := a.Issue(dir, s, life); err != nil {
			t.Fatal(err)
		}
	}
	ctx, stop := context.WithCancel(t.Context())
	var served sync.WaitGroup
	served.Go(func() { _ = a.Serve(ctx, dir, []string{"guard", "chat"}, life, silent) })
	t.Cleanup(func() { stop(); served.Wait() })
	serials := sync.Map{}
	var calls atomic.Int64
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.TLS != nil {
			serials.Store(r.TLS.PeerCertificates[0].SerialNumber.String(), true)
		}
		if r.URL.Path == "/stream" {
			for r.Context().Err() == nil && calls.Load() >= 0 {
				_, _ = io.WriteString(w, "x")
				w.(http.Flusher).Flush()
				select {
				case <-r.Context().Done():
				case <-time.After(50 * time.Millisecond):
				}
			}
			return
		}
		_, _ = io.WriteString(w, "ok")
	})
	address := hosted(t, openIdentity(t, dir, "guard"), h, h)
	rt := dial(t, openIdentity(t, dir, "chat"), "guard", rpc.KindInternal, address)
	streamed := make(chan int, 1)
	until := time.Now().Add(renewals * life / 2)
	go func() {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://guard/stream", nil)
		if err != nil {
			return
		}
		n := 0
		res, err := rt.RoundTrip(req)
		if err == nil {
			defer res.Body.Close() //nolint:errcheck // ends with the test
			for b := make([]byte, 1); time.Now().Before(until); n++ {
				if _, err := res.Body.Read(b); err != nil {
					n = -1
					break
				}
			}
		}
		streamed <- n
	}()
	var wg sync.WaitGroup
	for range callers {
		wg.Go(func() {
			for time.Now().Before(until) {
				if status, body, err := get(t.Context(), rt, "guard"); err != nil || status != http.StatusOK || body != "ok" {
					t.Errorf("call %d: %d %q %v", calls.Load(), status, body, err)
					return
				}
				calls.Add(1)
				<-time.After(5 * time.Millisecond)
			}
		})
	}
	<-time.After(renewals * life / 4)
	if err := b.Rotate(); err != nil {
		t.Error(err)
	}
	wg.Wait()
	if n := <-streamed; n < 100 {
		t.Errorf("the stream gave %d bytes (-1: it broke)", n)
	}
	n := 0
	serials.Range(func(any, any) bool { n++; return true })
	if n < renewals-2 {
		t.Errorf("%d certificates were seen, of %d", n, renewals)
	}
	t.Logf("%d calls over %d certificates", calls.Load(), n)
}

func TestAnExpiredCallerIsRefused(t *testing.T) {
	a := authority(t)
	address := hosted(t, identity(t, a, "guard", time.Hour), says("internal"), says("public"))
	rt := dial(t, identity(t, a, "chat", 1500*time.Millisecond), "guard", rpc.KindInternal, address)
	if status, _, err := get(t.Context(), rt, "guard"); err != nil || status != http.StatusOK {
		t.Fatalf("%d %v", status, err)
	}
	<-time.After(2 * time.Second) // the certificate's life is what is tested
	if status, body, err := get(t.Context(), rt, "guard"); err == nil && status == http.StatusOK {
		t.Errorf("a caller whose certificate is over gets %q", body)
	}
}

func TestIdentityFiles(t *testing.T) {
	a := authority(t)
	dir := t.TempDir()
	open := func() error {
		i, err := rpc.OpenIdentity(t.Context(), dir, "chat", domain, silent)
		if err == nil {
			_ = i.Close()
		}
		return err
	}
	if err := open(); err == nil || !strings.Contains(err.Error(), dir) {
		t.Errorf("without files: %v", err)
	}
	for _, s := range []string{"chat", "user"} {
		if err := a.Issue(dir, s, time.Hour); err != nil {
			t.Fatal(err)
		}
	}
	if err := open(); err != nil {
		t.Fatal(err)
	}
	key := filepath.Join(dir, "chat", "svid.key")
	if err := os.Chmod(key, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := open(); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("a key that others may read: %v", err)
	}
	if err := os.Chmod(key, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, f := range []string{"svid.pem", "svid.key"} { // another service's
		b, err := os.ReadFile(filepath.Join(dir, "user", f))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "chat", f), b, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := open(); err == nil {
			t.Errorf("with another service's %s it opens", f)
		}
	}
	if _, err := rpc.OpenIdentity(t.Context(), dir, "user", "other.example", silent); err == nil {
		t.Error("another trust domain's certificate was taken")
	}
}

func TestAServiceThatIsAwayIsAFault(t *testing.T) {
	a := authority(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	_ = l.Close()
	rt := dial(t, identity(t, a, "chat", time.Hour), "guard", rpc.KindInternal, address)
	if _, _, err := get(t.Context(), rt, "guard"); fault.KindOf(err) != fault.Unavailable || fault.From(err).Code != "service_away" {
		t.Errorf("nobody is there: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := get(ctx, rt, "guard"); !errors.Is(err, context.Canceled) {
		t.Errorf("the caller gave up: %v", err)
	}
}

func FuzzPeer(f *testing.F) {
	f.Add("/service/chat")
	f.Add("/service/chat/x")
	f.Add("/service/")
	f.Add("/servicE/chat")
	f.Fuzz(func(t *testing.T, path string) {
		name := rpc.PeerOfPath(domain, path)
		if name != "" && path != "/service/"+name {
			t.Errorf("%q is taken for %q", path, name)
		}
		if strings.ContainsAny(name, "/. ") {
			t.Errorf("%q gives %q", path, name)
		}
	})
}

// TestWhatAStoppingServerCutsShortIsTriedAgain: it was neither canceled by who asked nor broken.
func TestWhatAStoppingServerCutsShortIsTriedAgain(t *testing.T) {
	a := authority(t)
	inHand := make(chan struct{})
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		close(inHand)
		<-r.Context().Done()
		rpc.Problem(w, r, r.Context().Err())
	})
	m, err := rpc.NewMesh(domain, silent)
	if err != nil {
		t.Fatal(err)
	}
	m.Add(identity(t, a, "guard", time.Hour), rpc.KindInternal, []string{"chat"}, h)
	if err := m.Listen(t.Context(), "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	f := dial(t, identity(t, a, "chat", time.Hour), "guard", rpc.KindInternal, m.Address())
	closed := make(chan error, 1)
	go func() {
		<-inHand
		closed <- m.Close(context.WithoutCancel(t.Context()))
	}()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://guard/", nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := f.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close() //nolint:errcheck // read whole
	b, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusServiceUnavailable || res.Header.Get("Retry-After") != "1" || !strings.Contains(string(b), "stopping") {
		t.Errorf("%d, Retry-After %q: %s %v", res.StatusCode, res.Header.Get("Retry-After"), b, err)
	}
	if err := <-closed; err != nil {
		t.Error(err)
	}
}

func TestEnded(t *testing.T) {
	stopping, stop := context.WithCancelCause(t.Context())
	stop(rpc.Stopping())
	left, leave := context.WithCancel(t.Context())
	leave()
	broken, missing := errors.New("broken pipe"), fault.NotFound("key", "k")
	for _, c := range []struct {
		name string
		ctx  context.Context
		err  error
		want fault.Kind
	}{
		{"a server that stops", stopping, context.Canceled, fault.Unavailable},
		{"what breaks because it stops", stopping, broken, fault.Unavailable},
		{"an answer that was ready stays", stopping, missing, fault.Missing},
		{"a client that left", left, fault.New(fault.Canceled, "canceled", "left"), fault.Canceled},
		{"nothing ended", t.Context(), broken, fault.Internal},
	} {
		if got := fault.KindOf(rpc.Ended(c.ctx, c.err)); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
	if err := rpc.Ended(stopping, nil); err != nil {
		t.Errorf("no error became %v", err)
	}
}
