package saga_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/fstest"
	"time"

	"aran/platform/fault"
	"aran/platform/saga"
	"aran/platform/secret"
	"aran/platform/store"
)

func migrations() fstest.MapFS {
	return fstest.MapFS{"0001_start.sql": {Data: []byte(`
CREATE TABLE probe_effect (sequence {{serial}}, run TEXT NOT NULL, name TEXT NOT NULL);
CREATE TABLE probe_entry (sequence {{serial}}, event TEXT NOT NULL);`)}}
}

const (
	addEffect = `INSERT INTO probe_effect (run, name) VALUES ($1, $2)`
	addEntry  = `INSERT INTO probe_entry (event) VALUES ($1)`
)

// open opens an engine in a file, or in the database of a postgres:// URL.
func open(t *testing.T, at string) (*store.DB, *saga.Engine) {
	t.Helper()
	return openVersion(t, at, "1")
}

func openVersion(t *testing.T, at, version string, previous ...string) (*store.DB, *saga.Engine) {
	t.Helper()
	o := store.Options{Service: "probe", Path: at, Migrations: migrations()}
	if strings.HasPrefix(at, "postgres:") {
		o.URL = secret.New(at)
	}
	db, err := store.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	e, err := saga.Open(t.Context(), db, "probe", version, slog.New(slog.DiscardHandler), previous...)
	if err != nil {
		t.Fatal(err)
	}
	return db, e
}

func stop(t *testing.T, db *store.DB, e *saga.Engine) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 5*time.Second)
	defer cancel()
	if err := errors.Join(e.Stop(ctx), db.Close()); err != nil {
		t.Error(err)
	}
}

func effect(r *saga.Run, name string) error {
	return r.Tx(name, func(ctx context.Context, tx *store.Tx) error {
		if _, err := tx.Exec(ctx, addEffect, r.ID, name); err != nil {
			return err
		}
		return tx.Emit(ctx, store.Event{Type: "aran.probe.done.v1", Subject: r.ID, Data: name})
	})
}

func effects(t *testing.T, db *store.DB, run string) string {
	t.Helper()
	rows, err := db.Query(t.Context(), `SELECT name FROM probe_effect WHERE run = $1 ORDER BY sequence`, run)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close() //nolint:errcheck // read only
	var out []string
	for rows.Next() {
		var n string
		if err := rows.Scan(&n); err != nil {
			t.Fatal(err)
		}
		out = append(out, n)
	}
	return strings.Join(out, " ")
}

func await(t *testing.T, e *saga.Engine, run string, want saga.State) {
	t.Helper()
	deadline := time.Now().Add(time.Minute) // for a busy machine
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		got, err := e.Status(t.Context(), run)
		if err == nil && got == want {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("run %s is %q (%v), want %q", run, got, err, want)
		}
		<-tick.C
	}
}

func TestStepReadsAsTheDatabase(t *testing.T) {
	stepReadsAsTheDatabase(t, filepath.Join(t.TempDir(), "probe.db"))
}

