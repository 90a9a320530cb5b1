package saga_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"aran/platform/saga"
	"aran/platform/store"
	"aran/platform/store/pgtest"
)

func TestOnPostgreSQL(t *testing.T) {
	server := pgtest.Start(t)
	for name, check := range map[string]func(*testing.T, string){
		"steps run once, in order":                           stepsRunOnceInOrder,
		"a step reads as the database does":                  stepReadsAsTheDatabase,
		"compensation":                                       compensation,
		"a part that is away is tried again":                 aPartThatIsAwayIsTriedAgain,
		"a stop is no failure":                               aStopIsNoFailure,
		"killed":                                             func(t *testing.T, url string) { killed(t, t.TempDir(), url) },
		"a dead replica's runs go on elsewhere":              adopted,
		"a replica that hung and wakes up cannot commit":     fenced,
		"a clean stop hands over at once":                    handedOver,
		"a process that restarts goes on at once":            succeeded,
		"an upgrade finishes what was pending":               upgraded,
		"a roll-back leaves what it does not know to others": rolledBack,
		"the same run started by two replicas is one":        startedTwice,
	} {
		t.Run(name, func(t *testing.T) { check(t, server.Database()) })
	}
}

// gated is a saga that waits between two effects until it is let through.
func gated(e *saga.Engine, inside chan<- string, gate <-chan struct{}) *saga.Saga[string] {
	return saga.Define(e, "gated", func(r *saga.Run, _ string) error {
		if err := effect(r, "a"); err != nil {
			return err
		}
		_, err := saga.Do(r, "wait", func(ctx context.Context) (int, error) {
			select {
			case inside <- r.ID: // a run may come here again, when nobody listens any more
			default:
			}
			select {
			case <-gate:
				return 1, nil
			case <-ctx.Done():
				return 0, ctx.Err()
			}
		})
		return errors.Join(err, effect(r, "b"))
	})
}

func open2(t *testing.T, url string) (*store.DB, *saga.Engine) {
	t.Helper()
	db, e := open(t, url)
	saga.Hurry(e)
	return db, e
}

