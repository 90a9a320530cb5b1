package bus_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"time"

	"go.opentelemetry.io/otel"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"aran/platform/bus"
	"aran/platform/fault"
	"aran/platform/store"
)

var quiet = slog.New(slog.DiscardHandler)

func startServer(t *testing.T, dir string) *bus.Server {
	t.Helper()
	s, err := bus.StartServer(t.Context(), dir, quiet)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { must(t, s.Stop(context.WithoutCancel(t.Context()))) })
	return s
}

// starter starts a hub with its files in dir.
type starter func(t *testing.T, dir string) bus.Hub

// TestHubs is what every hub must do alike.
func TestHubs(t *testing.T) {
	t.Parallel()
	for name, size := range map[string]int{"embedded": 0, "remote": 1, "remote with rights": -1, "cluster of three": 3} {
		t.Run(name, func(t *testing.T) {
			start := func(t *testing.T, dir string) bus.Hub { t.Helper(); return startServer(t, dir) }
			switch {
			case size < 0:
				start = func(t *testing.T, dir string) bus.Hub {
					t.Helper()
					hub, _ := guarded(t, dir, map[string][]bus.Role{"farm": {bus.RoleReplayer}, "gateway": nil, "shop": {bus.RoleReplayer}}, "aran.>") // some send the other's outbox
					return hub
				}
			case size > 0:
				c := newCluster(t, t.TempDir(), size) // one for all: starting it takes longer than most checks
				start = func(t *testing.T, _ string) bus.Hub { t.Helper(); c.clean(t); return c.hub(t) }
			}
			for what, check := range map[string]func(*testing.T, starter){
				"work arrives once and whole":                 workArrivesOnceAndWhole,
				"duplicates have one effect":                  duplicatesHaveOneEffect,
				"failures are tried again then kept":          failuresAreTriedAgainThenKept,
				"broadcast reaches every replica":             broadcastReachesEveryReplica,
				"prepare runs before and after runs behind":   prepareRunsBeforeAndAfterRunsBehind,
				"trace goes on":                               traceGoesOn,
				"concurrency is bounded":                      concurrencyIsBounded,
				"close waits for handlers and sends the rest": closeWaitsForHandlersAndSendsTheRest,
				"work is checked":                             workIsChecked,
			} {
				t.Run(what, func(t *testing.T) { check(t, start) })
			}
		})
	}
}

func connect(t *testing.T, s bus.Hub, service string) *bus.Conn {
	t.Helper()
	c, err := bus.Connect(t.Context(), s, service, quiet)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { must(t, c.Close(context.WithoutCancel(t.Context()))) })
	return c
}

func openDB(t *testing.T, dir, service string) *store.DB {
	t.Helper()
	db, err := store.Open(t.Context(), store.Options{
		Service: service, Path: filepath.Join(dir, service+".db"), Log: quiet,
		Migrations: fstest.MapFS{"001.sql": &fstest.MapFile{Data: []byte("CREATE TABLE " + service + "_effect (event TEXT NOT NULL, number BIGINT NOT NULL)")}},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { must(t, db.Close()) })
	return db
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// until polls: nothing tells a test that a queue is empty.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(time.Minute) // for a busy machine
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("waited too long until %s", what)
		}
	}
}

func drained(t *testing.T, conns ...*bus.Conn) {
	t.Helper()
	until(t, "nothing is pending", func() bool {
		for _, c := range conns {
			n, err := c.Pending(t.Context())
			must(t, err)
			if n > 0 {
				return false
			}
		}
		return true
	})
}

type number struct {
	N int `json:"n"`
}

func emit(t *testing.T, db *store.DB, kind, id string, n int) {
	t.Helper()
	must(t, db.Tx(t.Context(), func(tx *store.Tx) error {
		return tx.Emit(t.Context(), store.Event{ID: id, Type: kind, Tenant: "acme", Actor: "user:ann", Subject: "thing", Data: number{n}})
	}))
}

// note writes the effect of an event: the number it carries.
func note(ctx context.Context, tx *store.Tx, e bus.Event) error {
	var d number
	if err := json.Unmarshal(e.Data, &d); err != nil {
		return err
	}
	_, err := tx.Exec(ctx, `INSERT INTO shop_effect (event, number) VALUES ($1, $2)`, e.ID, d.N)
	return err
}

