package user

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"aran/platform/auth"
	"aran/platform/fault"
)

// Key is an API key without its secret.
type Key struct {
	ID, Tenant, Subject string
	Name, Prefix, Tier  string
	Scopes              []string
	Created             time.Time
	Expires, Revoked    time.Time // zero: never, not
}

func (k Key) ended(now time.Time) bool {
	return !k.Revoked.IsZero() || !k.Expires.IsZero() && !now.Before(k.Expires)
}

const shownPrefix = 14 // aran_live_ and four characters: enough to tell keys apart, too little to guess

// NewKey says what to make.
type NewKey struct {
	Name        string
	Scopes      []string
	ExpiresIn   time.Duration
	Test        bool
	Idempotency string
}

// CreatedKey is a key with its secret, which is shown once.
type CreatedKey struct {
	Key
	Secret string
}

// CreateKey makes a key with at most the caller's own scopes. It acts as the caller, when the caller is a person, else as itself.
func (s *Service) CreateKey(ctx context.Context, id auth.Identity, n NewKey) (CreatedKey, error) {
	if err := checkScopes(n.Scopes, id); err != nil {
		return CreatedKey{}, err
	}
	k := Key{ID: newID(), Tenant: id.Tenant, Subject: id.Subject, Name: n.Name, Scopes: n.Scopes, Tier: tierStandard, Created: time.Now()}
	if !strings.HasPrefix(id.Subject, "user:") {
		k.Subject = "key:" + k.ID
	}
	if n.ExpiresIn > 0 {
		k.Expires = k.Created.Add(n.ExpiresIn)
	}
	made, sealed, err := s.withSecret(ctx, k, n.Test)
	if err != nil {
		return CreatedKey{}, err
	}
	request, err := json.Marshal(struct {
		NewKey
		Idempotency string `json:"-"`
	}{NewKey: n})
	if err != nil {
		return CreatedKey{}, fmt.Errorf("create key: %w", err)
	}
	old, err := s.addKey(ctx, id, made, idempotent{id.Tenant + "/" + id.Subject + "/create_key", n.Idempotency, request, sealed})
	if err != nil || old == nil {
		return made, err
	}
	return s.reveal(ctx, old)
}

// idempotent is a request under an idempotency key, with the answer to remember.
type idempotent struct {
	scope, key      string
	request, answer []byte
}

// withSecret draws the key itself. The sealed answer is what an idempotency key remembers: the secret is nowhere in the clear.
func (s *Service) withSecret(ctx context.Context, k Key, test bool) (CreatedKey, []byte, error) {
	secret := auth.NewAPIKey(test)
	k.Prefix = secret[:shownPrefix]
	made := CreatedKey{k, secret}
	plain, err := json.Marshal(made) //nolint:gosec // it is sealed below
	if err != nil {
		return CreatedKey{}, nil, fmt.Errorf("create key: %w", err)
	}
	sealed, err := s.box.Seal(ctx, sealedFor, plain, []byte("created_key"))
	if err != nil {
		return CreatedKey{}, nil, fmt.Errorf("create key: %w", err)
	}
	fault.Point("user.key.sealed")
	return made, sealed, nil
}

func (s *Service) reveal(ctx context.Context, sealed []byte) (k CreatedKey, err error) {
	plain, err := s.box.Open(ctx, sealedFor, sealed, []byte("created_key"))
	if err != nil {
		return CreatedKey{}, fmt.Errorf("remembered key: %w", err)
	}
	return k, json.Unmarshal(plain, &k)
}

func checkScopes(want []string, id auth.Identity) error {
	for _, w := range want {
		if !slices.Contains(knownScopes(), w) {
			return fault.New(fault.Invalid, "unknown_scope", "There is no scope %q; there are %s.", w, strings.Join(knownScopes(), ", "))
		}
		if !id.Has(w) {
			return fault.New(fault.Denied, "scope_missing", "A key can't have the scope %q, which its maker does not have.", w)
		}
	}
	return nil
}

