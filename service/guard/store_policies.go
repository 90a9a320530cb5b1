package guard

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"regexp"
	"time"

	"github.com/google/uuid"

	"aran/platform/auth"
	"aran/platform/fault"
	"aran/platform/store"
)

const (
	heads       = `SELECT name, active, trial, latest, revision, changed_at, changed_by FROM guard_policy WHERE tenant = $1 ORDER BY name`
	headOf      = `SELECT name, active, trial, latest, revision, changed_at, changed_by FROM guard_policy WHERE tenant = $1 AND name = $2`
	countHeads  = `SELECT COUNT(*) FROM guard_policy WHERE tenant = $1`
	addHead     = `INSERT INTO guard_policy (tenant, name, active, trial, latest, revision, changed_at, changed_by) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)`
	setHead     = `UPDATE guard_policy SET active = $1, trial = $2, latest = $3, revision = $4, changed_at = $5, changed_by = $6 WHERE tenant = $7 AND name = $8 AND revision = $9`
	versionOf   = `SELECT name, version, document, collections, digest, note, made_at, made_by FROM guard_policy_version WHERE tenant = $1 AND name = $2 AND version = $3`
	versionsOf  = `SELECT name, version, document, collections, digest, note, made_at, made_by FROM guard_policy_version WHERE tenant = $1 AND name = $2 AND version < $3 ORDER BY version DESC LIMIT $4`
	addVersion  = `INSERT INTO guard_policy_version (tenant, name, version, document, collections, digest, note, made_at, made_by) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)`
	dropVersion = `DELETE FROM guard_policy_version WHERE tenant = $1 AND name = $2 AND version <= $3 AND version <> $4 AND version <> $5`
	inUse       = `SELECT v.name, v.version, v.document, v.collections, v.digest, v.note, v.made_at, v.made_by FROM guard_policy_version v JOIN guard_policy p ON p.tenant = v.tenant AND p.name = v.name WHERE v.tenant = $1 AND (v.version = p.active OR v.version = p.trial)`

	changeOf = `SELECT n FROM guard_change WHERE tenant = $1`
	changed  = `INSERT INTO guard_change (tenant, n) VALUES ($1, 1) ON CONFLICT (tenant) DO UPDATE SET n = guard_change.n + 1`

	spareds     = `SELECT id, policy, kind, value, reason, made_at, made_by, expires_at FROM guard_allow WHERE tenant = $1 AND id > $2 ORDER BY id LIMIT $3`
	sparedOf    = `SELECT id, policy, kind, value, reason, made_at, made_by, expires_at FROM guard_allow WHERE tenant = $1 AND id = $2`
	countSpared = `SELECT COUNT(*), COALESCE(SUM(CASE WHEN kind = 'phrase' THEN 1 ELSE 0 END), 0) FROM guard_allow WHERE tenant = $1 AND expires_at > $2`
	addEntry    = `INSERT INTO guard_allow (id, tenant, policy, kind, value, reason, made_at, made_by, expires_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)`
	dropEntry   = `DELETE FROM guard_allow WHERE tenant = $1 AND id = $2`
	dropExpired = `DELETE FROM guard_allow WHERE expires_at < $1`
)

func scanHead(row store.Row) (h Head, err error) {
	var at int64
	err = row.Scan(&h.Policy, &h.Active, &h.Trial, &h.Latest, &h.Revision, &at, &h.By)
	h.Changed = time.UnixMicro(at)
	return h, err
}

func scanVersion(row store.Row) (v Version, err error) {
	var at int64
	var document, collections string
	if err := row.Scan(&v.Policy, &v.Version, &document, &collections, &v.Digest, &v.Note, &at, &v.By); err != nil {
		return Version{}, err
	}
	v.Made = time.UnixMicro(at)
	if err := json.Unmarshal([]byte(document), &v.Document); err != nil {
		return Version{}, fmt.Errorf("policy %s: %w", v.id(), err)
	}
	if err := json.Unmarshal([]byte(collections), &v.Collections); err != nil {
		return Version{}, fmt.Errorf("policy %s: %w", v.id(), err)
	}
	return v, nil
}