func effects(t *testing.T, db *store.DB) []int {
	t.Helper()
	rows, err := db.Query(t.Context(), `SELECT number FROM shop_effect ORDER BY rowid`)
	must(t, err)
	defer func() { must(t, rows.Close()) }()
	var out []int
	for rows.Next() {
		var n int
		must(t, rows.Scan(&n))
		out = append(out, n)
	}
	must(t, rows.Err())
	return out
}

func workArrivesOnceAndWhole(t *testing.T, startServer starter) {
	dir := t.TempDir()
	s := startServer(t, filepath.Join(dir, "bus"))
	from, to := openDB(t, dir, "farm"), openDB(t, dir, "shop")
	sender, receiver := connect(t, s, "farm"), connect(t, s, "shop")
	must(t, sender.Relay(t.Context(), from, false))

	emit(t, from, "aran.farm.grown.v1", "before-anyone-listens", 0)
	var first atomic.Pointer[bus.Event]
	must(t, receiver.Subscribe(t.Context(), bus.Work{
		Name: "count", Types: []string{"aran.farm.>"}, DB: to, Concurrency: 1,
		Handle: func(ctx context.Context, tx *store.Tx, e bus.Event) error {
			first.CompareAndSwap(nil, &e)
			return note(ctx, tx, e)
		},
	}))
	var want []int
	for i := range 300 {
		want = append(want, i)
		if i > 0 {
			emit(t, from, "aran.farm.grown.v1", fmt.Sprint("event-", i), i)
		}
	}
	drained(t, sender, receiver)
	if got := effects(t, to); !slices.Equal(got, want) {
		t.Errorf("%d effects, want 300 in order: %v", len(got), got)
	}
	e := first.Load()
	if e.ID != "before-anyone-listens" || e.Tenant != "acme" || e.Actor != "user:ann" || e.Subject != "thing" ||
		e.Source != "aran/farm" || e.Type != "aran.farm.grown.v1" || e.Attempt != 1 || time.Since(e.Time) > time.Minute {
		t.Errorf("the first event arrived as %+v", e)
	}
	if n, err := from.Unsent(t.Context()); n != 0 || err != nil {
		t.Errorf("%d rows of the outbox are unsent, %v", n, err)
	}
}

// An outbox that is sent again after an unclean start gives every event twice; the inbox takes it once. The
// server's own memory of ids is kept out of it by a second stream of the same rows under a fresh server.
func duplicatesHaveOneEffect(t *testing.T, startServer starter) {
	dir := t.TempDir()
	from, to := openDB(t, dir, "farm"), openDB(t, dir, "shop")
	for i := range 50 {
		emit(t, from, "aran.farm.grown.v1", fmt.Sprint("event-", i), i)
	}
	var handled atomic.Int64
	for round := range 2 {
		s, err := bus.StartServer(t.Context(), filepath.Join(dir, fmt.Sprint("bus", round)), quiet)
		must(t, err)
		c, err := bus.Connect(t.Context(), s, "shop", quiet)
		must(t, err)
		must(t, c.Relay(t.Context(), from, true))
		must(t, c.Subscribe(t.Context(), bus.Work{
			Name: "count", Types: []string{"aran.farm.grown.v1"}, DB: to,
			Handle: func(ctx context.Context, tx *store.Tx, e bus.Event) error { handled.Add(1); return note(ctx, tx, e) },
		}))
		drained(t, c)
		must(t, c.Close(t.Context()))
		must(t, s.Stop(t.Context()))
	}
	got := effects(t, to)
	slices.Sort(got)
	if len(got) != 50 || got[0] != 0 || got[49] != 49 || handled.Load() != 50 {
		t.Errorf("%d effects from %d calls, want 50", len(got), handled.Load())
	}
}

