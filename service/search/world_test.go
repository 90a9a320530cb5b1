package search_test

import (
	"context"
	"errors"
	"hash/fnv"
	"log/slog"
	"maps"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"

	guardv1 "aran/api/gen/aran/guard/v1"
	"aran/api/gen/aran/guard/v1/guardv1connect"
	inferv1 "aran/api/gen/aran/infer/v1"
	"aran/api/gen/aran/infer/v1/inferv1connect"
	"aran/platform/auth"
	"aran/platform/bus"
	"aran/platform/fault"
	"aran/platform/rpc"
	"aran/platform/rpc/rpctest"
	"aran/platform/saga"
	"aran/platform/secret"
	"aran/platform/store"
	"aran/platform/store/pgtest"
	"aran/service/search"
)

// tokens counts as a word-piece tokenizer roughly does.
func tokens(s string) (n int) {
	for w := range strings.FieldsSeq(s) {
		n += (len(w) + 5) / 6
	}
	return n
}

// encoder is a small working encoder: a text's vector is the sum of its words' vectors. Words that mean the same
// have the same vector. Its digest can be changed, and it can be away.
type encoder struct {
	digest atomic.Value
	also   atomic.Value // a digest that is served besides, to who asks for it
	away   atomic.Bool
	slow   atomic.Bool // hardly gets anywhere, until it is told to go on
	calls  atomic.Int64

	mu       sync.Mutex
	subjects map[string]bool // who was embedded for
}

const dim = 48

func newEncoder() *encoder {
	e := &encoder{subjects: map[string]bool{}}
	e.digest.Store("encoder-one")
	e.also.Store("")
	return e
}

func (e *encoder) Embed(ctx context.Context, r *inferv1.EmbedRequest) (*inferv1.EmbedResponse, error) {
	e.calls.Add(1)
	if e.away.Load() {
		return nil, fault.New(fault.Unavailable, "model_away", "The encoder is away.")
	}
	for range 50 {
		if !e.slow.Load() {
			break
		}
		<-time.After(time.Millisecond) // the work of a slow machine
	}
	id := auth.From(ctx)
	e.mu.Lock()
	e.subjects[id.Tenant+"/"+id.Subject] = true
	e.mu.Unlock()
	out := &inferv1.EmbedResponse{Digest: e.digest.Load().(string), Dim: dim, Model: "words"}
	if m := r.GetModel(); m == "other-words" {
		out.Digest, out.Model = m, m
	}
	if d := r.GetDigest(); d != "" && d != out.Digest {
		if out.Model != "words" || d != e.also.Load().(string) {
			return nil, fault.New(fault.Missing, "digest_not_served", "There is no %s.", d)
		}
		out.Digest = d
	}
	for _, t := range r.GetTexts() {
		out.Vectors = append(out.Vectors, &inferv1.Vector{Values: turned(vectorOf(t), out.Digest), Tokens: int32(tokens(t))})
	}
	return out, nil
}

// ListModels names the model `words`, and one more whose digest is its name.
func (e *encoder) ListModels(context.Context, *inferv1.ListModelsRequest) (*inferv1.ListModelsResponse, error) {
	if e.away.Load() {
		return nil, fault.New(fault.Unavailable, "model_away", "The encoder is away.")
	}
	return &inferv1.ListModelsResponse{Models: []*inferv1.Model{
		{Name: "words", Kind: "embed", Digest: e.digest.Load().(string), Status: "ready", Dim: dim},
		{Name: "other-words", Kind: "embed", Digest: "other-words", Status: "ready", Dim: dim},
		{Name: "talker", Kind: "generate", Digest: "t", Status: "ready"},
	}}, nil
}

// turned makes vectors of every encoder but the first such that comparing them with those of another one shows.
func turned(v []float32, digest string) []float32 {
	if digest == "encoder-one" {
		return v
	}
	out := slices.Clone(v)
	slices.Reverse(out)
	return out
}

var same = map[string]string{"automobile": "car", "vehicle": "car", "physician": "doctor"}

