package audit_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"aran/platform/auth"
	"aran/platform/bus"
	"aran/platform/rpc/rpctest"
	"aran/platform/seal"
	"aran/platform/store"
	"aran/platform/watch"
	"aran/service/audit"
	"aran/service/audit/ledger"
)

var quiet = slog.New(slog.DiscardHandler)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// world is a bus, a service that causes events, and the audit service over one data directory.
type world struct {
	t      *testing.T
	dir    string
	server *bus.Server
	chatDB *store.DB
	chat   *bus.Conn
	db     *store.DB
	conn   *bus.Conn
	box    *seal.Box
	svc    *audit.Service
	health *watch.Health
	authty *rpctest.Authority
}

// open starts all of it on a directory; what was there is taken up.
func open(t *testing.T, dir string) *world {
	t.Helper()
	w, err := tryOpen(t, dir)
	must(t, err)
	return w
}

func tryOpen(t *testing.T, dir string) (*world, error) {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	w := &world{t: t, dir: dir, health: &watch.Health{}, authty: rpctest.NewAuthority(t)}
	var err error
	w.server, err = bus.StartServer(ctx, filepath.Join(dir, "bus"), quiet)
	must(t, err)
	w.chatDB, err = store.Open(ctx, store.Options{Service: "chat", Path: filepath.Join(dir, "chat", "chat.db"), Log: quiet})
	must(t, err)
	w.chat, err = bus.Connect(ctx, w.server, "chat", quiet)
	must(t, err)
	must(t, w.chat.Relay(ctx, w.chatDB, false))
	w.db, err = store.Open(ctx, store.Options{Service: "audit", Path: filepath.Join(dir, "audit", "audit.db"), Migrations: audit.Migrations, Log: quiet})
	must(t, err)
	w.conn, err = bus.Connect(ctx, w.server, "audit", quiet)
	must(t, err)
	keyring, err := seal.Local(filepath.Join(dir, "keyring"))
	must(t, err)
	w.box, err = seal.Open(ctx, keyring, "audit", filepath.Join(dir, "audit", "keys.db"))
	must(t, err)
	cfg := audit.Default()
	cfg.SignEvery, cfg.ProofWait = 20*time.Millisecond, 300*time.Millisecond
	w.svc, err = audit.New(cfg, audit.Deps{
		DB: w.db, Bus: w.conn, Box: w.box, Server: w.authty.Server(audit.Name), Log: quiet, Health: w.health, Dir: filepath.Join(dir, "audit"),
	})
	must(t, err)
	t.Cleanup(w.close)
	w.health.Open()
	return w, w.svc.Start(ctx)
}

func (w *world) close() {
	if w.server == nil {
		return
	}
	ctx := context.WithoutCancel(w.t.Context())
	must(w.t, w.chat.Close(ctx))
	must(w.t, w.conn.Close(ctx))
	must(w.t, w.svc.Stop(ctx))
	must(w.t, w.box.Close())
	must(w.t, w.db.Close())
	must(w.t, w.chatDB.Close())
	must(w.t, w.server.Stop(ctx))
	w.server = nil
}

type answered struct {
	Model  string `json:"model"`
	Digest string `json:"digest"`
}

func (w *world) emit(e store.Event) {
	w.t.Helper()
	if e.Type == "" {
		e.Type = "aran.chat.answered.v1"
	}
	if e.Data == nil {
		e.Data = answered{"small", "d:" + e.ID}
	}
	must(w.t, w.chatDB.Tx(w.t.Context(), func(tx *store.Tx) error { return tx.Emit(w.t.Context(), e) }))
}

// until polls: nothing else tells that a queue is empty.
func (w *world) until(what string, ok func() bool) {
	w.t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(20 * time.Second)
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			w.t.Fatalf("waited too long until %s", what)
		}
	}
}

