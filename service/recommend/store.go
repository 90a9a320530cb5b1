package recommend

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"time"

	"aran/platform/auth"
	"aran/platform/fault"
	"aran/platform/store"
)

// db holds the SQL on interactions and counts; that on items and rankings is in store_items.go.
type db struct{ *store.DB }

const (
	insertTenant  = `INSERT INTO recommend_tenant (tenant, half_life, landmark, items, interactions) VALUES ($1, $2, $3, 0, 0) ON CONFLICT (tenant) DO NOTHING`
	selectTenant  = `SELECT half_life, landmark, items, interactions FROM recommend_tenant WHERE tenant = $1`
	selectTenants = `SELECT tenant FROM recommend_tenant WHERE tenant > $1 ORDER BY tenant LIMIT 1000`
	scaleTenant   = `UPDATE recommend_tenant SET half_life = $1, landmark = $2 WHERE tenant = $3`
	growTenant    = `UPDATE recommend_tenant SET items = items + $1, interactions = interactions + $2 WHERE tenant = $3`

	selectGone = `SELECT COUNT(*) FROM recommend_gone WHERE person = $1`
	insertGone = `INSERT INTO recommend_gone (person, at) VALUES ($1, $2) ON CONFLICT (person) DO NOTHING`
	insertRef  = `INSERT INTO recommend_ref (tenant, person, ref, day) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING`
	deleteRefs = `DELETE FROM recommend_ref WHERE tenant = $1 AND person = $2`
	listed     = `SELECT COUNT(*) FROM recommend_item WHERE tenant = $1 AND id = $2`

	insertInteraction = `INSERT INTO recommend_interaction (tenant, person, item, type, day, weight, n, last_at) VALUES ($1, $2, $3, $4, $5, $6, 1, $7)
		ON CONFLICT (tenant, person, item, type, day) DO UPDATE SET n = recommend_interaction.n + 1,
		last_at = CASE WHEN excluded.last_at > recommend_interaction.last_at THEN excluded.last_at ELSE recommend_interaction.last_at END RETURNING n`
	deleteInteractions = `DELETE FROM recommend_interaction WHERE tenant = $1 AND person = $2`
	addBucket          = `INSERT INTO recommend_bucket (tenant, item, day, weight, n) VALUES ($1, $2, $3, $4, 1)
		ON CONFLICT (tenant, item, day) DO UPDATE SET weight = recommend_bucket.weight + excluded.weight, n = recommend_bucket.n + 1`
	addScore = `INSERT INTO recommend_popularity (tenant, item, score) VALUES ($1, $2, $3)
		ON CONFLICT (tenant, item) DO UPDATE SET score = recommend_popularity.score + excluded.score`

	// Σ w·2^((d-L)/h) over the days of an item; $1 is ln 2 / h in days, $2 is L.
	sumOfDays = `(SELECT SUM(CAST(b.weight AS DOUBLE PRECISION) / 1000 * EXP(CAST($1 AS DOUBLE PRECISION) * (b.day - CAST($2 AS BIGINT))))
		FROM recommend_bucket b WHERE b.tenant = recommend_popularity.tenant AND b.item = recommend_popularity.item)`
	rescore     = `UPDATE recommend_popularity SET score = ` + sumOfDays + ` WHERE tenant = $3`
	rescoreItem = rescore + ` AND item = $4`
	withoutDays = `NOT EXISTS (SELECT 1 FROM recommend_bucket b WHERE b.tenant = recommend_popularity.tenant AND b.item = recommend_popularity.item)`
	dropScores  = `DELETE FROM recommend_popularity WHERE tenant = $1 AND ` + withoutDays
	dropScore   = `DELETE FROM recommend_popularity WHERE tenant = $1 AND item = $2 AND ` + withoutDays

	takeFromBucket = `UPDATE recommend_bucket SET
		weight = weight - (SELECT CAST(SUM(x.weight) AS BIGINT) FROM recommend_interaction x WHERE x.tenant = recommend_bucket.tenant AND x.person = $2 AND x.item = recommend_bucket.item AND x.day = recommend_bucket.day),
		n = n - (SELECT COUNT(*) FROM recommend_interaction x WHERE x.tenant = recommend_bucket.tenant AND x.person = $2 AND x.item = recommend_bucket.item AND x.day = recommend_bucket.day)
		WHERE tenant = $1 AND (item, day) IN (SELECT x.item, x.day FROM recommend_interaction x WHERE x.tenant = $1 AND x.person = $2)`
	dropBuckets = `DELETE FROM recommend_bucket WHERE tenant = $1 AND n = 0 AND item IN (SELECT x.item FROM recommend_interaction x WHERE x.tenant = $1 AND x.person = $2)`
	dropTheirs  = dropScores + ` AND item IN (SELECT x.item FROM recommend_interaction x WHERE x.tenant = $1 AND x.person = $2)`
	scoreTheirs = rescore + ` AND item IN (SELECT x.item FROM recommend_interaction x WHERE x.tenant = $3 AND x.person = $4)`

	oldBuckets         = `SELECT item, day FROM recommend_bucket WHERE tenant = $1 AND day < $2 ORDER BY day, item LIMIT 500`
	deleteBucket       = `DELETE FROM recommend_bucket WHERE tenant = $1 AND item = $2 AND day = $3`
	expireInteractions = `DELETE FROM recommend_interaction WHERE tenant = $1 AND (person, item, type, day) IN
		(SELECT x.person, x.item, x.type, x.day FROM recommend_interaction x WHERE x.tenant = $1 AND x.day < $2 ORDER BY x.day LIMIT 2000)`
	expireRefs = `DELETE FROM recommend_ref WHERE tenant = $1 AND (person, ref) IN
		(SELECT x.person, x.ref FROM recommend_ref x WHERE x.tenant = $1 AND x.day < $2 ORDER BY x.day LIMIT 2000)`
)

