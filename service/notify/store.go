package notify

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"aran/platform/auth"
	"aran/platform/fault"
	"aran/platform/store"
)

const endpointColumns = `id, tenant, target, events, enabled, disabled_reason, secret, old_secret, old_until, version, created_at, updated_at, failing_since`

const (
	insertEndpoint = `INSERT INTO notify_endpoint (id, tenant, target, events, enabled, disabled_reason, secret, old_secret, old_until, version, created_at, updated_at, failing_since, backlog, next_at, hold_until, lease_owner, lease_until, epoch)
		VALUES ($1, $2, $3, $4, $5, '', $6, NULL, 0, 1, $7, $7, 0, 0, $8, 0, '', 0, 0)`
	countEndpoints  = `SELECT COUNT(*) FROM notify_endpoint WHERE tenant = $1`
	selectEndpoint  = `SELECT ` + endpointColumns + ` FROM notify_endpoint WHERE id = $1 AND tenant = $2`
	selectEndpoints = `SELECT ` + endpointColumns + ` FROM notify_endpoint WHERE tenant = $1 AND id < $2 ORDER BY id DESC LIMIT $3`
	updateEndpoint  = `UPDATE notify_endpoint SET target = $1, events = $2, enabled = $3, disabled_reason = $4, updated_at = $5, version = version + 1 WHERE id = $6 AND tenant = $7 AND version = $8`
	refreshEndpoint = `UPDATE notify_endpoint SET failing_since = 0, hold_until = 0 WHERE id = $1`
	hastenEndpoint  = `UPDATE notify_delivery SET due_at = $1 WHERE endpoint = $2 AND status = 'pending' AND due_at > $1`
	updateSecret    = `UPDATE notify_endpoint SET old_secret = secret, old_until = $1, secret = $2, updated_at = $3, version = version + 1 WHERE id = $4 AND tenant = $5`
	deleteEndpoint  = `DELETE FROM notify_endpoint WHERE id = $1 AND tenant = $2`
	deleteQueue     = `DELETE FROM notify_delivery WHERE endpoint = $1`

	// Those that were there before the event.
	selectWanting = `SELECT id, events, backlog FROM notify_endpoint WHERE tenant = $1 AND enabled = 1 AND created_at <= $2 ORDER BY id`
	selectWaiting = `SELECT backlog FROM notify_endpoint WHERE id = $1 AND tenant = $2 AND enabled = 1`
	insertOne     = `INSERT INTO notify_delivery (id, endpoint, tenant, event, kind, body, traceparent, status, tries, attempted, attempts, due_at, created_at, updated_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, 'pending', 0, 0, '[]', $8, $8, $8) ON CONFLICT (id) DO NOTHING`
	noteQueued = `UPDATE notify_endpoint SET backlog = backlog + 1, next_at = CASE WHEN next_at < $1 THEN next_at ELSE $1 END WHERE id = $2`
	disable    = `UPDATE notify_endpoint SET enabled = 0, disabled_reason = $1, updated_at = $2, version = version + 1 WHERE id = $3 AND enabled = 1`

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

	deliveryColumns  = `seq, id, endpoint, tenant, event, kind, body, traceparent, status, tries, attempted, attempts, due_at, created_at, updated_at`
	selectDelivery   = `SELECT ` + deliveryColumns + ` FROM notify_delivery WHERE id = $1 AND endpoint = $2 AND tenant = $3`
	selectDeliveries = `SELECT ` + deliveryColumns + ` FROM notify_delivery WHERE endpoint = $1 AND seq < $2 ORDER BY seq DESC LIMIT $3`
	selectOfStatus   = `SELECT ` + deliveryColumns + ` FROM notify_delivery WHERE endpoint = $1 AND seq < $2 AND status = $4 ORDER BY seq DESC LIMIT $3`

	pruneEnded   = `DELETE FROM notify_delivery WHERE seq IN (SELECT seq FROM notify_delivery WHERE status = $1 AND updated_at < $2 ORDER BY updated_at LIMIT $3)`
	selectStale  = `SELECT d.seq, d.endpoint FROM notify_delivery d JOIN notify_endpoint e ON e.id = d.endpoint WHERE d.status = 'pending' AND d.updated_at < $1 AND e.enabled = 0 ORDER BY d.updated_at LIMIT $2`
	deleteStale  = `DELETE FROM notify_delivery WHERE seq = $1 AND status = 'pending'`
	forgetSecret = `UPDATE notify_endpoint SET old_secret = NULL, old_until = 0 WHERE old_until > 0 AND old_until < $1`
)

