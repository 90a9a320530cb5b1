package user

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"aran/platform/auth"
	"aran/platform/fault"
	"aran/platform/store"
)

const (
	insertTenant  = `INSERT INTO user_tenant (id, name, created) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING`
	selectTenant  = `SELECT suspended IS NOT NULL FROM user_tenant WHERE id = $1`
	tenantName    = `SELECT name, created FROM user_tenant WHERE id = $1`
	insertAccount = `INSERT INTO user_account (id, tenant, mail, profile, password, scopes, created) VALUES ($1, $2, $3, $4, $5, $6, $7)`
	selectAccount = `SELECT id, tenant, profile, password, scopes, created, suspended IS NOT NULL FROM user_account WHERE `
	byMail        = selectAccount + `mail = $1`
	byID          = selectAccount + `id = $1`
	updateProfile = `UPDATE user_account SET profile = $1 WHERE id = $2`

	insertSession  = `INSERT INTO user_session (id, account, refresh, created, expires) VALUES ($1, $2, $3, $4, $5)`
	selectSession  = `SELECT s.id, s.account, a.tenant, s.expires, s.ended IS NOT NULL FROM user_session s JOIN user_account a ON a.id = s.account WHERE `
	sessionByID    = selectSession + `s.id = $1`
	sessionRefresh = selectSession + `s.refresh = $1`
	sessionSpent   = selectSession + `s.id = (SELECT session FROM user_spent WHERE refresh = $1)`
	rotateRefresh  = `UPDATE user_session SET refresh = $1, expires = $2 WHERE id = $3 AND ended IS NULL`
	insertSpent    = `INSERT INTO user_spent (refresh, session) VALUES ($1, $2)`
	endSession     = `UPDATE user_session SET ended = $1 WHERE id = $2 AND ended IS NULL`

	insertKey = `INSERT INTO user_key (id, tenant, subject, name, prefix, hash, scopes, tier, created, expires) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)`
	selectKey = `SELECT id, tenant, subject, name, prefix, scopes, tier, created, expires, revoked FROM user_key WHERE `
	keyByHash = selectKey + `hash = $1`
	keyByID   = selectKey + `tenant = $1 AND id = $2`
	keyPage   = selectKey + `tenant = $1 AND ($2 = '' OR id < $2) ORDER BY id DESC LIMIT $3`
	revokeKey = `UPDATE user_key SET revoked = $1 WHERE tenant = $2 AND id = $3 AND revoked IS NULL`
	insertOwn = `INSERT INTO user_secret (id, kind, sealed, created) VALUES ($1, $2, $3, $4)`
	selectOwn = `SELECT id, sealed, created FROM user_secret WHERE kind = $1 ORDER BY created DESC LIMIT 2`
)

type secretRow struct {
	id      string
	value   []byte
	created time.Time
}

func (s *Service) secretRows(ctx context.Context, kind string) (out []secretRow, err error) {
	rows, err := s.db.Query(ctx, selectOwn, kind)
	if err != nil {
		return nil, err
	}
	defer rows.Close() //nolint:errcheck // read only
	for rows.Next() {
		var r secretRow
		var at int64
		if err := rows.Scan(&r.id, &r.value, &at); err != nil {
			return nil, fmt.Errorf("secrets: %w", err)
		}
		r.created = time.UnixMicro(at)
		out = append(out, r)
	}
	return out, rows.Err()
}

func (s *Service) addSecret(ctx context.Context, kind string, r secretRow) error {
	return s.db.Tx(ctx, func(tx *store.Tx) error {
		_, err := tx.Exec(ctx, insertOwn, r.id, kind, r.value, r.created.UnixMicro())
		return err
	})
}

func (s *Service) addTenants(ctx context.Context) error {
	return s.db.Tx(ctx, func(tx *store.Tx) error {
		for _, id := range []string{TenantDefault, TenantSystem} {
			if _, err := tx.Exec(ctx, insertTenant, id, id, time.Now().UnixMicro()); err != nil {
				return err
			}
		}
		return nil
	})
}

