// Package search keeps collections of documents and finds passages in them, with the caller's rights.
//
// A stored document is scanned, cut into passages, encoded and indexed by a saga; until that is
// done searches find its version before, if there was one. It never filters after ranking: what a
// caller may not read is not among what is ranked, and each collection has its own statistics, so
// that scores tell nothing about the texts of others. Every hit is the document's text at
// [start, end), byte for byte. A search whose encoder is away goes by words and says so.
package search

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/uuid"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/metric"

	"aran/api/gen/aran/guard/v1/guardv1connect"
	"aran/api/gen/aran/infer/v1/inferv1connect"
	"aran/api/gen/aran/search/v1/searchv1connect"
	"aran/platform/auth"
	"aran/platform/breaker"
	"aran/platform/bus"
	"aran/platform/fault"
	"aran/platform/rpc"
	"aran/platform/saga"
	"aran/platform/store"
	"aran/platform/vector"
	"aran/service/search/chunk"
)

// SystemTenant owns the public collections.
const SystemTenant = "system"

// Definitions names the set of sagas of this service, for saga.Open: it changes when their steps change.
const Definitions = "search-1"

// Statuses of a document.
const (
	StatusQueued      = "queued"
	StatusIndexed     = "indexed"
	StatusQuarantined = "quarantined"
	StatusFailed      = "failed"
)

// How far a document is trusted.
const (
	TrustOutside = "outside" // anyone's text: data, never instruction
	TrustFlagged = "flagged" // the guard found something in it
	TrustBuiltIn = "builtin" // came with the program
)

// Collection is a named set of documents of one tenant.
type Collection struct {
	Name, Description, Owner string
	Public                   bool
	Created                  time.Time
	Documents                int64 // that the caller may read; only of a single collection
	ReadOnly                 bool  // it belongs to the platform

	id, generation, passages, terms int64
	tenant, pack                    string
}

// key names the collection in the ids of its terms.
func (c Collection) key() string { return c.tenant + "/" + c.Name }

// Document is a text and what is known about it.
type Document struct {
	ID, Title, Text, ContentType         string
	Owner, Source, Trust, Status, Reason string
	Metadata                             map[string]string
	Access                               []string // "user:…", "role:…"; empty: everyone in the tenant
	Version                              int64
	Created, Updated                     time.Time
	digest                               string // of all that the owner gave
	collection, latest, edition          int64
	restricted                           bool
}

// fingerprint tells whether the owner gave something new.
func (x Document) fingerprint() string {
	var sb strings.Builder
	part := func(s string) {
		sb.WriteString(strconv.Itoa(len(s)))
		sb.WriteByte(':')
		sb.WriteString(s)
	}
	for _, s := range []string{x.Title, x.ContentType, x.Text} {
		part(s)
	}
	for _, k := range slices.Sorted(maps.Keys(x.Metadata)) {
		part(k)
		part(x.Metadata[k])
	}
	sb.WriteByte('|')
	for _, a := range slices.Sorted(slices.Values(x.Access)) {
		part(a)
	}
	return digest(sb.String())
}

// Deps is what search stands on. The guard and the encoder are reached through their contracts; Count is the
// encoder's tokenizer as data: how many tokens a text has.
type Deps struct {
	DB     *store.DB
	Bus    *bus.Conn
	Sagas  *saga.Engine
	Server rpc.Server
	Guard  guardv1connect.GuardServiceClient
	Infer  inferv1connect.InferServiceClient
	Count  func(string) int
	Rerank Reranker // nil: there is none
	Packs  [][]byte // collections that come with the program, as Pack.Encode made them
	Log    *slog.Logger
}

// Service finds passages. Safe for concurrent use.
type Service struct {
	cfg           Config
	db            db
	bus           *bus.Conn
	guard         guardv1connect.GuardServiceClient
	infer         inferv1connect.InferServiceClient
	count         func(string) int
	log           *slog.Logger
	breaker       *breaker.Breaker
	reranker      Reranker
	rerankBreaker *breaker.Breaker
	indexes       *indexes
	lexicons      *lexicons
	// inDatabase: pgvector has all vectors, and is asked in place of the indexes.
	inDatabase atomic.Bool

	ingest   *saga.Saga[ingestion]
	public   *rpc.Public
	internal http.Handler
	packs    [][]byte
	metrics  metrics

	wake chan struct{} // there is something in the trash, or a parked edition
	stop context.CancelFunc
	done sync.WaitGroup
}

type metrics struct {
	took      metric.Float64Histogram
	documents metric.Int64Counter
}