// write makes a request safe to repeat.
type write struct{ scope, key string }

// once answers as before when the same request was answered before; else it does it, and remembers the answer.
func once[T any](ctx context.Context, tx *store.Tx, w write, request any, do func() (T, error)) (out T, err error) {
	if w.key == "" {
		return do()
	}
	asked, err := json.Marshal(request)
	if err != nil {
		return out, fmt.Errorf("encode request: %w", err)
	}
	answer, err := tx.Replay(ctx, w.scope, w.key, asked)
	if err != nil {
		return out, err
	}
	if answer != nil {
		return out, json.Unmarshal(answer, &out)
	}
	if out, err = do(); err != nil {
		return out, err
	}
	if answer, err = json.Marshal(out); err != nil {
		return out, fmt.Errorf("encode answer: %w", err)
	}
	return out, tx.Remember(ctx, w.scope, w.key, asked, answer)
}

// scale is how a tenant's scores are kept: h and L of the package comment.
type scale struct {
	halfLife            int64 // seconds
	landmark            int64 // day
	items, interactions int64
}

// rate is ln 2 / h, with h in days.
func (s scale) rate() float64 { return math.Ln2 * day.Seconds() / float64(s.halfLife) }

// gain is what an interaction of a day adds to the score.
func (s scale) gain(milliWeight, d int64) float64 {
	return float64(milliWeight) / milli * math.Exp(s.rate()*float64(d-s.landmark))
}

// farthest is how many half-lives after the landmark scores are brought to a new one.
const farthest = 256

// scaleOf returns a tenant's row, made when there is none. What was scaled long ago is scaled again.
func scaleOf(ctx context.Context, tx *store.Tx, tenant string, halfLife time.Duration, now int64) (s scale, err error) {
	if _, err := tx.Exec(ctx, insertTenant, tenant, int64(halfLife/time.Second), now); err != nil {
		return s, err
	}
	if err := tx.QueryRow(ctx, selectTenant, tenant).Scan(&s.halfLife, &s.landmark, &s.items, &s.interactions); err != nil {
		return s, err
	}
	if s.rate()*float64(now-s.landmark) > farthest*math.Ln2 {
		s.landmark = now
		err = rescaleTenant(ctx, tx, tenant, s)
	}
	return s, err
}

func rescaleTenant(ctx context.Context, tx *store.Tx, tenant string, s scale) error {
	if _, err := tx.Exec(ctx, dropScores, tenant); err != nil { // without days there is nothing to add up
		return err
	}
	if _, err := tx.Exec(ctx, rescore, s.rate(), s.landmark, tenant); err != nil {
		return err
	}
	return tx.ExecOne(ctx, scaleTenant, s.halfLife, s.landmark, tenant)
}