func (s *Service) tenantSuspended(ctx context.Context, id string) (yes bool, err error) {
	err = s.db.QueryRow(ctx, selectTenant, id).Scan(&yes)
	return yes, missing(err, "tenant", id)
}

func (s *Service) tenant(ctx context.Context, id string) (name string, created time.Time, err error) {
	var at int64
	err = s.db.QueryRow(ctx, tenantName, id).Scan(&name, &at)
	return name, time.UnixMicro(at), missing(err, "tenant", id)
}

func missing(err error, thing, id string) error {
	if store.NoRows(err) {
		return fault.NotFound(thing, id)
	}
	return err
}

type accountRow struct {
	id, tenant, password string
	profile              []byte
	scopes               []string
	created              time.Time
	suspended            bool
}

func (s *Service) account(ctx context.Context, query string, arg any, shown string) (r accountRow, err error) {
	var scopes string
	var created int64
	err = s.db.QueryRow(ctx, query, arg).Scan(&r.id, &r.tenant, &r.profile, &r.password, &scopes, &created, &r.suspended)
	if err != nil {
		return accountRow{}, missing(err, "account", shown)
	}
	r.scopes, r.created = strings.Fields(scopes), time.UnixMicro(created)
	return r, nil
}

func (s *Service) accountByMail(ctx context.Context, index []byte) (accountRow, error) {
	return s.account(ctx, byMail, index, "")
}

func (s *Service) accountByID(ctx context.Context, id string) (accountRow, error) {
	return s.account(ctx, byID, id, id)
}

func (s *Service) sealProfile(ctx context.Context, a Account) ([]byte, error) {
	plain, err := json.Marshal(profile{a.Mail, a.Name})
	if err != nil {
		return nil, fmt.Errorf("profile: %w", err)
	}
	return s.box.Seal(ctx, a.Subject(), plain, []byte(a.ID))
}

func (s *Service) openProfile(ctx context.Context, r accountRow) (Account, error) {
	a := Account{ID: r.id, Tenant: r.tenant, Scopes: r.scopes, Created: r.created}
	plain, err := s.box.Open(ctx, a.Subject(), r.profile, []byte(r.id))
	if err != nil {
		return Account{}, fmt.Errorf("profile: %w", err)
	}
	var p profile
	if err := json.Unmarshal(plain, &p); err != nil {
		return Account{}, fmt.Errorf("profile: %w", err)
	}
	a.Mail, a.Name = p.Mail, p.Name
	return a, nil
}

func (s *Service) addAccount(ctx context.Context, a Account, mail, sealed []byte, password string) error {
	return s.db.Tx(ctx, func(tx *store.Tx) error {
		now := a.Created.UnixMicro()
		if _, err := tx.Exec(ctx, insertTenant, a.Tenant, a.Tenant, now); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, insertAccount, a.ID, a.Tenant, mail, sealed, password, strings.Join(a.Scopes, " "), now); err != nil {
			return err
		}
		return tx.Emit(ctx, store.Event{Type: TypeAccountCreated, Tenant: a.Tenant, Actor: a.Subject(), Subject: a.ID, Data: AccountEvent{a.ID}})
	})
}

func (s *Service) setProfile(ctx context.Context, id string, sealed []byte) error {
	return s.db.Tx(ctx, func(tx *store.Tx) error { return tx.ExecOne(ctx, updateProfile, sealed, id) })
}

type sessionRow struct {
	id, account, tenant string
	expires             time.Time
	ended               bool
}

func scanSession(row store.Row) (r sessionRow, err error) {
	var expires int64
	err = row.Scan(&r.id, &r.account, &r.tenant, &expires, &r.ended)
	r.expires = time.UnixMicro(expires)
	return r, missing(err, "session", r.id)
}

func (s *Service) sessionByID(ctx context.Context, id string) (sessionRow, error) {
	return scanSession(s.db.QueryRow(ctx, sessionByID, id))
}

