package infer

import (
	"context"
	"fmt"
	"strings"
	"time"

	"aran/platform/store"
)

const (
	knownModel = `SELECT version, digest, status FROM infer_model WHERE name = $1`
	keepModel  = `INSERT INTO infer_model (name, version, digest, status, changed_at) VALUES ($1, $2, $3, $4, $5)
		ON CONFLICT (name) DO UPDATE SET version = excluded.version, digest = excluded.digest, status = excluded.status, changed_at = excluded.changed_at`

	findServing = `SELECT version, digest, decided_at FROM infer_serving WHERE name = $1`
	putServing  = `INSERT INTO infer_serving (name, version, digest, decided_at) VALUES ($1, $2, $3, $4)
		ON CONFLICT (name) DO UPDATE SET version = excluded.version, digest = excluded.digest, decided_at = excluded.decided_at`

	rolloutColumns = `id, name, from_version, from_digest, to_version, to_digest, actor, phase, percent, reason, detail, owner, started_at, beat_at, ended_at`
	findRunning    = `SELECT ` + rolloutColumns + ` FROM infer_rollout WHERE name = $1 AND ended_at = 0`
	latestRollouts = `SELECT ` + rolloutColumns + ` FROM infer_rollout WHERE name = $1 ORDER BY started_at DESC, id DESC LIMIT $2`
	addRollout     = `INSERT INTO infer_rollout (` + rolloutColumns + `) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 0, '', '', $9, $10, $10, 0)`
	moveRollout    = `UPDATE infer_rollout SET phase = $1, percent = $2, beat_at = $3 WHERE id = $4 AND owner = $5 AND ended_at = 0`
	stopRollout    = `UPDATE infer_rollout SET phase = $1, percent = $2, reason = $3, detail = $4, beat_at = $5, ended_at = $5 WHERE id = $6 AND ended_at = 0`
	pruneRollouts  = `DELETE FROM infer_rollout WHERE name = $1 AND ended_at > 0 AND id NOT IN (SELECT id FROM infer_rollout WHERE name = $1 ORDER BY started_at DESC, id DESC LIMIT $2)`
)

// keptRollouts of each model stay.
const keptRollouts = 100

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

// pin is a version with its digest.
type pin struct{ Version, Digest string }

type servingRow struct {
	version, digest string
	decided         time.Time
}

// serving is which version was decided to serve, or nil.
func serving(ctx context.Context, db *store.DB, name string) (*servingRow, error) {
	var r servingRow
	var at int64
	err := db.QueryRow(ctx, findServing, name).Scan(&r.version, &r.digest, &at)
	if store.NoRows(err) {
		return nil, nil //nolint:nilnil // nothing was decided
	}
	if err != nil {
		return nil, fmt.Errorf("read what serves of %s: %w", name, err)
	}
	r.decided = time.UnixMicro(at)
	return &r, nil
}

// keepServing writes down which version serves.
func keepServing(ctx context.Context, db *store.DB, name string, v *version, at time.Time) error {
	return db.Tx(ctx, func(tx *store.Tx) error {
		if _, err := tx.Exec(ctx, putServing, name, v.Version, v.Digest, at.UnixMicro()); err != nil {
			return fmt.Errorf("keep what serves of %s: %w", name, err)
		}
		return nil
	})
}

// rolloutRow is a change of the version that serves.
type rolloutRow struct {
	id, name                     string
	from, to                     pin
	actor, phase, reason, detail string
	percent                      int
	owner                        string
	started, beat, ended         time.Time
}

func (r *rolloutRow) event() store.Event {
	return store.Event{Type: Rollout, Tenant: eventTenant, Actor: eventActor, Subject: r.name, Data: RolloutEvent{
		Rollout: r.id, Name: r.name, From: r.from.Version, FromDigest: r.from.Digest, To: r.to.Version, ToDigest: r.to.Digest,
		Phase: r.phase, Percent: r.percent, Reason: r.reason, Chosen: r.actor,
	}}
}

func scanRollout(row interface{ Scan(...any) error }) (*rolloutRow, error) {
	var r rolloutRow
	var started, beat, ended int64
	err := row.Scan(&r.id, &r.name, &r.from.Version, &r.from.Digest, &r.to.Version, &r.to.Digest, &r.actor, &r.phase, &r.percent, &r.reason, &r.detail, &r.owner, &started, &beat, &ended)
	if err != nil {
		return nil, err
	}
	r.started, r.beat = time.UnixMicro(started), time.UnixMicro(beat)
	if ended > 0 {
		r.ended = time.UnixMicro(ended)
	}
	return &r, nil
}

