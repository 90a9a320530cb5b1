package store

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"go.opentelemetry.io/otel/propagation"

	"aran/platform/fault"
)

// Event is what happened, before it is sent. Ids and digests only: content does not travel in events.
type Event struct {
	ID      string // UUIDv7; made when empty (set it when the caller must know the id beforehand)
	Type    string // "aran.search.document_indexed.v1", also the subject on the bus
	Tenant  string // whose it is
	Actor   string // who caused it: subject of the identity
	Subject string // the thing: a document's id
	Data    any    // marshalled to JSON
}

// NewEventID makes an id that sorts by time (RFC 9562, version 7).
func NewEventID() string { return uuid.Must(uuid.NewV7()).String() }

// Outgoing is an event in the outbox: a complete CloudEvents 1.0 event in structured JSON.
type Outgoing struct {
	Sequence int64
	ID       string
	Type     string
	Payload  []byte
}

// envelope is CloudEvents 1.0 §3 with our extensions and the distributed tracing one.
type envelope struct {
	SpecVersion     string          `json:"specversion"`
	ID              string          `json:"id"`
	Source          string          `json:"source"`
	Type            string          `json:"type"`
	Time            string          `json:"time"`
	Subject         string          `json:"subject,omitempty"`
	DataContentType string          `json:"datacontenttype"`
	Tenant          string          `json:"arantenant,omitempty"`
	Actor           string          `json:"aranactor,omitempty"`
	TraceParent     string          `json:"traceparent,omitempty"`
	Data            json.RawMessage `json:"data"`
}

const maxEvent = 40 << 10 // bytes, as the bus takes them

// texts are the statements on the platform's own tables in a service's database.
type texts struct {
	own                                                                   []string
	migrations, migrated, breaks, breaking                                string
	emit, pending, sentOne, replay, prune, seen, pruneInbox, pendingCount string
	remembered, remember, forget                                          string
}

func textsFor(service string) texts {
	t := strings.NewReplacer("$S", service)
	return texts{
		own: []string{
			t.Replace(`CREATE TABLE IF NOT EXISTS $S_migration (name TEXT PRIMARY KEY, sha256 TEXT NOT NULL, at BIGINT NOT NULL)`),
			t.Replace(`CREATE TABLE IF NOT EXISTS $S_breaking (name TEXT PRIMARY KEY)`),
			t.Replace(`CREATE TABLE IF NOT EXISTS $S_outbox (sequence {{serial}}, id TEXT NOT NULL UNIQUE, type TEXT NOT NULL, payload {{blob}} NOT NULL, at BIGINT NOT NULL, sent BIGINT)`),
			t.Replace(`CREATE INDEX IF NOT EXISTS $S_outbox_unsent ON $S_outbox (sequence) WHERE sent IS NULL`),
			t.Replace(`CREATE TABLE IF NOT EXISTS $S_inbox (consumer TEXT NOT NULL, event TEXT NOT NULL, at BIGINT NOT NULL, PRIMARY KEY (consumer, event))`),
			t.Replace(`CREATE INDEX IF NOT EXISTS $S_inbox_at ON $S_inbox (at)`),
			t.Replace(`CREATE TABLE IF NOT EXISTS $S_idempotency (scope TEXT NOT NULL, key TEXT NOT NULL, request {{blob}} NOT NULL, answer {{blob}} NOT NULL, at BIGINT NOT NULL, PRIMARY KEY (scope, key))`),
		},
		migrations:   t.Replace(`SELECT name, sha256 FROM $S_migration`),
		migrated:     t.Replace(`INSERT INTO $S_migration (name, sha256, at) VALUES ($1, $2, $3)`),
		breaks:       t.Replace(`INSERT INTO $S_breaking (name) VALUES ($1)`),
		breaking:     t.Replace(`SELECT name FROM $S_breaking`),
		emit:         t.Replace(`INSERT INTO $S_outbox (id, type, payload, at) VALUES ($1, $2, $3, $4)`),
		pending:      t.Replace(`SELECT sequence, id, type, payload FROM $S_outbox WHERE sent IS NULL ORDER BY sequence LIMIT $1`),
		sentOne:      t.Replace(`UPDATE $S_outbox SET sent = $1 WHERE sequence = $2`),
		replay:       t.Replace(`UPDATE $S_outbox SET sent = NULL WHERE sent IS NOT NULL`),
		prune:        t.Replace(`DELETE FROM $S_outbox WHERE sent IS NOT NULL AND sent < $1`),
		seen:         t.Replace(`INSERT INTO $S_inbox (consumer, event, at) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING`),
		pruneInbox:   t.Replace(`DELETE FROM $S_inbox WHERE at < $1`),
		remembered:   t.Replace(`SELECT request, answer FROM $S_idempotency WHERE scope = $1 AND key = $2`),
		remember:     t.Replace(`INSERT INTO $S_idempotency (scope, key, request, answer, at) VALUES ($1, $2, $3, $4, $5)`),
		forget:       t.Replace(`DELETE FROM $S_idempotency WHERE at < $1`),
		pendingCount: t.Replace(`SELECT COUNT(*) FROM $S_outbox WHERE sent IS NULL`),
	}
}