func scanSpared(row store.Row) (x Spared, err error) {
	var made, expires int64
	err = row.Scan(&x.ID, &x.Policy, &x.Kind, &x.Value, &x.Reason, &made, &x.By, &expires)
	x.Made, x.Expires = time.UnixMicro(made), time.UnixMicro(expires)
	return x, err
}

// all reads every row of a query.
func all[T any](ctx context.Context, q store.Querier, scan func(store.Row) (T, error), query string, args ...any) ([]T, error) {
	rows, err := q.Query(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close() //nolint:errcheck // Err tells
	var out []T
	for rows.Next() {
		x, err := scan(rows)
		if err != nil {
			return nil, err
		}
		out = append(out, x)
	}
	return out, rows.Err()
}

// head reads the state of a policy.
func (s *Service) head(ctx context.Context, q store.Querier, tenant, name string) (Head, error) {
	h, err := scanHead(q.QueryRow(ctx, headOf, tenant, name))
	if store.NoRows(err) {
		return Head{}, fault.NotFound("policy", name)
	}
	return h, err
}

// version reads a version of a policy.
func (s *Service) version(ctx context.Context, q store.Querier, tenant, name string, version int64) (Version, error) {
	v, err := scanVersion(q.QueryRow(ctx, versionOf, tenant, name, version))
	if store.NoRows(err) {
		return Version{}, fault.New(fault.Missing, "policy_version_not_found", "There is no version %d of policy %s.", version, name)
	}
	return v, err
}

// Heads lists the policies of the caller's tenant.
func (s *Service) Heads(ctx context.Context) ([]Head, error) {
	return all(ctx, s.db, scanHead, heads, auth.From(ctx).Tenant)
}

// Versions lists versions of a policy of the caller's tenant below a number, newest first.
func (s *Service) Versions(ctx context.Context, name string, below int64, limit int) ([]Version, error) {
	tenant := auth.From(ctx).Tenant
	if _, err := s.head(ctx, s.db, tenant, name); err != nil {
		return nil, err
	}
	return all(ctx, s.db, scanVersion, versionsOf, tenant, name, below, int64(limit))
}

// storePolicy writes a version and what it is used as, with their events.
func (s *Service) storePolicy(ctx context.Context, id auth.Identity, v Version, document string, p Proposal) (Head, Version, error) {
	var head Head
	err := s.db.Tx(ctx, func(tx *store.Tx) error {
		old, err := s.head(ctx, tx, id.Tenant, p.Policy)
		fresh := fault.KindOf(err) == fault.Missing
		if err != nil && !fresh {
			return err
		}
		if p.Revision >= 0 && p.Revision != old.Revision {
			return changedMeanwhile(p.Policy)
		}
		head = old
		head.Policy, v.Version = p.Policy, old.Latest+1
		var known Version
		if !fresh {
			if known, err = s.version(ctx, tx, id.Tenant, p.Policy, old.Latest); err != nil {
				return err
			}
		}
		if known.Digest == v.Digest {
			v = known
		} else if err := s.addVersion(ctx, tx, id, v, document, old); err != nil {
			return err
		}
		head.Latest = v.Version
		use(&head, v.Version, p.As)
		if head == old {
			return nil
		}
		if fresh {
			if err := s.roomForPolicy(ctx, tx, id.Tenant); err != nil {
				return err
			}
		}
		if err := s.moveHead(ctx, tx, id, &head, old, fresh); err != nil {
			return err
		}
		return s.announce(ctx, tx, id, head, old, v)
	})
	return head, v, err
}

func changedMeanwhile(name string) error {
	return fault.New(fault.Conflict, "changed_meanwhile", "The policy %q was changed meanwhile; read it again.", name)
}

// use says what a version is used as; a version on trial that becomes active is on trial no more.
func use(h *Head, version int64, as string) {
	switch as {
	case Active:
		h.Active = version
		if h.Trial == version {
			h.Trial = 0
		}
	case Trial:
		h.Trial = version
	}
}

func (s *Service) addVersion(ctx context.Context, tx *store.Tx, id auth.Identity, v Version, document string, old Head) error {
	if v.Collections == nil {
		v.Collections = []string{}
	}
	collections, err := encode(v.Collections)
	if err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, addVersion, id.Tenant, v.Policy, v.Version, document, collections, v.Digest, v.Note, v.Made.UnixMicro(), v.By); err != nil {
		return err
	}
	_, err = tx.Exec(ctx, dropVersion, id.Tenant, v.Policy, v.Version-maxVersions, old.Active, old.Trial)
	return err
}