// runningRollout is the one that has not ended, or nil.
func runningRollout(ctx context.Context, db *store.DB, name string) (*rolloutRow, error) {
	r, err := scanRollout(db.QueryRow(ctx, findRunning, name))
	if store.NoRows(err) {
		return nil, nil //nolint:nilnil // none runs
	}
	if err != nil {
		return nil, fmt.Errorf("read the rollout of %s: %w", name, err)
	}
	return r, nil
}

// rollouts are the latest ones, newest first.
func rollouts(ctx context.Context, db *store.DB, name string, limit int) (out []rolloutRow, err error) {
	rows, err := db.Query(ctx, latestRollouts, name, limit)
	if err != nil {
		return nil, fmt.Errorf("read rollouts of %s: %w", name, err)
	}
	defer rows.Close() //nolint:errcheck // read to its end below
	for rows.Next() {
		r, err := scanRollout(rows)
		if err != nil {
			return nil, fmt.Errorf("read rollouts of %s: %w", name, err)
		}
		out = append(out, *r)
	}
	return out, rows.Err()
}

// beginRollout writes a rollout down. When one runs already the error is fault.Conflict.
func beginRollout(ctx context.Context, db *store.DB, r rolloutRow, at time.Time) (rolloutRow, error) {
	r.id, r.phase, r.started, r.beat = store.NewEventID(), phaseStarting, at, at
	err := db.Tx(ctx, func(tx *store.Tx) error {
		if _, err := tx.Exec(ctx, addRollout, r.id, r.name, r.from.Version, r.from.Digest, r.to.Version, r.to.Digest, r.actor, r.phase, r.owner, at.UnixMicro()); err != nil {
			return fmt.Errorf("begin the rollout of %s: %w", r.name, err)
		}
		if _, err := tx.Exec(ctx, pruneRollouts, r.name, keptRollouts); err != nil {
			return fmt.Errorf("forget old rollouts of %s: %w", r.name, err)
		}
		return tx.Emit(ctx, r.event())
	})
	return r, err
}

// stepRollout writes down where a rollout is; fault.Conflict when it is not this process's any more.
func stepRollout(ctx context.Context, db *store.DB, r rolloutRow, at time.Time) error {
	return db.Tx(ctx, func(tx *store.Tx) error {
		if err := tx.ExecOne(ctx, moveRollout, r.phase, r.percent, at.UnixMicro(), r.id, r.owner); err != nil {
			return fmt.Errorf("step of the rollout of %s: %w", r.name, err)
		}
		return tx.Emit(ctx, r.event())
	})
}

// beatRollout says that the rollout has an owner.
func beatRollout(ctx context.Context, db *store.DB, r rolloutRow, at time.Time) error {
	return db.Tx(ctx, func(tx *store.Tx) error {
		if err := tx.ExecOne(ctx, moveRollout, r.phase, r.percent, at.UnixMicro(), r.id, r.owner); err != nil {
			return fmt.Errorf("rollout of %s: %w", r.name, err)
		}
		return nil
	})
}

// endRollout writes down how a rollout ended and, unless decided is nil, that this version serves from now on. An
// end that was written already stays: fault.Conflict.
func endRollout(ctx context.Context, db *store.DB, r rolloutRow, phase, reason, detail string, decided *version, at time.Time) error {
	r.phase, r.reason, r.percent = phase, reason, 0
	if phase == phaseDone {
		r.percent = 100
	}
	return db.Tx(ctx, func(tx *store.Tx) error {
		if err := tx.ExecOne(ctx, stopRollout, phase, r.percent, reason, clip(detail), at.UnixMicro(), r.id); err != nil {
			return fmt.Errorf("end of the rollout of %s: %w", r.name, err)
		}
		if decided != nil {
			if _, err := tx.Exec(ctx, putServing, r.name, decided.Version, decided.Digest, at.UnixMicro()); err != nil {
				return fmt.Errorf("keep what serves of %s: %w", r.name, err)
			}
		}
		return tx.Emit(ctx, r.event())
	})
}

// clip keeps a detail short; it may quote what a model process wrote.
func clip(s string) string {
	const most = 500
	if len(s) > most {
		s = s[:most] + "…"
	}
	return strings.ToValidUTF8(s, "?")
}