// Emit writes the event to the outbox of this transaction; it is published after the commit, at least once.
func (tx *Tx) Emit(ctx context.Context, e Event) error {
	if e.ID == "" {
		e.ID = NewEventID()
	}
	if !strings.HasPrefix(e.Type, "aran."+tx.db.service+".") {
		return fmt.Errorf("emit %q: not an event of %s", e.Type, tx.db.service)
	}
	data, err := json.Marshal(e.Data)
	if err != nil {
		return fmt.Errorf("emit %s: %w", e.Type, err)
	}
	now := time.Now().UTC()
	carrier := propagation.MapCarrier{}
	propagation.TraceContext{}.Inject(ctx, carrier)
	payload, err := json.Marshal(envelope{
		SpecVersion: "1.0", ID: e.ID, Source: "aran/" + tx.db.service, Type: e.Type, Time: now.Format(time.RFC3339Nano), Subject: e.Subject,
		DataContentType: "application/json", Tenant: e.Tenant, Actor: e.Actor, TraceParent: carrier.Get("traceparent"), Data: data,
	})
	if err != nil {
		return fmt.Errorf("emit %s: %w", e.Type, err)
	}
	if len(payload) > maxEvent {
		return fmt.Errorf("emit %s: %d bytes; events carry ids, not content", e.Type, len(payload))
	}
	tx.woken = true
	if fault.OutboxOff() {
		tx.unstored = append(tx.unstored, Outgoing{ID: e.ID, Type: e.Type, Payload: payload})
		return nil
	}
	if _, err := tx.Exec(ctx, tx.db.text.emit, e.ID, e.Type, payload, now.UnixMicro()); err != nil {
		return fmt.Errorf("emit %s: %w", e.Type, err)
	}
	return nil
}

// emitted wakes the relay after a commit that held events.
func (db *DB) emitted(tx *Tx) {
	if !tx.woken {
		return
	}
	if len(tx.unstored) > 0 {
		db.mu.Lock()
		db.unstored = append(db.unstored, tx.unstored...)
		db.mu.Unlock()
	}
	select {
	case db.wake <- struct{}{}:
	default:
	}
}

// Committed receives after commits that held events, at least once for the latest.
func (db *DB) Committed() <-chan struct{} { return db.wake }

// Pending returns events that are not marked as sent, oldest first.
func (db *DB) Pending(ctx context.Context, limit int) ([]Outgoing, error) {
	db.mu.Lock()
	out := db.unstored
	db.unstored = nil
	db.mu.Unlock()
	rows, err := db.Query(ctx, db.text.pending, limit)
	if err != nil {
		return nil, err
	}
	defer rows.Close() //nolint:errcheck // read only
	for rows.Next() {
		var o Outgoing
		if err := rows.Scan(&o.Sequence, &o.ID, &o.Type, &o.Payload); err != nil {
			return nil, classify(err)
		}
		out = append(out, o)
	}
	return out, classify(rows.Err())
}

// Unsent is how many events wait.
func (db *DB) Unsent(ctx context.Context) (n int, err error) {
	return n, classify(db.QueryRow(ctx, db.text.pendingCount).Scan(&n))
}

// MarkSent notes that the bus has these events. They are kept until Prune.
func (db *DB) MarkSent(ctx context.Context, sequences []int64) error {
	now := time.Now().UnixMicro()
	return db.Tx(ctx, func(tx *Tx) error {
		for _, s := range sequences {
			if _, err := tx.Exec(ctx, db.text.sentOne, now, s); err != nil {
				return err
			}
		}
		return nil
	})
}

// Replay marks every kept event as not sent: after an unclean start the bus may have forgotten some.
func (db *DB) Replay(ctx context.Context) error {
	return db.Tx(ctx, func(tx *Tx) error {
		_, err := tx.Exec(ctx, db.text.replay)
		return err
	})
}

// Prune deletes events that were sent, and inbox rows that were written, before a time.
func (db *DB) Prune(ctx context.Context, outboxBefore, inboxBefore time.Time) error {
	return db.Tx(ctx, func(tx *Tx) error {
		if _, err := tx.Exec(ctx, db.text.prune, outboxBefore.UnixMicro()); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, db.text.forget, time.Now().Add(-rememberedFor).UnixMicro()); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, db.text.pruneInbox, inboxBefore.UnixMicro())
		return err
	})
}

// Seen notes in this transaction that a consumer has an event in hand. fresh is false when it had it before.
func (tx *Tx) Seen(ctx context.Context, consumer, event string) (fresh bool, err error) {
	if fault.InboxOff() {
		return true, nil
	}
	n, err := tx.Exec(ctx, tx.db.text.seen, consumer, event, time.Now().UnixMicro())
	return n == 1, err
}
