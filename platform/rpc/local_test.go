package rpc_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"aran/platform/rpc"
)

// A caller that gives up without closing the body must not hold the handler: shutting down waits for handlers.
func TestAHandlerIsLetGoWhenItsCallerGivesUp(t *testing.T) {
	started := make(chan struct{})
	l := rpc.InProcess("chat", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusOK)
		close(started)
		for {
			if _, err := io.WriteString(w, strings.Repeat("x", 1<<10)); err != nil {
				return
			}
		}
	}))
	ctx, cancel := context.WithCancel(t.Context())
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://infer/x", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	res, err := l.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	<-started
	cancel()
	wait, stop := context.WithTimeout(t.Context(), 5*time.Second)
	defer stop()
	if err := l.Wait(wait); err != nil {
		t.Fatalf("the handler is still there: %v", err)
	}
	if _, err := io.Copy(io.Discard, res.Body); !errors.Is(err, context.Canceled) {
		t.Errorf("reading on gives %v, want the caller's own cancellation", err)
	}
	_ = res.Body.Close()
}
