package infer

import (
	"context"
	"fmt"
	"time"

	"aran/platform/store"
)

const (
	knownModel = `SELECT version, digest, status FROM infer_model WHERE name = $1`
	keepModel  = `INSERT INTO infer_model (name, version, digest, status, changed_at) VALUES ($1, $2, $3, $4, $5)
		ON CONFLICT (name) DO UPDATE SET version = excluded.version, digest = excluded.digest, status = excluded.status, changed_at = excluded.changed_at`
)

// Whose events about models are: nobody's in particular.
const (
	eventTenant = "system"
	eventActor  = "service:infer"
)

// noteModel keeps what a model is now. When that is a change, the event is part of the same transaction.
func noteModel(ctx context.Context, db *store.DB, e ModelEvent, at time.Time) error {
	return db.Tx(ctx, func(tx *store.Tx) error {
		var was ModelEvent
		err := tx.QueryRow(ctx, knownModel, e.Name).Scan(&was.Version, &was.Digest, &was.Status)
		was.Name = e.Name
		if err != nil && !store.NoRows(err) {
			return fmt.Errorf("read model %s: %w", e.Name, err)
		}
		if err == nil && was == e {
			return nil
		}
		if _, err := tx.Exec(ctx, keepModel, e.Name, e.Version, e.Digest, e.Status, at.UnixMicro()); err != nil {
			return fmt.Errorf("keep model %s: %w", e.Name, err)
		}
		return tx.Emit(ctx, store.Event{Type: ModelChanged, Tenant: eventTenant, Actor: eventActor, Subject: e.Name, Data: e})
	})
}
