package guard

import (
	"context"
	"time"

	"aran/platform/auth"
	"aran/platform/fault"
	"aran/platform/store"
)

const count = `INSERT INTO guard_day (day, tenant, origin, verdict, n) VALUES ($1, $2, $3, $4, 1) ON CONFLICT (day, tenant, origin, verdict) DO UPDATE SET n = guard_day.n + 1`

const microsPerDay = 24 * 60 * 60 * 1_000_000

// keep writes the decisions' events and counts them, in one transaction.
func (s *Service) keep(ctx context.Context, origin string, results []Result, events []store.Event) error {
	day := time.Now().UnixMicro() / microsPerDay
	tenant := auth.From(ctx).Tenant
	err := s.db.Tx(ctx, func(tx *store.Tx) error {
		for _, r := range results {
			if r.Verdict == Allow {
				continue
			}
			if _, err := tx.Exec(ctx, count, day, tenant, origin, r.Verdict); err != nil {
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
	if err == nil {
		fault.Point("guard.decision_kept")
	}
	return err
}
