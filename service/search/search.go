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
	"errors"
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
	"aran/service/search/extract"
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
	TrustOutside  = "outside"  // anyone's text: data, never instruction
	TrustFlagged  = "flagged"  // the guard found something in it
	TrustReleased = "released" // the guard refused it, and a person let it out
	TrustBuiltIn  = "builtin"  // came with the program
)

// Collection is a named set of documents of one tenant.
type Collection struct {
	Settings
	Name, Owner string
	Public      bool
	Encoder     string // digest of the model that its searches go by; empty: nothing was encoded yet
	Created     time.Time
	Documents   int64        // that the caller may read; only of a single collection
	ReadOnly    bool         // it belongs to the platform
	Reembedding *Reembedding // the last one, if there was one; only of a single collection

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
	Origin                               Origin
	DuplicateOf                          string // another document with the same text, in the answer to a put
	Skipped                              bool   // it was not stored: DuplicateOf is what is there
	digest                               string // of all that the owner gave
	collection, latest, edition          int64
	restricted                           bool
}

// Origin is what a document's text was taken from.
type Origin struct {
	Digest   string   // SHA-256 of the bytes that were sent; empty: the text itself was
	Type     string   // their content type
	Pages    []int    // where each page begins in the text, in bytes; empty: there are no pages
	Findings []string // kinds of what the extraction found suspicious, as text that readers don't see
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
	Dir    string   // where this replica may keep what it can make again; empty: nowhere
	Rerank Reranker // nil: infer's
	// Cache is a directory of this service's own, where compiled code of the PDF engine is kept; empty: in memory.
	Cache string
	Packs [][]byte // collections that come with the program, as Pack.Encode made them
	Log   *slog.Logger
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
	hosted        *hosted // nil: vectors are not searched on a server of another vendor's
	// inDatabase: pgvector has all vectors, and is asked in place of the indexes.
	inDatabase atomic.Bool
	unclean    atomic.Bool  // deleted rows may stand in the journal
	watchers   atomic.Int64 // open streams of progress
	scrubbed   atomic.Int64 // when tidy looked last, in microseconds

	ingest   *saga.Saga[ingestion]
	reembeds *saga.Saga[reembedding]
	public   *rpc.Public
	internal http.Handler
	packs    [][]byte
	reader   *extract.Reader
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
		cfg: cfg, db: db{d.DB, vector.NewTable(d.DB)}, bus: d.Bus, guard: d.Guard, infer: d.Infer, count: d.Count, packs: d.Packs, log: d.Log, reader: extract.NewReader(d.Cache),
		breaker: breaker.New("infer", breaker.Default(), d.Log), reranker: d.Rerank, rerankBreaker: breaker.New("reranker", breaker.Default(), d.Log), wake: make(chan struct{}, 1),
	}
	s.indexes, s.lexicons = newIndexes(s.db, cfg, d.Dir, d.Log), newLexicons(s.db, cfg, s.makeTerms)
	var err error
	if s.hosted, err = openHost(s.db, cfg, d.Log); err != nil {
		return nil, err
	}
	if s.reranker == nil {
		s.reranker = s.askReranker
	}
	if err := s.measure(); err != nil {
		return nil, fmt.Errorf("search: %w", err)
	}
	s.ingest = saga.Define(d.Sagas, "ingest", s.run)
	s.reembeds = saga.Define(d.Sagas, "reembed", s.reembed)
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
	if err := errors.Join(s.openVectors(ctx), s.indexes.openDir()); err != nil {
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
	if err := s.bus.Broadcast(ctx, []string{ReembeddingEnded}, s.wentOver); err != nil {
		return fmt.Errorf("search: %w", err)
	}
	life, stop := context.WithCancel(context.WithoutCancel(ctx))
	s.stop = stop
	s.done.Go(func() { s.tidy(life) })
	s.done.Go(func() { s.indexes.tend(life) })
	s.done.Go(func() { s.keepTerms(life) })
	if s.hosted != nil {
		s.done.Go(func() { s.hosted.keep(life) })
	}
	s.done.Go(func() { s.watchEncoders(life) })
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
		s.indexes.clear(ctx)
		return s.reader.Close(ctx)
	case <-ctx.Done():
		return fmt.Errorf("stop search: %w", ctx.Err())
	}
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
	if c.Documents, err = s.db.countReadable(ctx, c, v); err != nil || c.ReadOnly {
		return c, err
	}
	job, err := s.db.lastReembedding(ctx, s.db, c.id)
	if err == nil && job.ID != "" {
		c.Reembedding = &job
	}
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
func (s *Service) Put(ctx context.Context, collection string, x Document, key string) (Collection, Document, error) {
	v := viewerOf(auth.From(ctx))
	if err := checkDocument(x); err != nil {
		return Collection{}, Document{}, err
	}
	w := write{scope: v.tenant + "/" + v.subject + "/put_document", key: key, request: digest(collection + "\x00" + x.ID + "\x00" + x.fingerprint())}
	if x.ID == "" {
		x.ID = uuid.Must(uuid.NewV7()).String()
	}
	if x.ContentType == "" {
		x.ContentType = plainText
	}
	x.Status, x.Trust, x.Source, x.Updated, x.digest = StatusQueued, TrustOutside, "upload", now(), x.fingerprint()
	c, out, err := s.db.putDocument(ctx, v, collection, x, w)
	if err != nil {
		return Collection{}, Document{}, err
	}
	fault.Point("search.document_stored")
	return c, out, nil
}

