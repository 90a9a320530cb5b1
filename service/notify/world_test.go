package notify_test

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"aran/platform/auth"
	"aran/platform/bus"
	"aran/platform/rpc/rpctest"
	"aran/platform/seal"
	"aran/platform/secret"
	"aran/platform/store"
	"aran/platform/store/pgtest"
	"aran/platform/watch"
	"aran/service/notify"
)

var quiet = slog.New(slog.DiscardHandler)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// backend is where the databases of a test are.
type backend struct {
	db, keys secret.String // of PostgreSQL; empty: files
}

func postgres(s *pgtest.Server) backend {
	return backend{secret.New(s.Database()), secret.New(s.Database())}
}

// world is a bus, services that cause events, and one or two replicas of notify.
type world struct {
	t       testing.TB
	dir     string
	at      backend
	cfg     notify.Config
	server  *bus.Server
	causes  map[string]*store.DB
	conns   []*bus.Conn
	authty  *rpctest.Authority
	first   *replica
	closers []func()
	closed  bool
}

// replica is one notify service.
type replica struct {
	svc  *notify.Service
	db   *store.DB
	conn *bus.Conn
	box  *seal.Box
}

// quick is a configuration whose pauses a test can wait for.
func quick() notify.Config {
	c := notify.Default()
	c.Timeout, c.Lease = 700*time.Millisecond, 2*time.Second
	c.Retries = []time.Duration{20 * time.Millisecond, 40 * time.Millisecond, 60 * time.Millisecond}
	c.UnsafePrivateTargets = true
	return c
}

func open(t testing.TB, at backend, cfg notify.Config) *world {
	t.Helper()
	return openIn(t, t.TempDir(), at, cfg)
}

// openIn starts all of it on a directory; what was there is taken up.
func openIn(t testing.TB, dir string, at backend, cfg notify.Config) *world {
	t.Helper()
	w := &world{t: t, dir: dir, at: at, cfg: cfg, causes: map[string]*store.DB{}, authty: rpctest.NewAuthority(t)}
	t.Cleanup(w.close)
	ctx := context.WithoutCancel(t.Context())
	var err error
	w.server, err = bus.StartServer(ctx, filepath.Join(dir, "bus"), quiet)
	must(t, err)
	w.closers = append(w.closers, func() { must(t, w.server.Stop(ctx)) })
	for _, name := range []string{"search", "guard"} {
		db, err := store.Open(ctx, store.Options{Service: name, Path: filepath.Join(dir, name, name+".db"), Log: quiet})
		must(t, err)
		conn, err := bus.Connect(ctx, w.server, name, quiet)
		must(t, err)
		must(t, conn.Relay(ctx, db, true))
		w.causes[name] = db
		w.conns = append(w.conns, conn)
		w.closers = append(w.closers, func() { must(t, conn.Close(ctx)); must(t, db.Close()) })
	}
	w.first = w.join()
	return w
}

// join starts a replica.
func (w *world) join() *replica {
	w.t.Helper()
	ctx := context.WithoutCancel(w.t.Context())
	var err error
	r := &replica{}
	r.db, err = store.Open(ctx, store.Options{Service: notify.Name, Path: filepath.Join(w.dir, "notify", "notify.db"), URL: w.at.db, Migrations: notify.Migrations, Log: quiet})
	must(w.t, err)
	r.conn, err = bus.Connect(ctx, w.server, notify.Name, quiet)
	must(w.t, err)
	must(w.t, r.conn.Relay(ctx, r.db, false))
	keyring, err := seal.Local(filepath.Join(w.dir, "keyring"))
	must(w.t, err)
	if w.at.keys.Empty() {
		r.box, err = seal.Open(ctx, keyring, notify.Name, filepath.Join(w.dir, "notify", "keys.db"))
	} else {
		r.box, err = seal.OpenURL(ctx, keyring, notify.Name, w.at.keys, quiet)
	}
	must(w.t, err)
	r.svc, err = notify.New(w.cfg, notify.Deps{DB: r.db, Bus: r.conn, Box: r.box, Server: w.authty.Server(notify.Name), Log: quiet, Health: &watch.Health{}})
	must(w.t, err)
	must(w.t, r.svc.Start(ctx))
	w.conns = append(w.conns, r.conn)
	w.closers = append(w.closers, func() {
		must(w.t, r.svc.Stop(ctx))
		must(w.t, r.conn.Close(ctx))
		must(w.t, r.box.Close())
		must(w.t, r.db.Close())
	})
	return r
}

func (w *world) close() {
	if w.closed {
		return
	}
	w.closed = true
	for _, end := range slices.Backward(w.closers) {
		end()
	}
}

// until polls: nothing else tells what another process or machine has done.
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

// settled waits until no event is on its way.
func (w *world) settled() {
	w.t.Helper()
	w.until("all events are consumed", func() bool {
		sum := 0
		for _, c := range w.conns {
			n, err := c.Pending(w.t.Context())
			must(w.t, err)
			sum += n
		}
		for _, db := range w.causes {
			n, err := db.Unsent(w.t.Context())
			must(w.t, err)
			sum += n
		}
		return sum == 0
	})
}

const (
	indexed = "aran.search.document_indexed.v1"
	blocked = "aran.guard.blocked.v1"
)

