// Package audit keeps the append-only log of what the platform decided.
//
// It owns the entries, the Merkle tree over them and the log's signing key, and it takes its input from the bus
// alone: every event becomes one entry, exactly once, in the transaction that also knows the event again. What
// says who did it and on what is sealed with the key of that subject, so that erasing the key erases it, and the
// proofs still hold. It never changes or removes an entry, and it signs nothing that does not continue what it
// signed before: a log that was tampered with stops it.
package audit

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	"aran/platform/bus"
	"aran/platform/fault"
	"aran/platform/rpc"
	"aran/platform/seal"
	"aran/platform/store"
	"aran/platform/watch"
	"aran/service/audit/ledger"
)

// Name is the service's name.
const Name = "audit"

// system is the subject under whose key stands what nobody caused, and the log's own key.
const system = "service:audit"

// Deps is what the service needs.
type Deps struct {
	DB     *store.DB
	Bus    *bus.Conn
	Box    *seal.Box
	Server rpc.Server
	Log    *slog.Logger
	Health *watch.Health
	Dir    string // the service's folder in the data directory, for the verifier key
}

// Service records events. Make one with New.
type Service struct {
	cfg     Config
	d       Deps
	public  *rpc.Public
	entries metric.Int64Counter
	tracer  trace.Tracer
	waiters chan struct{}
	dirty   chan struct{} // an entry was committed

	stop context.CancelFunc
	done sync.WaitGroup

	mu      sync.Mutex
	signer  *signer       // nil before Start
	signed  chan struct{} // closed at the next checkpoint
	failure error         // of the last attempt to sign
}

// New registers the routes. Nothing is served, recorded or signed before Start.
func New(cfg Config, d Deps) (*Service, error) {
	if err := cfg.Check(); err != nil {
		return nil, err
	}
	entries, err := otel.Meter("aran/service/audit").Int64Counter("aran_audit_entries_total",
		metric.WithDescription("Entries added to the audit log."))
	if err != nil {
		return nil, fmt.Errorf("audit metrics: %w", err)
	}
	s := &Service{
		cfg: cfg, d: d, entries: entries, tracer: otel.Tracer("aran/service/audit"), public: rpc.NewPublic(d.Server, "Audit log"),
		waiters: make(chan struct{}, cfg.Waiters), dirty: make(chan struct{}, 1), signed: make(chan struct{}),
	}
	s.routes()
	d.Health.Add("audit: checkpoints", s.ready)
	return s, nil
}

// Public is the REST handler.
func (s *Service) Public() *rpc.Public { return s.public }

// Start opens the log, checks that it continues what was signed, and begins to record.
func (s *Service) Start(ctx context.Context) error {
	sg, err := s.openSigner(ctx)
	if err != nil {
		return fmt.Errorf("open the audit log: %w", err)
	}
	err = s.d.DB.InTurn(ctx, signing, func(ctx context.Context) error { return sg.sign(ctx, time.Now()) })
	if err != nil {
		return fmt.Errorf("sign the audit log: %w", err)
	}
	s.mu.Lock()
	s.signer = sg
	s.mu.Unlock()
	loop, stop := context.WithCancel(context.WithoutCancel(ctx))
	s.stop = stop
	s.done.Go(func() { s.signLoop(loop) })
	return s.d.Bus.Subscribe(ctx, bus.Work{
		Name: "log", Types: []string{"aran.>"}, DB: s.d.DB, Concurrency: s.cfg.Workers,
		Prepare: s.prepare, Handle: s.record, After: s.recorded,
	})
}

// Stop closes the bus connection, so that nothing more is recorded, and signs what was recorded last.
func (s *Service) Stop(ctx context.Context) error {
	if s.stop == nil {
		return nil
	}
	closed := s.d.Bus.Close(ctx)
	s.stop()
	s.done.Wait()
	fault.Point("audit.stopping")
	return errors.Join(closed, s.sign(ctx))
}

// sealed is the part of an entry that is under the subject's key.
type sealed struct {
	Actor   string          `json:"actor,omitempty"`
	Subject string          `json:"subject,omitempty"`
	Source  string          `json:"source,omitempty"`
	Data    json.RawMessage `json:"data,omitempty"`
}

// prepare turns an event into the leaf of its entry. It runs outside the log's transaction, for it may make a key:
// a key without an entry, after a crash between the two, is harmless.
func (s *Service) prepare(ctx context.Context, e bus.Event) (bus.Event, error) {
	owner := e.Actor
	if owner == "" {
		owner = system
	}
	l := ledger.Leaf{ID: e.ID, Type: e.Type, Tenant: e.Tenant, Time: ledger.At(e.Time), V: 1, Sealed: []byte{}}
	plain, err := json.Marshal(sealed{Actor: e.Actor, Subject: e.Subject, Source: e.Source, Data: e.Data})
	if err != nil {
		return e, fmt.Errorf("encode entry: %w", err)
	}
	l.Actor, err = s.d.Box.Pseudonym(ctx, owner)
	if err == nil {
		l.Sealed, err = s.d.Box.Seal(ctx, owner, plain, place(e.ID))
	}
	if f := fault.From(err); f != nil && f.Code == seal.CodeErased { // that it happened is recorded all the same
		l.Actor, l.Sealed, l.Erased, err = "", []byte{}, true, nil
	}
	if err != nil {
		return e, fmt.Errorf("seal entry: %w", err)
	}
	fault.Point("audit.sealed")
	e.Data, err = l.Encode()
	return e, err
}

