package rpc_test

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"

	auditv1 "aran/api/gen/aran/audit/v1"
	guardv1 "aran/api/gen/aran/guard/v1"
	inferv1 "aran/api/gen/aran/infer/v1"
	searchv1 "aran/api/gen/aran/search/v1"
	userv1 "aran/api/gen/aran/user/v1"
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

// TestRESTAndRPCGiveTheSameViolations holds what a REST handler answers to a message against what the chain before
// a method answers to the same.
func TestRESTAndRPCGiveTheSameViolations(t *testing.T) {
	badName := "Not A Name"
	for _, c := range []struct {
		name  string
		broke []fault.Field
		want  []string // paths
	}{
		{"embed: no texts", violations(t, &inferv1.EmbedRequest{Model: strings.Repeat("m", 101)}), []string{"model", "texts"}},
		{"embed: a long text", violations(t, &inferv1.EmbedRequest{Texts: []string{"fine", strings.Repeat("x", 100001)}}), []string{"texts[1]"}},
		{"generate: nested", violations(t, &inferv1.GenerateRequest{
			Model: "m", Messages: []*inferv1.Message{{Role: "user"}, {Role: "robot"}}, MaxTokens: -1, Temperature: new(3.0), TopP: new(0.0), Stop: []string{""},
		}), []string{"messages[1].role", "max_tokens", "temperature", "top_p", "stop[0]"}},
		{"retrieve: names, sizes and an enum", violations(t, &searchv1.RetrieveRequest{Collections: []string{"ok", badName}, Limit: 101, Mode: 99}), []string{"collections[1]", "query", "limit", "mode"}},
		{"collection: a name", violations(t, &searchv1.CreateCollectionRequest{Name: badName}), []string{"name"}},
		{"document: keys and values of a map", violations(t, &searchv1.PutDocumentRequest{
			Collection: "c", Text: "t", ContentType: "text/html", Access: []string{"everyone"}, Metadata: map[string]string{"": "v"},
		}), []string{"content_type", `metadata[""]`, "access[0]"}},
		{"scan: an origin that is not known", violations(t, &guardv1.ScanRequest{Texts: []string{"x"}, Origin: 99}), []string{"origin"}},
		{"output: a short mark", violations(t, &guardv1.CheckOutputRequest{Canaries: []string{"short"}}), []string{"canaries[0]"}},
		{"exchange: a choice that is not made", violations(t, &userv1.ExchangeRequest{Audience: "UPPER"}), []string{"from", "audience"}},
		{"page: a limit", violations(t, &auditv1.ListEventsRequest{Limit: 501}), []string{"limit"}},
	} {
		var got []string
		for _, f := range c.broke {
			got = append(got, f.Path)
			if f.Rule == "" || f.Message == "" {
				t.Errorf("%s: a violation says too little: %+v", c.name, f)
			}
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: broken are %q, want %q", c.name, got, c.want)
		}
	}
}

// violations sends a message both ways and returns what is wrong with it.
func violations[T any, M interface {
	*T
	proto.Message
}](t *testing.T, m M,
) []fault.Field {
	t.Helper()
	name := string(m.ProtoReflect().Descriptor().FullName())

	err := rpc.Validate(m)
	w := httptest.NewRecorder()
	rpc.Problem(w, httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", http.NoBody), err)
	var rest struct {
		Code   string        `json:"code"`
		Errors []fault.Field `json:"errors"`
	}
	if err := json.Unmarshal(w.Body.Bytes(), &rest); err != nil || w.Code != http.StatusBadRequest {
		t.Errorf("%s over REST: %d %s %v", name, w.Code, w.Body, err)
	}

	a := rpctest.NewAuthority(t)
	const procedure = "/test.v1.TestService/Take"
	h := connect.NewUnaryHandlerSimple(procedure, func(_ context.Context, _ *T) (*emptypb.Empty, error) {
		t.Errorf("%s reached the handler", name)
		return &emptypb.Empty{}, nil
	}, a.Server("test", "chat").HandlerOptions()...)
	src := a.Source("chat", auth.Identity{Tenant: "t1", Subject: "user:meena"})
	c := connect.NewClient[T, emptypb.Empty](&http.Client{Transport: rpc.InProcess("chat", h)}, "http://test"+procedure, rpc.ClientOptions("test", src)...)
	_, err = c.CallUnary(t.Context(), connect.NewRequest((*T)(m)))
	f := fault.From(err)
	if f == nil || f.Kind != fault.Invalid || f.Code != rest.Code || !slices.Equal(f.Fields, rest.Errors) {
		t.Errorf("%s: RPC says %#v, REST says %+v", name, f, rest)
	}
	return rest.Errors
}