func vectorOf(text string) []float32 {
	v := make([]float64, dim)
	v[0] = 0.01
	for _, w := range strings.FieldsFunc(strings.ToLower(text), func(r rune) bool { return r < 'a' || r > 'z' }) {
		if s, ok := same[w]; ok {
			w = s
		}
		h := fnv.New64a()
		_, _ = h.Write([]byte(w))
		x := h.Sum64()
		for range 3 {
			v[x%dim] += 1 + float64(x%1009)/1e4 // so that two texts hardly ever score the same by chance
			x /= dim
		}
	}
	var ss float64
	for _, f := range v {
		ss += f * f
	}
	out := make([]float32, dim)
	for i, f := range v {
		out[i] = float32(f / math.Sqrt(ss))
	}
	return out
}

// judge is a guard that blocks one phrase and flags another.
type judge struct {
	guardv1connect.UnimplementedGuardServiceHandler // of the rest

	away atomic.Bool
}

func (j *judge) Scan(_ context.Context, r *guardv1.ScanRequest) (*guardv1.ScanResponse, error) {
	if j.away.Load() {
		return nil, fault.New(fault.Unavailable, "guard_away", "The guard is away.")
	}
	out := &guardv1.ScanResponse{}
	for _, t := range r.GetTexts() {
		res := &guardv1.ScanResult{Verdict: guardv1.Verdict_VERDICT_ALLOW}
		switch {
		case strings.Contains(t, "ignore all previous instructions"):
			res.Verdict, res.Findings = guardv1.Verdict_VERDICT_BLOCK, []*guardv1.Finding{{Kind: "injection"}}
		case strings.Contains(t, "@"):
			res.Verdict, res.Findings = guardv1.Verdict_VERDICT_FLAG, []*guardv1.Finding{{Kind: "pii.email"}}
		}
		out.Results = append(out.Results, res)
	}
	return out, nil
}

// world is a search service with everything real around it but guard and encoder.
type world struct {
	t       testing.TB
	dir     string
	vectors string // the setting
	s       *search.Service
	db      *store.DB
	server  *bus.Server
	conn    *bus.Conn
	sagas   *saga.Engine
	people  *rpctest.Authority
	encoder *encoder
	judge   *judge
	events  *events
}

// events keeps what was published, by type.
type events struct {
	mu   sync.Mutex
	list []bus.Event
}

func (e *events) of(kind string) (out []bus.Event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, x := range e.list {
		if x.Type == kind {
			out = append(out, x)
		}
	}
	return out
}

type option func(*search.Config, *search.Deps)

func open(t *testing.T, options ...option) *world {
	t.Helper()
	return openAt(t, t.TempDir(), newEncoder(), &judge{}, options...)
}

func openAt(t testing.TB, dir string, e *encoder, j *judge, options ...option) *world {
	t.Helper()
	w := start(t, dir, e, j, options...)
	if w.vectors == search.VectorsPgvector {
		w.eventually("vectors are searched in the database", w.s.InDatabase)
	}
	return w
}

// start is openAt without waiting for what follows the start.
func start(t testing.TB, dir string, e *encoder, j *judge, options ...option) *world {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	w := &world{t: t, dir: dir, people: rpctest.NewAuthority(t), encoder: e, judge: j, events: &events{}}
	var err error
	w.db = w.openStore()
	w.server, err = bus.StartServer(t.Context(), filepath.Join(dir, "bus"), log)
	w.must(err)
	w.conn, err = bus.Connect(t.Context(), w.server, "search", log)
	w.must(err)
	w.sagas, err = saga.Open(t.Context(), w.db, "search", search.Definitions, log)
	w.must(err)
	cfg := search.Default()
	cfg.PassageTokens, cfg.OverlapTokens, cfg.EmbedBatch, cfg.RetryAfter = 64, 8, 4, 10*time.Millisecond
	if w.db.Shared() {
		cfg.Vectors = search.VectorsPgvector
	}
	deps := search.Deps{
		DB: w.db, Bus: w.conn, Sagas: w.sagas, Count: tokens, Log: log, Server: w.people.Server("search", "chat"),
		Guard: guardv1connect.NewGuardServiceClient(w.client("guard", w.serve("guard")), "http://guard", rpc.ClientOptions("guard", w.source())...),
		Infer: inferv1connect.NewInferServiceClient(w.client("infer", w.serve("infer")), "http://infer", rpc.ClientOptions("infer", w.source())...),
	}
	for _, o := range options {
		o(&cfg, &deps)
	}
	w.vectors = cfg.Vectors
	w.s, err = search.New(cfg, deps)
	w.must(err)
	w.must(w.conn.Broadcast(t.Context(), []string{"aran.search.>"}, func(_ context.Context, e bus.Event) {
		w.events.mu.Lock()
		defer w.events.mu.Unlock()
		w.events.list = append(w.events.list, e)
	}))
	w.must(w.sagas.Launch(t.Context()))
	w.must(w.s.Start(t.Context()))
	w.must(w.conn.Relay(t.Context(), w.db, true))
	t.Cleanup(w.close)
	return w
}