// New registers handlers and sagas; nothing runs before Start.
func New(cfg Config, d Deps) (*Service, error) {
	if err := cfg.Check(); err != nil {
		return nil, err
	}
	if cfg.Vectors == VectorsPgvector && !d.DB.Shared() {
		return nil, errNoPostgres
	}
	s := &Service{
		cfg: cfg, db: db{d.DB, vector.NewTable(d.DB)}, bus: d.Bus, guard: d.Guard, infer: d.Infer, count: d.Count, packs: d.Packs, log: d.Log,
		breaker: breaker.New("infer", breaker.Default(), d.Log), reranker: d.Rerank, rerankBreaker: breaker.New("reranker", breaker.Default(), d.Log), wake: make(chan struct{}, 1),
	}
	s.indexes, s.lexicons = newIndexes(s.db, cfg), newLexicons(s.db, cfg, s.makeTerms)
	if err := s.measure(); err != nil {
		return nil, fmt.Errorf("search: %w", err)
	}
	s.ingest = saga.Define(d.Sagas, "ingest", s.run)
	s.public = rpc.NewPublic(d.Server, "search")
	s.routes()
	mux := http.NewServeMux()
	mux.Handle(searchv1connect.NewSearchServiceHandler(handler{s}, d.Server.HandlerOptions()...))
	s.internal = d.Server.Internal(mux)
	return s, nil
}

func (s *Service) measure() (err error) {
	m := otel.Meter("aran/service/search")
	if s.metrics.took, err = m.Float64Histogram("aran_search_retrieve_seconds", metric.WithUnit("s"), metric.WithDescription("Time of a search, by mode and whether it had to do without meaning.")); err != nil {
		return err
	}
	s.metrics.documents, err = m.Int64Counter("aran_search_documents_total", metric.WithDescription("Documents whose indexing ended, by outcome."))
	return err
}

// Public serves REST.
func (s *Service) Public() *rpc.Public { return s.public }

// Internal serves other services.
func (s *Service) Internal() http.Handler { return s.internal }

// Start takes stored documents into work, and begins to delete what was thrown away. The saga engine is launched by its owner.
func (s *Service) Start(ctx context.Context) error {
	if err := s.openVectors(ctx); err != nil {
		return fmt.Errorf("search: %w", err)
	}
	for _, p := range s.packs {
		if err := s.ImportPack(ctx, p); err != nil {
			return fmt.Errorf("search: %w", err)
		}
	}
	err := s.bus.Subscribe(ctx, bus.Work{Name: "ingest", Types: []string{DocumentStored}, DB: s.db.DB, Prepare: s.begin, Handle: seen})
	if err != nil {
		return fmt.Errorf("search: %w", err)
	}
	if err := s.bus.Broadcast(ctx, []string{DocumentDeleted, CollectionDeleted}, s.forget); err != nil {
		return fmt.Errorf("search: %w", err)
	}
	life, stop := context.WithCancel(context.WithoutCancel(ctx))
	s.stop = stop
	s.done.Go(func() { s.tidy(life) })
	s.done.Go(func() { s.keepTerms(life) })
	if s.cfg.Vectors == VectorsPgvector {
		s.done.Go(func() { s.keepVectors(life) })
	}
	return nil
}

// Stop ends the loops. Sagas and bus are stopped by their owner.
func (s *Service) Stop(ctx context.Context) error {
	if s.stop == nil {
		return nil
	}
	s.stop()
	done := make(chan struct{})
	go func() { s.done.Wait(); close(done) }()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("stop search: %w", ctx.Err())
	}
}

// CreateCollection makes a collection of the caller's tenant. key makes it safe to repeat; it may be empty.
func (s *Service) CreateCollection(ctx context.Context, c Collection, key string) (Collection, error) {
	v := viewerOf(auth.From(ctx))
	if c.Public {
		return Collection{}, fault.New(fault.Unsupported, "unsupported", "Public collections belong to the platform; a collection is readable in its own tenant.")
	}
	c.tenant, c.Owner, c.Created = v.tenant, v.subject, now()
	w := write{scope: v.tenant + "/" + v.subject + "/create_collection", key: key, request: digest(c.Name + "\x00" + c.Description)}
	return s.db.createCollection(ctx, c, s.cfg.Collections, w)
}

func errPersonal() error {
	return fault.New(fault.Unsupported, "unsupported", "Personal collections (sealed text) are not offered yet; leave \"personal\" out.")
}

// Collection returns one that the caller may read.
func (s *Service) Collection(ctx context.Context, name string) (Collection, error) {
	v := viewerOf(auth.From(ctx))
	c, err := s.db.readable(ctx, v.tenant, name)
	if err != nil {
		return c, err
	}
	c.ReadOnly = c.tenant != v.tenant
	c.Documents, err = s.db.countReadable(ctx, c, v)
	return c, err
}

// Collections lists those that the caller may read, by name, after a name.
func (s *Service) Collections(ctx context.Context, after string, limit int) ([]Collection, error) {
	v := viewerOf(auth.From(ctx))
	// A name may be there twice: the tenant's own hides the platform's.
	list, err := s.db.allReadable(ctx, v.tenant, after, 2*limit)
	if err != nil {
		return nil, err
	}
	list = list[:min(len(list), limit)]
	for i := range list {
		list[i].ReadOnly = list[i].tenant != v.tenant
	}
	return list, nil
}