func failuresAreTriedAgainThenKept(t *testing.T, startServer starter) {
	dir := t.TempDir()
	s := startServer(t, filepath.Join(dir, "bus"))
	from, to := openDB(t, dir, "farm"), openDB(t, dir, "shop")
	c, sender := connect(t, s, "shop"), connect(t, s, "farm")
	must(t, sender.Relay(t.Context(), from, false))
	var healed atomic.Bool
	var mu sync.Mutex
	attempts := map[string][]int{}
	must(t, c.Subscribe(t.Context(), bus.Work{
		Name: "count", Types: []string{"aran.farm.>"}, DB: to, MaxDeliver: 2,
		Handle: func(ctx context.Context, tx *store.Tx, e bus.Event) error {
			mu.Lock()
			attempts[e.ID] = append(attempts[e.ID], e.Attempt)
			mu.Unlock()
			if err := note(ctx, tx, e); err != nil {
				return err
			}
			switch {
			case healed.Load():
				return nil
			case e.ID == "poison":
				panic("cannot digest this")
			case e.ID == "bad":
				return fault.New(fault.Invalid, "bad_number", "This number is bad.")
			case e.ID == "slow start" && e.Attempt == 1:
				return errors.New("not yet")
			}
			return nil
		},
	}))
	for i, id := range []string{"good", "poison", "slow start", "bad", "good too"} {
		emit(t, from, "aran.farm.grown.v1", id, i)
	}
	drained(t, sender, c)

	got := effects(t, to)
	slices.Sort(got)
	if !slices.Equal(got, []int{0, 2, 4}) {
		t.Errorf("effects %v, want those of the good ones: a failed handler must leave nothing", got)
	}
	letters, err := c.DeadLetters(t.Context(), 0, 0)
	must(t, err)
	slices.SortFunc(letters, func(a, b bus.DeadLetter) int { return strings.Compare(a.Event, b.Event) })
	if len(letters) != 2 || letters[0].Event != "bad" || letters[0].Kind != "invalid" || letters[0].Code != "bad_number" || letters[0].Attempts != 2 ||
		letters[1].Event != "poison" || !strings.Contains(letters[1].Reason, "cannot digest this") || letters[1].Consumer != "shop_count" {
		t.Fatalf("dead letters: %+v", letters)
	}
	mu.Lock()
	if !slices.Equal(attempts["poison"], []int{1, 2}) || !slices.Equal(attempts["slow start"], []int{1, 2}) || !slices.Equal(attempts["good"], []int{1}) {
		t.Errorf("attempts: %v", attempts)
	}
	mu.Unlock()

	healed.Store(true)
	must(t, c.Replay(t.Context(), letters[1].ID))
	must(t, c.Discard(t.Context(), letters[0].ID))
	drained(t, c)
	if got := effects(t, to); len(got) != 4 || got[3] != 1 {
		t.Errorf("effects after the replay of the second: %v", got)
	}
	if letters, err = c.DeadLetters(t.Context(), 0, 0); err != nil || len(letters) != 0 {
		t.Errorf("letters after replay and discard: %+v, %v", letters, err)
	}
	for name, err := range map[string]error{"replay": c.Replay(t.Context(), 1), "discard": c.Discard(t.Context(), 1)} {
		if fault.KindOf(err) != fault.Missing {
			t.Errorf("%s of what is gone: %v", name, err)
		}
	}
}

func TestDeadLettersSurviveARestart(t *testing.T) {
	dir := t.TempDir()
	from, to := openDB(t, dir, "farm"), openDB(t, dir, "shop")
	emit(t, from, "aran.farm.grown.v1", "bad", 1)
	for round := range 2 {
		s, err := bus.StartServer(t.Context(), filepath.Join(dir, "bus"), quiet)
		must(t, err)
		c, err := bus.Connect(t.Context(), s, "shop", quiet)
		must(t, err)
		if round == 0 {
			must(t, c.Relay(t.Context(), from, false))
			must(t, c.Subscribe(t.Context(), bus.Work{
				Name: "count", Types: []string{"aran.>"}, DB: to, MaxDeliver: 1,
				Handle: func(context.Context, *store.Tx, bus.Event) error { return errors.New("no") },
			}))
			drained(t, c)
		}
		letters, err := c.DeadLetters(t.Context(), 0, 10)
		must(t, err)
		if len(letters) != 1 || letters[0].Event != "bad" {
			t.Errorf("round %d: %+v", round, letters)
		}
		must(t, c.Close(t.Context()))
		must(t, s.Stop(t.Context()))
	}
}

