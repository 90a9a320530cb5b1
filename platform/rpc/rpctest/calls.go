package rpctest

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"

	inferv1 "aran/api/gen/aran/infer/v1"
	"aran/api/gen/aran/infer/v1/inferv1connect"
	"aran/platform/auth"
	"aran/platform/fault"
	"aran/platform/rpc"
)

// models is a service behind the whole chain; what a test leaves out is unimplemented.
type models struct {
	inferv1connect.UnimplementedInferServiceHandler
	embed    func(context.Context, *inferv1.EmbedRequest) error
	generate func(context.Context, *connect.ServerStream[inferv1.GenerateResponse]) error
}

func (m models) Embed(ctx context.Context, r *inferv1.EmbedRequest) (*inferv1.EmbedResponse, error) {
	return &inferv1.EmbedResponse{Model: auth.From(ctx).Subject}, m.embed(ctx, r)
}

func (m models) Generate(ctx context.Context, _ *inferv1.GenerateRequest, s *connect.ServerStream[inferv1.GenerateResponse]) error {
	return m.generate(ctx, s)
}

// call opens a transport from chat to a service and presents tokens that were made for a caller.
func call(t *testing.T, open Open, caller string, m models) inferv1connect.InferServiceClient {
	t.Helper()
	a := NewAuthority(t)
	mux := http.NewServeMux()
	mux.Handle(inferv1connect.NewInferServiceHandler(m, a.Server("infer", "chat").HandlerOptions()...))
	rt := open(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { // in the place of a certificate
		mux.ServeHTTP(w, r.WithContext(rpc.WithPeer(r.Context(), "chat")))
	}))
	src := a.Source(caller, auth.Identity{Tenant: "t1", Subject: "user:meena", Scopes: []string{auth.ScopeEmbed}})
	return inferv1connect.NewInferServiceClient(&http.Client{Transport: rt}, "http://infer", rpc.ClientOptions("infer", src)...)
}

func question() *inferv1.GenerateRequest {
	return &inferv1.GenerateRequest{Model: "m", Messages: []*inferv1.Message{{Role: "user", Content: "why"}}}
}

// full is a fault with all that one can carry.
func full() *fault.Error {
	f := fault.New(fault.Exhausted, "queue_full", "Too many are waiting for %q.", "m").After(1500 * time.Millisecond)
	f.Fields = []fault.Field{{Path: "messages[0].content", Rule: "queue.length", Message: "waits behind 64 others"}}
	return f.Because(errors.New("an inner secret"))
}

func sameFault(t *testing.T, err error) {
	t.Helper()
	got, want := fault.From(err), full()
	if got == nil || got.Kind != want.Kind || got.Code != want.Code || got.Detail != want.Detail || got.RetryAfter != want.RetryAfter || !slices.Equal(got.Fields, want.Fields) {
		t.Errorf("the fault arrives as %#v of %v", got, err)
	}
	if strings.Contains(fmt.Sprint(err), "secret") {
		t.Errorf("the cause travels: %v", err)
	}
}

func unaryFault(t *testing.T, open Open) {
	c := call(t, open, "chat", models{embed: func(_ context.Context, r *inferv1.EmbedRequest) error {
		if r.GetTexts()[0] == "too much" {
			return full()
		}
		return nil
	}})
	res, err := c.Embed(t.Context(), &inferv1.EmbedRequest{Texts: []string{"a"}})
	if err != nil || res.GetModel() != "user:meena" {
		t.Fatalf("the handler sees the identity of %q, %v", res.GetModel(), err)
	}
	_, err = c.Embed(t.Context(), &inferv1.EmbedRequest{Texts: []string{"too much"}})
	sameFault(t, err)
}

func strangersToken(t *testing.T, open Open) {
	c := call(t, open, "search", models{embed: func(context.Context, *inferv1.EmbedRequest) error {
		t.Error("the handler was reached with a token that was made for another caller")
		return nil
	}})
	_, err := c.Embed(t.Context(), &inferv1.EmbedRequest{Texts: []string{"a"}})
	if kind := fault.KindOf(err); kind != fault.Unauthenticated && kind != fault.Denied {
		t.Errorf("a token of another caller is answered with %v", err)
	}
}

func streamFault(t *testing.T, open Open) {
	c := call(t, open, "chat", models{generate: func(_ context.Context, s *connect.ServerStream[inferv1.GenerateResponse]) error {
		for _, text := range []string{"be", "cause"} {
			if err := s.Send(&inferv1.GenerateResponse{Text: text}); err != nil {
				return err
			}
		}
		return full()
	}})
	s, err := c.Generate(t.Context(), question())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	var text strings.Builder
	for s.Receive() {
		text.WriteString(s.Msg().GetText())
	}
	if text.String() != "because" {
		t.Errorf("before the fault came %q", text.String())
	}
	sameFault(t, s.Err())
}

func deadlineTravels(t *testing.T, open Open) {
	left := make(chan time.Duration, 1)
	c := call(t, open, "chat", models{embed: func(ctx context.Context, _ *inferv1.EmbedRequest) error {
		at, _ := ctx.Deadline()
		left <- time.Until(at)
		<-ctx.Done()
		return ctx.Err()
	}})
	ctx, cancel := context.WithTimeout(t.Context(), 250*time.Millisecond)
	defer cancel()
	_, err := c.Embed(ctx, &inferv1.EmbedRequest{Texts: []string{"a"}})
	if fault.KindOf(err) != fault.Deadline {
		t.Errorf("the caller gets %v, want a fault of its deadline", err)
	}
	if d := <-left; d <= 0 || d > 250*time.Millisecond {
		t.Errorf("the handler has %s left of 250ms", d)
	}
}

func streamLeft(t *testing.T, open Open) {
	ended := make(chan struct{})
	c := call(t, open, "chat", models{generate: func(ctx context.Context, s *connect.ServerStream[inferv1.GenerateResponse]) error {
		defer close(ended)
		for ctx.Err() == nil {
			if err := s.Send(&inferv1.GenerateResponse{Text: "and so on"}); err != nil {
				return err
			}
		}
		return ctx.Err()
	}})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	s, err := c.Generate(ctx, question())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	if !s.Receive() {
		t.Fatal(s.Err())
	}
	cancel()
	happens(t, ended, "the handler ends")
	for s.Receive() {
		continue
	}
	if fault.KindOf(s.Err()) != fault.Canceled {
		t.Errorf("the reader gets %v, want a fault of its own leaving", s.Err())
	}
}