func (w *world) drain() {
	w.t.Helper()
	w.until("all events are consumed", func() bool {
		a, err := w.chat.Pending(w.t.Context())
		must(w.t, err)
		b, err := w.conn.Pending(w.t.Context())
		must(w.t, err)
		return a+b == 0
	})
}

func (w *world) settled(n int64) ledger.Report {
	w.t.Helper()
	w.drain()
	var r ledger.Report
	w.until("everything is signed", func() bool {
		var err error
		r, err = ledger.Verify(w.t.Context(), ledger.In(w.dir))
		must(w.t, err)
		return r.Unsigned == 0
	})
	if r.Entries != n {
		w.t.Fatalf("the log has %d entries, want %d", r.Entries, n)
	}
	return r
}

func reader(tenant string) *auth.Identity {
	return &auth.Identity{Tenant: tenant, Subject: "user:auditor", Scopes: []string{auth.ScopeAudit}}
}

func (w *world) get(id *auth.Identity, path string) rpctest.Answer {
	w.t.Helper()
	return w.authty.Gateway(w.svc.Public(), audit.Name, id, http.MethodGet, path, nil)
}

type page struct {
	Events []struct {
		ID, Type, Time, Tenant, Actor, Subject, Source string
		Index                                          int64
		Data                                           json.RawMessage
		Erased                                         bool
	}
	NextCursor string `json:"next_cursor"`
}

func (w *world) list(tenant, query string) page {
	w.t.Helper()
	a := w.get(reader(tenant), "/api/v1/audit/events"+query)
	if a.Status != http.StatusOK {
		w.t.Fatalf("list %s: %d %s", query, a.Status, a.Body)
	}
	var p page
	a.JSON(w.t, &p)
	return p
}

func TestEveryEventBecomesOneProvableEntry(t *testing.T) {
	w := open(t, t.TempDir())
	for i := range 120 {
		w.emit(store.Event{ID: fmt.Sprint("event-", i), Tenant: "acme", Actor: fmt.Sprint("user:", i%3), Subject: "answer"})
	}
	w.emit(store.Event{ID: "nobody", Type: "aran.chat.started.v1", Tenant: "acme"})
	r := w.settled(121)
	if r.Checkpoints < 2 || r.Size != 121 {
		t.Errorf("%+v", r)
	}

	p := w.list("acme", "?limit=500")
	if len(p.Events) != 121 || p.NextCursor != "" {
		t.Fatalf("%d events, next %q", len(p.Events), p.NextCursor)
	}
	for _, e := range p.Events {
		if e.ID == "event-7" && (e.Actor != "user:1" || e.Subject != "answer" || e.Source != "aran/chat" || e.Tenant != "acme" || e.Erased ||
			string(e.Data) != `{"model":"small","digest":"d:event-7"}`) {
			t.Errorf("event-7 reads %+v", e)
		}
	}

	a := w.get(reader("acme"), "/api/v1/audit/checkpoint")
	key := a.Header.Get("Aran-Audit-Key")
	if a.Status != http.StatusOK || key != r.Key || !strings.HasPrefix(a.Header.Get("Content-Type"), "text/plain") {
		t.Fatalf("checkpoint: %d, %v", a.Status, a.Header)
	}
	v, err := ledger.ParseKey([]byte(key + "\n"))
	must(t, err)
	if c, err := ledger.OpenCheckpoint(a.Body, v); err != nil || c.Size != 121 || c.Root != r.Root {
		t.Errorf("checkpoint %+v, %v", c, err)
	}
	file, err := os.ReadFile(filepath.Join(w.dir, "audit", "verifier.key"))
	if err != nil || string(file) != key+"\n" {
		t.Errorf("verifier.key holds %q, %v", file, err)
	}
	for _, event := range []string{"event-0", "event-119", "nobody"} {
		a := w.get(reader("acme"), "/api/v1/audit/proof/"+event)
		if b, err := ledger.CheckProof(a.Body, key); a.Status != http.StatusOK || err != nil || b.Event != event {
			t.Errorf("proof of %s: %d %s, %v", event, a.Status, a.Body, err)
		}
		if b, err := ledger.Proof(t.Context(), ledger.In(w.dir), event); err != nil || b.Event != event {
			t.Errorf("offline proof of %s: %+v, %v", event, b, err)
		}
	}
	out := filepath.Join(t.TempDir(), "out")
	if r, err := ledger.Export(t.Context(), ledger.In(w.dir), out); err != nil || r.Entries != 121 {
		t.Errorf("export beside the running service: %+v, %v", r, err)
	}
	if _, err := ledger.VerifyExport(t.Context(), out); err != nil {
		t.Errorf("verify export: %v", err)
	}
	if ok, checks := w.health.Ready(t.Context()); !ok {
		t.Errorf("not ready: %+v", checks)
	}
}