func (s *Service) addSession(ctx context.Context, a accountRow, id string, refresh []byte, expires time.Time) error {
	return s.db.Tx(ctx, func(tx *store.Tx) error {
		if _, err := tx.Exec(ctx, insertSession, id, a.id, refresh, time.Now().UnixMicro(), expires.UnixMicro()); err != nil {
			return err
		}
		return tx.Emit(ctx, store.Event{Type: TypeSessionCreated, Tenant: a.tenant, Actor: "user:" + a.id, Subject: id, Data: SessionEvent{a.id, id}})
	})
}

// rotateSession replaces a session's refresh token. When the old one was spent before, it ends the session instead and says so.
func (s *Service) rotateSession(ctx context.Context, old, fresh []byte, now, expires time.Time) (r sessionRow, reused bool, err error) {
	err = s.db.Tx(ctx, func(tx *store.Tx) error {
		reused = false
		var err error
		r, err = scanSession(tx.QueryRow(ctx, sessionRefresh, old))
		if fault.KindOf(err) == fault.Missing {
			if r, err = scanSession(tx.QueryRow(ctx, sessionSpent, old)); err != nil {
				return err
			}
			reused = true
			return s.endReused(ctx, tx, r, now)
		}
		if err != nil {
			return err
		}
		if r.ended || !now.Before(r.expires) {
			return fault.NotFound("session", r.id)
		}
		if err := tx.ExecOne(ctx, rotateRefresh, fresh, expires.UnixMicro(), r.id); err != nil {
			return err
		}
		_, err = tx.Exec(ctx, insertSpent, old, r.id)
		return err
	})
	return r, reused, err
}

func (s *Service) endReused(ctx context.Context, tx *store.Tx, r sessionRow, now time.Time) error {
	if _, err := tx.Exec(ctx, endSession, now.UnixMicro(), r.id); err != nil {
		return err
	}
	if err := tx.Emit(ctx, store.Event{Type: TypeRefreshReused, Tenant: r.tenant, Actor: "user:" + r.account, Subject: r.id, Data: SessionEvent{r.account, r.id}}); err != nil {
		return err
	}
	return tx.Emit(ctx, revoked(r.tenant, "user:"+r.account, r.id))
}

func revoked(tenant, actor, credential string) store.Event {
	return store.Event{Type: TypeRevoked, Tenant: tenant, Actor: actor, Subject: credential, Data: RevokedEvent{Credential: credential}}
}

func (s *Service) endSession(ctx context.Context, id auth.Identity) error {
	return s.db.Tx(ctx, func(tx *store.Tx) error {
		n, err := tx.Exec(ctx, endSession, time.Now().UnixMicro(), id.Credential)
		if err != nil {
			return err
		}
		if n == 0 {
			return fault.New(fault.Missing, "session_not_found", "The credential is no session.")
		}
		if err := tx.Emit(ctx, store.Event{Type: TypeSessionEnded, Tenant: id.Tenant, Actor: id.Subject, Subject: id.Credential, Data: SessionEvent{strings.TrimPrefix(id.Subject, "user:"), id.Credential}}); err != nil {
			return err
		}
		return tx.Emit(ctx, revoked(id.Tenant, id.Subject, id.Credential))
	})
}

func scanKey(row store.Row) (k Key, err error) {
	var scopes string
	var created int64
	var expires, revoked sql.NullInt64
	if err := row.Scan(&k.ID, &k.Tenant, &k.Subject, &k.Name, &k.Prefix, &scopes, &k.Tier, &created, &expires, &revoked); err != nil {
		return Key{}, err
	}
	k.Scopes, k.Created = strings.Fields(scopes), time.UnixMicro(created)
	if expires.Valid {
		k.Expires = time.UnixMicro(expires.Int64)
	}
	if revoked.Valid {
		k.Revoked = time.UnixMicro(revoked.Int64)
	}
	return k, nil
}

func (s *Service) keyByHash(ctx context.Context, hash []byte) (Key, error) {
	k, err := scanKey(s.db.QueryRow(ctx, keyByHash, hash))
	return k, missing(err, "key", "")
}

func (s *Service) keyOf(ctx context.Context, tenant, id string) (Key, error) {
	k, err := scanKey(s.db.QueryRow(ctx, keyByID, tenant, id))
	return k, missing(err, "key", id)
}

