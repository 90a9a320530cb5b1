// Package user is the identity authority: tenants, accounts, sessions and API keys.
//
// It turns public credentials into internal tokens, each for one service and for minutes, and it alone
// holds the keys that sign them. It asks no other service for anything. A credential that was revoked
// makes no token any more, and everyone who keeps one is told by an event of the same transaction.
package user

import (
	"context"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"embed"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"aran/platform/auth"
	"aran/platform/bus"
	"aran/platform/fault"
	"aran/platform/limit"
	"aran/platform/rpc"
	"aran/platform/seal"
	"aran/platform/store"
	"aran/platform/watch"
)

// Migrations make the tables.
//
//go:embed migrations/*.sql
var Migrations embed.FS

// Tenants that always exist.
const (
	TenantDefault = "default" // the administrator's
	TenantSystem  = "system"  // owner of what comes with the platform
)

const (
	tierStandard  = "standard"
	tierUnlimited = "unlimited"
	serviceName   = "user"
	sealedFor     = "service:user" // whose data key seals the service's own secrets
	adminKeyID    = "admin"
)

// ownerScopes is what signing up gives: everything but operating the platform.
func ownerScopes() []string {
	return []string{
		auth.ScopeChat, auth.ScopeEmbed, auth.ScopeModels, auth.ScopeSearchRead, auth.ScopeSearchWrite, auth.ScopeReview, auth.ScopeGuard, auth.ScopeGuardManage,
		auth.ScopeAudit, auth.ScopeKeysRead, auth.ScopeKeysWrite, auth.ScopeTenant, auth.ScopeItems, auth.ScopeInteract, auth.ScopeRecommend, auth.ScopeWebhooks,
	}
}

// knownScopes is what a key may be made with.
func knownScopes() []string {
	return append(ownerScopes(), auth.ScopeOperate, auth.ScopeModelsWrite, auth.ScopeAll)
}

// Deps is what the service stands on.
type Deps struct {
	DB     *store.DB
	Bus    *bus.Conn
	Box    *seal.Box
	Limits limit.Limiter // of tries to sign in
	Server rpc.Server    // its Verifier is made by the service itself: see Verifier
	Log    *slog.Logger
	Health *watch.Health
}

// Service is the identity authority. Safe for concurrent use.
type Service struct {
	cfg    Config
	db     *store.DB
	box    *seal.Box
	log    *slog.Logger
	hash   *hasher
	tries  limit.Limiter
	issuer *auth.Issuer
	signer *sessions
	mail   []byte // key of the e-mail index
	server rpc.Server
	public *rpc.Public
}

// New opens the service: it makes what the first start makes, among it the administrator's key.
func New(ctx context.Context, cfg Config, d Deps) (*Service, error) {
	s := &Service{cfg: cfg, db: d.DB, box: d.Box, log: d.Log, hash: newHasher(cfg), tries: d.Limits, server: d.Server}
	err := s.db.InTurn(ctx, "first start", func(ctx context.Context) error { // of replicas, one makes it
		if err := s.firstStart(ctx); err != nil {
			return fmt.Errorf("first start: %w", err)
		}
		return s.loadSecrets(ctx)
	})
	if err != nil {
		return nil, err
	}
	s.server.Verifier = auth.NewVerifier(serviceName, func(context.Context) ([]byte, error) { return s.issuer.JWKS() })
	s.public = s.routes()
	d.Health.Add("user: database", s.db.Ping)
	return s, nil
}

// Start has nothing to launch.
func (s *Service) Start(context.Context) error { return nil }

// Stop has nothing to stop.
func (s *Service) Stop(context.Context) error { return nil }

func newID() string { return uuid.Must(uuid.NewV7()).String() }

// loadSecrets reads the signing keys and the key of the e-mail index, making them at the first start.
func (s *Service) loadSecrets(ctx context.Context) error {
	keys, err := s.signingKeys(ctx)
	if err != nil {
		return err
	}
	if s.issuer, err = auth.NewIssuer("aran", keys); err != nil {
		return err
	}
	if s.signer, err = newSessions(keys, s.cfg.AccessTTL); err != nil {
		return err
	}
	mail, err := s.secrets(ctx, "mail_index", sha256.Size)
	if err != nil {
		return err
	}
	s.mail = mail[0].value
	return nil
}

func (s *Service) signingKeys(ctx context.Context) ([]auth.SigningKey, error) {
	rows, err := s.secrets(ctx, "signing_key", ed25519.SeedSize)
	if err != nil {
		return nil, err
	}
	keys := make([]auth.SigningKey, len(rows))
	for i, r := range rows {
		keys[i] = auth.SigningKey{ID: r.id, Private: r.value, Created: r.created}
	}
	return keys, nil
}