// One function reads rows inside of steps and outside: numbers as truth values, too.
func stepReadsAsTheDatabase(t *testing.T, at string) {
	db, e := open(t, at)
	defer stop(t, db, e)
	const one, many, none = `SELECT COUNT(*) FROM probe_effect WHERE run = $1`, `SELECT sequence, sequence, name FROM probe_effect ORDER BY sequence`, `SELECT MAX(sequence) FROM probe_effect WHERE run = $1`
	look := func(ctx context.Context, q store.Querier) error {
		var yes, no, null bool
		if err := errors.Join(q.QueryRow(ctx, one, "r").Scan(&yes), q.QueryRow(ctx, one, "another").Scan(&no)); err != nil {
			return err
		}
		rows, err := q.Query(ctx, many)
		if err != nil {
			return err
		}
		defer rows.Close() //nolint:errcheck // read only
		var again bool
		var sequence int64
		var name string
		for rows.Next() {
			if err := rows.Scan(&again, &sequence, &name); err != nil {
				return err
			}
		}
		if err := errors.Join(rows.Err(), rows.Close()); err != nil {
			return err
		}
		if !yes || no || !again || sequence != 1 || name != "a" {
			return fmt.Errorf("read %v, %v, %v, %d, %q", yes, no, again, sequence, name)
		}
		if err := q.QueryRow(ctx, none, "another").Scan(&null); err == nil {
			return errors.New("NULL was read as a truth value")
		}
		return nil
	}
	inside := make(chan error, 1)
	s := saga.Define(e, "look", func(r *saga.Run, _ string) error {
		if err := effect(r, "a"); err != nil {
			return err
		}
		return r.Tx("look", func(ctx context.Context, tx *store.Tx) error {
			select {
			case inside <- look(ctx, tx):
			default: // the step may run again
			}
			return nil
		})
	})
	launch(t, e)
	if err := s.Start(t.Context(), "r", ""); err != nil {
		t.Fatal(err)
	}
	await(t, e, "r", saga.Done)
	if err := <-inside; err != nil {
		t.Errorf("in a step: %v", err)
	}
	if err := look(t.Context(), db); err != nil {
		t.Errorf("outside: %v", err)
	}
}

func TestStepsRunOnceInOrder(t *testing.T) {
	stepsRunOnceInOrder(t, filepath.Join(t.TempDir(), "probe.db"))
}

func stepsRunOnceInOrder(t *testing.T, at string) {
	db, e := open(t, at)
	defer stop(t, db, e)
	s := saga.Define(e, "two", func(r *saga.Run, in string) error {
		n, err := saga.Do(r, "look", func(context.Context) (int, error) { return len(in), nil })
		if err != nil {
			return err
		}
		return errors.Join(effect(r, fmt.Sprint("a", n)), effect(r, "b"))
	})
	if err := e.Launch(t.Context()); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if err := s.Start(t.Context(), "r1", "four"); err != nil {
			t.Fatal(err)
		}
	}
	await(t, e, "r1", saga.Done)
	if got := effects(t, db, "r1"); got != "a4 b" {
		t.Errorf("effects %q", got)
	}
	if n, err := db.Unsent(t.Context()); err != nil || n != 2 {
		t.Errorf("%d events, %v", n, err)
	}
	if _, err := e.Status(t.Context(), "nothing"); fault.KindOf(err) != fault.Missing {
		t.Errorf("a run that is not there: %v", err)
	}
}

func TestCompensation(t *testing.T) {
	compensation(t, filepath.Join(t.TempDir(), "probe.db"))
}

