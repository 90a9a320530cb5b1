package auth

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"golang.org/x/sync/singleflight"

	"aran/platform/fault"
)

const (
	issuerName = "aran"
	tokenType  = "aran-internal+jwt" // so that no session token passes for an internal one (RFC 8725 §3.11)
	leeway     = 5 * time.Second
	refetch    = time.Second
	maxToken   = 8 << 10
)

// claims of an internal token: RFC 7519 and RFC 8693 names where they exist.
type claims struct {
	jwt.Claims
	Azp        string   `json:"azp"`
	Tenant     string   `json:"tenant"`
	Scopes     []string `json:"scopes"`
	Roles      []string `json:"roles,omitempty"`
	Tier       string   `json:"tier,omitempty"`
	Credential string   `json:"cred,omitempty"`
	Models     []string `json:"models,omitempty"`
}

// SigningKey is an Ed25519 key with its id.
type SigningKey struct {
	ID      string
	Private []byte // seed, 32 bytes
	Created time.Time
}

// Issuer signs internal tokens (EdDSA, RFC 8037). Only user has one. Safe for concurrent use.
type Issuer struct {
	signer jose.Signer
	public jose.JSONWebKeySet
}

// NewIssuer signs with the first key and publishes all of them.
func NewIssuer(issuer string, keys []SigningKey) (*Issuer, error) {
	if issuer != issuerName || len(keys) == 0 {
		return nil, fmt.Errorf("issuer %q with %d keys", issuer, len(keys))
	}
	out := &Issuer{}
	for i, k := range keys {
		if len(k.Private) != ed25519.SeedSize {
			return nil, fmt.Errorf("signing key %s: %d bytes", k.ID, len(k.Private))
		}
		private := ed25519.NewKeyFromSeed(k.Private)
		out.public.Keys = append(out.public.Keys, jose.JSONWebKey{Key: private.Public(), KeyID: k.ID, Algorithm: string(jose.EdDSA), Use: "sig"})
		if i > 0 {
			continue
		}
		s, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.EdDSA, Key: jose.JSONWebKey{Key: private, KeyID: k.ID}}, (&jose.SignerOptions{}).WithType(tokenType))
		if err != nil {
			return nil, fmt.Errorf("signer: %w", err)
		}
		out.signer = s
	}
	return out, nil
}

// Mint signs an identity for its Audience, to be presented by its Caller.
func (i *Issuer) Mint(id Identity, ttl time.Duration) (string, error) {
	if id.Audience == "" || id.Caller == "" || id.Subject == "" || id.Tenant == "" {
		return "", errors.New("mint: audience, caller, subject and tenant are needed")
	}
	now := time.Now()
	t, err := jwt.Signed(i.signer).Claims(claims{
		Claims: jwt.Claims{Issuer: issuerName, Subject: id.Subject, Audience: jwt.Audience{id.Audience}, IssuedAt: jwt.NewNumericDate(now), NotBefore: jwt.NewNumericDate(now), Expiry: jwt.NewNumericDate(now.Add(ttl))},
		Azp:    id.Caller, Tenant: id.Tenant, Scopes: id.Scopes, Roles: id.Roles, Tier: id.Tier, Credential: id.Credential, Models: id.Models,
	}).Serialize()
	if err != nil {
		return "", fmt.Errorf("mint: %w", err)
	}
	return t, nil
}

// JWKS is the public part of the keys (RFC 7517).
func (i *Issuer) JWKS() ([]byte, error) { return json.Marshal(i.public) }

// Verifier checks internal tokens for one audience. It fetches keys when it meets an unknown key id, at most once a second.
type Verifier struct {
	audience string
	fetch    func(ctx context.Context) ([]byte, error)
	flight   singleflight.Group

	mu      sync.Mutex
	keys    map[string]ed25519.PublicKey
	fetched time.Time
}

// NewVerifier verifies tokens for audience with the keys that fetch returns (a JWK Set).
func NewVerifier(audience string, fetch func(ctx context.Context) ([]byte, error)) *Verifier {
	return &Verifier{audience: audience, fetch: fetch}
}

// Audience is the service that this verifier stands before.
func (v *Verifier) Audience() string { return v.audience }

// Verify returns the identity of a token, or fault.Unauthenticated. peer is the calling service as the
// transport knows it; a token whose azp differs is refused.
func (v *Verifier) Verify(ctx context.Context, token, peer string) (Identity, error) {
	id, _, err := v.VerifyUntil(ctx, token, peer)
	return id, err
}

