package notify

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"aran/platform/store"
)

const (
	// Whoever has the longest waiting delivery comes first, and no tenant has more than $2 in hand.
	selectReady = `SELECT e.id, e.tenant FROM notify_endpoint e WHERE e.enabled = 1 AND e.next_at <= $1 AND e.hold_until <= $1 AND e.lease_until <= $1
		AND (SELECT COUNT(*) FROM notify_endpoint b WHERE b.tenant = e.tenant AND b.lease_until > $1) < $2 ORDER BY e.next_at, e.id LIMIT $3`
	selectHead   = `SELECT ` + deliveryColumns + ` FROM notify_delivery WHERE endpoint = $1 AND status = 'pending' AND due_at <= $2 ORDER BY due_at, seq LIMIT 1`
	lease        = `UPDATE notify_endpoint SET lease_owner = $1, lease_until = $2, epoch = epoch + 1 WHERE id = $3`
	selectLease  = `SELECT target, secret, old_secret, old_until, epoch, failing_since FROM notify_endpoint WHERE id = $1`
	settleLease  = `UPDATE notify_endpoint SET lease_owner = '', lease_until = 0, failing_since = $1, hold_until = $2 WHERE id = $3 AND lease_owner = $4 AND epoch = $5`
	releaseLease = `UPDATE notify_endpoint SET lease_owner = '', lease_until = 0 WHERE id = $1 AND lease_owner = $2 AND epoch = $3`
	releaseEvery = `UPDATE notify_endpoint SET lease_owner = '', lease_until = 0 WHERE lease_until > 0`
	selectDue    = `SELECT COALESCE(MIN(due_at), $2) FROM notify_delivery WHERE endpoint = $1 AND status = 'pending'`
	setNext      = `UPDATE notify_endpoint SET next_at = $1, backlog = backlog - $2 WHERE id = $3`
	setDelivery  = `UPDATE notify_delivery SET status = $1, tries = $2, attempted = $3, attempts = $4, due_at = $5, updated_at = $6 WHERE id = $7 AND status = 'pending'`
	again        = `UPDATE notify_delivery SET status = 'pending', tries = 0, due_at = $1, updated_at = $1 WHERE id = $2 AND status = $3`
	selectSoon   = `SELECT COALESCE(MIN(CASE WHEN lease_until >= next_at AND lease_until >= hold_until THEN lease_until WHEN hold_until >= next_at THEN hold_until ELSE next_at END), $1)
		FROM notify_endpoint WHERE enabled = 1 AND next_at < $1`
	countPending = `SELECT CAST(COALESCE(SUM(backlog), 0) AS BIGINT) FROM notify_endpoint WHERE enabled = 1`
)

// claimed is a delivery in hand, with what is needed to make it, and the lease that says that it is ours.
type claimed struct {
	Delivery
	target, secret, oldSecret []byte
	until                     time.Time // end of the lease
	failingSince              time.Time
}

// claim takes up to n deliveries in hand: of each endpoint that nobody has in hand the one that is due first.
func (s *Service) claim(ctx context.Context, now time.Time, n int) (out []claimed, err error) {
	err = s.d.DB.Tx(ctx, func(tx *store.Tx) error {
		out = nil
		for len(out) < n {
			before := len(out)
			ready, err := s.ready(ctx, tx, now, n-len(out))
			if err != nil {
				return err
			}
			var tenants []string
			for _, r := range ready {
				if slices.Contains(tenants, r.tenant) {
					continue // the next look counts this one
				}
				tenants = append(tenants, r.tenant)
				c, err := s.take(ctx, tx, r.id, now)
				if err != nil {
					return err
				}
				if c != nil {
					out = append(out, *c)
				}
			}
			if len(ready) == 0 || len(out) == before {
				return nil
			}
		}
		return nil
	})
	return out, err
}

type readyRow struct{ id, tenant string }

