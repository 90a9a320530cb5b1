package kill

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"aran/test/harness"
)

const (
	fewestPoints = 25
	randomKills  = 25
)

func binary(t *testing.T) string {
	t.Helper()
	b := os.Getenv("ARAN_TEST_FAULTS_BINARY") //nolint:forbidigo // from the suite's run script
	if b == "" {
		t.Skip("needs a binary with fault points: run it with `make kills`")
	}
	return b
}

// run does one life: start (until ready or dead), work, and reports whether the process died by itself.
func run(t *testing.T, o harness.Options, l *ledger) (died bool) {
	t.Helper()
	p := harness.Launch(t, o)
	if err := p.Ready(60 * time.Second); err != nil {
		select {
		case <-p.Ended():
			return true
		default:
			t.Fatal(err)
		}
	}
	err := l.work(t.Context(), siteOf(p))
	var gone goneError
	switch {
	case err == nil:
		// Whatever runs behind the answers may still reach the point.
		select {
		case <-p.Ended():
			return true
		case <-time.After(500 * time.Millisecond):
		}
		_, err := p.Stop()
		return err != nil
	case errors.As(err, &gone):
		select {
		case <-p.Ended():
			return true
		case <-time.After(5 * time.Second):
			t.Fatalf("the connection broke but the process lives: %v", err)
		}
	default:
		t.Fatal(err)
	}
	return false
}

// recover starts again without a fault and verifies.
func recovered(t *testing.T, o harness.Options, l *ledger) error {
	t.Helper()
	p := harness.Start(t, o)
	err := l.verify(t.Context(), siteOf(p))
	p.Kill()
	return err
}

// points does a round without a kill and returns how often each fault point was reached.
func points(t *testing.T, bin string) map[string]int {
	t.Helper()
	dir := t.TempDir()
	log := filepath.Join(dir, "points")
	o := harness.Options{Binary: bin, Data: filepath.Join(dir, "data"), Env: []string{"ARAN_FAULT_LOG=" + log}}
	l := newLedger()
	if run(t, o, l) {
		t.Fatal("it died without a reason")
	}
	o.Env = nil
	if err := recovered(t, o, l); err != nil {
		t.Fatalf("without any kill: %v", err)
	}
	b, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	reached := map[string]int{}
	for name := range strings.Lines(string(b)) {
		reached[strings.TrimSpace(name)]++
	}
	return reached
}

func TestKilledAtEveryFaultPoint(t *testing.T) {
	bin := binary(t)
	all := points(t, bin)
	names := slices.Sorted(maps.Keys(all))
	t.Logf("%d fault points: %s", len(all), strings.Join(names, " "))
	if len(all) < fewestPoints {
		t.Errorf("%d fault points were reached, want at least %d", len(all), fewestPoints)
	}
	for _, point := range names {
		t.Run(point, func(t *testing.T) { killedAt(t, bin, point, 1) })
		if n := all[point]; n > 2 { // the first time is often at the start: also amid the work
			t.Run(fmt.Sprintf("%s@%d", point, n/2+1), func(t *testing.T) { killedAt(t, bin, point, n/2+1) })
		}
	}
}

// killedAt kills when a point is reached for the n-th time.
func killedAt(t *testing.T, bin, point string, n int) {
	t.Helper()
	o := harness.Options{Binary: bin, Data: filepath.Join(t.TempDir(), "data"), Env: []string{fmt.Sprintf("ARAN_FAULT_KILL=%s@%d", point, n)}}
	l := newLedger()
	if !run(t, o, l) && n == 1 {
		t.Fatal("the point was not reached in this life") // how often varies from life to life, with what is done in one go
	}
	o.Env = nil
	if err := recovered(t, o, l); err != nil {
		t.Error(err)
	}
}

func TestKilledAtRandom(t *testing.T) {
	bin := binary(t)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	o := harness.Options{Binary: bin, Data: filepath.Join(t.TempDir(), "data")}
	l := newLedger()
	for i := range randomKills {
		p := harness.Start(t, o)
		timer := time.AfterFunc(time.Duration(random.IntN(900))*time.Millisecond, p.Kill)
		err := l.work(t.Context(), siteOf(p))
		var gone goneError
		if err != nil && !errors.As(err, &gone) {
			t.Fatalf("life %d: %v", i, err)
		}
		timer.Stop()
		p.Kill() // when the work was quicker
	}
	err := recovered(t, o, l)
	lost, twice := count(err)
	t.Logf("one process: %d random kills; acknowledged %s; lost %d, twice %d", randomKills, l, lost, twice)
	if err != nil {
		t.Error(err)
	}
}

// TestTheSuiteNotices takes a safety net out and expects that the same lives leave something lost or doubled.
func TestTheSuiteNotices(t *testing.T) {
	bin := binary(t)
	for _, c := range []struct{ net, points string }{
		{"ARAN_FAULT_INBOX=off", "bus.handled"},
		{"ARAN_FAULT_OUTBOX=off", "saga.step_committed"},
	} {
		t.Run(c.net, func(t *testing.T) {
			if noticed := lives(t, bin, c.net, c.points); noticed == nil {
				t.Error("without the safety net nothing was lost or doubled: the suite proves nothing")
			} else {
				t.Logf("noticed: %v", noticed)
			}
		})
	}
}

// lives kills at the n-th reaching of a point, for growing n, until the verification fails.
func lives(t *testing.T, bin, env, point string) error {
	t.Helper()
	for n := 1; n <= 24; n++ {
		o := harness.Options{Binary: bin, Data: filepath.Join(t.TempDir(), fmt.Sprint("data", n)), Env: []string{env, fmt.Sprintf("ARAN_FAULT_KILL=%s@%d", point, n)}}
		l := newLedger()
		if !run(t, o, l) {
			return nil // reached fewer times than n: all were tried
		}
		o.Env = []string{env}
		if err := recovered(t, o, l); err != nil {
			return err
		}
	}
	return nil
}

// TestTheShippedBinaryHasNoFaults looks for what only the build tag may bring.
func TestTheShippedBinaryHasNoFaults(t *testing.T) {
	shipped, err := os.ReadFile(filepath.Join(harness.Root(), "bin", "aran"))
	if err != nil {
		t.Skip("make build first")
	}
	faults, err := os.ReadFile(binary(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"ARAN_FAULT_KILL", "ARAN_FAULT_INBOX", "ARAN_FAULT_OUTBOX"} {
		if bytes.Contains(shipped, []byte(name)) {
			t.Errorf("bin/aran knows %s", name)
		}
		if !bytes.Contains(faults, []byte(name)) {
			t.Errorf("the binary of this suite does not know %s: the search above proves nothing", name)
		}
	}
}
