package rpc_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"aran/platform/fault"
	"aran/platform/rpc"
	"aran/platform/rpc/rpctest"
)

func TestInProcess(t *testing.T) {
	rpctest.Run(t, func(t *testing.T, h http.Handler) http.RoundTripper {
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
func TestOverAConnection(t *testing.T) { rpctest.Run(t, overConnection) }

func overConnection(t *testing.T, h http.Handler) http.RoundTripper {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var plain http.Protocols
	plain.SetUnencryptedHTTP2(true)
	windows := &http.HTTP2Config{MaxReceiveBufferPerStream: 64 << 10, MaxReceiveBufferPerConnection: 256 << 20, MaxConcurrentStreams: 4000}
	server := &http.Server{Handler: h, Protocols: &plain, HTTP2: windows, ReadHeaderTimeout: time.Minute, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	}()
	client := &http.Transport{Protocols: &plain, HTTP2: windows}
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

// away is an identity service that cannot be reached.
type away struct{}

func (away) Token(context.Context, string) (string, error) {
	return "", fault.New(fault.Unavailable, "service_away", "The service user cannot be reached; try again.")
}

// TestAStreamThatCannotBeSigned ends with that fault at once, and sends nothing.
func TestAStreamThatCannotBeSigned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rt := roundTripper(func(*http.Request) (*http.Response, error) {
			t.Error("it was sent")
			return nil, io.EOF
		})
		c := connect.NewClient[wrapperspb.StringValue, wrapperspb.StringValue](&http.Client{Transport: rt}, "http://infer/words/tell", rpc.ClientOptions("infer", away{})...)
		ended := make(chan error, 1)
		go func() {
			_, err := c.CallServerStream(t.Context(), connect.NewRequest(wrapperspb.String("hello")))
			ended <- err
		}()
		select {
		case err := <-ended:
			if fault.KindOf(err) != fault.Unavailable {
				t.Errorf("it ends with %v", err)
			}
		case <-time.After(time.Minute):
			t.Error("it waits for an answer to what was not sent")
		}
	})
}
