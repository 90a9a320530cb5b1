package auth_test

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"aran/platform/auth"
	"aran/platform/fault"
)

func signingKey(t *testing.T, id string) auth.SigningKey {
	t.Helper()
	seed := make([]byte, ed25519.SeedSize)
	if _, err := rand.Read(seed); err != nil {
		t.Fatal(err)
	}
	return auth.SigningKey{ID: id, Private: seed, Created: time.Now()}
}

func issuer(t *testing.T, keys ...auth.SigningKey) *auth.Issuer {
	t.Helper()
	i, err := auth.NewIssuer("aran", keys)
	if err != nil {
		t.Fatal(err)
	}
	return i
}

func verifier(audience string, i *auth.Issuer) *auth.Verifier {
	return auth.NewVerifier(audience, func(context.Context) ([]byte, error) { return i.JWKS() })
}

func identity() auth.Identity {
	return auth.Identity{Tenant: "t1", Subject: "user:1", Scopes: []string{auth.ScopeChat}, Tier: "free", Credential: "k1", Caller: "gateway", Audience: "chat", Models: []string{"m"}}
}

func mint(t *testing.T, i *auth.Issuer, id auth.Identity, ttl time.Duration) string {
	t.Helper()
	token, err := i.Mint(id, ttl)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func TestRoundTrip(t *testing.T) {
	i := issuer(t, signingKey(t, "a"))
	got, err := verifier("chat", i).Verify(t.Context(), mint(t, i, identity(), time.Minute), "gateway")
	if err != nil {
		t.Fatal(err)
	}
	if got.Tenant != "t1" || got.Subject != "user:1" || !got.Has(auth.ScopeChat) || got.Has(auth.ScopeAudit) || got.Credential != "k1" || got.Models[0] != "m" {
		t.Errorf("identity %+v", got)
	}
}

func TestMisuseIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i, other := issuer(t, signingKey(t, "a")), issuer(t, signingKey(t, "a"))
		v := verifier("chat", i)
		good := mint(t, i, identity(), time.Minute)
		parts := strings.Split(good, ".")
		none := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none","typ":"aran-internal+jwt","kid":"a"}`)) + "." + parts[1] + "."
		short := mint(t, i, identity(), time.Second)
		time.Sleep(10 * time.Second) //nolint:forbidigo // virtual time
		for _, c := range []struct {
			name, token, peer string
			v                 *auth.Verifier
		}{
			{"another audience", good, "gateway", verifier("search", i)},
			{"another caller", good, "search", v},
			{"no caller", good, "", v},
			{"expired", short, "gateway", v},
			{"another key of the same name", mint(t, other, identity(), time.Minute), "gateway", v},
			{"no algorithm", none, "gateway", v},
			{"a changed claim", parts[0] + "." + parts[1] + "x." + parts[2], "gateway", v},
			{"nothing", "", "gateway", v},
			{"noise", "a.b.c", "gateway", v},
			{"too long", good + strings.Repeat("x", 10000), "gateway", v},
		} {
			if _, err := c.v.Verify(t.Context(), c.token, c.peer); fault.KindOf(err) != fault.Unauthenticated {
				t.Errorf("%s: %v", c.name, err)
			}
		}
		if _, err := v.Verify(t.Context(), good, "gateway"); err != nil {
			t.Errorf("the good token: %v", err)
		}
	})
}

func TestKeysAreFetchedAgainForAnUnknownIDAtMostOnceASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		old := signingKey(t, "old")
		first := issuer(t, old)
		second := issuer(t, signingKey(t, "new"), old)
		var fetches atomic.Int32
		current := first
		v := auth.NewVerifier("chat", func(context.Context) ([]byte, error) { fetches.Add(1); return current.JWKS() })
		if _, err := v.Verify(t.Context(), mint(t, first, identity(), time.Minute), "gateway"); err != nil {
			t.Fatal(err)
		}
		current = second
		rotated := mint(t, second, identity(), time.Minute)
		if _, err := v.Verify(t.Context(), rotated, "gateway"); err == nil {
			t.Error("fetched again within the second")
		}
		time.Sleep(2 * time.Second) //nolint:forbidigo // virtual time
		if _, err := v.Verify(t.Context(), rotated, "gateway"); err != nil {
			t.Errorf("after rotation: %v", err)
		}
		if n := fetches.Load(); n != 2 {
			t.Errorf("%d fetches, want 2", n)
		}
	})
}