func (s *Service) keysOf(ctx context.Context, tenant string, limit int, after string) (out []Key, err error) {
	rows, err := s.db.Query(ctx, keyPage, tenant, after, limit)
	if err != nil {
		return nil, err
	}
	defer rows.Close() //nolint:errcheck // read only
	for rows.Next() {
		k, err := scanKey(rows)
		if err != nil {
			return nil, fmt.Errorf("keys: %w", err)
		}
		out = append(out, k)
	}
	return out, rows.Err()
}

func insertKeyRow(ctx context.Context, tx *store.Tx, k CreatedKey) error {
	var expires sql.NullInt64
	if !k.Expires.IsZero() {
		expires = sql.NullInt64{Int64: k.Expires.UnixMicro(), Valid: true}
	}
	_, err := tx.Exec(ctx, insertKey, k.ID, k.Tenant, k.Subject, k.Name, k.Prefix, auth.HashAPIKey(k.Secret), strings.Join(k.Scopes, " "), k.Tier, k.Created.UnixMicro(), expires)
	return err
}

// addKey returns the remembered answer instead when the idempotency key was used before.
func (s *Service) addKey(ctx context.Context, id auth.Identity, k CreatedKey, once idempotent) (old []byte, err error) {
	err = s.db.Tx(ctx, func(tx *store.Tx) error {
		var err error
		if old, err = tx.Replay(ctx, once.scope, once.key, once.request); err != nil || old != nil {
			return err
		}
		if err := insertKeyRow(ctx, tx, k); err != nil {
			return err
		}
		if err := tx.Remember(ctx, once.scope, once.key, once.request, once.answer); err != nil {
			return err
		}
		return tx.Emit(ctx, store.Event{Type: TypeKeyCreated, Tenant: k.Tenant, Actor: id.Subject, Subject: k.ID, Data: KeyEvent{Key: k.ID, Scopes: k.Scopes}})
	})
	return old, err
}

func (s *Service) addAdminKey(ctx context.Context, k CreatedKey) error {
	return s.db.Tx(ctx, func(tx *store.Tx) error {
		if err := insertKeyRow(ctx, tx, k); err != nil {
			return err
		}
		return tx.Emit(ctx, store.Event{Type: TypeKeyCreated, Tenant: k.Tenant, Actor: k.Subject, Subject: k.ID, Data: KeyEvent{Key: k.ID, Scopes: k.Scopes}})
	})
}

func (s *Service) revokeKey(ctx context.Context, id auth.Identity, k Key) error {
	return s.db.Tx(ctx, func(tx *store.Tx) error {
		n, err := tx.Exec(ctx, revokeKey, time.Now().UnixMicro(), k.Tenant, k.ID)
		if err != nil || n == 0 {
			return err // someone else did it in the meantime
		}
		if err := tx.Emit(ctx, store.Event{Type: TypeKeyRevoked, Tenant: k.Tenant, Actor: id.Subject, Subject: k.ID, Data: KeyEvent{Key: k.ID}}); err != nil {
			return err
		}
		return tx.Emit(ctx, revoked(k.Tenant, id.Subject, k.ID))
	})
}

func (s *Service) rotateKey(ctx context.Context, id auth.Identity, old Key, fresh CreatedKey) error {
	return s.db.Tx(ctx, func(tx *store.Tx) error {
		if err := tx.ExecOne(ctx, revokeKey, time.Now().UnixMicro(), old.Tenant, old.ID); err != nil {
			return err
		}
		if err := insertKeyRow(ctx, tx, fresh); err != nil {
			return err
		}
		if err := tx.Emit(ctx, store.Event{Type: TypeKeyRotated, Tenant: old.Tenant, Actor: id.Subject, Subject: fresh.ID, Data: KeyEvent{Key: fresh.ID, Scopes: fresh.Scopes, Old: old.ID}}); err != nil {
			return err
		}
		return tx.Emit(ctx, revoked(old.Tenant, id.Subject, old.ID))
	})
}
