package rpc_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"aran/platform/auth"
	"aran/platform/fault"
	"aran/platform/rpc"
	"aran/platform/rpc/rpctest"
)

func TestInProcess(t *testing.T) {
	rpctest.RunTransport(t, func(t *testing.T, h http.Handler) http.RoundTripper {
		l := rpc.InProcess("chat", h)
		t.Cleanup(func() {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 10*time.Second)
			defer cancel()
			if err := l.Wait(ctx); err != nil {
				t.Errorf("a handler is left behind: %v", err)
			}
		})
		return l
	})
}

// TestOverAConnection runs the same suite over HTTP/2 on loopback: what the in-process transport is measured by.
func TestOverAConnection(t *testing.T) { rpctest.RunTransport(t, overConnection) }

func overConnection(t *testing.T, h http.Handler) http.RoundTripper {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var plain http.Protocols
	plain.SetUnencryptedHTTP2(true)
	server := &http.Server{Handler: h, Protocols: &plain, ReadHeaderTimeout: time.Minute, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	}()
	client := &http.Transport{Protocols: &plain}
	t.Cleanup(func() {
		client.CloseIdleConnections()
		_ = server.Close()
		<-done
	})
	address := l.Addr().String()
	return roundTripper(func(r *http.Request) (*http.Response, error) {
		out := r.Clone(r.Context())
		out.URL.Host, out.Host = address, r.URL.Host
		return client.RoundTrip(out)
	})
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// TestFaultsAndDeadlinesTravel calls through the whole chain of client and server, both ways.
func TestFaultsAndDeadlinesTravel(t *testing.T) {
	a := rpctest.NewAuthority(t)
	own := a.Server("clock", "chat")
	const procedure = "/test.v1.ClockService/Wait"
	var deadline time.Duration
	handler := connect.NewUnaryHandlerSimple(procedure, func(ctx context.Context, d *durationpb.Duration) (*durationpb.Duration, error) {
		if at, ok := ctx.Deadline(); ok {
			deadline = time.Until(at)
		}
		if d.GetSeconds() == 404 {
			f := fault.New(fault.Missing, "no_such_clock", "There is no clock %q.", "x")
			f.Fields = []fault.Field{{Path: "clock", Rule: "known", Message: "is not known"}}
			return nil, f.After(3 * time.Second)
		}
		if auth.From(ctx).Subject != "user:meena" {
			t.Errorf("the handler sees %+v", auth.From(ctx))
		}
		return proto.CloneOf(d), nil
	}, own.HandlerOptions()...)
	peer := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { // over a connection, its certificate says who calls
		handler.ServeHTTP(w, r.WithContext(rpc.WithPeer(r.Context(), "chat")))
	})
	for name, rt := range map[string]http.RoundTripper{"in process": rpc.InProcess("chat", handler), "over a connection": overConnection(t, peer)} {
		t.Run(name, func(t *testing.T) {
			src := a.Source("chat", auth.Identity{Tenant: "t1", Subject: "user:meena", Scopes: []string{"chat:use"}})
			c := connect.NewClient[durationpb.Duration, durationpb.Duration](&http.Client{Transport: rt}, "http://clock"+procedure, rpc.ClientOptions("clock", src)...)
			ctx, cancel := context.WithTimeout(t.Context(), 40*time.Second)
			defer cancel()
			if _, err := c.CallUnary(ctx, connect.NewRequest(&durationpb.Duration{Seconds: 1})); err != nil {
				t.Fatal(err)
			}
			if deadline < 30*time.Second || deadline > 40*time.Second {
				t.Errorf("the handler has %s left of 40s", deadline)
			}
			_, err := c.CallUnary(ctx, connect.NewRequest(&durationpb.Duration{Seconds: 404}))
			f := fault.From(err)
			if f == nil || f.Kind != fault.Missing || f.Code != "no_such_clock" || f.Detail != `There is no clock "x".` || f.RetryAfter != 3*time.Second || fmt.Sprint(f.Fields) != "[{clock known is not known}]" {
				t.Errorf("the fault arrives as %#v", f)
			}
			stranger := connect.NewClient[durationpb.Duration, durationpb.Duration](&http.Client{Transport: rt}, "http://clock"+procedure, rpc.ClientOptions("clock", a.Source("search", auth.Identity{Tenant: "t1", Subject: "user:meena"}))...)
			if _, err := stranger.CallUnary(ctx, connect.NewRequest(&durationpb.Duration{})); !slices.Contains([]fault.Kind{fault.Unauthenticated, fault.Denied}, fault.KindOf(err)) {
				t.Errorf("a token of another caller is answered with %v", err)
			}
		})
	}
}