func TestKeysAwayIsUnavailableNotUnauthenticated(t *testing.T) {
	i := issuer(t, signingKey(t, "a"))
	v := auth.NewVerifier("chat", func(context.Context) ([]byte, error) { return nil, errors.New("away") })
	if _, err := v.Verify(t.Context(), mint(t, i, identity(), time.Minute), "gateway"); fault.KindOf(err) != fault.Unavailable {
		t.Errorf("error %v", err)
	}
}

func TestRequire(t *testing.T) {
	if err := (auth.Identity{}).Require(auth.ScopeChat); fault.KindOf(err) != fault.Denied || !strings.Contains(err.Error(), auth.ScopeChat) {
		t.Errorf("no scopes: %v", err)
	}
	if err := (auth.Identity{Scopes: []string{"*"}}).Require("anything:new"); err != nil {
		t.Errorf("all scopes: %v", err)
	}
}

func TestSourceExchangesOnceAndApart(t *testing.T) {
	var calls atomic.Int32
	s := auth.NewSource(func(_ context.Context, subject string, g auth.Grant, audience string) (string, time.Duration, error) {
		calls.Add(1)
		return audience + "/" + subject + "/" + g.Subject, time.Minute, nil
	})
	ctx := auth.With(t.Context(), identity(), "tok")
	for range 3 {
		if got, err := s.Token(ctx, "guard"); err != nil || got != "guard/tok/" {
			t.Errorf("token %q, %v", got, err)
		}
	}
	granted := auth.WithGrant(ctx, auth.Grant{Tenant: "t", Subject: "user:2"})
	if got, err := s.Token(granted, "guard"); err != nil || got != "guard//user:2" {
		t.Errorf("under a grant: %q, %v", got, err)
	}
	if n := calls.Load(); n != 2 {
		t.Errorf("%d exchanges, want 2", n)
	}
	if _, err := s.Token(t.Context(), "guard"); fault.KindOf(err) != fault.Unauthenticated {
		t.Errorf("nobody: %v", err)
	}
}

func TestAPIKeys(t *testing.T) {
	seen := map[string]bool{}
	for i := range 200 {
		k := auth.NewAPIKey(i%2 == 0)
		if !auth.CheckAPIKey(k) || seen[k] {
			t.Fatalf("key %q", k)
		}
		seen[k] = true
		typo := []byte(k)
		typo[15] ^= 1
		if auth.CheckAPIKey(string(typo)) {
			t.Errorf("a typo passed: %q", typo)
		}
	}
}

func FuzzCheckAPIKey(f *testing.F) {
	f.Add("aran_live_0123456789abcdefghijABCDEFGHIJ01234567")
	f.Add(auth.NewAPIKey(true))
	f.Fuzz(func(t *testing.T, s string) {
		if auth.CheckAPIKey(s) && (len(s) != 48 || !auth.IsAPIKey(s)) {
			t.Errorf("%q passed", s)
		}
	})
}

func FuzzVerify(f *testing.F) {
	i, err := auth.NewIssuer("aran", []auth.SigningKey{{ID: "a", Private: make([]byte, 32)}})
	if err != nil {
		f.Fatal(err)
	}
	good, err := i.Mint(identity(), time.Hour)
	if err != nil {
		f.Fatal(err)
	}
	v := verifier("chat", i)
	f.Add(good)
	f.Fuzz(func(t *testing.T, s string) {
		if _, err := v.Verify(t.Context(), s, "gateway"); err == nil && s != good {
			t.Errorf("a forged token passed: %q", s)
		}
	})
}