func (s *Service) roomForPolicy(ctx context.Context, tx *store.Tx, tenant string) error {
	var n int
	if err := tx.QueryRow(ctx, countHeads, tenant).Scan(&n); err != nil {
		return err
	}
	if n >= maxPolicies {
		return fault.New(fault.Exhausted, "too_many_policies", "There are %d policies; a tenant has at most %d.", n, maxPolicies)
	}
	return nil
}

func (s *Service) moveHead(ctx context.Context, tx *store.Tx, id auth.Identity, h *Head, old Head, fresh bool) error { //nolint:revive // a fact about the row
	h.Revision, h.Changed, h.By = old.Revision+1, time.Now().Truncate(time.Microsecond), id.Subject
	var err error
	if fresh {
		_, err = tx.Exec(ctx, addHead, id.Tenant, h.Policy, h.Active, h.Trial, h.Latest, h.Revision, h.Changed.UnixMicro(), h.By)
	} else {
		err = tx.ExecOne(ctx, setHead, h.Active, h.Trial, h.Latest, h.Revision, h.Changed.UnixMicro(), h.By, id.Tenant, h.Policy, old.Revision)
	}
	if err != nil {
		return err
	}
	_, err = tx.Exec(ctx, changed, id.Tenant)
	return err
}

// announce emits an event for each thing that changed.
func (s *Service) announce(ctx context.Context, tx *store.Tx, id auth.Identity, h, old Head, v Version) error {
	var list []PolicyEvent
	if h.Latest != old.Latest {
		list = append(list, PolicyEvent{h.Policy, h.Latest, v.Digest, "stored"})
	}
	if h.Active != old.Active {
		list = append(list, PolicyEvent{h.Policy, h.Active, v.Digest, "activated"})
	}
	switch h.Trial {
	case old.Trial:
	case 0:
		list = append(list, PolicyEvent{h.Policy, old.Trial, v.Digest, "trial_ended"})
	default:
		list = append(list, PolicyEvent{h.Policy, h.Trial, v.Digest, "trial_started"})
	}
	for _, e := range list {
		if err := tx.Emit(ctx, store.Event{Type: TypePolicyChanged, Tenant: id.Tenant, Actor: id.Subject, Subject: h.Policy, Data: e}); err != nil {
			return err
		}
	}
	return nil
}

// choose puts a stored version to use.
func (s *Service) choose(ctx context.Context, id auth.Identity, name string, version int64, as string, revision int64) (Head, error) {
	var head Head
	err := s.db.Tx(ctx, func(tx *store.Tx) error {
		old, err := s.head(ctx, tx, id.Tenant, name)
		if err != nil {
			return err
		}
		if revision >= 0 && revision != old.Revision {
			return changedMeanwhile(name)
		}
		head = old
		use(&head, version, as)
		if head == old {
			return nil
		}
		about := version
		if about == 0 && as == Trial {
			about = old.Trial
		}
		var v Version
		if about > 0 {
			if v, err = s.version(ctx, tx, id.Tenant, name, about); err != nil {
				return err
			}
		}
		if err := s.moveHead(ctx, tx, id, &head, old, false); err != nil {
			return err
		}
		return s.announce(ctx, tx, id, head, old, v)
	})
	return head, err
}

// readTenant reads a tenant's rules, all at one moment; nil when nothing has changed since the known change.
func (s *Service) readTenant(ctx context.Context, tenant string, known int64) (*tenantRules, error) {
	out := &tenantRules{heads: map[string]Head{}, versions: map[string]Version{}}
	err := s.db.QueryRow(ctx, changeOf, tenant).Scan(&out.change)
	if err != nil && !store.NoRows(err) {
		return nil, err
	}
	if out.change == known {
		return nil, nil //nolint:nilnil // nothing new
	}
	err = s.db.Snapshot(ctx, func(q store.Querier) error {
		if err := q.QueryRow(ctx, changeOf, tenant).Scan(&out.change); err != nil && !store.NoRows(err) {
			return err
		}
		list, err := all(ctx, q, scanHead, heads, tenant)
		if err != nil {
			return err
		}
		for _, h := range list {
			out.heads[h.Policy] = h
		}
		used, err := all(ctx, q, scanVersion, inUse, tenant)
		if err != nil {
			return err
		}
		for _, v := range used {
			out.versions[v.id()] = v
		}
		out.spare, err = all(ctx, q, scanSpared, spareds, tenant, "", int64(2*maxSpared))
		return err
	})
	if err != nil {
		return nil, err
	}
	for i, x := range out.spare {
		if x.Kind == SparePhrase {
			if out.spare[i].re, err = regexp.Compile(x.Value); err != nil {
				return nil, fmt.Errorf("allow-list entry %s: %w", x.ID, err)
			}
		}
		if x.Kind == SpareValue && out.pinning == nil {
			if out.pinning, err = s.pinning(ctx, tenant); err != nil {
				return nil, err
			}
		}
	}
	return out, nil
}

