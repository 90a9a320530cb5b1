package user

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"aran/platform/auth"
	"aran/platform/fault"
)

const (
	accessType = "at+jwt" // RFC 9068 §2.1
	audience   = "aran"
)

// Session is a signed-in person's pair of tokens. The refresh token is good for one use.
type Session struct {
	ID      string
	Access  string
	Refresh string
	Expires time.Duration // of the access token
	Account string
}

// sessions signs and checks access tokens. Safe for concurrent use.
type sessions struct {
	signer jose.Signer
	keys   map[string]ed25519.PublicKey
	set    jose.JSONWebKeySet
	ttl    time.Duration
}

type accessClaims struct {
	jwt.Claims
	Session string `json:"sid"`
}

func newSessions(keys []auth.SigningKey, ttl time.Duration) (*sessions, error) {
	s := &sessions{keys: map[string]ed25519.PublicKey{}, ttl: ttl}
	for i, k := range keys {
		private := ed25519.NewKeyFromSeed(k.Private)
		public, ok := private.Public().(ed25519.PublicKey)
		if !ok {
			return nil, errors.New("not an Ed25519 key")
		}
		s.keys[k.ID] = public
		s.set.Keys = append(s.set.Keys, jose.JSONWebKey{Key: public, KeyID: k.ID, Algorithm: string(jose.EdDSA), Use: "sig"})
		if i > 0 {
			continue
		}
		signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.EdDSA, Key: jose.JSONWebKey{Key: private, KeyID: k.ID}}, (&jose.SignerOptions{}).WithType(accessType))
		if err != nil {
			return nil, fmt.Errorf("session signer: %w", err)
		}
		s.signer = signer
	}
	return s, nil
}

func (s *sessions) sign(account, session string) (string, error) {
	now := time.Now()
	return jwt.Signed(s.signer).Claims(accessClaims{
		Claims:  jwt.Claims{Issuer: audience, Subject: "user:" + account, Audience: jwt.Audience{audience}, IssuedAt: jwt.NewNumericDate(now), Expiry: jwt.NewNumericDate(now.Add(s.ttl)), ID: newID()},
		Session: session,
	}).Serialize()
}

// open returns the session that an access token names.
func (s *sessions) open(token string) (session string, err error) {
	t, err := jwt.ParseSigned(token, []jose.SignatureAlgorithm{jose.EdDSA})
	if err != nil {
		return "", err
	}
	if len(t.Headers) != 1 {
		return "", errors.New("one signature is expected")
	}
	if typ, _ := t.Headers[0].ExtraHeaders[jose.HeaderType].(string); typ != accessType {
		return "", fmt.Errorf("token of type %q", typ)
	}
	key, ok := s.keys[t.Headers[0].KeyID]
	if !ok {
		return "", errors.New("unknown key")
	}
	var c accessClaims
	if err := t.Claims(key, &c); err != nil {
		return "", err
	}
	if err := c.ValidateWithLeeway(jwt.Expected{Issuer: audience, AnyAudience: jwt.Audience{audience}, Time: time.Now()}, 0); err != nil {
		return "", err
	}
	if c.Session == "" || c.Expiry == nil {
		return "", errors.New("no session")
	}
	return c.Session, nil
}

// jwks is the public part of the session keys (RFC 7517).
func (s *sessions) jwks() ([]byte, error) { return json.Marshal(s.set) }

func newRefresh() (token string, hash []byte) {
	b := make([]byte, 32)
	_, _ = rand.Read(b) // never fails (crypto/rand)
	token = "aran_refresh_" + base64.RawURLEncoding.EncodeToString(b)
	return token, refreshHash(token)
}

func refreshHash(token string) []byte {
	h := sha256.Sum256([]byte(token))
	return h[:]
}

func (s *Service) openSession(ctx context.Context, a accountRow) (Session, error) {
	refresh, hash := newRefresh()
	out := Session{ID: newID(), Refresh: refresh, Expires: s.cfg.AccessTTL, Account: a.id}
	if err := s.addSession(ctx, a, out.ID, hash, time.Now().Add(s.cfg.RefreshTTL)); err != nil {
		return Session{}, err
	}
	access, err := s.signer.sign(a.id, out.ID)
	out.Access = access
	return out, err
}

// Refresh trades a refresh token for a new pair. One that was used before ends the whole session: someone has a copy.
func (s *Service) Refresh(ctx context.Context, token string) (Session, error) {
	no := fault.New(fault.Unauthenticated, "refresh_refused", "The refresh token is not valid; sign in again.")
	refresh, hash := newRefresh()
	row, reused, err := s.rotateSession(ctx, refreshHash(token), hash, time.Now(), time.Now().Add(s.cfg.RefreshTTL))
	if reused {
		return Session{}, no.Because(errors.New("reused"))
	}
	if fault.KindOf(err) == fault.Missing {
		return Session{}, no
	}
	if err != nil {
		return Session{}, err
	}
	access, err := s.signer.sign(row.account, row.id)
	return Session{ID: row.id, Access: access, Refresh: refresh, Expires: s.cfg.AccessTTL, Account: row.account}, err
}

// SignOut ends the session that the caller came with.
func (s *Service) SignOut(ctx context.Context, id auth.Identity) error {
	return s.endSession(ctx, id)
}