// server is where the worlds of a test have their databases; nil: in files.
var server *pgtest.Server

// placeFile is the name of a file in a world's directory: the URL of its database. So another process finds it, too.
const placeFile = "database.url"

// database is the URL of a directory's database, which is made the first time; empty: a file.
func database(t testing.TB, dir string) secret.String {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, placeFile))
	if errors.Is(err, os.ErrNotExist) && server != nil {
		b = []byte(server.VectorDatabase())
		err = os.WriteFile(filepath.Join(dir, placeFile), b, 0o600)
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return secret.New(string(b))
}

// openStore opens the database that belongs to the directory, as one more replica does.
func (w *world) openStore() *store.DB {
	w.t.Helper()
	o := store.Options{Service: "search", Path: filepath.Join(w.dir, "search.db"), Migrations: search.Migrations, Log: slog.New(slog.DiscardHandler)}
	o.URL = database(w.t, w.dir)
	db, err := store.Open(w.t.Context(), o)
	w.must(err)
	return db
}

// serve is guard or infer behind the real chain of checks.
func (w *world) serve(name string) http.Handler {
	s := w.people.Server(name, "search")
	mux := http.NewServeMux()
	if name == "guard" {
		mux.Handle(guardv1connect.NewGuardServiceHandler(w.judge, s.HandlerOptions()...))
	} else {
		mux.Handle(inferv1connect.NewInferServiceHandler(onlyEmbed{encoder: w.encoder}, s.HandlerOptions()...))
	}
	return s.Internal(mux)
}

// direct is an encoder that is called without a transport: as nobody.
type direct struct{ *encoder }

func (direct) Generate(context.Context, *inferv1.GenerateRequest) (*connect.ServerStreamForClient[inferv1.GenerateResponse], error) {
	return nil, errors.New("not here")
}

func (direct) Rerank(context.Context, *inferv1.RerankRequest) (*inferv1.RerankResponse, error) {
	return nil, errors.New("not here")
}

func (direct) Classify(context.Context, *inferv1.ClassifyRequest) (*inferv1.ClassifyResponse, error) {
	return nil, errors.New("not here")
}

func (direct) ListModels(context.Context, *inferv1.ListModelsRequest) (*inferv1.ListModelsResponse, error) {
	return nil, errors.New("not here")
}

type onlyEmbed struct {
	inferv1connect.UnimplementedInferServiceHandler
	*encoder
}

func (o onlyEmbed) ListModels(ctx context.Context, r *inferv1.ListModelsRequest) (*inferv1.ListModelsResponse, error) {
	return o.encoder.ListModels(ctx, r)
}

func (o onlyEmbed) Embed(ctx context.Context, r *inferv1.EmbedRequest) (*inferv1.EmbedResponse, error) {
	return o.encoder.Embed(ctx, r)
}

func (*world) client(_ string, h http.Handler) *http.Client {
	return &http.Client{Transport: rpc.InProcess("search", h)}
}

// source exchanges as user does: the token in hand, or a grant, for one of another audience.
func (w *world) source() auth.Source {
	return auth.NewSource(func(ctx context.Context, subjectToken string, g auth.Grant, audience string) (string, time.Duration, error) {
		id := auth.Identity{Tenant: g.Tenant, Subject: g.Subject, Scopes: g.Scopes}
		if subjectToken != "" {
			id = auth.From(ctx)
		}
		if g.Subject == "user:suspended" {
			return "", 0, fault.New(fault.Denied, "suspended", "The account is suspended.")
		}
		return w.people.Token(id, audience, "search"), time.Minute, nil
	})
}