// Document returns a document with its text, and its collection. version 0 is the one that was stored last; another one
// must be found by searches, or be kept.
func (s *Service) Document(ctx context.Context, collection, id string, version int64) (Collection, Document, error) {
	v := viewerOf(auth.From(ctx))
	c, err := s.db.readable(ctx, v.tenant, collection)
	if err != nil {
		return c, Document{}, err
	}
	for latest := int64(0); ; {
		x, err := s.db.document(ctx, s.db, v, c, id)
		if err != nil {
			return c, Document{}, err
		}
		edition, err := s.editionOf(ctx, x, version)
		if err != nil {
			return c, Document{}, err
		}
		full, err := s.db.edition(ctx, x, edition)
		if fault.KindOf(err) == fault.Missing && x.latest != latest { // another one took its place at this moment
			latest = x.latest
			continue
		}
		return c, full, err
	}
}

// editionOf finds a version of a document; 0 is the latest.
func (s *Service) editionOf(ctx context.Context, x Document, version int64) (int64, error) {
	if version == 0 || version == x.Version {
		return x.latest, nil
	}
	list, err := s.db.versions(ctx, x)
	if err != nil {
		return 0, err
	}
	i := slices.IndexFunc(list, func(v Version) bool { return v.Number == version })
	if i < 0 {
		return 0, fault.New(fault.Missing, "no_such_version", "There is no version %d of %q any more.", version, x.ID)
	}
	return list[i].edition, nil
}

// Versions lists those of a document that can be read, the newest first.
func (s *Service) Versions(ctx context.Context, collection, id string) ([]Version, error) {
	v := viewerOf(auth.From(ctx))
	c, err := s.db.readable(ctx, v.tenant, collection)
	if err != nil {
		return nil, err
	}
	x, err := s.db.document(ctx, s.db, v, c, id)
	if err != nil {
		return nil, err
	}
	return s.db.versions(ctx, x)
}

// Documents lists documents without their text, of a status or (empty) of any, by id, after an id.
func (s *Service) Documents(ctx context.Context, collection, status, after string, limit int) (Collection, []Document, error) {
	v := viewerOf(auth.From(ctx))
	c, err := s.db.readable(ctx, v.tenant, collection)
	if err != nil {
		return c, nil, err
	}
	list, err := s.db.documents(ctx, v, c, status, after, limit)
	return c, list, err
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
