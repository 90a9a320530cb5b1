// Package rpctest helps to test services from outside their chain of checks, and holds the suite that
// every transport passes.
package rpctest

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"aran/platform/auth"
	"aran/platform/rpc"
)

// Authority stands in for the identity authority: it signs whatever a test asks for, with a real key.
type Authority struct {
	tb     testing.TB
	issuer *auth.Issuer
}

// NewAuthority makes one with a key of its own.
func NewAuthority(tb testing.TB) *Authority {
	tb.Helper()
	i, err := auth.NewIssuer("aran", []auth.SigningKey{{ID: "test", Private: bytes.Repeat([]byte{7}, 32), Created: time.Now()}})
	if err != nil {
		tb.Fatal(err)
	}
	return &Authority{tb, i}
}

// Server is the chain of a service that trusts this authority and may be called by callers.
func (a *Authority) Server(service string, callers ...string) rpc.Server {
	return rpc.Server{
		Service: service, Callers: callers, Log: slog.New(slog.DiscardHandler),
		Verifier: auth.NewVerifier(service, func(context.Context) ([]byte, error) { return a.issuer.JWKS() }),
	}
}

// Token signs an identity for an audience, to be presented by a caller.
func (a *Authority) Token(id auth.Identity, audience, caller string) string {
	id.Audience, id.Caller = audience, caller
	t, err := a.issuer.Mint(id, time.Minute)
	if err != nil {
		a.tb.Fatal(err)
	}
	return t
}

// Source signs what ctx's identity (auth.With) or grant asks for, on behalf of a calling service.
func (a *Authority) Source(caller string, id auth.Identity) auth.Source { return source{a, caller, id} }

type source struct {
	a      *Authority
	caller string
	id     auth.Identity
}

func (s source) Token(_ context.Context, audience string) (string, error) {
	return s.a.Token(s.id, audience, s.caller), nil
}

// Answer is a response read whole.
type Answer struct {
	Status int
	Header http.Header
	Body   []byte
}

// JSON decodes the body.
func (r Answer) JSON(tb testing.TB, into any) {
	tb.Helper()
	if err := json.Unmarshal(r.Body, into); err != nil {
		tb.Fatalf("answer %d %.300s: %v", r.Status, r.Body, err)
	}
}

// Gateway calls a public handler of a service as the gateway would, as id (nil: nobody). A string body goes as it is, anything else as JSON.
func (a *Authority) Gateway(p *rpc.Public, service string, id *auth.Identity, method, path string, body any, header ...string) Answer {
	a.tb.Helper()
	var r io.Reader
	switch b := body.(type) {
	case nil:
	case string:
		r = bytes.NewReader([]byte(b))
	default:
		j, err := json.Marshal(b)
		if err != nil {
			a.tb.Fatal(err)
		}
		r = bytes.NewReader(j)
	}
	req := httptest.NewRequestWithContext(a.tb.Context(), method, path, r)
	req = req.WithContext(rpc.WithPeer(req.Context(), rpc.Gateway))
	if r != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	req.Header.Set(rpc.RequestIDHeader, "test-request")
	if id != nil {
		req.Header.Set(rpc.IdentityHeader, a.Token(*id, service, rpc.Gateway))
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	p.ServeHTTP(w, req)
	return Answer{w.Code, w.Header(), w.Body.Bytes()}
}