func (w *world) close() {
	if w.db == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(w.t.Context()), 10*time.Second)
	defer cancel()
	if err := errors.Join(w.s.Stop(ctx), w.sagas.Stop(ctx), w.conn.Close(ctx), w.db.Close(), w.server.Stop(ctx)); err != nil {
		w.t.Error(err)
	}
	w.db = nil
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// eventually waits for a condition that the work in the background brings about.
func (w *world) eventually(what string, ok func() bool) {
	w.t.Helper()
	deadline := time.NewTimer(20 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline.C:
			w.t.Fatalf("in 20 s not: %s", what)
		}
	}
}

// person is somebody with all rights on search.
func person(tenant, subject string, roles ...string) *auth.Identity {
	return &auth.Identity{Tenant: tenant, Subject: subject, Roles: roles, Scopes: []string{auth.ScopeSearchRead, auth.ScopeSearchWrite}}
}

func (w *world) call(id *auth.Identity, method, path string, body any, header ...string) rpctest.Answer {
	w.t.Helper()
	return w.people.Gateway(w.s.Public(), "search", id, method, path, body, header...)
}

func (w *world) want(status int, a rpctest.Answer) rpctest.Answer {
	w.t.Helper()
	if a.Status != status {
		w.t.Fatalf("status %d, want %d: %s", a.Status, status, a.Body)
	}
	return a
}

func (w *world) collection(id *auth.Identity, name string) {
	w.t.Helper()
	w.want(201, w.call(id, "POST", "/api/v1/collections", map[string]any{"name": name}))
}

// put stores a document and waits until its work has ended.
func (w *world) put(id *auth.Identity, collection string, doc map[string]any) map[string]any {
	w.t.Helper()
	var stored map[string]any
	w.want(202, w.call(id, "POST", "/api/v1/collections/"+collection+"/documents", doc)).JSON(w.t, &stored)
	return w.settled(id, collection, stored["id"].(string))
}

func (w *world) settled(id *auth.Identity, collection, doc string) (out map[string]any) {
	w.t.Helper()
	w.eventually("the work on "+doc+" ends", func() bool {
		out = nil
		w.want(200, w.call(id, "GET", "/api/v1/collections/"+collection+"/documents/"+doc, nil)).JSON(w.t, &out)
		return out["status"] != "queued"
	})
	return out
}

type hit struct {
	Collection, Document, Chunk, Title, Text string
	Start, End                               int
	Score                                    float64
	Highlights                               []place
	Span                                     place
	Trust, Source                            string
}

type place struct{ Start, End int }

type found struct {
	Hits     []hit
	Degraded bool
	Reranked bool
	Encoder  string
}

func (f found) documents() (out []string) {
	for _, h := range f.Hits {
		out = append(out, h.Document)
	}
	return out
}

func (w *world) search(id *auth.Identity, collection string, q map[string]any) (out found) {
	w.t.Helper()
	w.want(200, w.call(id, "POST", "/api/v1/collections/"+collection+"/search", q)).JSON(w.t, &out)
	return out
}

// rows counts what a table holds.
func (w *world) rows(table string) (n int) {
	w.t.Helper()
	w.must(w.db.QueryRow(w.t.Context(), "SELECT COUNT(*) FROM "+table).Scan(&n))
	return n
}

func (w *world) allRows() map[string]int {
	out := map[string]int{}
	for _, t := range []string{"document", "edition", "passage", "posting", "vector", "access", "metadata", "trash"} {
		out[t] = w.rows("search_" + t)
	}
	if w.db.Shared() {
		out["vector_item"] = w.rows("search_vector_item")
	}
	return out
}

// payload is a member of what an event in the outbox says, as SQL.
func (w *world) payload(members ...string) string {
	if w.db.Shared() {
		return "convert_from(payload, 'UTF8')::jsonb#>>'{" + strings.Join(members, ",") + "}'"
	}
	return "payload->>'$." + strings.Join(members, ".") + "'"
}

func (w *world) nothingLeft(what string) {
	w.t.Helper()
	w.eventually(what, func() bool {
		return !slices.ContainsFunc(slices.Collect(maps.Values(w.allRows())), func(n int) bool { return n > 0 })
	})
}