func launch(t *testing.T, e *saga.Engine) {
	t.Helper()
	if err := e.Launch(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func passed() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}

// adopted: the one that dies is only silent here, and its steps never return; TestKilled has the real thing.
func adopted(t *testing.T, url string) {
	_, dead := open2(t, url)
	inside := make(chan string, 8)
	s := gated(dead, inside, make(chan struct{}))
	launch(t, dead)
	db, other := open2(t, url)
	defer stop(t, db, other)
	gated(other, nil, passed())
	launch(t, other)
	for i := range 5 {
		if err := s.Start(t.Context(), fmt.Sprint("r", i), ""); err != nil {
			t.Fatal(err)
		}
		<-inside
	}
	saga.Silence(dead)
	for i := range 5 {
		await(t, other, fmt.Sprint("r", i), saga.Done)
		if got := effects(t, db, fmt.Sprint("r", i)); got != "a b" {
			t.Errorf("effects %q", got)
		}
	}
}

func fenced(t *testing.T, url string) {
	hungDB, hung := open2(t, url)
	inside, gate := make(chan string, 1), make(chan struct{})
	s := gated(hung, inside, gate)
	launch(t, hung)
	defer stop(t, hungDB, hung)
	db, other := open2(t, url)
	defer stop(t, db, other)
	gated(other, nil, passed())
	launch(t, other)
	if err := s.Start(t.Context(), "r", ""); err != nil {
		t.Fatal(err)
	}
	<-inside
	saga.Silence(hung)
	await(t, other, "r", saga.Done)
	close(gate) // and now the first one goes on
	saga.AwaitQuiet(t.Context(), hung)
	if got := effects(t, db, "r"); got != "a b" {
		t.Errorf("effects %q: the fenced replica committed", got)
	}
	if state, err := other.Status(t.Context(), "r"); err != nil || state != saga.Done {
		t.Errorf("the run is %q, %v", state, err)
	}
}

func handedOver(t *testing.T, url string) {
	db1, leaving := open(t, url) // with the real pauses: its row goes at once all the same
	inside := make(chan string, 1)
	s := saga.Define(leaving, "gated", func(r *saga.Run, _ string) error {
		if err := effect(r, "a"); err != nil {
			return err
		}
		_, err := saga.Do(r, "wait", func(ctx context.Context) (int, error) {
			inside <- r.ID
			<-ctx.Done()
			return 0, ctx.Err()
		})
		return errors.Join(err, effect(r, "b"))
	})
	launch(t, leaving)
	db, other := open(t, url)
	defer stop(t, db, other)
	gated(other, nil, passed())
	launch(t, other)
	if err := s.Start(t.Context(), "r", ""); err != nil {
		t.Fatal(err)
	}
	<-inside
	stop(t, db1, leaving)
	await(t, other, "r", saga.Done)
	if got := effects(t, db, "r"); got != "a b" {
		t.Errorf("effects %q", got)
	}
}

// succeeded: the first process ends without a word, and the next one on its directory does not wait for its heartbeat to lapse.
func succeeded(t *testing.T, url string) {
	dir := t.TempDir()
	_, dead := open(t, url) // with the real pauses
	inside := make(chan string, 1)
	s := gated(dead, inside, make(chan struct{}))
	if err := dead.Succeed(dir); err != nil {
		t.Fatal(err)
	}
	launch(t, dead)
	if err := s.Start(t.Context(), "r", ""); err != nil {
		t.Fatal(err)
	}
	<-inside
	saga.Silence(dead)
	db, next := open(t, url)
	defer stop(t, db, next)
	gated(next, nil, passed())
	if err := next.Succeed(dir); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	launch(t, next)
	await(t, next, "r", saga.Done)
	if got := effects(t, db, "r"); got != "a b" {
		t.Errorf("effects %q", got)
	}
	if took := time.Since(begin); took > saga.DeadAfter {
		t.Errorf("it took %s: as long as for a stranger's runs", took)
	}
}

// upgraded: 100 runs of the former definitions are pending when the new program starts, which has changed a step and
// keeps the former definition for them.
func upgraded(t *testing.T, at string) {
	const pending = 100
	db, old := open2(t, at)
	inside := make(chan string, pending)
	s := gated(old, inside, make(chan struct{}))
	launch(t, old)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for i := range pending {
		wg.Go(func() { _ = s.Start(ctx, fmt.Sprint("r", i), "") }) // those beyond the queue wait until they are cancelled
	}
	for range 8 { // as many as work at once
		<-inside
	}
	if db.Shared() {
		saga.Silence(old) // it hangs, and is never heard of again
	} else {
		stop(t, db, old) // a file has one process at a time
	}
	db, e := openVersion(t, at, "2", "1")
	saga.Hurry(e)
	defer stop(t, db, e)
	former := gated(e, nil, passed())
	now := saga.Define(e, "gated-2", func(r *saga.Run, _ string) error { return errors.Join(effect(r, "new"), effect(r, "b")) })
	launch(t, e)
	cancel()
	wg.Wait()
	for i := range pending { // what the old one could not take is asked for again, as services do
		if err := former.Start(t.Context(), fmt.Sprint("r", i), ""); err != nil {
			t.Fatal(err)
		}
	}
	if err := now.Start(t.Context(), "n", ""); err != nil {
		t.Fatal(err)
	}
	for i := range pending {
		await(t, e, fmt.Sprint("r", i), saga.Done)
		if got := effects(t, db, fmt.Sprint("r", i)); got != "a b" {
			t.Errorf("run %d: effects %q", i, got)
		}
	}
	await(t, e, "n", saga.Done)
	if got := effects(t, db, "n"); got != "new b" {
		t.Errorf("a run of now has effects %q", got)
	}
	var total, distinct int
	if err := db.QueryRow(t.Context(), `SELECT COUNT(*), COUNT(DISTINCT run || name) FROM probe_effect`).Scan(&total, &distinct); err != nil || total != 2*pending+2 || distinct != total {
		t.Errorf("%d effects, %d of them different, %v; want %d", total, distinct, err, 2*pending+2)
	}
}

func TestAnUpgradeFinishesWhatWasPending(t *testing.T) {
	upgraded(t, filepath.Join(t.TempDir(), "probe.db"))
}

func rolledBack(t *testing.T, url string) {
	_, newer := openVersion(t, url, "2", "1")
	saga.Hurry(newer)
	inside := make(chan string, 1)
	s := gated(newer, inside, make(chan struct{}))
	launch(t, newer)
	if err := s.Start(t.Context(), "r", ""); err != nil {
		t.Fatal(err)
	}
	<-inside
	saga.Silence(newer)
	db, older := open2(t, url)
	gated(older, nil, passed())
	launch(t, older)
	<-time.After(1500 * time.Millisecond) // longer than it takes to be taken for dead
	if got := effects(t, db, "r"); got != "a" {
		t.Errorf("effects %q: the older program ran what it does not know", got)
	}
	stop(t, db, older)
	db, e := openVersion(t, url, "2", "1")
	saga.Hurry(e)
	defer stop(t, db, e)
	gated(e, nil, passed())
	launch(t, e)
	await(t, e, "r", saga.Done)
}

func startedTwice(t *testing.T, url string) {
	db1, one := open2(t, url)
	defer stop(t, db1, one)
	db2, two := open2(t, url)
	defer stop(t, db2, two)
	a, b := gated(one, nil, passed()), gated(two, nil, passed())
	launch(t, one)
	launch(t, two)
	var wg sync.WaitGroup
	for i := range 20 {
		for _, s := range []*saga.Saga[string]{a, b} {
			wg.Go(func() {
				if err := s.Start(t.Context(), fmt.Sprint("r", i), ""); err != nil {
					t.Error(err)
				}
			})
		}
	}
	wg.Wait()
	for i := range 20 {
		await(t, one, fmt.Sprint("r", i), saga.Done)
		if got := effects(t, db1, fmt.Sprint("r", i)); got != "a b" {
			t.Errorf("effects %q", got)
		}
	}
}
