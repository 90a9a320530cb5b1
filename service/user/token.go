package user

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"aran/platform/auth"
	"aran/platform/fault"
)

const logHint = slog.LevelWarn

func logPrefix(p string) slog.Attr { return slog.String("prefix", p) }

// Issued is an internal token and what it says.
type Issued struct {
	Token   string
	Expires time.Duration
	auth.Identity
}

// Authenticate turns a public credential into an internal token for audience, to be presented by caller.
func (s *Service) Authenticate(ctx context.Context, credential, audience, caller string) (Issued, error) {
	var id auth.Identity
	var end time.Time
	var err error
	if auth.IsAPIKey(credential) {
		id, end, err = s.byKey(ctx, credential)
	} else {
		id, end, err = s.bySession(ctx, credential)
	}
	if err != nil {
		return Issued{}, err
	}
	id.Audience, id.Caller = audience, caller
	return s.issue(id, end)
}

// issue signs an identity, for no longer than its credential lives (zero: without end).
func (s *Service) issue(id auth.Identity, end time.Time) (Issued, error) {
	ttl := s.cfg.InternalTTL
	if !end.IsZero() {
		ttl = min(ttl, time.Until(end))
	}
	if ttl <= 0 {
		return Issued{}, fault.New(fault.Unauthenticated, "expired", "The credential has expired.")
	}
	token, err := s.issuer.Mint(id, ttl)
	return Issued{token, ttl, id}, err
}

func (s *Service) byKey(ctx context.Context, credential string) (auth.Identity, time.Time, error) {
	wrong := fault.New(fault.Unauthenticated, "invalid_api_key", "The API key is not valid.")
	if !auth.CheckAPIKey(credential) {
		return auth.Identity{}, time.Time{}, wrong
	}
	k, err := s.keyByHash(ctx, auth.HashAPIKey(credential))
	if fault.KindOf(err) == fault.Missing {
		return auth.Identity{}, time.Time{}, wrong
	}
	if err != nil {
		return auth.Identity{}, time.Time{}, err
	}
	switch {
	case !k.Revoked.IsZero():
		return auth.Identity{}, time.Time{}, fault.New(fault.Unauthenticated, "key_revoked", "The API key was revoked.")
	case k.ended(time.Now()):
		return auth.Identity{}, time.Time{}, fault.New(fault.Unauthenticated, "key_expired", "The API key has expired.")
	}
	scopes, err := s.present(ctx, k.Tenant, k.Subject, k.Scopes)
	return auth.Identity{Tenant: k.Tenant, Subject: k.Subject, Scopes: scopes, Tier: k.Tier, Credential: k.ID}, k.Expires, err
}

func (s *Service) bySession(ctx context.Context, credential string) (auth.Identity, time.Time, error) {
	wrong := fault.New(fault.Unauthenticated, "invalid_session", "The session is not valid or has expired; sign in or refresh it.")
	session, err := s.signer.open(credential)
	if err != nil {
		return auth.Identity{}, time.Time{}, wrong.Because(err)
	}
	row, err := s.sessionByID(ctx, session)
	if fault.KindOf(err) == fault.Missing {
		return auth.Identity{}, time.Time{}, wrong
	}
	if err != nil {
		return auth.Identity{}, time.Time{}, err
	}
	if row.ended || !time.Now().Before(row.expires) {
		return auth.Identity{}, time.Time{}, wrong.Because(errEnded)
	}
	scopes, err := s.present(ctx, row.tenant, "user:"+row.account, []string{auth.ScopeAll})
	return auth.Identity{Tenant: row.tenant, Subject: "user:" + row.account, Scopes: scopes, Tier: tierStandard, Credential: row.id}, row.expires, err
}

// present limits scopes to what the subject may do now. A suspended one may do nothing.
func (s *Service) present(ctx context.Context, tenant, subject string, ceiling []string) ([]string, error) {
	gone := fault.New(fault.Unauthenticated, "subject_gone", "The account is suspended or does not exist any more.")
	suspended, err := s.tenantSuspended(ctx, tenant)
	if fault.KindOf(err) == fault.Missing || suspended {
		return nil, gone
	}
	if err != nil {
		return nil, err
	}
	if account, ok := strings.CutPrefix(subject, "user:"); ok {
		row, err := s.accountByID(ctx, account)
		switch {
		case fault.KindOf(err) == fault.Missing:
			return nil, gone
		case err != nil:
			return nil, err
		case row.suspended || row.tenant != tenant:
			return nil, gone
		}
		return narrow(ceiling, row.scopes), nil
	}
	id, ok := strings.CutPrefix(subject, "key:")
	if !ok {
		return nil, gone.Because(fmt.Errorf("subject %q", subject))
	}
	k, err := s.keyOf(ctx, tenant, id)
	switch {
	case fault.KindOf(err) == fault.Missing:
		return nil, gone
	case err != nil:
		return nil, err
	case k.ended(time.Now()):
		return nil, gone
	}
	return narrow(ceiling, k.Scopes), nil
}

// Exchange narrows a token that caller was called with to another audience (RFC 8693). It lives no longer than the first.
func (s *Service) Exchange(ctx context.Context, token, audience, caller string) (Issued, error) {
	id, end, err := s.issuer.Open(token, caller)
	if err != nil {
		return Issued{}, err
	}
	if err := s.alive(ctx, id); err != nil {
		return Issued{}, err
	}
	id.Audience, id.Caller = audience, caller
	return s.issue(id, end)
}

// alive refuses a credential that ended since its token was made.
func (s *Service) alive(ctx context.Context, id auth.Identity) error {
	if id.Credential == "" {
		return nil // a stored grant: present() looked at the subject a moment ago
	}
	if k, err := s.keyOf(ctx, id.Tenant, id.Credential); err == nil {
		if k.ended(time.Now()) {
			return fault.New(fault.Unauthenticated, "key_revoked", "The API key was revoked.")
		}
		return nil
	} else if fault.KindOf(err) != fault.Missing {
		return err
	}
	row, err := s.sessionByID(ctx, id.Credential)
	if fault.KindOf(err) == fault.Missing || err == nil && row.ended {
		return fault.New(fault.Unauthenticated, "invalid_session", "The session has ended.")
	}
	return err
}

// ExchangeGrant issues a token for work that outlived its request: at most the grant's scopes, and at most what the subject may do now.
func (s *Service) ExchangeGrant(ctx context.Context, g auth.Grant, audience, caller string) (Issued, error) {
	if !slices.Contains(s.cfg.Granted, caller) {
		return Issued{}, fault.New(fault.Denied, "grant_refused", "This service may not act under a stored grant.")
	}
	scopes, err := s.present(ctx, g.Tenant, g.Subject, g.Scopes)
	if err != nil {
		return Issued{}, err
	}
	return s.issue(auth.Identity{Tenant: g.Tenant, Subject: g.Subject, Scopes: scopes, Audience: audience, Caller: caller}, time.Time{})
}