// No name, id of a thing or detail of an event stands in the log's database in clear.
func TestContentIsSealed(t *testing.T) {
	w := open(t, t.TempDir())
	w.emit(store.Event{ID: "e", Tenant: "acme", Actor: "user:ann-secret", Subject: "document-secret", Data: answered{"model-secret", ""}})
	w.settled(1)
	w.close()
	b, err := os.ReadFile(filepath.Join(w.dir, "audit", "audit.db"))
	must(t, err)
	if bytes.Contains(b, []byte("secret")) {
		t.Error("audit.db holds in clear what should be sealed")
	}
	if !bytes.Contains(b, []byte("acme")) {
		t.Error("audit.db holds not even the tenant: this test reads the wrong file")
	}
}

func TestReadersAreTenantsWithTheScope(t *testing.T) {
	w := open(t, t.TempDir())
	w.emit(store.Event{ID: "ours", Tenant: "acme", Actor: "user:ann"})
	w.emit(store.Event{ID: "theirs", Tenant: "umbrella", Actor: "user:eve"})
	w.settled(2)
	for tenant, want := range map[string]string{"acme": "ours", "umbrella": "theirs"} {
		p := w.list(tenant, "")
		if len(p.Events) != 1 || p.Events[0].ID != want {
			t.Errorf("%s lists %+v", tenant, p.Events)
		}
	}
	foreign := w.get(reader("acme"), "/api/v1/audit/proof/theirs")
	missing := w.get(reader("acme"), "/api/v1/audit/proof/missing")
	if foreign.Status != http.StatusNotFound || missing.Status != http.StatusNotFound || missing.Header.Get("Retry-After") == "" ||
		!bytes.Contains(foreign.Body, []byte("audit_event_not_found")) ||
		!bytes.Equal(bytes.ReplaceAll(foreign.Body, []byte("theirs"), nil), bytes.ReplaceAll(missing.Body, []byte("missing"), nil)) {
		t.Errorf("a foreign event answers %d %s, one that is missing %d %s", foreign.Status, foreign.Body, missing.Status, missing.Body)
	}
	for _, path := range []string{"/api/v1/audit/events", "/api/v1/audit/checkpoint", "/api/v1/audit/proof/ours"} {
		weak := &auth.Identity{Tenant: "acme", Subject: "user:ann", Scopes: []string{auth.ScopeChat}}
		if a := w.get(weak, path); a.Status != http.StatusForbidden {
			t.Errorf("%s without the scope: %d", path, a.Status)
		}
		if a := w.get(nil, path); a.Status != http.StatusUnauthorized {
			t.Errorf("%s without an identity: %d", path, a.Status)
		}
		if a := w.get(reader("acme"), path); a.Status != http.StatusOK {
			t.Errorf("%s with the scope: %d %s", path, a.Status, a.Body)
		}
	}
}