// never stands for no time.
const never = math.MaxInt64

// endpointRow is an endpoint as it stands in the table: what is sealed is still sealed.
type endpointRow struct {
	Endpoint
	target, secret, oldSecret []byte
	version                   int64
}

func (r *endpointRow) scan(row store.Row) error {
	var kinds string
	var enabled, oldUntil, created, updated, failing int64
	if err := row.Scan(&r.ID, &r.Tenant, &r.target, &kinds, &enabled, &r.Reason, &r.secret, &r.oldSecret, &oldUntil, &r.version, &created, &updated, &failing); err != nil {
		return err
	}
	r.Enabled, r.OldSecretUntil, r.Created, r.Updated, r.FailingSince = enabled == 1, when(oldUntil), when(created), when(updated), when(failing)
	return json.Unmarshal([]byte(kinds), &r.Kinds)
}

// when reads a column; 0 is the zero time.
func when(micros int64) time.Time {
	if micros == 0 || micros == never {
		return time.Time{}
	}
	return time.UnixMicro(micros).UTC()
}

func micros(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}

func number(b bool) int64 { //nolint:revive // a column's form of it
	if b {
		return 1
	}
	return 0
}

func list(kinds []string) string {
	b, _ := json.Marshal(kinds) //nolint:errchkjson // strings
	return string(b)
}

func (e Endpoint) event(kind, actor string) store.Event {
	data := EndpointEvent{Endpoint: e.ID, Events: e.Kinds, Enabled: e.Enabled, Reason: e.Reason}
	if e.URL != "" {
		data.URLDigest = digest(e.URL)
	}
	return store.Event{Type: kind, Tenant: e.Tenant, Actor: actor, Subject: e.ID, Data: data}
}

// addEndpoint returns the remembered answer instead when the idempotency key was used before.
func (s *Service) addEndpoint(ctx context.Context, id auth.Identity, e Endpoint, sealed sealedEndpoint, o once) (old []byte, err error) {
	err = s.d.DB.Tx(ctx, func(tx *store.Tx) (err error) {
		if old, err = tx.Replay(ctx, o.scope, o.key, o.request); err != nil || old != nil {
			return err
		}
		var n int
		if err := tx.QueryRow(ctx, countEndpoints, e.Tenant).Scan(&n); err != nil {
			return err
		}
		if n >= s.cfg.MaxEndpoints {
			return fault.New(fault.Conflict, "too_many_webhooks", "There are %d webhooks already; delete one first.", n)
		}
		if err := tx.ExecOne(ctx, insertEndpoint, e.ID, e.Tenant, sealed.target, list(e.Kinds), number(e.Enabled), sealed.secret, e.Created.UnixMicro(), int64(never)); err != nil {
			return fmt.Errorf("add webhook: %w", err)
		}
		if err := tx.Emit(ctx, e.event(EndpointCreated, id.Subject)); err != nil {
			return err
		}
		return tx.Remember(ctx, o.scope, o.key, o.request, o.answer)
	})
	return old, err
}

func (s *Service) endpointRow(ctx context.Context, tenant, id string) (endpointRow, error) {
	var r endpointRow
	err := r.scan(s.d.DB.QueryRow(ctx, selectEndpoint, id, tenant))
	if store.NoRows(err) {
		return endpointRow{}, fault.NotFound("webhook", id)
	}
	if err != nil {
		return endpointRow{}, fmt.Errorf("read webhook: %w", err)
	}
	return r, nil
}

