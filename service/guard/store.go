package guard

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"aran/platform/fault"
	"aran/platform/store"
	"aran/service/guard/detect"
)

const microsPerDay = 24 * 60 * 60 * 1_000_000

const (
	count     = `INSERT INTO guard_day (day, tenant, origin, verdict, n) VALUES ($1, $2, $3, $4, $5) ON CONFLICT (day, tenant, origin, verdict) DO UPDATE SET n = guard_day.n + $5`
	addRecord = `INSERT INTO guard_record (id, tenant, at, request, origin, digest, score, verdict, policy, collections, findings, trial, trial_policy) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13) ON CONFLICT (id) DO NOTHING`
	readCount = `SELECT COALESCE(SUM(n), 0) FROM guard_day WHERE tenant = $1 AND day >= $2`

	readRecords  = `SELECT id, at, request, origin, digest, score, verdict, policy, collections, findings, trial, trial_policy FROM guard_record WHERE tenant = $1 AND at >= $2 ORDER BY at DESC LIMIT $3`
	recordOf     = `SELECT id, at, request, origin, digest, score, verdict, policy, collections, findings, trial, trial_policy FROM guard_record WHERE tenant = $1 AND digest = $2 ORDER BY at DESC LIMIT 1`
	recordsAsked = `SELECT id, at, request, origin, digest, score, verdict, policy, collections, findings, trial, trial_policy FROM guard_record WHERE tenant = $1 AND request = $2 ORDER BY at DESC LIMIT 2`

	forgetRecords = `DELETE FROM guard_record WHERE at < $1`
	forgetDays    = `DELETE FROM guard_day WHERE day < $1`
	crowded       = `SELECT tenant FROM guard_record GROUP BY tenant HAVING COUNT(*) > $1`
	lastKept      = `SELECT at FROM guard_record WHERE tenant = $1 ORDER BY at DESC LIMIT 1 OFFSET $2`
	forgetBefore  = `DELETE FROM guard_record WHERE tenant = $1 AND at <= $2`
)

