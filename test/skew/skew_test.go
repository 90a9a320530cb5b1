// Package skew_test runs the services of two releases together: each service in turn from the previous release among
// current ones, and the reverse. That is what every rolling upgrade, and every roll-back, goes through.
package skew_test

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"aran/app"
	"aran/test/harness"
	"aran/test/walk"
)

const (
	readyWithin   = 60 * time.Second
	settledWithin = 30 * time.Second
)

// TestSkew: whichever service is of the other release, a user's way through the platform is the same.
func TestSkew(t *testing.T) {
	previous := os.Getenv("ARAN_TEST_PREVIOUS_BINARY") //nolint:forbidigo // from the suite's run script
	if previous == "" {
		t.Skip("needs the previous release: run it with `make skew`")
	}
	current := filepath.Join(harness.Root(), "bin", "aran")
	services, err := app.Known(strings.Fields(os.Getenv("ARAN_TEST_SKEW_SERVICES"))) //nolint:forbidigo // from the suite's run script
	if err != nil {
		t.Fatal(err)
	}
	t.Run("the previous release among current services", func(t *testing.T) { turns(t, services, current, previous) })
	t.Run("the current release among previous services", func(t *testing.T) { turns(t, services, previous, current) })
}

// turns starts all services from one program and has each in turn run from the other, and back. Databases are made by the first, so
// that one of the two subtests migrates them forward and the other one finds migrations that it does not know.
func turns(t *testing.T, services []string, all, one string) {
	p := harness.ApartOf(t, all, walk.Env()...)
	walk.Whole(t, &p.Client, "start")
	for i, service := range services {
		t.Run(service, func(t *testing.T) {
			l := start(t, p, service)
			roll(t, p, service, one)
			settled(t, p)
			walk.Whole(t, &p.Client, "turn"+strconv.Itoa(i))
			roll(t, p, service, all)
			l.end(t)
		})
	}
	settled(t, p)
	walk.Whole(t, &p.Client, "end")
}

// roll ends a service in order and starts it from a program, on the same addresses and databases.
func roll(t *testing.T, p *harness.Platform, service, binary string) {
	t.Helper()
	s := p.Of(service)
	pid := s.Pid()
	if took, err := s.Stop(); err != nil {
		t.Fatalf("stop of %s after %s: %v\n%s", service, took, err, s.Output())
	}
	s.With(binary)
	s.Again()
	if err := s.Ready(readyWithin); err != nil {
		t.Fatalf("%s from %s: %v\n%s", service, binary, err, s.Output())
	}
	exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", s.Pid()))
	if want, _ := filepath.EvalSymlinks(binary); err != nil || exe != want || s.Pid() == pid {
		t.Fatalf("%s runs %s, not %s: %v", service, exe, want, err)
	}
}

// load is a light and constant one. Whatever is rolled, each request is answered: well, or with a 503 that says when to come
// back. Only while the gateway itself is rolled there may be nobody who answers.
type load struct {
	p       *harness.Platform
	rolled  string
	end     func(t *testing.T)
	mu      sync.Mutex
	bad     []string
	well    map[string]int
	away    int // 503 with Retry-After
	nobody  int // no answer at all
	longest time.Duration
}

const (
	every   = 25 * time.Millisecond
	timeout = 20 * time.Second
	maxBad  = 5 // answers that are shown
)

func start(t *testing.T, p *harness.Platform, service string) *load {
	t.Helper()
	l := &load{p: p, rolled: service, well: map[string]int{}}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan struct{})
	go func() {
		defer close(done)
		l.run(ctx)
	}()
	t.Cleanup(func() { cancel(); <-done })
	l.end = func(t *testing.T) {
		t.Helper()
		cancel()
		<-done
		l.report(t)
	}
	return l
}

func (l *load) run(ctx context.Context) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for i := 0; ; i++ {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		probes := walk.Probes()
		l.one(ctx, probes[i%len(probes)])
	}
}

func (l *load) one(ctx context.Context, p walk.Probe) {
	began := time.Now()
	call, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	a, err := p.Send(call, &l.p.Client)
	if ctx.Err() != nil {
		return // the test ended it
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.longest = max(l.longest, time.Since(began))
	switch {
	case err != nil && l.rolled == "gateway":
		l.nobody++
	case err != nil:
		l.bad = append(l.bad, fmt.Sprintf("%s: no answer: %v", p.Name, err))
	case a.Status == http.StatusServiceUnavailable && wait(a) > 0:
		l.away++
	case a.Status == http.StatusOK || p.Well(a):
		l.well[p.Name]++
	default:
		l.bad = append(l.bad, fmt.Sprintf("%s: %d, Retry-After %q: %.300s", p.Name, a.Status, a.Header.Get("Retry-After"), a.Body))
	}
}

// wait is how many seconds an answer asks for; 0 when it does not say.
func wait(a harness.Answer) int {
	n, err := strconv.Atoi(a.Header.Get("Retry-After"))
	if err != nil {
		return 0
	}
	return n
}

// settled waits until nobody takes a service to be away any more, the one of this turn or of the one before.
func settled(t *testing.T, p *harness.Platform) {
	t.Helper()
	last := ""
	defer func() {
		if t.Failed() {
			t.Logf("not settled: %.600s", last)
		}
	}()
	harness.Eventually(t, settledWithin, "every service is well again", func() bool {
		last = walk.Settled(t.Context(), &p.Client)
		return last == ""
	})
}

func (l *load) report(t *testing.T) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	var total int
	for _, p := range walk.Probes() {
		total += l.well[p.Name]
		if l.well[p.Name] == 0 {
			t.Errorf("while %s was rolled, nobody got an answer to: %s", l.rolled, p.Name)
		}
	}
	for _, b := range l.bad[:min(len(l.bad), maxBad)] {
		t.Errorf("while %s was rolled: %s", l.rolled, b)
	}
	if len(l.bad) > maxBad {
		t.Errorf("and %d more", len(l.bad)-maxBad)
	}
	t.Logf("%d answered, %d asked to come back, %d found nobody, the longest took %s", total, l.away, l.nobody, l.longest.Round(time.Millisecond))
}

// TestEveryServiceIsProbed: a service that no probe needs would be rolled unwatched.
func TestEveryServiceIsProbed(t *testing.T) {
	var needed []string
	for _, p := range walk.Probes() {
		needed = append(needed, p.Services...)
	}
	for _, s := range app.Names() {
		if s != "gateway" && !slices.Contains(needed, s) {
			t.Errorf("no probe needs %s", s)
		}
	}
}
