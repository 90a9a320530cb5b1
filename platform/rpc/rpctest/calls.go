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
	"google.golang.org/protobuf/types/known/wrapperspb"

	"aran/platform/auth"
	"aran/platform/fault"
	"aran/platform/rpc"
)

// word is what is asked and answered: a message that belongs to no service.
type word = wrapperspb.StringValue

const (
	unaryProcedure  = "/test.v1.WordService/Say"
	streamProcedure = "/test.v1.WordService/Tell"
)

// words is a service behind the whole chain.
type words struct {
	say  func(ctx context.Context, asked string) error
	tell func(ctx context.Context, s *connect.ServerStream[word]) error
}

type client struct{ unary, stream *connect.Client[word, word] }

// Say answers with the subject that the handler saw.
func (c client) Say(ctx context.Context, asked string) (string, error) {
	res, err := c.unary.CallUnary(ctx, connect.NewRequest(wrapperspb.String(asked)))
	if err != nil {
		return "", err
	}
	return res.Msg.GetValue(), nil
}

func (c client) Tell(ctx context.Context) (*connect.ServerStreamForClient[word], error) {
	return c.stream.CallServerStream(ctx, connect.NewRequest(wrapperspb.String("why")))
}

// call opens a transport from chat to a service and presents tokens that were made for a caller.
func call(t *testing.T, open Open, caller string, s words) client {
	t.Helper()
	a := NewAuthority(t)
	own := a.Server("words", "chat").HandlerOptions()
	mux := http.NewServeMux()
	mux.Handle(unaryProcedure, connect.NewUnaryHandlerSimple(unaryProcedure, func(ctx context.Context, w *word) (*word, error) {
		return wrapperspb.String(auth.From(ctx).Subject), s.say(ctx, w.GetValue())
	}, own...))
	mux.Handle(streamProcedure, connect.NewServerStreamHandlerSimple(streamProcedure, func(ctx context.Context, _ *word, out *connect.ServerStream[word]) error {
		return s.tell(ctx, out)
	}, own...))
	rt := open(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { // in the place of a certificate
		mux.ServeHTTP(w, r.WithContext(rpc.WithPeer(r.Context(), "chat")))
	}))
	h, opts := &http.Client{Transport: rt}, rpc.ClientOptions("words", a.Source(caller, auth.Identity{Tenant: "t1", Subject: "user:meena", Scopes: []string{auth.ScopeEmbed}}))
	return client{connect.NewClient[word, word](h, "http://words"+unaryProcedure, opts...), connect.NewClient[word, word](h, "http://words"+streamProcedure, opts...)}
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
	c := call(t, open, "chat", words{say: func(_ context.Context, asked string) error {
		if asked == "too much" {
			return full()
		}
		return nil
	}})
	res, err := c.Say(t.Context(), "a")
	if err != nil || res != "user:meena" {
		t.Fatalf("the handler sees the identity of %q, %v", res, err)
	}
	_, err = c.Say(t.Context(), "too much")
	sameFault(t, err)
}

func strangersToken(t *testing.T, open Open) {
	c := call(t, open, "search", words{say: func(context.Context, string) error {
		t.Error("the handler was reached with a token that was made for another caller")
		return nil
	}})
	_, err := c.Say(t.Context(), "a")
	if kind := fault.KindOf(err); kind != fault.Unauthenticated && kind != fault.Denied {
		t.Errorf("a token of another caller is answered with %v", err)
	}
}

func streamFault(t *testing.T, open Open) {
	c := call(t, open, "chat", words{tell: func(_ context.Context, s *connect.ServerStream[word]) error {
		for _, text := range []string{"be", "cause"} {
			if err := s.Send(wrapperspb.String(text)); err != nil {
				return err
			}
		}
		return full()
	}})
	s, err := c.Tell(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	var text strings.Builder
	for s.Receive() {
		text.WriteString(s.Msg().GetValue())
	}
	if text.String() != "because" {
		t.Errorf("before the fault came %q", text.String())
	}
	sameFault(t, s.Err())
}

func deadlineTravels(t *testing.T, open Open) {
	left := make(chan time.Duration, 1)
	c := call(t, open, "chat", words{say: func(ctx context.Context, _ string) error {
		at, _ := ctx.Deadline()
		left <- time.Until(at)
		<-ctx.Done()
		return ctx.Err()
	}})
	ctx, cancel := context.WithTimeout(t.Context(), 250*time.Millisecond)
	defer cancel()
	_, err := c.Say(ctx, "a")
	if fault.KindOf(err) != fault.Deadline {
		t.Errorf("the caller gets %v, want a fault of its deadline", err)
	}
	if d := <-left; d <= 0 || d > 250*time.Millisecond {
		t.Errorf("the handler has %s left of 250ms", d)
	}
}

func streamLeft(t *testing.T, open Open) {
	ended := make(chan struct{})
	c := call(t, open, "chat", words{tell: func(ctx context.Context, s *connect.ServerStream[word]) error {
		defer close(ended)
		for ctx.Err() == nil {
			if err := s.Send(wrapperspb.String("and so on")); err != nil {
				return err
			}
		}
		return ctx.Err()
	}})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	s, err := c.Tell(ctx)
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