// emit causes an event about a document, or of guard, and returns its id.
func (w *world) emit(ctx context.Context, tenant, kind, subject string) string {
	w.t.Helper()
	e := store.Event{ID: store.NewEventID(), Type: kind, Tenant: tenant, Actor: "user:meena", Subject: subject}
	service := "search"
	if kind == blocked {
		service = "guard"
		e.Data = map[string]any{"origin": "user", "kinds": []string{"injection"}, "rules": []string{"r1"}, "score": 0.9, "text_digest": subject}
	} else {
		e.Data = map[string]any{"document": subject, "collection": "docs", "version": 1, "digest": "d1", "note_of_a_later_version": "stays inside"}
	}
	db := w.causes[service]
	must(w.t, db.Tx(ctx, func(tx *store.Tx) error { return tx.Emit(ctx, e) }))
	return e.ID
}

// emitted lists the data of the events of a type that notify sent.
func (w *world) emitted(r *replica, kind string) (out []map[string]any) {
	w.t.Helper()
	rows, err := r.db.Query(w.t.Context(), `SELECT payload FROM notify_outbox WHERE type = $1 ORDER BY sequence`, kind)
	must(w.t, err)
	defer rows.Close() //nolint:errcheck // read only
	for rows.Next() {
		var b []byte
		must(w.t, rows.Scan(&b))
		var e map[string]any
		must(w.t, json.Unmarshal(b, &e))
		out = append(out, e)
	}
	must(w.t, rows.Err())
	return out
}

func owner(tenant string) *auth.Identity {
	return &auth.Identity{Tenant: tenant, Subject: "user:meena", Scopes: []string{auth.ScopeWebhooks}}
}

func (w *world) call(id *auth.Identity, method, path string, body any, header ...string) rpctest.Answer {
	w.t.Helper()
	return w.authty.Gateway(w.first.svc.Public(), notify.Name, id, method, path, body, header...)
}

func (w *world) want(status int, a rpctest.Answer) rpctest.Answer {
	w.t.Helper()
	if a.Status != status {
		w.t.Fatalf("answered %d %.400s, want %d", a.Status, a.Body, status)
	}
	return a
}

type hook struct {
	ID, URL, Description, Secret string
	Events                       []string
	Enabled                      bool
	DisabledReason               string     `json:"disabled_reason"`
	FailingSince                 *time.Time `json:"failing_since"`
	OldSecretUntil               *time.Time `json:"old_secret_until"`
}

const hooks = "/api/v1/webhooks"

// hook makes a webhook.
func (w *world) hook(tenant, url string, kinds ...string) (h hook) {
	w.t.Helper()
	if len(kinds) == 0 {
		kinds = []string{"document.indexed"}
	}
	w.want(201, w.call(owner(tenant), "POST", hooks, map[string]any{"url": url, "events": kinds})).JSON(w.t, &h)
	return h
}

func (w *world) show(tenant, id string) (h hook) {
	w.t.Helper()
	w.want(200, w.call(owner(tenant), "GET", hooks+"/"+id, nil)).JSON(w.t, &h)
	return h
}

type delivery struct {
	ID, Event, Type, Status string
	Attempts                []struct {
		Time       time.Time
		StatusCode int `json:"status_code"`
		Error      string
		Duration   *int64 `json:"duration_ms"`
	}
	Count int        `json:"attempt_count"`
	Next  *time.Time `json:"next_attempt_at"`
}

func (d delivery) errors() (out []string) {
	for _, a := range d.Attempts {
		out = append(out, a.Error)
	}
	return out
}

type deliveries struct {
	Deliveries []delivery
	NextCursor string `json:"next_cursor"`
}

func (w *world) deliveries(tenant, id, query string) (d deliveries) {
	w.t.Helper()
	w.want(200, w.call(owner(tenant), "GET", hooks+"/"+id+"/deliveries"+query, nil)).JSON(w.t, &d)
	return d
}

// ended waits until n deliveries of a webhook have a status.
func (w *world) ended(tenant, id, status string, n int) []delivery {
	w.t.Helper()
	var d deliveries
	w.until("deliveries are "+status, func() bool {
		d = w.deliveries(tenant, id, "?status="+status)
		return len(d.Deliveries) >= n
	})
	return d.Deliveries
}

// receiver is a real one on loopback, which answers as it is told and keeps what came.
type receiver struct {
	*httptest.Server

	mu     sync.Mutex
	answer http.HandlerFunc
	got    []received
}

type received struct {
	at     time.Time
	path   string
	header http.Header
	body   []byte
}

func (m received) id() string { return m.header.Get(standardwebhooks.HeaderWebhookID) }

func (m received) message(t testing.TB) (out struct {
	Type, Timestamp string
	Data            map[string]any
},
) {
	t.Helper()
	must(t, json.Unmarshal(m.body, &out))
	return out
}

// verify is what a receiver does with the official library.
func (m received) verify(secret string) error {
	w, err := standardwebhooks.NewWebhook(secret)
	if err != nil {
		return err
	}
	return w.Verify(m.body, m.header)
}

func status(code int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
}

func receive(t testing.TB, answer http.HandlerFunc) *receiver {
	t.Helper()
	r := &receiver{answer: answer}
	r.Server = httptest.NewServer(r)
	t.Cleanup(func() { r.CloseClientConnections(); r.Close() })
	return r
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	b, _ := io.ReadAll(req.Body)
	r.mu.Lock()
	r.got = append(r.got, received{time.Now(), req.URL.Path, req.Header.Clone(), b})
	answer := r.answer
	r.mu.Unlock()
	answer(w, req)
}

func (r *receiver) set(answer http.HandlerFunc) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.answer = answer
}

func (r *receiver) all() []received {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]received(nil), r.got...)
}

func (r *receiver) wait(w *world, n int) []received {
	w.t.Helper()
	w.until("the receiver has them", func() bool { return len(r.all()) >= n })
	return r.all()
}
