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
	updateSecret    = `UPDATE notify_endpoint SET old_secret = secret, old_until = $1, secret = $2, updated_at = $3, version = version + 1 WHERE id = $4 AND tenant = $5` //nolint:gosec // no secret
	deleteEndpoint  = `DELETE FROM notify_endpoint WHERE id = $1 AND tenant = $2`
	deleteQueue     = `DELETE FROM notify_delivery WHERE endpoint = $1`

	// Those that were there before the event.
	selectWanting = `SELECT id, events, backlog FROM notify_endpoint WHERE tenant = $1 AND enabled = 1 AND created_at <= $2 ORDER BY id`
	selectWaiting = `SELECT backlog FROM notify_endpoint WHERE id = $1 AND tenant = $2 AND enabled = 1`
	insertOne     = `INSERT INTO notify_delivery (id, endpoint, tenant, event, kind, body, traceparent, status, tries, attempted, attempts, due_at, created_at, updated_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, 'pending', 0, 0, '[]', $8, $8, $8) ON CONFLICT (id) DO NOTHING`
	noteQueued = `UPDATE notify_endpoint SET backlog = backlog + 1, next_at = CASE WHEN next_at < $1 THEN next_at ELSE $1 END WHERE id = $2`
	disable    = `UPDATE notify_endpoint SET enabled = 0, disabled_reason = $1, updated_at = $2, version = version + 1 WHERE id = $3 AND enabled = 1`

	deliveryColumns  = `seq, id, endpoint, tenant, event, kind, body, traceparent, status, tries, attempted, attempts, due_at, created_at, updated_at`
	selectDelivery   = `SELECT ` + deliveryColumns + ` FROM notify_delivery WHERE id = $1 AND endpoint = $2 AND tenant = $3`
	selectDeliveries = `SELECT ` + deliveryColumns + ` FROM notify_delivery WHERE endpoint = $1 AND seq < $2 ORDER BY seq DESC LIMIT $3`
	selectOfStatus   = `SELECT ` + deliveryColumns + ` FROM notify_delivery WHERE endpoint = $1 AND seq < $2 AND status = $4 ORDER BY seq DESC LIMIT $3`

	pruneEnded   = `DELETE FROM notify_delivery WHERE seq IN (SELECT seq FROM notify_delivery WHERE status = $1 AND updated_at < $2 ORDER BY updated_at LIMIT $3)`
	selectStale  = `SELECT d.seq, d.endpoint FROM notify_delivery d JOIN notify_endpoint e ON e.id = d.endpoint WHERE d.status = 'pending' AND d.updated_at < $1 AND e.enabled = 0 ORDER BY d.updated_at LIMIT $2`
	deleteStale  = `DELETE FROM notify_delivery WHERE seq = $1 AND status = 'pending'`
	forgetSecret = `UPDATE notify_endpoint SET old_secret = NULL, old_until = 0 WHERE old_until > 0 AND old_until < $1` //nolint:gosec // no secret
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

func (d *Delivery) event(kind, actor, reason string) store.Event {
	return store.Event{Type: kind, Tenant: d.Tenant, Actor: actor, Subject: d.ID, Data: DeliveryEvent{
		Endpoint: d.Endpoint, Delivery: d.ID, Event: d.Event, Kind: d.Kind, Attempts: d.Attempted, Reason: reason,
	}}
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