func TestListPagesAndFilters(t *testing.T) {
	w := open(t, t.TempDir())
	for i := range 25 {
		w.emit(store.Event{ID: fmt.Sprint("answer-", i), Tenant: "acme"})
		w.drain()
		if i%5 == 0 {
			w.emit(store.Event{ID: fmt.Sprint("block-", i), Type: "aran.chat.blocked.v1", Tenant: "acme"})
			w.drain()
		}
		if i%2 == 0 {
			w.emit(store.Event{ID: fmt.Sprint("noise-", i), Tenant: "umbrella"})
		}
	}
	w.drain()
	for query, want := range map[string]int{"": 30, "&type=aran.chat.blocked.v1": 5, "&type=aran.chat.": 30, "&type=aran.chat.b": 0, "&type=aran.": 30, "&type=aran.guard.": 0} {
		var ids []string
		cursor := ""
		for range 20 {
			p := w.list("acme", "?limit=4"+query+cursor)
			for _, e := range p.Events {
				ids = append(ids, e.ID)
			}
			if p.NextCursor == "" {
				break
			}
			cursor = "&cursor=" + p.NextCursor
		}
		if len(ids) != want || len(slices.Compact(slices.Sorted(slices.Values(ids)))) != want {
			t.Errorf("%q gives %d: %v", query, len(ids), ids)
		}
		if query == "" && (ids[0] != "answer-24" || ids[29] != "answer-0") {
			t.Errorf("the order is %v, want the newest first", ids)
		}
	}
	for _, query := range []string{"?cursor=x", "?cursor=-1", "?cursor=0", "?limit=0", "?limit=501", "?limit=x", "?type=" + strings.Repeat("x", 101)} {
		a := w.get(reader("acme"), "/api/v1/audit/events"+query)
		if a.Status != http.StatusBadRequest && a.Status != http.StatusUnprocessableEntity || !strings.Contains(a.Header.Get("Content-Type"), "problem+json") {
			t.Errorf("%s: %d %s", query, a.Status, a.Body)
		}
	}
}

// Erasing a subject takes away who and what, for good; the log and its proofs hold as before.
func TestErasureKeepsProofs(t *testing.T) {
	w := open(t, t.TempDir())
	for i := range 10 {
		w.emit(store.Event{ID: fmt.Sprint("event-", i), Tenant: "acme", Actor: []string{"user:ann", "user:bob"}[i%2]})
	}
	before := w.settled(10)
	must(t, w.box.Erase(t.Context(), "user:ann"))
	for _, e := range w.list("acme", "").Events {
		anns := slices.Contains([]string{"event-0", "event-2", "event-4", "event-6", "event-8"}, e.ID)
		if e.Erased != anns || (e.Actor == "") != anns || (len(e.Data) == 0) != anns || e.Type != "aran.chat.answered.v1" {
			t.Errorf("%+v", e)
		}
	}
	a := w.get(reader("acme"), "/api/v1/audit/proof/event-4")
	if _, err := ledger.CheckProof(a.Body, before.Key); a.Status != http.StatusOK || err != nil {
		t.Errorf("proof of an erased entry: %d, %v", a.Status, err)
	}
	w.emit(store.Event{ID: "late", Tenant: "acme", Actor: "user:ann"}) // was on its way when ann was erased
	if after := w.settled(11); after.Root == before.Root {
		t.Error("the late event is not in the tree")
	}
	if e := w.list("acme", "?limit=1").Events[0]; e.ID != "late" || !e.Erased || e.Actor != "" {
		t.Errorf("the late event reads %+v", e)
	}
}

