package auth

import (
	"context"
	"crypto/sha256"
	"time"

	"golang.org/x/sync/singleflight"

	"aran/platform/cache"
	"aran/platform/fault"
)

// Source gives the token to call another service with; it caches until shortly before the end.
type Source interface {
	// Token returns a token for audience: the caller's own identity (from ctx), exchanged.
	Token(ctx context.Context, audience string) (string, error)
}

// Exchange asks the identity authority for a token for audience: with the token that the caller itself was called
// with, or, when that is empty, for the stored authority of work that runs later.
type Exchange func(ctx context.Context, subjectToken string, g Grant, audience string) (token string, expiresIn time.Duration, err error)

// Grant is what work that outlives its request stores in place of a token.
type Grant struct {
	Tenant  string   `json:"tenant"`
	Subject string   `json:"subject"`
	Scopes  []string `json:"scopes"` // at most these
}

// Grant is the authority of this identity, to be stored.
func (id Identity) Grant() Grant { return Grant{id.Tenant, id.Subject, id.Scopes} }

type grantKey struct{}

// WithGrant makes outgoing calls of ctx act under a stored grant. It replaces any identity that ctx has.
func WithGrant(ctx context.Context, g Grant) context.Context {
	return context.WithValue(With(ctx, Identity{}, ""), grantKey{}, g)
}

const (
	sourceEntries = 10_000
	sourceTTL     = 5 * time.Minute
	earlier       = 10 * time.Second // a token is renewed this long before its end
)

// ExchangeSource is a Source that asks the identity authority and remembers. Safe for concurrent use.
type ExchangeSource struct {
	exchange Exchange
	cache    *cache.Cache[sourceKey, string]
	flight   singleflight.Group
}

type sourceKey [sha256.Size]byte

// NewSource exchanges tokens through exchange.
func NewSource(exchange Exchange) *ExchangeSource {
	return &ExchangeSource{exchange: exchange, cache: cache.New[sourceKey, string](sourceEntries, sourceTTL)}
}

// Token implements Source.
func (s *ExchangeSource) Token(ctx context.Context, audience string) (string, error) {
	subject := Token(ctx)
	g, granted := ctx.Value(grantKey{}).(Grant)
	if subject == "" && !granted {
		return "", fault.New(fault.Unauthenticated, "no_identity", "The call has no identity.")
	}
	h := sha256.New()
	for _, part := range append([]string{audience, subject, g.Tenant, g.Subject}, g.Scopes...) {
		h.Write([]byte(part))
		h.Write([]byte{0})
	}
	key := sourceKey(h.Sum(nil))
	if t, ok := s.cache.Get(key); ok {
		return t, nil
	}
	t, err, _ := s.flight.Do(string(key[:]), func() (any, error) {
		token, ttl, err := s.exchange(ctx, subject, g, audience)
		if err != nil {
			return "", err
		}
		if ttl > earlier {
			s.cache.PutFor(key, token, ttl-earlier)
		}
		return token, nil
	})
	if err != nil {
		return "", err
	}
	return t.(string), nil //nolint:forcetypeassert // made just above
}