// SparedList lists the allow-list of the caller's tenant after an id.
func (s *Service) SparedList(ctx context.Context, after string, limit int) ([]Spared, error) {
	return all(ctx, s.db, scanSpared, spareds, auth.From(ctx).Tenant, after, int64(limit))
}

// sparedNow is what of a tenant's allow-list has not expired.
func (s *Service) sparedNow(ctx context.Context, tenant string) ([]Spared, error) {
	list, err := all(ctx, s.db, scanSpared, spareds, tenant, "", int64(2*maxSpared))
	now := time.Now()
	out := list[:0]
	for _, x := range list {
		if x.Expires.After(now) {
			out = append(out, x)
		}
	}
	return out, err
}

// addSpared writes an entry with its event.
func (s *Service) addSpared(ctx context.Context, id auth.Identity, x *Spared) error {
	return s.db.Tx(ctx, func(tx *store.Tx) error { return s.insertSpared(ctx, tx, id, x) })
}

func (s *Service) insertSpared(ctx context.Context, tx *store.Tx, id auth.Identity, x *Spared) error {
	if x.Policy != "" && x.Policy != policyDefault {
		if _, err := s.head(ctx, tx, id.Tenant, x.Policy); err != nil {
			return err
		}
	}
	var n, phrases int
	if err := tx.QueryRow(ctx, countSpared, id.Tenant, x.Made.UnixMicro()).Scan(&n, &phrases); err != nil {
		return err
	}
	if n >= maxSpared || x.Kind == SparePhrase && phrases >= maxPhrases {
		return fault.New(fault.Exhausted, "allow_list_full", "The allow-list has %d entries, %d of them patterns; it takes %d and %d.", n, phrases, maxSpared, maxPhrases)
	}
	x.ID = "al_" + uuid.Must(uuid.NewV7()).String()
	if _, err := tx.Exec(ctx, addEntry, x.ID, id.Tenant, x.Policy, x.Kind, x.Value, x.Reason, x.Made.UnixMicro(), x.By, x.Expires.UnixMicro()); err != nil {
		return err
	}
	return s.spareChanged(ctx, tx, id, TypeAllowAdded, *x)
}

func (s *Service) spareChanged(ctx context.Context, tx *store.Tx, id auth.Identity, typ string, x Spared) error {
	if _, err := tx.Exec(ctx, changed, id.Tenant); err != nil {
		return err
	}
	sum := sha256.Sum256([]byte(x.Value))
	return tx.Emit(ctx, store.Event{Type: typ, Tenant: id.Tenant, Actor: id.Subject, Subject: x.ID, Data: AllowEvent{x.ID, x.Policy, x.Kind, hex.EncodeToString(sum[:]), x.Expires.UnixMicro()}})
}

func (s *Service) removeSpared(ctx context.Context, id auth.Identity, entry string) error {
	return s.db.Tx(ctx, func(tx *store.Tx) error {
		x, err := scanSpared(tx.QueryRow(ctx, sparedOf, id.Tenant, entry))
		if store.NoRows(err) {
			return fault.New(fault.Missing, "allow_entry_not_found", "There is no entry %q in the allow-list.", entry)
		}
		if err != nil {
			return err
		}
		if err := tx.ExecOne(ctx, dropEntry, id.Tenant, entry); err != nil {
			return err
		}
		return s.spareChanged(ctx, tx, id, TypeAllowRemoved, x)
	})
}
