package audit_test

import (
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"aran/platform/store"
	"aran/service/audit/ledger"
)

var childDir = flag.String("child", "", "run as the child of the kill test, in this directory")

// TestChild is the process that is killed: it causes events, and writes the id of each that was committed.
func TestChild(t *testing.T) {
	if *childDir == "" {
		t.Skip("only with -child")
	}
	w := open(t, *childDir)
	must(t, w.chatDB.Replay(t.Context()))
	acked, err := os.OpenFile(filepath.Join(*childDir, "acked"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	must(t, err)
	round := time.Now().UnixNano()
	for i := range 100_000 {
		id := fmt.Sprintf("%d-%d", round, i)
		w.emit(store.Event{ID: id, Tenant: "acme", Actor: fmt.Sprint("user:", i%50)})
		_, err := fmt.Fprintln(acked, id)
		must(t, err)
	}
}

// After kills at random moments every committed event is in the log exactly once, and no checkpoint that anyone
// saw, also from beside the running process, is contradicted later.
func TestKill(t *testing.T) {
	if testing.Short() {
		t.Skip("starts processes")
	}
	dir := t.TempDir()
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 1))
	var kept [][]byte
	for round := range 4 {
		child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestChild$", "-child", dir)
		child.Stderr = os.Stderr
		must(t, child.Start())
		before := len(committed(t, dir))
		w := &world{t: t}
		w.until("the child works", func() bool { return len(committed(t, dir)) > before+20 })
		<-time.After(time.Duration(r.IntN(400)) * time.Millisecond)
		out := filepath.Join(t.TempDir(), "out")
		if _, err := ledger.Export(t.Context(), ledger.In(dir), out); err != nil {
			t.Errorf("round %d (seed %d): export beside the running process: %v", round, seed, err)
		} else {
			b, err := os.ReadFile(filepath.Join(out, "checkpoint"))
			must(t, err)
			kept = append(kept, b)
		}
		must(t, child.Process.Kill())
		var exit *exec.ExitError
		if err := child.Wait(); !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
			t.Fatalf("round %d (seed %d): the child ended by itself: %v", round, seed, err)
		}
		if _, err := ledger.Verify(t.Context(), ledger.In(dir), kept...); err != nil {
			t.Errorf("round %d (seed %d): verify after the kill: %v", round, seed, err)
		}
	}
	w := open(t, dir)
	must(t, w.chatDB.Replay(t.Context()))
	acked := committed(t, dir)
	w.until("all are recorded", func() bool {
		var n int
		must(t, w.db.QueryRow(t.Context(), `SELECT COUNT(*) FROM audit_entry`).Scan(&n))
		return n >= len(acked)
	})
	w.drain()
	for _, id := range acked {
		var n int
		must(t, w.db.QueryRow(t.Context(), `SELECT COUNT(*) FROM audit_entry WHERE event_id = $1`, id).Scan(&n))
		if n != 1 {
			t.Errorf("seed %d: event %s is in the log %d times", seed, id, n)
		}
	}
	w.close()
	report, err := ledger.Verify(t.Context(), ledger.In(dir), kept...)
	if err != nil || report.Unsigned != 0 {
		t.Errorf("seed %d: %+v, %v", seed, report, err)
	}
	t.Logf("seed %d: %d events, 4 kills, %d entries, %d checkpoints", seed, len(acked), report.Entries, report.Checkpoints)
}

func committed(t *testing.T, dir string) []string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, "acked"))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	must(t, err)
	whole := string(b[:strings.LastIndexByte(string(b), '\n')+1])
	return strings.Fields(whole)
}