func compensation(t *testing.T, at string) {
	db, e := open(t, at)
	defer stop(t, db, e)
	undo := func(r *saga.Run, name string) {
		r.Undo(name, func(ctx context.Context, tx *store.Tx) error {
			_, err := tx.Exec(ctx, addEffect, r.ID, "undo-"+name)
			return err
		})
	}
	s := saga.Define(e, "breaks", func(r *saga.Run, how string) error {
		for _, n := range []string{"a", "b"} {
			if err := effect(r, n); err != nil {
				return err
			}
			undo(r, n)
		}
		if how == "panic" {
			panic("bug")
		}
		_, err := saga.Do(r, "refused", func(context.Context) (int, error) { return 0, fault.New(fault.Invalid, "no", "No.") })
		return err
	})
	if err := e.Launch(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, how := range []string{"fault", "panic"} {
		if err := s.Start(t.Context(), how, how); err != nil {
			t.Fatal(err)
		}
		await(t, e, how, saga.Undone)
		if got := effects(t, db, how); got != "a b undo-b undo-a" {
			t.Errorf("%s: effects %q", how, got)
		}
	}
}

func TestAPartThatIsAwayIsTriedAgain(t *testing.T) {
	aPartThatIsAwayIsTriedAgain(t, filepath.Join(t.TempDir(), "probe.db"))
}

func aPartThatIsAwayIsTriedAgain(t *testing.T, at string) {
	db, e := open(t, at)
	defer stop(t, db, e)
	var tries atomic.Int32
	s := saga.Define(e, "patient", func(r *saga.Run, _ string) error {
		_, err := saga.Do(r, "call", func(context.Context) (int, error) {
			if tries.Add(1) < 4 {
				return 0, fault.New(fault.Unavailable, "away", "Away.")
			}
			return 1, nil
		})
		return errors.Join(err, effect(r, "after"))
	})
	if err := e.Launch(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := s.Start(t.Context(), "p", ""); err != nil {
		t.Fatal(err)
	}
	await(t, e, "p", saga.Done)
	if tries.Load() != 4 {
		t.Errorf("%d tries", tries.Load())
	}
}

// A database that dies under a transactional step, and is back after many tries, is no failure of the step.
func TestADatabaseThatIsAwayIsTriedAgain(t *testing.T) {
	db, e := open(t, filepath.Join(t.TempDir(), "probe.db"))
	defer stop(t, db, e)
	tries := 0
	s := saga.Define(e, "patient", func(r *saga.Run, _ string) error {
		return r.Tx("a", func(ctx context.Context, tx *store.Tx) error {
			if _, err := tx.Exec(ctx, addEffect, r.ID, "a"); err != nil {
				return err
			}
			if tries++; tries < 7 {
				return fault.New(fault.Unavailable, "database_away", "The database cannot be reached; try again.")
			}
			return nil
		})
	})
	launch(t, e)
	if err := s.Start(t.Context(), "r", ""); err != nil {
		t.Fatal(err)
	}
	await(t, e, "r", saga.Done)
	if got := effects(t, db, "r"); got != "a" || tries != 7 {
		t.Errorf("effects %q after %d tries", got, tries)
	}
}

func TestAStopIsNoFailure(t *testing.T) {
	aStopIsNoFailure(t, filepath.Join(t.TempDir(), "probe.db"))
}

func aStopIsNoFailure(t *testing.T, path string) {
	define := func(e *saga.Engine, call func(ctx context.Context) (int, error)) *saga.Saga[string] {
		return saga.Define(e, "long", func(r *saga.Run, _ string) error {
			if err := effect(r, "first"); err != nil {
				return err
			}
			r.Undo("first", func(ctx context.Context, tx *store.Tx) error {
				_, err := tx.Exec(ctx, addEffect, r.ID, "undone")
				return err
			})
			if _, err := saga.Do(r, "call", call); err != nil {
				return err
			}
			return effect(r, "last")
		})
	}
	db, e := open(t, path)
	inside := make(chan struct{})
	s := define(e, func(ctx context.Context) (int, error) { close(inside); <-ctx.Done(); return 0, ctx.Err() })
	if err := e.Launch(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := s.Start(t.Context(), "l", ""); err != nil {
		t.Fatal(err)
	}
	<-inside
	stop(t, db, e)
	db, e = open(t, path)
	defer stop(t, db, e)
	define(e, func(context.Context) (int, error) { return 1, nil })
	if err := e.Launch(t.Context()); err != nil {
		t.Fatal(err)
	}
	await(t, e, "l", saga.Done)
	if got := effects(t, db, "l"); got != "first last" {
		t.Errorf("effects %q", got)
	}
}

const (
	childVariable = "ARAN_TEST_SAGA_CHILD"
	kills         = 10
	runsPerLife   = 12
)

// TestKilled is the question that the choice of engine hangs on: a saga's steps, its events, a consumer's inbox and the
// entries that it appends, under SIGKILL, each exactly once. The child relays its own outbox to a consumer in the same database.
func TestKilled(t *testing.T) {
	if dir := os.Getenv(childVariable); dir != "" { //nolint:forbidigo // from its parent, this test
		child(t, dir)
		return
	}
	dir := t.TempDir()
	killed(t, dir, filepath.Join(dir, "probe.db"))
}

func killed(t *testing.T, dir, at string) {
	for life := range kills {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run", "^TestKilled$")
		cmd.Env = append(os.Environ(), childVariable+"="+dir, "ARAN_TEST_SAGA_AT="+at, fmt.Sprint("ARAN_TEST_SAGA_LIFE=", life)) //nolint:forbidigo // from its parent, this test
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		after := time.Duration(150+life*40) * time.Millisecond // may be amid its start
		if life%2 == 0 {
			awaitFile(t, filepath.Join(dir, fmt.Sprint("works-", life)))
			after = time.Duration(life*20) * time.Millisecond
		}
		time.AfterFunc(after, func() { _ = cmd.Process.Kill() })
		_ = cmd.Wait()
	}
	acknowledged, err := os.ReadFile(filepath.Join(dir, "acknowledged"))
	if err != nil {
		t.Fatal(err)
	}
	runs := strings.Fields(string(acknowledged))
	db, e := open(t, at)
	saga.Hurry(e)
	defer stop(t, db, e)
	defineChild(e)
	if err := e.Launch(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, r := range runs {
		await(t, e, r, saga.Done)
		if got := effects(t, db, r); got != "a b c" {
			t.Errorf("run %s has effects %q", r, got)
		}
	}
	if err := relay(t.Context(), db); err != nil {
		t.Fatal(err)
	}
	var entries, distinct, total int
	if err := db.QueryRow(t.Context(), `SELECT COUNT(*), COUNT(DISTINCT event) FROM probe_entry`).Scan(&entries, &distinct); err != nil {
		t.Fatal(err)
	}
	if err := db.QueryRow(t.Context(), `SELECT COUNT(*) FROM probe_effect`).Scan(&total); err != nil {
		t.Fatal(err)
	}
	if entries != distinct || entries != total {
		t.Errorf("%d effects, %d entries of %d events: want one each", total, entries, distinct)
	}
	t.Logf("%d kills, %d runs acknowledged, %d effects, %d events, %d entries", kills, len(runs), total, distinct, entries)
	if len(runs) == 0 {
		t.Error("no life was long enough for a run")
	}
}

// awaitFile waits for what a child writes, however slow the machine is.
func awaitFile(t *testing.T, path string) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(time.Minute); ; <-tick.C {
		if _, err := os.Stat(path); err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s is not written", filepath.Base(path))
		}
	}
}

func defineChild(e *saga.Engine) *saga.Saga[string] {
	return saga.Define(e, "child", func(r *saga.Run, _ string) error {
		for _, n := range []string{"a", "b", "c"} {
			if err := effect(r, n); err != nil {
				return err
			}
		}
		return nil
	})
}

func child(t *testing.T, dir string) {
	db, e := open(t, os.Getenv("ARAN_TEST_SAGA_AT")) //nolint:forbidigo // from its parent, this test
	s := defineChild(e)
	if err := e.Launch(t.Context()); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(filepath.Join(dir, "acknowledged"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	for i := range runsPerLife {
		id := fmt.Sprint("run-", os.Getenv("ARAN_TEST_SAGA_LIFE"), "-", i) //nolint:forbidigo // from its parent, this test
		if err := s.Start(t.Context(), id, id); err != nil {
			t.Fatal(err)
		}
		if _, err := fmt.Fprintln(f, id); err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			if err := os.WriteFile(filepath.Join(dir, "works-"+os.Getenv("ARAN_TEST_SAGA_LIFE")), nil, 0o600); err != nil { //nolint:forbidigo // from its parent, this test
				t.Fatal(err)
			}
		}
		if err := relay(t.Context(), db); err != nil {
			t.Fatal(err)
		}
	}
	<-t.Context().Done() // until it is killed
}

// relay hands each waiting event to a consumer twice, as a bus may, and then marks it.
func relay(ctx context.Context, db *store.DB) error {
	for {
		pending, err := db.Pending(ctx, 100)
		if err != nil || len(pending) == 0 {
			return err
		}
		for _, p := range pending {
			for range 2 {
				err := db.Tx(ctx, func(tx *store.Tx) error {
					fresh, err := tx.Seen(ctx, "entries", p.ID)
					if err != nil || !fresh {
						return err
					}
					_, err = tx.Exec(ctx, addEntry, p.ID)
					return err
				})
				if err != nil {
					return err
				}
			}
			if err := db.MarkSent(ctx, []int64{p.Sequence}); err != nil {
				return err
			}
		}
	}
}