// keep writes decisions: their events, their counts and their records, in one transaction.
func (s *Service) keep(ctx context.Context, decisions []decision) error {
	day := today()
	err := s.db.Tx(ctx, func(tx *store.Tx) error {
		for _, d := range decisions {
			if _, err := tx.Exec(ctx, count, day, d.record.Tenant, string(d.record.Origin), d.record.Verdict, int64(1)); err != nil {
				return err
			}
			if s.history.days > 0 {
				if err := insertRecord(ctx, tx, d.record); err != nil {
					return err
				}
			}
			if err := tx.Emit(ctx, d.event); err != nil {
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

// writeHistory writes records of texts that were allowed, and counts.
func (s *Service) writeHistory(ctx context.Context, list []Record, counts map[countKey]int64) error {
	return s.db.Tx(ctx, func(tx *store.Tx) error {
		for k, n := range counts {
			if _, err := tx.Exec(ctx, count, k.day, k.tenant, k.origin, k.verdict, n); err != nil {
				return err
			}
		}
		for _, r := range list {
			if err := insertRecord(ctx, tx, r); err != nil {
				return err
			}
		}
		return nil
	})
}

func insertRecord(ctx context.Context, tx *store.Tx, r Record) error {
	found, err := encode(r.Found)
	if err != nil {
		return err
	}
	collections, err := encode(r.Collections)
	if err != nil {
		return err
	}
	_, err = tx.Exec(ctx, addRecord, r.ID, r.Tenant, r.At.UnixMicro(), r.Request, string(r.Origin), r.Digest, r.Score, r.Verdict, r.Policy, collections, found, r.Trial, r.TrialPolicy)
	return err
}

func scanRecord(row store.Row) (Record, error) {
	var r Record
	var at int64
	var origin, collections, found string
	if err := row.Scan(&r.ID, &at, &r.Request, &origin, &r.Digest, &r.Score, &r.Verdict, &r.Policy, &collections, &found, &r.Trial, &r.TrialPolicy); err != nil {
		return Record{}, err
	}
	r.At, r.Origin = time.UnixMicro(at), detect.Origin(origin)
	if err := json.Unmarshal([]byte(collections), &r.Collections); err != nil {
		return Record{}, fmt.Errorf("record %s: %w", r.ID, err)
	}
	if err := json.Unmarshal([]byte(found), &r.Found); err != nil {
		return Record{}, fmt.Errorf("record %s: %w", r.ID, err)
	}
	return r, nil
}

// records reads a tenant's history since a time, newest first, at most some rows.
func (s *Service) records(ctx context.Context, tenant string, since time.Time, most int, each func(Record)) error {
	list, err := s.readRecords(ctx, readRecords, tenant, since.UnixMicro(), int64(most))
	for _, r := range list {
		each(r)
	}
	return err
}

func (s *Service) readRecords(ctx context.Context, query string, args ...any) ([]Record, error) {
	rows, err := s.db.Query(ctx, query, args...)
	if err != nil {
		return nil, fmt.Errorf("read history: %w", err)
	}
	defer rows.Close() //nolint:errcheck // Err tells
	var out []Record
	for rows.Next() {
		r, err := scanRecord(rows)
		if err != nil {
			return nil, err
		}
		out = append(out, r)
	}
	return out, rows.Err()
}

// recorded finds what is kept of a text by its digest, or by the request that brought it when that brought one only.
func (s *Service) recorded(ctx context.Context, tenant, request, digest string) (Record, error) {
	query, key := recordOf, digest
	if digest == "" {
		query, key = recordsAsked, request
	}
	list, err := s.readRecords(ctx, query, tenant, key)
	if err != nil {
		return Record{}, err
	}
	list = slices.CompactFunc(list, func(a, b Record) bool { return a.Digest == b.Digest })
	switch len(list) {
	case 0:
		return Record{}, fault.New(fault.Missing, "verdict_not_found", "No verdict is kept of that text or request; name a text_digest of a verdict that was not a plain allow, or send the text.")
	case 1:
		return list[0], nil
	}
	return Record{}, fault.New(fault.Conflict, "several_texts", "That request brought several texts; name the text_digest of one.")
}

// judged counts a tenant's texts since the day of a time.
func (s *Service) judged(ctx context.Context, tenant string, since time.Time) (n int64, err error) {
	err = s.db.QueryRow(ctx, readCount, tenant, since.UnixMicro()/microsPerDay).Scan(&n)
	return n, err
}

// tidy forgets what is too old or too much.
func (s *Service) tidy(ctx context.Context) error {
	now := time.Now()
	tenants, err := s.crowded(ctx)
	if err != nil {
		return err
	}
	return s.db.Tx(ctx, func(tx *store.Tx) error {
		if _, err := tx.Exec(ctx, forgetRecords, now.AddDate(0, 0, -s.cfg.HistoryDays).UnixMicro()); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, forgetDays, today()-dayCountsKept); err != nil {
			return err
		}
		for _, tenant := range tenants {
			var at int64
			if err := tx.QueryRow(ctx, lastKept, tenant, int64(s.cfg.HistoryRows)).Scan(&at); err != nil {
				if store.NoRows(err) {
					continue
				}
				return err
			}
			if _, err := tx.Exec(ctx, forgetBefore, tenant, at); err != nil {
				return err
			}
		}
		return s.tidyFeedback(ctx, tx, now)
	})
}

func (s *Service) crowded(ctx context.Context) (out []string, err error) {
	rows, err := s.db.Query(ctx, crowded, int64(s.cfg.HistoryRows))
	if err != nil {
		return nil, err
	}
	defer rows.Close() //nolint:errcheck // Err tells
	for rows.Next() {
		var tenant string
		if err := rows.Scan(&tenant); err != nil {
			return nil, err
		}
		out = append(out, tenant)
	}
	return out, rows.Err()
}