// eachTenant calls do for every tenant.
func (d db) eachTenant(ctx context.Context, do func(tenant string) error) error {
	for after := ""; ; {
		names, err := d.tenants(ctx, after)
		if err != nil || len(names) == 0 {
			return err
		}
		for _, name := range names {
			if err := do(name); err != nil {
				return err
			}
		}
		after = names[len(names)-1]
	}
}

func (d db) tenants(ctx context.Context, after string) (out []string, err error) {
	rows, err := d.Query(ctx, selectTenants, after)
	if err != nil {
		return nil, err
	}
	defer rows.Close() //nolint:errcheck // read only
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			return nil, err
		}
		out = append(out, name)
	}
	return out, rows.Err()
}

// rescale makes the scores of tenants again that were kept with another half-life. A replica with other settings goes on
// with what stands in the tenant's row, so that the two never mix.
func (d db) rescale(ctx context.Context, halfLife time.Duration, now int64) error {
	return d.eachTenant(ctx, func(tenant string) error {
		return d.Tx(ctx, func(tx *store.Tx) error {
			s, err := scaleOf(ctx, tx, tenant, halfLife, now)
			if err != nil || s.halfLife == int64(halfLife/time.Second) {
				return err
			}
			s.halfLife, s.landmark = int64(halfLife/time.Second), now
			return rescaleTenant(ctx, tx, tenant, s)
		})
	})
}

// interaction is a row.
type interaction struct {
	person, ref, item, kind string
	day, weight, at         int64
	said                    int64 // the time that the client gave; 0: none
}

// goneError names people who are erased.
type goneError map[string]bool

func (g goneError) Error() string { return fmt.Sprintf("%d people are erased", len(g)) }

// record writes interactions and counts them, in one transaction. Nothing is written under the name of an erased person.
func (d db) record(ctx context.Context, tenant string, list []interaction, cfg Config, w write, now time.Time) (out []Outcome, err error) {
	err = d.Tx(ctx, func(tx *store.Tx) error {
		if err := nobodyGone(ctx, tx, list); err != nil {
			return err
		}
		var err error
		out, err = once(ctx, tx, w, requested(list), func() ([]Outcome, error) { return count(ctx, tx, tenant, list, cfg, now) })
		return err
	})
	return out, err
}

// requested is what a repeated request is compared by.
func requested(list []interaction) (out [][]any) {
	for _, x := range list {
		parts := []any{x.person, x.ref, x.item, x.kind, x.weight}
		if x.said != 0 {
			parts = append(parts, x.said)
		}
		out = append(out, parts)
	}
	return out
}

func nobodyGone(ctx context.Context, tx *store.Tx, list []interaction) error {
	gone, asked := goneError{}, map[string]bool{}
	for _, x := range list {
		if asked[x.person] {
			continue
		}
		asked[x.person] = true
		var n int
		if err := tx.QueryRow(ctx, selectGone, x.person).Scan(&n); err != nil {
			return err
		}
		if n > 0 {
			gone[x.person] = true
		}
	}
	if len(gone) > 0 {
		return gone
	}
	return nil
}

func count(ctx context.Context, tx *store.Tx, tenant string, list []interaction, cfg Config, now time.Time) ([]Outcome, error) {
	s, err := scaleOf(ctx, tx, tenant, cfg.HalfLife, dayOf(now))
	if err != nil {
		return nil, err
	}
	out, unlisted := make([]Outcome, len(list)), map[string]bool{}
	added := int64(0)
	for i, x := range list {
		if _, asked := unlisted[x.item]; !asked {
			var n int
			if err := tx.QueryRow(ctx, listed, tenant, x.item).Scan(&n); err != nil {
				return nil, err
			}
			unlisted[x.item] = n == 0
		}
		fresh, err := add(ctx, tx, tenant, x, s)
		if err != nil {
			return nil, err
		}
		out[i] = Outcome{Repeated, unlisted[x.item]}
		if fresh {
			out[i].Status = Recorded
			added++
		}
	}
	if s.interactions+added > int64(cfg.Interactions) {
		return nil, fault.New(fault.Exhausted, "too_many_interactions", "There are %d interactions, and a tenant may have %d (recommend.interactions); nothing was stored.", s.interactions, cfg.Interactions)
	}
	_, err = tx.Exec(ctx, growTenant, 0, added, tenant)
	return out, err
}

