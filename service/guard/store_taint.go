package guard

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"aran/platform/fault"
	"aran/platform/store"
	"aran/service/guard/taint"
)

const (
	// The row is locked by what it returns: two replicas that mark one conversation do it one after the other.
	touchTaint = `INSERT INTO guard_taint (tenant, subject, conversation, level, sources, foreign_values, vouched_values, used_at) VALUES ($1, $2, $3, 0, '[]', NULL, NULL, $4)
		ON CONFLICT (tenant, subject, conversation) DO UPDATE SET used_at = CASE WHEN guard_taint.used_at > excluded.used_at THEN guard_taint.used_at ELSE excluded.used_at END
		RETURNING level, sources, foreign_values, vouched_values`
	writeTaint = `UPDATE guard_taint SET level = $1, sources = $2, foreign_values = $3, vouched_values = $4
		WHERE tenant = $5 AND subject = $6 AND conversation = $7 AND level <= $1`
	readTaint = `SELECT level, sources, foreign_values, vouched_values, used_at FROM guard_taint WHERE tenant = $1 AND subject = $2 AND conversation = $3`
	// A few at a time, with every conversation that is marked: they never pile up.
	sweepTaint = `DELETE FROM guard_taint WHERE used_at < $1 AND conversation IN (SELECT conversation FROM guard_taint WHERE used_at < $1 ORDER BY used_at LIMIT 32)`
	// Somebody who makes conversations without end loses the oldest of their own.
	trimTaint = `DELETE FROM guard_taint WHERE tenant = $1 AND subject = $2 AND conversation IN
		(SELECT conversation FROM guard_taint WHERE tenant = $1 AND subject = $2 ORDER BY used_at DESC LIMIT 100 OFFSET $3)`
)

// talk names a conversation: two subjects never share one.
type talk struct{ tenant, subject, conversation string }

// key makes the digests of values in one conversation useless for another.
func (t talk) key() string { return t.tenant + "\x00" + t.subject + "\x00" + t.conversation }

// maxTalks is how many conversations of one subject are remembered.
const maxTalks = 10_000

// freshEvery is how often the time of a conversation's last use is written when nothing else changes.
const freshEvery = time.Hour

// markTaint adds what a conversation reads. It is on disk when it returns: a tool that is asked for later, anywhere, is judged by it.
func (s *Service) markTaint(ctx context.Context, t talk, ps taint.Policies, reads []taint.Read) error {
	now := time.Now()
	state, used, err := s.taintOf(ctx, t)
	if err != nil {
		return err
	}
	if !state.Mark(ps, t.key(), reads...) && now.Sub(used) < freshEvery {
		return nil // it has read all of that before
	}
	err = s.db.Tx(ctx, func(tx *store.Tx) error {
		if _, err := tx.Exec(ctx, sweepTaint, now.Add(-s.cfg.ConversationTTL).UnixMicro()); err != nil {
			return err
		}
		if used.IsZero() {
			if _, err := tx.Exec(ctx, trimTaint, t.tenant, t.subject, maxTalks); err != nil {
				return err
			}
		}
		there, err := scanTaint(tx.QueryRow(ctx, touchTaint, t.tenant, t.subject, t.conversation, now.UnixMicro()))
		if err != nil {
			return err
		}
		there.Join(state) // another replica may have marked it meanwhile
		sources, err := json.Marshal(there.Sources)
		if err != nil {
			return err
		}
		foreign, err := there.Foreign.MarshalBinary()
		if err != nil {
			return err
		}
		vouched, err := there.Vouched.MarshalBinary()
		if err != nil {
			return err
		}
		return tx.ExecOne(ctx, writeTaint, int64(there.Level), string(sources), foreign, vouched, t.tenant, t.subject, t.conversation)
	})
	if err == nil {
		fault.Point("guard.conversation_marked")
	}
	return err
}

// taintOf reads what is known of a conversation; a new one is clean.
func (s *Service) taintOf(ctx context.Context, t talk) (state taint.State, used time.Time, err error) {
	var at int64
	state, err = scanTaint(s.db.QueryRow(ctx, readTaint, t.tenant, t.subject, t.conversation), &at)
	if store.NoRows(err) {
		return taint.State{}, time.Time{}, nil
	}
	return state, time.UnixMicro(at), err
}

func scanTaint(r store.Row, more ...any) (s taint.State, err error) {
	var level int64
	var sources string
	var foreign, vouched []byte
	if err := r.Scan(append([]any{&level, &sources, &foreign, &vouched}, more...)...); err != nil {
		return s, err
	}
	s.Level = taint.Level(level)
	if err := json.Unmarshal([]byte(sources), &s.Sources); err != nil {
		return s, fmt.Errorf("sources of a conversation: %w", err)
	}
	if err := s.Foreign.UnmarshalBinary(foreign); err != nil {
		return s, fmt.Errorf("values of a conversation: %w", err)
	}
	if err := s.Vouched.UnmarshalBinary(vouched); err != nil {
		return s, fmt.Errorf("values of a conversation: %w", err)
	}
	return s, nil
}

// keepRefusal counts a refused tool call and writes its event.
func (s *Service) keepRefusal(ctx context.Context, where string, e store.Event) error {
	err := s.db.Tx(ctx, func(tx *store.Tx) error {
		if _, err := tx.Exec(ctx, count, today(), e.Tenant, where, Block, int64(1)); err != nil {
			return err
		}
		return tx.Emit(ctx, e)
	})
	if err == nil {
		fault.Point("guard.tool_refused")
	}
	return err
}