func broadcastReachesEveryReplica(t *testing.T, startServer starter) {
	dir := t.TempDir()
	s := startServer(t, filepath.Join(dir, "bus"))
	from := openDB(t, dir, "farm")
	sender := connect(t, s, "farm")
	must(t, sender.Relay(t.Context(), from, false))
	emit(t, from, "aran.farm.grown.v1", "old", 0)
	drained(t, sender)

	heard := make(chan string, 100)
	for i := range 2 {
		c := connect(t, s, "gateway")
		must(t, c.Broadcast(t.Context(), []string{"aran.farm.grown.v1"}, func(_ context.Context, e bus.Event) {
			heard <- fmt.Sprint(i, e.ID)
			if e.ID == "a" {
				panic("must not end the subscription")
			}
		}))
	}
	emit(t, from, "aran.farm.grown.v1", "a", 1)
	emit(t, from, "aran.farm.felled.v1", "other", 2)
	emit(t, from, "aran.farm.grown.v1", "b", 3)
	got := map[string]bool{}
	for range 4 {
		select {
		case s := <-heard:
			got[s] = true
		case <-time.After(10 * time.Second):
			t.Fatalf("heard only %v", got)
		}
	}
	if !got["0a"] || !got["0b"] || !got["1a"] || !got["1b"] {
		t.Errorf("heard %v", got)
	}
}

func prepareRunsBeforeAndAfterRunsBehind(t *testing.T, startServer starter) {
	dir := t.TempDir()
	s := startServer(t, filepath.Join(dir, "bus"))
	from, to := openDB(t, dir, "farm"), openDB(t, dir, "shop")
	c := connect(t, s, "shop")
	must(t, c.Relay(t.Context(), from, false))
	seen := make(chan []int, 1)
	must(t, c.Subscribe(t.Context(), bus.Work{
		Name: "count", Types: []string{"aran.farm.>"}, DB: to, Handle: note,
		Prepare: func(_ context.Context, e bus.Event) (bus.Event, error) { e.Data = []byte(`{"n": 42}`); return e, nil },
		After:   func() { seen <- effects(t, to) },
	}))
	emit(t, from, "aran.farm.grown.v1", "x", 1)
	select {
	case got := <-seen:
		if !slices.Equal(got, []int{42}) {
			t.Errorf("after the commit the effects are %v, want what Prepare made", got)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("After was not called")
	}
}

func traceGoesOn(t *testing.T, startServer starter) {
	spans := tracetest.NewSpanRecorder()
	provider := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans))
	before := otel.GetTracerProvider()
	otel.SetTracerProvider(provider)
	t.Cleanup(func() { otel.SetTracerProvider(before) })

	dir := t.TempDir()
	s := startServer(t, filepath.Join(dir, "bus"))
	from, to := openDB(t, dir, "farm"), openDB(t, dir, "shop")
	c := connect(t, s, "shop")
	must(t, c.Relay(t.Context(), from, false))
	must(t, c.Subscribe(t.Context(), bus.Work{Name: "count", Types: []string{"aran.farm.>"}, DB: to, Handle: note}))
	ctx, producer := provider.Tracer("test").Start(t.Context(), "grow")
	must(t, from.Tx(ctx, func(tx *store.Tx) error {
		return tx.Emit(ctx, store.Event{Type: "aran.farm.grown.v1", Data: number{1}})
	}))
	producer.End()
	trace := producer.SpanContext().TraceID()
	var got sdktrace.ReadOnlySpan
	until(t, "a span of the consumer ends in the producer's trace", func() bool {
		for _, e := range spans.Ended() { // tests beside this one have spans, too
			if e.SpanContext().TraceID() == trace && e.SpanContext().SpanID() != producer.SpanContext().SpanID() {
				got = e
			}
		}
		return got != nil
	})
	if got.Parent().SpanID() != producer.SpanContext().SpanID() {
		t.Errorf("the consumer's span is in trace %s under %s", got.SpanContext().TraceID(), got.Parent().SpanID())
	}
	if len(got.Links()) != 1 || got.Links()[0].SpanContext.SpanID() != producer.SpanContext().SpanID() {
		t.Errorf("links: %+v", got.Links())
	}
}