// DeleteCollection deletes a collection with everything in it.
func (s *Service) DeleteCollection(ctx context.Context, name string) error {
	v := viewerOf(auth.From(ctx))
	c, err := s.db.own(ctx, s.db, v.tenant, name)
	if err != nil {
		return err
	}
	if err := s.db.deleteCollection(ctx, v, name); err != nil {
		return err
	}
	fault.Point("search.collection_unlinked")
	return s.erase(ctx, c.id)
}

// Put stores a document and acknowledges it; indexing follows. The same id again makes a new version, unless
// nothing changed. key makes it safe to repeat; it may be empty.
func (s *Service) Put(ctx context.Context, collection string, x Document, key string) (Document, error) {
	v := viewerOf(auth.From(ctx))
	if err := checkDocument(x); err != nil {
		return Document{}, err
	}
	w := write{scope: v.tenant + "/" + v.subject + "/put_document", key: key, request: digest(collection + "\x00" + x.ID + "\x00" + x.fingerprint())}
	if x.ID == "" {
		x.ID = uuid.Must(uuid.NewV7()).String()
	}
	if x.ContentType == "" {
		x.ContentType = plainText
	}
	x.Status, x.Trust, x.Source, x.Updated, x.digest = StatusQueued, TrustOutside, "upload", now(), x.fingerprint()
	out, err := s.db.putDocument(ctx, v, collection, x, w)
	if err != nil {
		return Document{}, err
	}
	fault.Point("search.document_stored")
	return out, nil
}

// Document returns a document with its text.
func (s *Service) Document(ctx context.Context, collection, id string) (Document, error) {
	v := viewerOf(auth.From(ctx))
	c, err := s.db.readable(ctx, v.tenant, collection)
	if err != nil {
		return Document{}, err
	}
	x, err := s.db.document(ctx, s.db, v, c, id)
	if err != nil {
		return Document{}, err
	}
	x.ContentType, x.Text, err = s.db.text(ctx, x)
	return x, err
}

// Documents lists documents without their text, by id, after an id.
func (s *Service) Documents(ctx context.Context, collection, after string, limit int) ([]Document, error) {
	v := viewerOf(auth.From(ctx))
	c, err := s.db.readable(ctx, v.tenant, collection)
	if err != nil {
		return nil, err
	}
	return s.db.documents(ctx, v, c, after, limit)
}

// DeleteDocument deletes a document, its text, and all that was made of it.
func (s *Service) DeleteDocument(ctx context.Context, collection, id string) error {
	v := viewerOf(auth.From(ctx))
	c, err := s.db.own(ctx, s.db, v.tenant, collection)
	if err != nil {
		return err
	}
	if err := s.db.deleteDocument(ctx, v, collection, id); err != nil {
		return err
	}
	fault.Point("search.document_unlinked")
	return s.erase(ctx, c.id)
}

func viewerOf(id auth.Identity) viewer {
	return viewer{tenant: id.Tenant, subject: id.Subject, roles: id.Roles, scopes: id.Scopes}
}

const (
	plainText = "text/plain"
	markdown  = "text/markdown"
)

// checkDocument refuses text that has no place in a database or an index.
func checkDocument(x Document) error {
	for name, s := range map[string]string{"text": x.Text, "title": x.Title} {
		if err := checkText(name, s); err != nil {
			return err
		}
	}
	for k, val := range x.Metadata {
		if err := checkText("metadata", k); err != nil {
			return err
		}
		if err := checkText("metadata."+k, val); err != nil {
			return err
		}
	}
	for _, r := range x.Text {
		if !unicode.IsSpace(r) && r != '\uFEFF' {
			return nil
		}
	}
	return invalid("text", "holds nothing but white space")
}

// checkText refuses what is no UTF-8, and NUL, which some databases can't hold.
func checkText(field, s string) error {
	if !utf8.ValidString(s) {
		at := 0
		for at < len(s) {
			r, n := utf8.DecodeRuneInString(s[at:])
			if r == utf8.RuneError && n <= 1 {
				break
			}
			at += n
		}
		return invalid(field, fmt.Sprintf("is not UTF-8 at byte %d; convert it first", at))
	}
	for i := range len(s) {
		if s[i] == 0 {
			return invalid(field, fmt.Sprintf("holds a NUL at byte %d", i))
		}
	}
	return nil
}

func invalid(field, what string) error {
	f := fault.New(fault.Invalid, "invalid", "The field %q %s.", field, what)
	f.Fields = []fault.Field{{Path: field, Message: what}}
	return f
}

// passages cuts a document.
func (s *Service) passages(title, contentType, text string) []chunk.Passage {
	o := chunk.Options{Max: s.cfg.PassageTokens, Overlap: s.cfg.OverlapTokens, Title: title, Count: s.count}
	if contentType == markdown {
		return chunk.Markdown(text, o)
	}
	return chunk.Text(text, o)
}

func now() time.Time { return time.Now().UTC().Truncate(time.Microsecond) }
