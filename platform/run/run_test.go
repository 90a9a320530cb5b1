package run_test

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"aran/platform/run"
)

func group() *run.Group {
	return run.New(slog.New(slog.DiscardHandler), time.Second, time.Second)
}

func TestOrder(t *testing.T) {
	var seen []string
	g := group()
	for _, n := range []string{"a", "b", "c"} {
		g.Add(run.Part{
			Name:  n,
			Start: func(context.Context) error { seen = append(seen, "+"+n); return nil },
			Stop:  func(context.Context) error { seen = append(seen, "-"+n); return nil },
		})
	}
	if err := g.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := g.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if want := []string{"+a", "+b", "+c", "-c", "-b", "-a"}; !slices.Equal(seen, want) {
		t.Errorf("order %v, want %v", seen, want)
	}
}

func TestFailedStartStopsTheEarlierParts(t *testing.T) {
	broken := errors.New("broken")
	stopped := 0
	g := group()
	g.Add(run.Part{Name: "first", Stop: func(context.Context) error { stopped++; return nil }})
	g.Add(run.Part{Name: "second", Start: func(context.Context) error { return broken }, Stop: func(context.Context) error { stopped += 10; return nil }})
	if err := g.Start(t.Context()); !errors.Is(err, broken) {
		t.Errorf("error %v, want %v", err, broken)
	}
	if stopped != 1 {
		t.Errorf("stopped %d, want the first part only", stopped)
	}
}

func TestStopLeavesAHangingPartBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		stopped := false
		g := group()
		g.Add(run.Part{Name: "first", Stop: func(context.Context) error { stopped = true; return nil }})
		g.Add(run.Part{Name: "hangs", Stop: func(context.Context) error { <-release; return nil }})
		if err := g.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := g.Stop(t.Context()); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error %v, want a deadline", err)
		}
		if !stopped {
			t.Error("the part before the hanging one was not stopped")
		}
		close(release)
	})
}

func TestWaitReturnsTheFirstFailure(t *testing.T) {
	broken := errors.New("broken")
	g := group()
	g.Fail("listener", broken)
	g.Fail("other", errors.New("later"))
	if err := g.Wait(t.Context()); !errors.Is(err, broken) {
		t.Errorf("error %v, want %v", err, broken)
	}
}