// add writes an interaction. It counts when it is the first of its person, item, type and day.
func add(ctx context.Context, tx *store.Tx, tenant string, x interaction, s scale) (fresh bool, err error) {
	if x.ref != "" {
		n, err := tx.Exec(ctx, insertRef, tenant, x.person, x.ref, x.day)
		if err != nil || n == 0 {
			return false, err
		}
	}
	var n int64
	if err := tx.QueryRow(ctx, insertInteraction, tenant, x.person, x.item, x.kind, x.day, x.weight, x.at).Scan(&n); err != nil || n > 1 {
		return false, err
	}
	if _, err := tx.Exec(ctx, addBucket, tenant, x.item, x.day, x.weight); err != nil {
		return false, err
	}
	_, err = tx.Exec(ctx, addScore, tenant, x.item, s.gain(x.weight, x.day))
	return true, err
}

// erase takes a person's rows out, and out of the counts: what is left is what would be there without them.
func (d db) erase(ctx context.Context, id auth.Identity, name string) error {
	return d.Tx(ctx, func(tx *store.Tx) error {
		s, err := tenantScale(ctx, tx, id.Tenant)
		if err != nil {
			return err
		}
		for _, q := range []string{takeFromBucket, dropBuckets, dropTheirs} {
			if _, err := tx.Exec(ctx, q, id.Tenant, name); err != nil {
				return err
			}
		}
		if _, err := tx.Exec(ctx, scoreTheirs, s.rate(), s.landmark, id.Tenant, name); err != nil {
			return err
		}
		n, err := tx.Exec(ctx, deleteInteractions, id.Tenant, name)
		if err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, deleteRefs, id.Tenant, name); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, growTenant, 0, -n, id.Tenant); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, insertGone, name, time.Now().UnixMicro()); err != nil {
			return err
		}
		return tx.Emit(ctx, store.Event{Type: TypeUserErased, Tenant: id.Tenant, Actor: id.Subject, Subject: name, Data: UserErasedEvent{User: name, Interactions: n}})
	})
}

// tenantScale is scaleOf for a tenant that may have no row.
func tenantScale(ctx context.Context, tx *store.Tx, tenant string) (s scale, err error) {
	err = tx.QueryRow(ctx, selectTenant, tenant).Scan(&s.halfLife, &s.landmark, &s.items, &s.interactions)
	if store.NoRows(err) {
		return scale{halfLife: int64(day / time.Second)}, nil // it has no scores either
	}
	return s, err
}

// expire deletes what is of days before the oldest.
func (d db) expire(ctx context.Context, oldest int64) error {
	return d.eachTenant(ctx, func(tenant string) error {
		for more := true; more; {
			err := d.Tx(ctx, func(tx *store.Tx) error {
				n, err := expireSome(ctx, tx, tenant, oldest)
				more = n > 0
				return err
			})
			if err != nil {
				return err
			}
			fault.Point("recommend.expired")
		}
		return nil
	})
}

// expireSome deletes a bounded number of old rows and says how many.
func expireSome(ctx context.Context, tx *store.Tx, tenant string, oldest int64) (n int64, err error) {
	s, err := tenantScale(ctx, tx, tenant)
	if err != nil {
		return 0, err
	}
	old, err := oldDays(ctx, tx, tenant, oldest)
	if err != nil {
		return 0, err
	}
	items := map[string]bool{}
	for _, b := range old {
		items[b.item] = true
		if _, err := tx.Exec(ctx, deleteBucket, tenant, b.item, b.day); err != nil {
			return 0, err
		}
	}
	for item := range items {
		if _, err := tx.Exec(ctx, dropScore, tenant, item); err != nil {
			return 0, err
		}
		if _, err := tx.Exec(ctx, rescoreItem, s.rate(), s.landmark, tenant, item); err != nil {
			return 0, err
		}
	}
	gone, err := tx.Exec(ctx, expireInteractions, tenant, oldest)
	if err != nil {
		return 0, err
	}
	refs, err := tx.Exec(ctx, expireRefs, tenant, oldest)
	if err != nil {
		return 0, err
	}
	_, err = tx.Exec(ctx, growTenant, 0, -gone, tenant)
	return int64(len(old)) + gone + refs, err
}

type itemDay struct {
	item string
	day  int64
}

func oldDays(ctx context.Context, tx *store.Tx, tenant string, oldest int64) (out []itemDay, err error) {
	rows, err := tx.Query(ctx, oldBuckets, tenant, oldest)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var b itemDay
		if err := rows.Scan(&b.item, &b.day); err != nil {
			return nil, err
		}
		out = append(out, b)
	}
	return out, rows.Err()
}
