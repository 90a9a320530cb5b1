package notify_test

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"aran/service/notify"
)

// TestKillChild is the process that is killed: it causes events and says the id of each that was committed.
func TestKillChild(t *testing.T) {
	if flag.NArg() != 2 {
		t.Skip("this is what the tests below kill")
	}
	w := openIn(t, flag.Arg(0), backend{}, quick())
	var list struct{ Webhooks []hook }
	w.want(200, w.call(owner("acme"), "GET", hooks, nil)).JSON(t, &list)
	if len(list.Webhooks) == 0 {
		list.Webhooks = []hook{w.hook("acme", flag.Arg(1))}
	}
	for i := range 3 {
		id := w.emit(t.Context(), "acme", indexed, fmt.Sprint("doc", i))
		if _, err := fmt.Fprintln(os.Stdout, "committed", id); err != nil {
			t.Fatal(err)
		}
	}
	w.settled()
	w.until("all are delivered", func() bool { return len(w.deliveries("acme", list.Webhooks[0].ID, "?status=pending").Deliveries) == 0 })
}

// life runs the child until it ends or is killed, and returns the events that it committed.
func life(t *testing.T, dir, url string, kill <-chan struct{}, env ...string) (committed []string, killed bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	c := exec.CommandContext(ctx, os.Args[0], "-test.run=^TestKillChild$", dir, url)
	c.Env = append(c.Environ(), env...)
	out, err := c.StdoutPipe()
	must(t, err)
	must(t, c.Start())
	go func() {
		select {
		case <-kill:
			_ = c.Process.Kill()
		case <-ctx.Done():
		}
	}()
	var text strings.Builder
	for lines := bufio.NewScanner(out); lines.Scan(); {
		text.WriteString(lines.Text() + "\n")
		if id, ok := strings.CutPrefix(lines.Text(), "committed "); ok {
			committed = append(committed, id)
		}
	}
	if err := c.Wait(); err != nil {
		if !strings.Contains(err.Error(), "killed") {
			t.Fatalf("the child did not die by our hand: %v\n%s", err, text.String())
		}
		return committed, true
	}
	return committed, false
}

// sound starts again and expects every committed event at the receiver, under the id that it always had, and once in the list.
func sound(t *testing.T, dir string, r *receiver, committed []string) {
	t.Helper()
	w := openIn(t, dir, backend{}, quick())
	defer w.close()
	w.settled()
	var list struct{ Webhooks []hook }
	w.want(200, w.call(owner("acme"), "GET", hooks, nil)).JSON(t, &list)
	if len(committed) > 0 && len(list.Webhooks) != 1 {
		t.Fatalf("%d webhooks", len(list.Webhooks))
	}
	for _, h := range list.Webhooks {
		w.until("all are delivered", func() bool { return len(w.deliveries("acme", h.ID, "?status=pending").Deliveries) == 0 })
		rows := map[string]int{}
		for _, d := range w.deliveries("acme", h.ID, "").Deliveries {
			rows[d.ID]++
			if d.Status != notify.Delivered {
				t.Errorf("%s is %s", d.ID, d.Status)
			}
		}
		came := map[string]int{}
		for _, m := range r.all() {
			came[m.id()]++
			if rows[m.id()] != 1 {
				t.Errorf("%s came and is listed %d times", m.id(), rows[m.id()])
			}
		}
		for _, e := range committed {
			if id := notify.DeliveryID(e, h.ID); came[id] == 0 || rows[id] != 1 {
				t.Errorf("event %s came %d times and is listed %d times", e, came[id], rows[id])
			}
		}
	}
}

// Killed between the message and the note that it arrived, it comes again under the same id.
func TestKilledWhileDelivering(t *testing.T) {
	dir := t.TempDir()
	kill := make(chan struct{})
	var once sync.Once
	r := receive(t, func(_ http.ResponseWriter, req *http.Request) {
		first := false
		once.Do(func() { first = true; close(kill) })
		if first {
			<-req.Context().Done() // the connection of who is dead
		}
	})
	committed, killed := life(t, dir, r.URL, kill)
	if !killed || len(r.all()) != 1 {
		t.Fatalf("killed: %v, after %d messages", killed, len(r.all()))
	}
	first := r.all()[0]
	sound(t, dir, r, committed)
	n := 0
	for _, m := range r.all() {
		if m.id() == first.id() {
			n++
		}
	}
	if n != 2 {
		t.Errorf("the message that was cut off came %d times, want 2", n)
	}
}
