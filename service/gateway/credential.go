package gateway

import (
	"context"
	"crypto/sha256"
	"net"
	"net/http"
	"strings"
	"time"

	pb "aran/api/gen/aran/user/v1"
	"aran/platform/auth"
	"aran/platform/fault"
	"aran/platform/limit"
)

type credentialKey [sha256.Size]byte

// principal is a checked credential.
type principal struct {
	token                             string
	tenant, subject, tier, credential string
	scopes                            []string
}

// limitless is the tier of the administrator's key.
const limitless = "unlimited"

const maxCredential = 4096

// credential is what the request presents: `Authorization: Bearer`, or `x-api-key` as the Anthropic SDKs send it.
func credential(r *http.Request) (string, error) {
	malformed := fault.New(fault.Unauthenticated, "malformed_credential", "The Authorization header is not of the form `Bearer <key>`.")
	if len(r.Header.Values("Authorization")) > 1 {
		return "", malformed
	}
	c := r.Header.Get("X-Api-Key")
	if a := r.Header.Get("Authorization"); a != "" {
		scheme, value, ok := strings.Cut(a, " ")
		if !ok || !strings.EqualFold(scheme, "Bearer") || strings.TrimSpace(value) == "" {
			return "", malformed
		}
		if value = strings.TrimSpace(value); c != "" && c != value {
			return "", fault.New(fault.Unauthenticated, "two_credentials", "Authorization and x-api-key hold different credentials; send one.")
		}
		c = value
	}
	if len(c) > maxCredential {
		return "", malformed
	}
	return c, nil
}

// authenticate checks a credential for a service. What was checked is trusted for a short while; what was refused is refused for a shorter one.
func (s *Service) authenticate(ctx context.Context, r *http.Request, credential, service string) (principal, error) {
	h := sha256.New()
	h.Write([]byte(service + "\x00" + credential))
	key := credentialKey(h.Sum(nil))
	if p, ok := s.trusted.Get(key); ok {
		return p, nil
	}
	if f, ok := s.refused.Get(key); ok {
		return principal{}, f
	}
	if auth.IsAPIKey(credential) && !auth.CheckAPIKey(credential) {
		return principal{}, s.refuse(ctx, r, key, fault.New(fault.Unauthenticated, "invalid_api_key", "The API key is not valid."))
	}
	before := s.forgot.Load()
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	t, err := s.d.Users.Authenticate(ctx, &pb.AuthenticateRequest{Credential: credential, Audience: service})
	if err != nil {
		if f := fault.From(err); f != nil && f.Kind == fault.Unauthenticated {
			return principal{}, s.refuse(ctx, r, key, f)
		}
		return principal{}, fault.New(fault.Unavailable, "identity_unavailable", "The credential can't be checked now; try again.").Because(err).After(time.Second)
	}
	p := principal{token: t.GetToken(), tenant: t.GetTenant(), subject: t.GetSubject(), tier: t.GetTier(), credential: t.GetCredentialId(), scopes: t.GetScopes()}
	if ttl := min(time.Duration(t.GetExpiresIn())*time.Second-time.Minute, s.cfg.CredentialCache); ttl > 0 && s.forgot.Load() == before {
		s.trusted.PutFor(key, p, ttl)
	}
	return p, nil
}

// refuse remembers a wrong credential, and slows down an address that sends many.
func (s *Service) refuse(ctx context.Context, r *http.Request, key credentialKey, f *fault.Error) error {
	s.refused.Put(key, f)
	res, err := s.d.Limits.Allow(ctx, "wrong "+address(r), rateOf(s.cfg.SignInRate), 1)
	if err == nil && !res.Allowed {
		return fault.New(fault.Exhausted, "too_many_wrong_credentials", "Too many wrong credentials from this address; wait.").After(res.RetryAfter)
	}
	return f
}

func rateOf(r Rate) limit.Rate {
	return limit.Rate{Count: r.PerMinute, Period: time.Minute, Burst: r.Burst}
}

// address is the client's, without its port.
func address(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}