// secrets returns the service's sealed secrets of a kind, newest first, making one when there is none.
func (s *Service) secrets(ctx context.Context, kind string, length int) ([]secretRow, error) {
	rows, err := s.secretRows(ctx, kind)
	if err != nil {
		return nil, err
	}
	if len(rows) == 0 {
		value := make([]byte, length)
		_, _ = rand.Read(value) // never fails (crypto/rand)
		r := secretRow{id: newID(), created: time.Now()}
		if r.value, err = s.box.Seal(ctx, sealedFor, value, []byte(r.id)); err != nil {
			return nil, fmt.Errorf("seal %s: %w", kind, err)
		}
		fault.Point("user.secret.sealed")
		if err := s.addSecret(ctx, kind, r); err != nil {
			return nil, err
		}
		rows = []secretRow{r}
	}
	for i, r := range rows {
		if rows[i].value, err = s.box.Open(ctx, sealedFor, r.value, []byte(r.id)); err != nil {
			return nil, fmt.Errorf("open %s %s: %w", kind, r.id, err)
		}
	}
	return rows, nil
}

// mailIndex is what an account is found by: a keyed hash of its normal form.
func (s *Service) mailIndex(mail string) []byte {
	h := hmac.New(sha256.New, s.mail)
	h.Write([]byte(strings.ToLower(strings.TrimSpace(mail))))
	return h.Sum(nil)
}

// profile is what an account seals.
type profile struct {
	Mail string `json:"mail"`
	Name string `json:"name,omitempty"`
}

// Account is a person.
type Account struct {
	ID, Tenant string
	Name, Mail string
	Scopes     []string
	Created    time.Time
}

// Subject is how the account stands in identities.
func (a Account) Subject() string { return "user:" + a.ID }

// SignUp makes an account with a tenant of its own.
func (s *Service) SignUp(ctx context.Context, mail, password, name string) (Account, error) {
	if !s.cfg.OpenSignUp {
		return Account{}, fault.New(fault.Denied, "sign_up_closed", "Signing up is by invitation here.")
	}
	hash, err := s.hash.hash(ctx, password)
	if err != nil {
		return Account{}, err
	}
	a := Account{ID: newID(), Tenant: newID(), Name: name, Mail: strings.TrimSpace(mail), Scopes: ownerScopes(), Created: time.Now()}
	sealed, err := s.sealProfile(ctx, a)
	if err != nil {
		return Account{}, err
	}
	fault.Point("user.account.sealed")
	err = s.addAccount(ctx, a, s.mailIndex(mail), sealed, hash)
	if store.IsUnique(err) {
		return Account{}, fault.New(fault.Conflict, "account_exists", "There is an account with this e-mail address.")
	}
	return a, err
}

// SignIn checks a password. Whether the account exists shows neither in the answer nor in its time.
func (s *Service) SignIn(ctx context.Context, mail, password string) (Session, error) {
	wrong := fault.New(fault.Unauthenticated, "wrong_credentials", "E-mail address or password is wrong.")
	index := s.mailIndex(mail)
	r, err := s.tries.Allow(ctx, string(index), limit.Rate{Count: 1, Period: time.Minute, Burst: s.cfg.SignInBurst}, 1)
	if err != nil {
		return Session{}, err
	}
	if !r.Allowed {
		return Session{}, fault.New(fault.Exhausted, "sign_in_throttled", "Too many tries for this account; wait.").After(r.RetryAfter)
	}
	row, err := s.accountByMail(ctx, index)
	if err != nil && fault.KindOf(err) != fault.Missing {
		return Session{}, err
	}
	ok, err := s.hash.matches(ctx, password, row.password)
	if err != nil {
		return Session{}, err
	}
	if !ok || row.suspended {
		return Session{}, wrong
	}
	return s.openSession(ctx, row)
}

// Me returns the caller's account. A key that belongs to no person has none.
func (s *Service) Me(ctx context.Context, id auth.Identity) (Account, error) {
	account, ok := strings.CutPrefix(id.Subject, "user:")
	if !ok {
		return Account{Tenant: id.Tenant, Scopes: id.Scopes}, nil
	}
	row, err := s.accountByID(ctx, account)
	if err != nil {
		return Account{}, err
	}
	return s.openProfile(ctx, row)
}

// Rename changes the caller's name.
func (s *Service) Rename(ctx context.Context, id auth.Identity, name string) (Account, error) {
	a, err := s.Me(ctx, id)
	if err != nil {
		return Account{}, err
	}
	if a.ID == "" {
		return Account{}, fault.New(fault.Unsupported, "no_account", "This key belongs to no person.")
	}
	a.Name = name
	sealed, err := s.sealProfile(ctx, a)
	if err != nil {
		return Account{}, err
	}
	return a, s.setProfile(ctx, a.ID, sealed)
}

// narrow returns the scopes of want that have holds.
func narrow(want, have []string) []string {
	if slices.Contains(have, auth.ScopeAll) {
		return want
	}
	if slices.Contains(want, auth.ScopeAll) {
		return have
	}
	var out []string
	for _, w := range want {
		if slices.Contains(have, w) {
			out = append(out, w)
		}
	}
	return out
}

var errEnded = errors.New("credential ended")