// place binds what is sealed to its entry.
func place(event string) []byte { return []byte("audit/entry/" + event) }

// record appends the entry that prepare made.
func (s *Service) record(ctx context.Context, tx *store.Tx, e bus.Event) error {
	ctx, span := s.tracer.Start(ctx, "audit.append")
	defer span.End()
	added, err := appendEntry(ctx, tx, e, time.Now())
	if err == nil && added {
		s.entries.Add(ctx, 1)
	}
	return err
}

func (s *Service) recorded() {
	select {
	case s.dirty <- struct{}{}:
	default:
	}
}

// ready is the health check: without a log's key, or when signing fails, the platform is not.
func (s *Service) ready(context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.signer == nil {
		return errors.New("the log is not open yet")
	}
	return s.failure
}

// Entry is an entry as its tenant may read it.
type Entry struct {
	Index   int64
	Leaf    ledger.Leaf
	Actor   string // empty when erased
	Subject string
	Source  string
	Data    json.RawMessage
	Erased  bool // who and what cannot be read any more
}

// List pages through a tenant's entries, newest first: those before an index (0: from the newest), of a type or of
// all types below a prefix that ends in a dot.
func (s *Service) List(ctx context.Context, tenant, kind string, before int64, limit int) ([]Entry, error) {
	rows, err := s.list(ctx, tenant, kind, before, limit)
	if err != nil {
		return nil, err
	}
	out := make([]Entry, len(rows))
	for i, r := range rows {
		if out[i], err = s.open(ctx, r); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func (s *Service) open(ctx context.Context, r row) (Entry, error) {
	l, err := ledger.ParseLeaf(r.leaf)
	if err != nil {
		return Entry{}, fmt.Errorf("entry %d: %w", r.seq, err)
	}
	e := Entry{Index: r.seq, Leaf: l, Erased: true}
	if l.Erased {
		return e, nil
	}
	plain, err := s.d.Box.OpenFor(ctx, l.Actor, l.Sealed, place(l.ID))
	if f := fault.From(err); f != nil && f.Code == seal.CodeErased {
		return e, nil
	}
	if err != nil {
		return Entry{}, fmt.Errorf("entry %d: %w", r.seq, err)
	}
	var p sealed
	if err := json.Unmarshal(plain, &p); err != nil {
		return Entry{}, fmt.Errorf("entry %d: %w", r.seq, err)
	}
	e.Actor, e.Subject, e.Source, e.Data, e.Erased = p.Actor, p.Subject, p.Source, p.Data, false
	return e, nil
}

// Proof waits a little for an event of the tenant that is still on its way, and proves that it is in the log.
func (s *Service) Proof(ctx context.Context, tenant, event string) (ledger.Bundle, error) {
	sg, err := s.opened()
	if err != nil {
		return ledger.Bundle{}, err
	}
	wait := s.cfg.ProofWait
	select {
	case s.waiters <- struct{}{}:
		defer func() { <-s.waiters }()
	default:
		wait = 0
	}
	timeout := time.NewTimer(wait)
	defer timeout.Stop()
	look := time.NewTicker(s.cfg.SignEvery) // another replica may sign it
	defer look.Stop()
	for {
		s.mu.Lock()
		next := s.signed
		s.mu.Unlock()
		c, err := s.newestCheckpoint(ctx)
		if err != nil && !errors.Is(err, errNone) {
			return ledger.Bundle{}, err
		}
		r, err := s.find(ctx, tenant, event)
		if err == nil && r.seq < c.size {
			return ledger.Prove(r.seq, r.leaf, c.signed, sg.verifier, s.nodeReader(ctx))
		}
		if err != nil && fault.KindOf(err) != fault.Missing {
			return ledger.Bundle{}, err
		}
		select {
		case <-next:
		case <-look.C:
		case <-ctx.Done():
			return ledger.Bundle{}, ctx.Err()
		case <-timeout.C:
			if f := fault.From(err); f != nil {
				return ledger.Bundle{}, f.After(time.Second) // it may still be on its way
			}
			return ledger.Bundle{}, fault.New(fault.Unavailable, "audit_event_unsigned", "The event is recorded, but no checkpoint covers it yet.").After(time.Second)
		}
	}
}

// Checkpoint is the newest signed note, and the key that verifies it.
func (s *Service) Checkpoint(ctx context.Context) (signed []byte, verifier string, err error) {
	sg, err := s.opened()
	if err != nil {
		return nil, "", err
	}
	c, err := s.newestCheckpoint(ctx) // another replica may have signed it
	return c.signed, sg.verifier, err
}

func (s *Service) opened() (*signer, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.signer == nil {
		return nil, fault.New(fault.Unavailable, "audit_starting", "The audit log is being opened.").After(time.Second)
	}
	return s.signer, nil
}

// writeVerifier puts the key that verifies the log where tools find it, whole or not at all. A file that holds
// another key is left alone and refused: it may be the only witness of what was there before.
func writeVerifier(dir, line string) error {
	path := filepath.Join(dir, "verifier.key")
	have, err := os.ReadFile(path) //nolint:gosec // the operator's own path
	if err == nil {
		if string(have) != line+"\n" {
			return fmt.Errorf("%s holds another key than the database: put back the file or the database that belong together", path)
		}
		return nil
	}
	if !errors.Is(err, os.ErrNotExist) {
		return err
	}
	f, err := os.CreateTemp(dir, "verifier.key.new-*")
	if err != nil {
		return err
	}
	_, err = f.WriteString(line + "\n")
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		fault.Point("audit.verifier_written")
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}