func (s *Service) ready(ctx context.Context, tx *store.Tx, now time.Time, n int) (out []readyRow, err error) {
	rows, err := tx.Query(ctx, selectReady, now.UnixMicro(), s.cfg.PerTenant, n)
	if err != nil {
		return nil, fmt.Errorf("find what is due: %w", err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var r readyRow
		if err := rows.Scan(&r.id, &r.tenant); err != nil {
			return nil, fmt.Errorf("find what is due: %w", err)
		}
		out = append(out, r)
	}
	return out, rows.Err()
}

// take leases an endpoint and returns its first delivery that is due; nil when there is none after all.
func (s *Service) take(ctx context.Context, tx *store.Tx, endpoint string, now time.Time) (*claimed, error) {
	c := &claimed{until: now.Add(s.cfg.Lease)}
	err := c.scan(tx.QueryRow(ctx, selectHead, endpoint, now.UnixMicro()))
	if store.NoRows(err) {
		return nil, setNextOf(ctx, tx, endpoint, now, 0)
	}
	if err != nil {
		return nil, fmt.Errorf("read delivery: %w", err)
	}
	if err := tx.ExecOne(ctx, lease, s.owner, c.until.UnixMicro(), endpoint); err != nil {
		return nil, err
	}
	var oldUntil, failing int64
	if err := tx.QueryRow(ctx, selectLease, endpoint).Scan(&c.target, &c.secret, &c.oldSecret, &oldUntil, &c.epoch, &failing); err != nil {
		return nil, fmt.Errorf("read webhook: %w", err)
	}
	c.failingSince = when(failing)
	if oldUntil <= now.UnixMicro() {
		c.oldSecret = nil
	}
	return c, nil
}

// setNextOf says when an endpoint is due again, not before now, so that all endpoints have their turn. ended deliveries left its queue.
func setNextOf(ctx context.Context, tx *store.Tx, endpoint string, now time.Time, ended int) error {
	var next int64
	if err := tx.QueryRow(ctx, selectDue, endpoint, int64(never)).Scan(&next); err != nil {
		return fmt.Errorf("find the next delivery: %w", err)
	}
	_, err := tx.Exec(ctx, setNext, max(next, now.UnixMicro()), ended, endpoint)
	return err
}

// settled is what becomes of a delivery that was tried.
type settled struct {
	status  string
	due     time.Time // when pending
	hold    time.Time // the endpoint rests until then
	reason  string    // of the last error
	disable string    // why the endpoint is disabled; empty: it is not
}

// record keeps the outcome of an attempt, if the endpoint is still ours; else errLost.
func (s *Service) record(ctx context.Context, c claimed, r settled, now time.Time) error {
	attempts, err := json.Marshal(c.Attempts)
	if err != nil {
		return fmt.Errorf("record attempt: %w", err)
	}
	failing, ended := c.failingSince, 1
	switch {
	case r.status == Delivered:
		failing = time.Time{}
	case failing.IsZero():
		failing = now
	}
	if r.status == Pending {
		ended = 0
	}
	return s.d.DB.Tx(ctx, func(tx *store.Tx) error {
		n, err := tx.Exec(ctx, settleLease, micros(failing), micros(r.hold), c.Endpoint, s.owner, c.epoch)
		if err != nil {
			return err
		}
		if n == 0 {
			return errLost
		}
		if err := tx.ExecOne(ctx, setDelivery, r.status, c.tries, c.Attempted, string(attempts), micros(r.due), now.UnixMicro(), c.ID); err != nil {
			return err
		}
		if err := setNextOf(ctx, tx, c.Endpoint, now, ended); err != nil {
			return err
		}
		if r.status == Dead {
			if err := tx.Emit(ctx, c.event(DeliveryDead, self, r.reason)); err != nil {
				return err
			}
		}
		if r.disable != "" {
			return s.disable(ctx, tx, Endpoint{ID: c.Endpoint, Tenant: c.Tenant, Reason: r.disable})
		}
		return nil
	})
}

// release gives a delivery back untried.
func (s *Service) release(ctx context.Context, c claimed) error {
	return s.d.DB.Tx(ctx, func(tx *store.Tx) error {
		_, err := tx.Exec(ctx, releaseLease, c.Endpoint, s.owner, c.epoch)
		return err
	})
}

func (s *Service) releaseAll(ctx context.Context) error {
	return s.d.DB.Tx(ctx, func(tx *store.Tx) error {
		_, err := tx.Exec(ctx, releaseEvery)
		return err
	})
}

// soon is when the next delivery may be taken in hand; zero: there is none.
func (s *Service) soon(ctx context.Context) (time.Time, error) {
	var at int64
	if err := s.d.DB.QueryRow(ctx, selectSoon, int64(never)).Scan(&at); err != nil {
		return time.Time{}, fmt.Errorf("find the next delivery: %w", err)
	}
	return when(at), nil
}

func (s *Service) pending(ctx context.Context) (n int64, err error) {
	return n, s.d.DB.QueryRow(ctx, countPending).Scan(&n)
}