func concurrencyIsBounded(t *testing.T, startServer starter) {
	dir := t.TempDir()
	s := startServer(t, filepath.Join(dir, "bus"))
	from, to := openDB(t, dir, "farm"), openDB(t, dir, "shop")
	c := connect(t, s, "shop")
	must(t, c.Relay(t.Context(), from, false))
	var now, most atomic.Int64
	gate := make(chan struct{})
	must(t, c.Subscribe(t.Context(), bus.Work{
		Name: "count", Types: []string{"aran.farm.>"}, DB: to, Handle: note, Concurrency: 3,
		Prepare: func(_ context.Context, e bus.Event) (bus.Event, error) {
			n := now.Add(1)
			defer now.Add(-1)
			for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
			}
			<-gate
			return e, nil
		},
	}))
	for i := range 40 {
		emit(t, from, "aran.farm.grown.v1", "", i)
	}
	until(t, "three are in hand", func() bool { return most.Load() == 3 })
	close(gate)
	drained(t, c)
	if most.Load() != 3 || len(effects(t, to)) != 40 {
		t.Errorf("%d at once, %d effects", most.Load(), len(effects(t, to)))
	}
}

func closeWaitsForHandlersAndSendsTheRest(t *testing.T, startServer starter) {
	dir := t.TempDir()
	s := startServer(t, filepath.Join(dir, "bus"))
	from, to := openDB(t, dir, "farm"), openDB(t, dir, "shop")
	c, err := bus.Connect(t.Context(), s, "shop", quiet)
	must(t, err)
	must(t, c.Relay(t.Context(), from, false))
	began, goOn := make(chan struct{}), make(chan struct{})
	must(t, c.Subscribe(t.Context(), bus.Work{
		Name: "count", Types: []string{"aran.farm.>"}, DB: to, Handle: note,
		Prepare: func(_ context.Context, e bus.Event) (bus.Event, error) { close(began); <-goOn; return e, nil },
	}))
	emit(t, from, "aran.farm.grown.v1", "x", 1)
	<-began
	closed := make(chan error, 1)
	go func() { closed <- c.Close(t.Context()) }()
	emit(t, from, "aran.farm.grown.v1", "late", 2)
	select {
	case err := <-closed:
		t.Fatalf("Close did not wait for the handler: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	close(goOn)
	must(t, <-closed)
	if got := effects(t, to); !slices.Equal(got, []int{1}) {
		t.Errorf("effects %v", got)
	}
	if n, err := from.Unsent(t.Context()); n != 0 || err != nil {
		t.Errorf("%d events stayed in the outbox, %v", n, err)
	}
	if err := c.Subscribe(t.Context(), bus.Work{Name: "again", Types: []string{"aran.>"}, DB: to, Handle: note}); err == nil {
		t.Error("a closed connection takes a subscription")
	}
}

func workIsChecked(t *testing.T, startServer starter) {
	dir := t.TempDir()
	s := startServer(t, filepath.Join(dir, "bus"))
	db := openDB(t, dir, "shop")
	c := connect(t, s, "shop")
	ok := bus.Work{Name: "count", Types: []string{"aran.farm.>"}, DB: db, Handle: note}
	for name, change := range map[string]func(w *bus.Work){
		"no name":          func(w *bus.Work) { w.Name = "" },
		"a name with dots": func(w *bus.Work) { w.Name = "a.b" },
		"no types":         func(w *bus.Work) { w.Types = nil },
		"a foreign type":   func(w *bus.Work) { w.Types = []string{"$SYS.>"} },
		"a wild card":      func(w *bus.Work) { w.Types = []string{"aran.*.x.v1"} },
		"no database":      func(w *bus.Work) { w.DB = nil },
		"no handler":       func(w *bus.Work) { w.Handle = nil },
	} {
		w := ok
		change(&w)
		if err := c.Subscribe(t.Context(), w); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
