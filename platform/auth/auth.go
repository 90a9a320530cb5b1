// Package auth says who is calling: internal identities, the tokens that carry them, and the form of API keys.
package auth

import (
	"context"
	"time"
)

// Identity is a verified caller, from the edge to the last service.
type Identity struct {
	Tenant     string
	Subject    string // "user:<id>", or "key:<id>" for a key that belongs to no person
	Scopes     []string
	Roles      []string
	Tier       string   // rate-limit tier; "unlimited" for the administrator's key
	Credential string   // key id or session id
	Caller     string   // calling service (azp), set from the verified peer
	Audience   string   // the service that this identity was made for
	Models     []string // model targets that the route allows; empty: all
}

// Scopes that routes ask for. "*" holds all of them, also those to come.
const (
	ScopeAll         = "*"
	ScopeChat        = "chat:use"
	ScopeEmbed       = "models:use"
	ScopeModels      = "models:read"
	ScopeSearchRead  = "search:read"
	ScopeSearchWrite = "search:write"
	ScopeGuard       = "guard:use"
	ScopeAudit       = "audit:read"
	ScopeKeysRead    = "keys:read"
	ScopeKeysWrite   = "keys:write"
	ScopeTenant      = "tenant:read"
	ScopeOperate     = "operate:read"
)

// Has reports whether the identity holds the scope.
func (id Identity) Has(scope string) bool { panic("not built") }

// Require returns a fault.Denied that names the missing scope.
func (id Identity) Require(scope string) error { panic("not built") }

// From returns the identity that a handler was called with; the zero Identity when there is none (it has no scopes).
func From(ctx context.Context) Identity { panic("not built") }

// With puts an identity, and the token that carried it, into a context.
func With(ctx context.Context, id Identity, token string) context.Context { panic("not built") }

// Token returns the internal token that the handler was called with, for exchange.
func Token(ctx context.Context) string { panic("not built") }

// Issuer signs internal tokens (EdDSA, RFC 8037). Only user has one.
type Issuer struct{}

// SigningKey is an Ed25519 key with its id.
type SigningKey struct {
	ID      string
	Private []byte // seed, 32 bytes
	Created time.Time
}

// NewIssuer signs with the first key and publishes all of them.
func NewIssuer(issuer string, keys []SigningKey) (*Issuer, error) { panic("not built") }

// Mint signs an identity for its Audience.
func (i *Issuer) Mint(id Identity, ttl time.Duration) (string, error) { panic("not built") }

// JWKS is the public part of the keys (RFC 7517).
func (i *Issuer) JWKS() ([]byte, error) { panic("not built") }

// Verifier checks internal tokens for one audience. It fetches keys when it meets an unknown key id, at most once a second.
type Verifier struct{}

// NewVerifier verifies tokens for audience with the keys that fetch returns (a JWK Set).
func NewVerifier(audience string, fetch func(ctx context.Context) ([]byte, error)) *Verifier {
	panic("not built")
}

// Verify returns the identity of a token, or fault.Unauthenticated. peer is the calling service as the
// transport knows it; a token whose azp differs is refused.
func (v *Verifier) Verify(ctx context.Context, token, peer string) (Identity, error) {
	panic("not built")
}

// Source gives the token to call another service with; it caches until shortly before the end.
type Source interface {
	// Token returns a token for audience: the caller's own identity (from ctx), exchanged.
	Token(ctx context.Context, audience string) (string, error)
}

// NewAPIKey makes a key: aran_live_ or aran_test_, 32 random base62 characters, 6 of CRC-32 in base62 (so that scanners and typos are told apart from keys).
func NewAPIKey(test bool) string { panic("not built") }

// CheckAPIKey reports whether the form and checksum are right, without looking it up.
func CheckAPIKey(key string) bool { panic("not built") }

// HashAPIKey is what the database holds: SHA-256 of the key (it has 190 bits of its own, so no slow hash is needed).
func HashAPIKey(key string) []byte { panic("not built") }
