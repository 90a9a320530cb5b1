package chat

import (
	"context"
	"fmt"
	"time"

	"aran/platform/store"
)

const (
	insertCall = `INSERT INTO chat_call (id, request, tenant, actor, model, question, opened_at) VALUES ($1, $2, $3, $4, $5, $6, $7)`
	deleteCall = `DELETE FROM chat_call WHERE id = $1`
	staleCalls = `SELECT id, request, tenant, actor, model, question, opened_at FROM chat_call WHERE opened_at < $1 ORDER BY opened_at LIMIT 100`
)

// callRow is an answer in the making.
type callRow struct {
	id, request, tenant, actor, model, question string
	opened                                      time.Time
}

func (s *Service) openCall(ctx context.Context, c callRow) error {
	return s.d.DB.Tx(ctx, func(tx *store.Tx) error {
		return tx.ExecOne(ctx, insertCall, c.id, c.request, c.tenant, c.actor, c.model, c.question, c.opened.UnixMicro())
	})
}

// closeCall writes what became of an answer; a call that was never opened has an empty id.
func (s *Service) closeCall(ctx context.Context, id string, events []store.Event) error {
	return s.d.DB.Tx(ctx, func(tx *store.Tx) error {
		if id != "" {
			if _, err := tx.Exec(ctx, deleteCall, id); err != nil {
				return err
			}
		}
		for _, e := range events {
			if err := tx.Emit(ctx, e); err != nil {
				return err
			}
		}
		return nil
	})
}

// stale lists answers that nobody is making any more.
func (s *Service) stale(ctx context.Context, before time.Time) (out []callRow, err error) {
	rows, err := s.d.DB.Query(ctx, staleCalls, before.UnixMicro())
	if err != nil {
		return nil, err
	}
	defer rows.Close() //nolint:errcheck // read only
	for rows.Next() {
		var c callRow
		var at int64
		if err := rows.Scan(&c.id, &c.request, &c.tenant, &c.actor, &c.model, &c.question, &at); err != nil {
			return nil, fmt.Errorf("stale calls: %w", err)
		}
		c.opened = time.UnixMicro(at)
		out = append(out, c)
	}
	return out, rows.Err()
}

// lose closes a stale call with its event, unless another replica did.
func (s *Service) lose(ctx context.Context, c callRow, e store.Event) error {
	return s.d.DB.Tx(ctx, func(tx *store.Tx) error {
		n, err := tx.Exec(ctx, deleteCall, c.id)
		if err != nil || n == 0 {
			return err
		}
		return tx.Emit(ctx, e)
	})
}