func (s *Service) endpointRows(ctx context.Context, tenant, after string, limit int) (out []endpointRow, err error) {
	if after == "" {
		after = "~" // behind every id
	}
	rows, err := s.d.DB.Query(ctx, selectEndpoints, tenant, after, limit)
	if err != nil {
		return nil, fmt.Errorf("list webhooks: %w", err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var r endpointRow
		if err := r.scan(rows); err != nil {
			return nil, fmt.Errorf("list webhooks: %w", err)
		}
		out = append(out, r)
	}
	return out, rows.Err()
}

// setEndpoint writes a changed endpoint unless somebody else changed it meanwhile. With fresh, what waits goes out now.
func (s *Service) setEndpoint(ctx context.Context, id auth.Identity, e Endpoint, version int64, target []byte, fresh bool) error { //nolint:revive // a fact about the change
	return s.d.DB.Tx(ctx, func(tx *store.Tx) error {
		if err := tx.ExecOne(ctx, updateEndpoint, target, list(e.Kinds), number(e.Enabled), e.Reason, e.Updated.UnixMicro(), e.ID, e.Tenant, version); err != nil {
			return err
		}
		if fresh {
			if _, err := tx.Exec(ctx, refreshEndpoint, e.ID); err != nil {
				return err
			}
			if _, err := tx.Exec(ctx, hastenEndpoint, e.Updated.UnixMicro(), e.ID); err != nil {
				return err
			}
			if err := setNextOf(ctx, tx, e.ID, e.Updated, 0); err != nil {
				return err
			}
		}
		return tx.Emit(ctx, e.event(EndpointChanged, id.Subject))
	})
}

func (s *Service) setSecret(ctx context.Context, id auth.Identity, e Endpoint, sealed []byte, o once) (old []byte, err error) {
	err = s.d.DB.Tx(ctx, func(tx *store.Tx) (err error) {
		if old, err = tx.Replay(ctx, o.scope, o.key, o.request); err != nil || old != nil {
			return err
		}
		if err := tx.ExecOne(ctx, updateSecret, micros(e.OldSecretUntil), sealed, e.Updated.UnixMicro(), e.ID, e.Tenant); err != nil {
			return err
		}
		if err := tx.Emit(ctx, e.event(EndpointSecretRotated, id.Subject)); err != nil {
			return err
		}
		return tx.Remember(ctx, o.scope, o.key, o.request, o.answer)
	})
	return old, err
}

func (s *Service) removeEndpoint(ctx context.Context, id auth.Identity, endpoint string) error {
	return s.d.DB.Tx(ctx, func(tx *store.Tx) error {
		if err := tx.Overwrite(ctx); err != nil {
			return err
		}
		n, err := tx.Exec(ctx, deleteEndpoint, endpoint, id.Tenant)
		if err != nil {
			return err
		}
		if n == 0 {
			return fault.NotFound("webhook", endpoint)
		}
		if _, err := tx.Exec(ctx, deleteQueue, endpoint); err != nil {
			return err
		}
		return tx.Emit(ctx, Endpoint{ID: endpoint, Tenant: id.Tenant}.event(EndpointDeleted, id.Subject))
	})
}

// wanting is an endpoint that an event may be for.
type wanting struct {
	id      string
	kinds   []string
	backlog int64
}

// queueForAll is queue's part in its transaction.
func (s *Service) queueForAll(ctx context.Context, tx *store.Tx, tenant string, at time.Time, d Delivery) error {
	all, err := wantingOf(ctx, tx, tenant, at)
	if err != nil {
		return err
	}
	d.Tenant, d.Due = tenant, time.Now()
	for _, w := range all {
		if !slices.Contains(w.kinds, d.Kind) {
			continue
		}
		if w.backlog >= int64(s.cfg.MaxBacklog) {
			if err := s.disable(ctx, tx, Endpoint{ID: w.id, Tenant: tenant, Kinds: w.kinds, Reason: reasonBacklog}); err != nil {
				return err
			}
			continue
		}
		d.ID, d.Endpoint = deliveryID(d.Event, w.id), w.id
		if err := s.insertDelivery(ctx, tx, d); err != nil {
			return err
		}
	}
	return nil
}

func wantingOf(ctx context.Context, tx *store.Tx, tenant string, at time.Time) (out []wanting, err error) {
	rows, err := tx.Query(ctx, selectWanting, tenant, at.UnixMicro())
	if err != nil {
		return nil, fmt.Errorf("find webhooks: %w", err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var w wanting
		var kinds string
		if err := rows.Scan(&w.id, &kinds, &w.backlog); err != nil {
			return nil, fmt.Errorf("find webhooks: %w", err)
		}
		if err := json.Unmarshal([]byte(kinds), &w.kinds); err != nil {
			return nil, fmt.Errorf("find webhooks: %w", err)
		}
		out = append(out, w)
	}
	return out, rows.Err()
}

func (s *Service) insertDelivery(ctx context.Context, tx *store.Tx, d Delivery) error {
	now := d.Due.UnixMicro()
	n, err := tx.Exec(ctx, insertOne, d.ID, d.Endpoint, d.Tenant, d.Event, d.Kind, d.Body, d.traceparent, now)
	if err != nil || n == 0 { // it is there already
		return err
	}
	s.meters.count(ctx, s.meters.queued, "kind", d.Kind)
	return tx.ExecOne(ctx, noteQueued, now, d.Endpoint)
}

// disable stops an endpoint and says so.
func (s *Service) disable(ctx context.Context, tx *store.Tx, e Endpoint) error {
	n, err := tx.Exec(ctx, disable, e.Reason, time.Now().UnixMicro(), e.ID)
	if err != nil || n == 0 {
		return err
	}
	s.meters.count(ctx, s.meters.disabled, "reason", e.Reason)
	return tx.Emit(ctx, e.event(EndpointDisabled, self))
}

// queueTest queues for an endpoint that is enabled, whatever it subscribed to, and returns the delivery's id.
func (s *Service) queueTest(ctx context.Context, d Delivery, o once) (id string, err error) {
	err = s.d.DB.Tx(ctx, func(tx *store.Tx) error {
		old, err := tx.Replay(ctx, o.scope, o.key, o.request)
		if err != nil || old != nil {
			id = string(old)
			return err
		}
		if err := s.mayWait(ctx, tx, d.Endpoint, d.Tenant); err != nil {
			return err
		}
		id = d.ID
		if err := s.insertDelivery(ctx, tx, d); err != nil {
			return err
		}
		return tx.Remember(ctx, o.scope, o.key, o.request, o.answer)
	})
	return id, err
}

// mayWait refuses what an endpoint of a tenant cannot take now.
func (s *Service) mayWait(ctx context.Context, tx *store.Tx, endpoint, tenant string) error {
	var backlog int64
	err := tx.QueryRow(ctx, selectWaiting, endpoint, tenant).Scan(&backlog)
	switch {
	case store.NoRows(err):
		var r endpointRow
		if err := r.scan(tx.QueryRow(ctx, selectEndpoint, endpoint, tenant)); store.NoRows(err) {
			return fault.NotFound("webhook", endpoint)
		}
		return errDisabled()
	case err != nil:
		return fmt.Errorf("read webhook: %w", err)
	case backlog >= int64(s.cfg.MaxBacklog):
		return fault.New(fault.Exhausted, "webhook_backlog", "%d deliveries wait for this webhook already.", backlog).After(time.Minute)
	}
	return nil
}

func (s *Service) replay(ctx context.Context, id auth.Identity, d Delivery) error {
	now := time.Now().UnixMicro()
	return s.d.DB.Tx(ctx, func(tx *store.Tx) error {
		if err := s.mayWait(ctx, tx, d.Endpoint, d.Tenant); err != nil {
			return err
		}
		if err := tx.ExecOne(ctx, again, now, d.ID, d.Status); err != nil {
			return err
		}
		if err := tx.ExecOne(ctx, noteQueued, now, d.Endpoint); err != nil {
			return err
		}
		return tx.Emit(ctx, d.event(DeliveryReplayed, id.Subject, ""))
	})
}

func (d Delivery) event(kind, actor, reason string) store.Event {
	return store.Event{Type: kind, Tenant: d.Tenant, Actor: actor, Subject: d.ID, Data: DeliveryEvent{
		Endpoint: d.Endpoint, Delivery: d.ID, Event: d.Event, Kind: d.Kind, Attempts: d.Attempted, Reason: reason,
	}}
}

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

func (d *Delivery) scan(row store.Row) error {
	var attempts string
	var due, created, updated int64
	if err := row.Scan(&d.Seq, &d.ID, &d.Endpoint, &d.Tenant, &d.Event, &d.Kind, &d.Body, &d.traceparent, &d.Status, &d.tries, &d.Attempted, &attempts, &due, &created, &updated); err != nil {
		return err
	}
	d.Due, d.Created, d.Updated = when(due), when(created), when(updated)
	return json.Unmarshal([]byte(attempts), &d.Attempts)
}

func (s *Service) delivery(ctx context.Context, tenant, endpoint, id string) (Delivery, error) {
	var d Delivery
	err := d.scan(s.d.DB.QueryRow(ctx, selectDelivery, id, endpoint, tenant))
	if store.NoRows(err) {
		return Delivery{}, fault.NotFound("delivery", id)
	}
	if err != nil {
		return Delivery{}, fmt.Errorf("read delivery: %w", err)
	}
	return d, nil
}

func (s *Service) deliveries(ctx context.Context, endpoint, status string, before int64, limit int) (out []Delivery, err error) {
	if before <= 0 {
		before = never
	}
	query, args := selectDeliveries, []any{endpoint, before, limit}
	if status != "" {
		query, args = selectOfStatus, append(args, status)
	}
	rows, err := s.d.DB.Query(ctx, query, args...)
	if err != nil {
		return nil, fmt.Errorf("list deliveries: %w", err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var d Delivery
		if err := d.scan(rows); err != nil {
			return nil, fmt.Errorf("list deliveries: %w", err)
		}
		out = append(out, d)
	}
	return out, rows.Err()
}

// pruned is how many rows one transaction deletes at most.
const pruned = 500

// prune deletes what ended long ago, and what waited as long for an endpoint that is disabled.
func (s *Service) prune(ctx context.Context, now time.Time) error {
	for status, keep := range map[string]time.Duration{Delivered: s.cfg.KeepDelivered, Dead: s.cfg.KeepDead} {
		for more := true; more; {
			err := s.d.DB.Tx(ctx, func(tx *store.Tx) error {
				n, err := tx.Exec(ctx, pruneEnded, status, now.Add(-keep).UnixMicro(), pruned)
				more = n == pruned
				return err
			})
			if err != nil {
				return fmt.Errorf("prune deliveries: %w", err)
			}
		}
	}
	for more := true; more; {
		err := s.d.DB.Tx(ctx, func(tx *store.Tx) (err error) {
			more, err = pruneStale(ctx, tx, now, now.Add(-s.cfg.KeepDead))
			return err
		})
		if err != nil {
			return fmt.Errorf("prune deliveries: %w", err)
		}
	}
	return s.d.DB.Tx(ctx, func(tx *store.Tx) error {
		_, err := tx.Exec(ctx, forgetSecret, now.UnixMicro())
		return err
	})
}

func pruneStale(ctx context.Context, tx *store.Tx, now, before time.Time) (more bool, err error) {
	rows, err := tx.Query(ctx, selectStale, before.UnixMicro(), pruned)
	if err != nil {
		return false, err
	}
	stale, n := map[string][]int64{}, 0
	for ; rows.Next(); n++ {
		var seq int64
		var endpoint string
		if err := rows.Scan(&seq, &endpoint); err != nil {
			return false, errors.Join(err, rows.Close())
		}
		stale[endpoint] = append(stale[endpoint], seq)
	}
	if err := errors.Join(rows.Err(), rows.Close()); err != nil {
		return false, err
	}
	for endpoint, seqs := range stale {
		for _, seq := range seqs {
			if err := tx.ExecOne(ctx, deleteStale, seq); err != nil {
				return false, err
			}
		}
		if err := setNextOf(ctx, tx, endpoint, now, len(seqs)); err != nil {
			return false, err
		}
	}
	return n == pruned, nil
}