// VerifyUntil is Verify that also says when the token ends.
func (v *Verifier) VerifyUntil(ctx context.Context, token, peer string) (Identity, time.Time, error) {
	id, end, err := open(token, v.audience, func(kid string) (ed25519.PublicKey, error) { return v.key(ctx, kid) })
	if err != nil {
		return Identity{}, time.Time{}, err
	}
	if id.Caller != peer {
		return Identity{}, time.Time{}, refuse(fmt.Errorf("the token is for %q to present, not for %q", id.Caller, peer))
	}
	return id, end, nil
}

// Open checks a token that this issuer signed for audience, whoever presents it, and says when it ends. It is for the
// authority itself, to exchange it.
func (i *Issuer) Open(token, audience string) (Identity, time.Time, error) {
	return open(token, audience, func(kid string) (ed25519.PublicKey, error) {
		for _, k := range i.public.Key(kid) {
			if p, ok := k.Key.(ed25519.PublicKey); ok {
				return p, nil
			}
		}
		return nil, refuse(fmt.Errorf("unknown key %q", kid))
	})
}

func open(token, audience string, key func(kid string) (ed25519.PublicKey, error)) (Identity, time.Time, error) {
	none := Identity{}
	if len(token) > maxToken {
		return none, time.Time{}, refuse(errors.New("token too long"))
	}
	t, err := jwt.ParseSigned(token, []jose.SignatureAlgorithm{jose.EdDSA})
	if err != nil {
		return none, time.Time{}, refuse(err)
	}
	if len(t.Headers) != 1 {
		return none, time.Time{}, refuse(errors.New("one signature is expected"))
	}
	if typ, _ := t.Headers[0].ExtraHeaders[jose.HeaderType].(string); typ != tokenType {
		return none, time.Time{}, refuse(fmt.Errorf("token of type %q", typ))
	}
	public, err := key(t.Headers[0].KeyID)
	if err != nil {
		return none, time.Time{}, err
	}
	var c claims
	if err := t.Claims(public, &c); err != nil {
		return none, time.Time{}, refuse(err)
	}
	if err := c.ValidateWithLeeway(jwt.Expected{Issuer: issuerName, AnyAudience: jwt.Audience{audience}, Time: time.Now()}, leeway); err != nil {
		return none, time.Time{}, refuse(err)
	}
	if len(c.Audience) != 1 || c.Expiry == nil || c.Subject == "" || c.Tenant == "" || c.Azp == "" {
		return none, time.Time{}, refuse(errors.New("the token is not for this call"))
	}
	return Identity{
		Tenant: c.Tenant, Subject: c.Subject, Scopes: c.Scopes, Roles: c.Roles, Tier: c.Tier, Credential: c.Credential,
		Caller: c.Azp, Audience: audience, Models: c.Models,
	}, c.Expiry.Time(), nil
}

func refuse(cause error) error {
	return fault.New(fault.Unauthenticated, "token_refused", "The call's identity is not valid here.").Because(cause)
}

func (v *Verifier) key(ctx context.Context, id string) (ed25519.PublicKey, error) {
	v.mu.Lock()
	k, ok := v.keys[id]
	fresh := time.Since(v.fetched) < refetch && v.keys != nil
	v.mu.Unlock()
	if ok {
		return k, nil
	}
	if fresh {
		return nil, refuse(fmt.Errorf("unknown key %q", id))
	}
	if _, err, _ := v.flight.Do("keys", func() (any, error) { return nil, v.refresh(ctx) }); err != nil {
		return nil, fault.New(fault.Unavailable, "keys_unavailable", "The identity can't be checked now; try again.").Because(err).After(time.Second)
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if k, ok := v.keys[id]; ok {
		return k, nil
	}
	return nil, refuse(fmt.Errorf("unknown key %q", id))
}

func (v *Verifier) refresh(ctx context.Context) error {
	b, err := v.fetch(ctx)
	if err != nil {
		return err
	}
	var set jose.JSONWebKeySet
	if err := json.Unmarshal(b, &set); err != nil {
		return fmt.Errorf("key set: %w", err)
	}
	keys := map[string]ed25519.PublicKey{}
	for _, k := range set.Keys {
		if p, ok := k.Key.(ed25519.PublicKey); ok {
			keys[k.KeyID] = p
		}
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.keys, v.fetched = keys, time.Now()
	return nil
}
