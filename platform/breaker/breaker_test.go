package breaker_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"aran/platform/breaker"
	"aran/platform/fault"
)

var errBroken = errors.New("broken pipe")

func call(t *testing.T, b *breaker.Breaker, with error) (ran bool, err error) {
	t.Helper()
	err = b.Do(t.Context(), func(context.Context) error { ran = true; return with })
	return ran, err
}

func newBreaker() *breaker.Breaker {
	return breaker.New("target", breaker.Config{Failures: 3, Of: 4, Delay: 10 * time.Second}, slog.New(slog.DiscardHandler))
}

func open(t *testing.T, b *breaker.Breaker) {
	t.Helper()
	for range 3 {
		if ran, err := call(t, b, errBroken); !ran || !errors.Is(err, errBroken) {
			t.Fatalf("a closed breaker: ran %v, error %v", ran, err)
		}
	}
	if b.State() != "open" {
		t.Fatalf("state after three failures: %s", b.State())
	}
}

func TestBreaker(t *testing.T) {
	t.Run("opens after enough failures, says when to come back, and closes after a good trial", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := newBreaker()
			open(t, b)
			time.Sleep(4 * time.Second) //nolint:forbidigo // synctest's clock
			ran, err := call(t, b, nil)
			f := fault.From(err)
			if ran || f == nil || f.Kind != fault.Unavailable || f.RetryAfter != 6*time.Second {
				t.Fatalf("an open breaker: ran %v, error %#v", ran, err)
			}
			time.Sleep(6 * time.Second) //nolint:forbidigo // synctest's clock
			if ran, err := call(t, b, nil); !ran || err != nil {
				t.Fatalf("the trial: ran %v, error %v", ran, err)
			}
			if b.State() != "closed" {
				t.Fatalf("state after a good trial: %s", b.State())
			}
		})
	})
	t.Run("one trial at a time, and a bad one opens again", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := newBreaker()
			open(t, b)
			time.Sleep(10 * time.Second) //nolint:forbidigo // synctest's clock
			done, err := b.Allow()
			if err != nil {
				t.Fatal(err)
			}
			if ran, err := call(t, b, nil); ran || fault.KindOf(err) != fault.Unavailable || fault.From(err).RetryAfter <= 0 {
				t.Fatalf("a second trial: ran %v, error %v", ran, err)
			}
			done(errBroken)
			done(nil) // only the first report counts
			if b.State() != "open" {
				t.Fatalf("state after a bad trial: %s", b.State())
			}
		})
	})
	t.Run("a cancelled trial proves nothing", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := newBreaker()
			open(t, b)
			time.Sleep(10 * time.Second) //nolint:forbidigo // synctest's clock
			if _, err := call(t, b, context.Canceled); !errors.Is(err, context.Canceled) {
				t.Fatal(err)
			}
			if b.State() != "open" {
				t.Fatalf("state after a cancelled trial: %s", b.State())
			}
			time.Sleep(10 * time.Second) //nolint:forbidigo // synctest's clock
			if ran, _ := call(t, b, nil); !ran {
				t.Fatal("there is no trial after a cancelled one")
			}
		})
	})
	t.Run("a slow call from before the opening does not close it", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := newBreaker()
			slow, err := b.Allow()
			if err != nil {
				t.Fatal(err)
			}
			open(t, b)
			time.Sleep(10 * time.Second) //nolint:forbidigo // synctest's clock
			trial, err := b.Allow()
			if err != nil {
				t.Fatal(err)
			}
			slow(nil)
			if b.State() != "half-open" {
				t.Fatalf("state after a stale success: %s", b.State())
			}
			trial(nil)
			if b.State() != "closed" {
				t.Fatalf("state after the trial: %s", b.State())
			}
		})
	})
	t.Run("a panic counts and goes on", func(t *testing.T) {
		b := newBreaker()
		for range 3 {
			func() {
				defer func() {
					if recover() == nil {
						t.Error("the panic was swallowed")
					}
				}()
				_ = b.Do(t.Context(), func(context.Context) error { panic("bug") })
			}()
		}
		if b.State() != "open" {
			t.Fatalf("state after three panics: %s", b.State())
		}
	})
}

func TestWhatCountsAsFailure(t *testing.T) {
	kind := func(k fault.Kind) error { return fault.New(k, "", "a fault") }
	for _, c := range []struct {
		name string
		err  error
		want string
	}{
		{"an unclassified error", errBroken, "open"},
		{"unavailable", fmt.Errorf("call: %w", kind(fault.Unavailable)), "open"},
		{"internal", kind(fault.Internal), "open"},
		{"deadline", kind(fault.Deadline), "open"},
		{"the context's own deadline", context.DeadlineExceeded, "open"},
		{"invalid", kind(fault.Invalid), "closed"},
		{"unauthenticated", kind(fault.Unauthenticated), "closed"},
		{"denied", kind(fault.Denied), "closed"},
		{"missing", kind(fault.Missing), "closed"},
		{"conflict", kind(fault.Conflict), "closed"},
		{"too large", kind(fault.TooLarge), "closed"},
		{"exhausted", kind(fault.Exhausted), "closed"},
		{"unsupported", kind(fault.Unsupported), "closed"},
		{"blocked", kind(fault.Blocked), "closed"},
		{"canceled", kind(fault.Canceled), "closed"},
		{"the context's own cancellation", context.Canceled, "closed"},
		{"success", nil, "closed"},
	} {
		b := newBreaker()
		for range 4 {
			_, _ = call(t, b, c.err)
		}
		if b.State() != c.want {
			t.Errorf("%s: state %s, want %s", c.name, b.State(), c.want)
		}
	}
}
