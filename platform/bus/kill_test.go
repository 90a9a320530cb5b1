package bus_test

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"aran/platform/bus"
	"aran/platform/store"
)

var childDir = flag.String("child", "", "run as the child of the kill test, in this directory")

const perRound = 4000

// TestChild is the process that is killed: it emits numbered events, writes each number that was committed to a
// file, and consumes them. With -child it runs until the parent ends it; it is no test by itself.
func TestChild(t *testing.T) {
	if *childDir == "" {
		t.Skip("only with -child")
	}
	ctx := t.Context()
	db := openDB(t, *childDir, "shop")
	s := startServer(t, filepath.Join(*childDir, "bus"))
	c := connect(t, s, "shop")
	must(t, c.Relay(ctx, db, true))
	must(t, c.Subscribe(ctx, bus.Work{Name: "count", Types: []string{"aran.shop.>"}, DB: db, Handle: note, MaxDeliver: 50}))
	acked, err := os.OpenFile(filepath.Join(*childDir, "acked"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	must(t, err)
	round := time.Now().UnixNano()
	for i := range perRound {
		id := fmt.Sprintf("%d-%d", round, i)
		must(t, db.Tx(ctx, func(tx *store.Tx) error {
			return tx.Emit(ctx, store.Event{ID: id, Type: "aran.shop.sold.v1", Data: number{i}})
		}))
		_, err := fmt.Fprintln(acked, id)
		must(t, err)
	}
	<-ctx.Done()
}

// After kills at random moments, every committed event has had its effect exactly once.
func TestKill(t *testing.T) {
	if testing.Short() {
		t.Skip("starts processes")
	}
	dir := t.TempDir()
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 1))
	for round := range 5 {
		child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestChild$", "-child", dir)
		child.Stderr = os.Stderr
		must(t, child.Start())
		before := count(t, dir)
		until(t, "the child works", func() bool { return count(t, dir) > before+20 })
		<-time.After(time.Duration(r.IntN(300)) * time.Millisecond)
		must(t, child.Process.Kill())
		var exit *exec.ExitError
		if err := child.Wait(); !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
			t.Fatalf("round %d (seed %d): the child ended by itself: %v", round, seed, err)
		}
	}
	db := openDB(t, dir, "shop")
	s := startServer(t, filepath.Join(dir, "bus"))
	c := connect(t, s, "shop")
	must(t, c.Relay(t.Context(), db, true))
	must(t, c.Subscribe(t.Context(), bus.Work{Name: "count", Types: []string{"aran.shop.>"}, DB: db, Handle: note, MaxDeliver: 50}))
	drained(t, c)

	rows, err := db.Query(t.Context(), `SELECT event FROM shop_effect`)
	must(t, err)
	defer func() { must(t, rows.Close()) }()
	effects := map[string]int{}
	for rows.Next() {
		var id string
		must(t, rows.Scan(&id))
		if effects[id]++; effects[id] > 1 {
			t.Errorf("seed %d: event %s had its effect %d times", seed, id, effects[id])
		}
	}
	must(t, rows.Err())
	acked := lines(t, dir)
	for _, id := range acked {
		if effects[id] == 0 {
			t.Errorf("seed %d: event %s was committed and had no effect", seed, id)
		}
	}
	letters, err := c.DeadLetters(t.Context(), 0, 0)
	must(t, err)
	if len(letters) > 0 {
		t.Errorf("seed %d: dead letters %+v", seed, letters)
	}
	t.Logf("seed %d: %d events, 5 kills", seed, len(acked))
}

func lines(t *testing.T, dir string) []string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, "acked"))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	must(t, err)
	var out []string
	for sc := bufio.NewScanner(strings.NewReader(string(b))); sc.Scan(); {
		out = append(out, sc.Text())
	}
	if n := len(out); n > 0 && !strings.HasSuffix(string(b), "\n") {
		out = out[:n-1]
	}
	return out
}

func count(t *testing.T, dir string) int { t.Helper(); return len(lines(t, dir)) }

// A consumer that comes back after a clean stop goes on where it was, and gets what was sent meanwhile.
func TestRestart(t *testing.T) {
	dir := t.TempDir()
	from, to := openDB(t, dir, "farm"), openDB(t, dir, "shop")
	var want []int
	for round := range 3 {
		s, err := bus.StartServer(t.Context(), filepath.Join(dir, "bus"), quiet)
		must(t, err)
		c, err := bus.Connect(t.Context(), s, "shop", quiet)
		must(t, err)
		must(t, c.Relay(t.Context(), from, false))
		if round != 1 { // the second time only the sender is there
			must(t, c.Subscribe(t.Context(), bus.Work{Name: "count", Types: []string{"aran.farm.>"}, DB: to, Handle: note, Concurrency: 1}))
		}
		for i := range 20 {
			want = append(want, round*20+i)
			emit(t, from, "aran.farm.grown.v1", "", round*20+i)
		}
		if round != 1 {
			drained(t, c)
		}
		must(t, c.Close(context.WithoutCancel(t.Context())))
		must(t, s.Stop(t.Context()))
	}
	got := effects(t, to)
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("effects %v, want 0 to 59 once each", got)
	}
}