// An outbox that is sent again, to a bus that has forgotten, adds nothing; nor does an inbox that was lost.
func TestDuplicatesAddNothing(t *testing.T) {
	w := open(t, t.TempDir())
	for i := range 30 {
		w.emit(store.Event{ID: fmt.Sprint("event-", i), Tenant: "acme"})
	}
	before := w.settled(30)
	w.close()
	must(t, os.RemoveAll(filepath.Join(w.dir, "bus")))
	for _, lost := range []bool{false, true} {
		db, err := store.Open(t.Context(), store.Options{Service: "chat", Path: filepath.Join(w.dir, "chat", "chat.db"), Log: quiet})
		must(t, err)
		must(t, db.Replay(t.Context()))
		must(t, db.Close())
		if lost {
			db, err := store.Open(t.Context(), store.Options{Service: "audit", Path: filepath.Join(w.dir, "audit", "audit.db"), Migrations: audit.Migrations, Log: quiet})
			must(t, err)
			must(t, db.Prune(t.Context(), time.Now(), time.Now().Add(time.Hour)))
			must(t, db.Close())
		}
		again := open(t, w.dir)
		if after := again.settled(30); after.Root != before.Root {
			t.Errorf("inbox lost %v: the log changed", lost)
		}
		again.close()
		must(t, os.RemoveAll(filepath.Join(w.dir, "bus")))
	}
}

// A restart goes on with the same key, and the old checkpoints are states of the longer log.
func TestRestart(t *testing.T) {
	dir := t.TempDir()
	var kept [][]byte
	var key string
	for round := range 3 {
		w := open(t, dir)
		for i := range 20 {
			w.emit(store.Event{ID: fmt.Sprint(round, "-", i), Tenant: "acme"})
		}
		w.close() // signs what is there
		r, err := ledger.Verify(t.Context(), ledger.In(dir), kept...)
		must(t, err)
		if r.Unsigned != 0 || (key != "" && r.Key != key) {
			t.Errorf("round %d: %+v", round, r)
		}
		key = r.Key
		w = open(t, dir)
		if r := w.settled(int64(20 * (round + 1))); r.Key != key {
			t.Errorf("round %d: the key changed", round)
		}
		kept = append(kept, w.get(reader("acme"), "/api/v1/audit/checkpoint").Body)
		w.close()
	}
}

// A proof that is asked for before the event arrived is given as soon as it is signed.
func TestProofWaits(t *testing.T) {
	w := open(t, t.TempDir())
	got := make(chan rpctest.Answer, 1)
	go func() { got <- w.get(reader("acme"), "/api/v1/audit/proof/soon") }()
	w.emit(store.Event{ID: "soon", Tenant: "acme"})
	if a := <-got; a.Status != http.StatusOK {
		t.Errorf("%d %s", a.Status, a.Body)
	}
}

// One trace goes from who caused the event to who wrote the entry.
func TestTrace(t *testing.T) {
	spans := tracetest.NewSpanRecorder()
	provider := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans))
	before := otel.GetTracerProvider()
	otel.SetTracerProvider(provider)
	t.Cleanup(func() { otel.SetTracerProvider(before) })
	w := open(t, t.TempDir())
	ctx, span := provider.Tracer("test").Start(t.Context(), "answer")
	must(t, w.chatDB.Tx(ctx, func(tx *store.Tx) error {
		return tx.Emit(ctx, store.Event{ID: "traced", Type: "aran.chat.answered.v1", Tenant: "acme"})
	}))
	span.End()
	w.settled(1)
	w.until("the writer's span ends in the same trace", func() bool {
		for _, s := range spans.Ended() {
			if s.Name() == "audit.append" && s.SpanContext().TraceID() == span.SpanContext().TraceID() {
				return true
			}
		}
		return false
	})
}

func TestConfig(t *testing.T) {
	must(t, audit.Default().Check())
	for name, change := range map[string]func(c *audit.Config){
		"sign_every": func(c *audit.Config) { c.SignEvery = 0 },
		"workers":    func(c *audit.Config) { c.Workers = 0 },
		"proof_wait": func(c *audit.Config) { c.ProofWait = time.Minute },
		"waiters":    func(c *audit.Config) { c.Waiters = -1 },
	} {
		c := audit.Default()
		change(&c)
		if err := c.Check(); err == nil || !strings.Contains(err.Error(), "audit."+name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