// Keys lists a tenant's keys, newest first. after is the id of the last one that was seen.
func (s *Service) Keys(ctx context.Context, id auth.Identity, limit int, after string) ([]Key, error) {
	return s.keysOf(ctx, id.Tenant, limit, after)
}

// Key returns one key of the caller's tenant.
func (s *Service) Key(ctx context.Context, id auth.Identity, key string) (Key, error) {
	return s.keyOf(ctx, id.Tenant, key)
}

// RevokeKey ends a key at once. Revoking twice is no error.
func (s *Service) RevokeKey(ctx context.Context, id auth.Identity, key string) error {
	k, err := s.keyOf(ctx, id.Tenant, key)
	if err != nil || !k.Revoked.IsZero() {
		return err
	}
	return s.revokeKey(ctx, id, k)
}

// RotateKey replaces a key by one with the same rights, in one step.
func (s *Service) RotateKey(ctx context.Context, id auth.Identity, key string) (CreatedKey, error) {
	old, err := s.keyOf(ctx, id.Tenant, key)
	if err != nil {
		return CreatedKey{}, err
	}
	if old.ended(time.Now()) {
		return CreatedKey{}, fault.New(fault.Conflict, "key_ended", "This key was revoked or has expired; make a new one.")
	}
	if err := checkScopes(old.Scopes, id); err != nil {
		return CreatedKey{}, err
	}
	k := old
	k.ID, k.Created = newID(), time.Now()
	if old.Subject == "key:"+old.ID {
		k.Subject = "key:" + k.ID
	}
	made, _, err := s.withSecret(ctx, k, strings.HasPrefix(old.Prefix, "aran_test_"))
	if err != nil {
		return CreatedKey{}, err
	}
	return made, s.rotateKey(ctx, id, old, made)
}

// firstStart makes the tenants and the administrator's key. A crash between the file and the row leaves a file
// that the next start takes up.
func (s *Service) firstStart(ctx context.Context) error {
	if err := s.addTenants(ctx); err != nil {
		return err
	}
	if s.cfg.AdminKeyFile == "" {
		return nil
	}
	known, err := s.keyOf(ctx, TenantDefault, adminKeyID)
	if err != nil && fault.KindOf(err) != fault.Missing {
		return err
	}
	if err == nil {
		if _, err := os.Stat(s.cfg.AdminKeyFile); errors.Is(err, os.ErrNotExist) && !s.db.Shared() { // a replica may have it
			s.log.LogAttrs(ctx, logHint, "the administrator's key file is gone; the key itself still works", logPrefix(known.Prefix))
		}
		return nil
	}
	secret, err := adminKey(s.cfg.AdminKeyFile)
	if err != nil {
		return err
	}
	fault.Point("user.admin_key.written")
	return s.addAdminKey(ctx, CreatedKey{Key{
		ID: adminKeyID, Tenant: TenantDefault, Subject: "key:" + adminKeyID, Name: "administrator", Prefix: secret[:shownPrefix],
		Scopes: []string{auth.ScopeAll}, Tier: tierUnlimited, Created: time.Now(),
	}, secret})
}

// adminKey returns the key in the file, writing a new one when there is no good one.
func adminKey(path string) (string, error) {
	if b, err := os.ReadFile(path); err == nil { //nolint:gosec // the operator's own path
		if k := strings.TrimSpace(string(b)); auth.CheckAPIKey(k) {
			return k, nil
		}
	}
	key := auth.NewAPIKey(false)
	tmp, err := os.CreateTemp(filepath.Dir(path), ".admin-key-*") // made with mode 0600
	if err != nil {
		return "", fmt.Errorf("administrator's key: %w", err)
	}
	_, err = tmp.WriteString(key + "\n")
	if err = errors.Join(err, tmp.Sync(), tmp.Close()); err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		return "", fmt.Errorf("administrator's key: %w", errors.Join(err, os.Remove(tmp.Name())))
	}
	return key, nil
}
