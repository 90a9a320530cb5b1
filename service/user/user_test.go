package user_test

import (
	"context"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	pb "aran/api/gen/aran/user/v1"
	"aran/api/gen/aran/user/v1/userv1connect"
	"aran/platform/auth"
	"aran/platform/fault"
	"aran/platform/limit"
	"aran/platform/rpc"
	"aran/platform/seal"
	"aran/platform/store"
	"aran/platform/watch"
	"aran/service/user"
)

// world is a user service with everything real around it.
type world struct {
	t   *testing.T
	s   *user.Service
	db  *store.DB
	dir string
}

func open(t *testing.T, dir string, edit func(*user.Config)) *world {
	t.Helper()
	db, err := store.Open(t.Context(), store.Options{Service: "user", Path: filepath.Join(dir, "user.db"), Migrations: user.Migrations, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	ring, err := seal.Local(filepath.Join(dir, "keyring.key"))
	if err != nil {
		t.Fatal(err)
	}
	box, err := seal.Open(t.Context(), ring, "user", filepath.Join(dir, "keys.db"))
	if err != nil {
		t.Fatal(err)
	}
	cfg := user.Default()
	cfg.HashMemory, cfg.HashTime = 64, 1 // quick: the tests are not about the cost of a hash
	cfg.OpenSignUp, cfg.AdminKeyFile = true, filepath.Join(dir, "admin.key")
	if edit != nil {
		edit(&cfg)
	}
	s, err := user.New(t.Context(), cfg, user.Deps{
		Limits: limit.NewMemory(1000),
		DB:     db, Box: box, Log: slog.New(slog.DiscardHandler), Health: &watch.Health{},
		Server: rpc.Server{Service: "user", Callers: []string{"gateway", "chat", "search", "guard", "user"}, Log: slog.New(slog.DiscardHandler)},
	})
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t, s, db, dir}
	t.Cleanup(func() { w.close(box) })
	return w
}

func (w *world) close(box *seal.Box) {
	_ = w.db.Close() // closed twice by tests that open again
	_ = box.Close()
}

// as is a client of a calling service.
func (w *world) as(caller string) userv1connect.UserServiceClient {
	return userv1connect.NewUserServiceClient(&http.Client{Transport: rpc.InProcess(caller, w.s.Internal())}, "http://user", rpc.ClientOptions("user", nil)...)
}

func (w *world) authenticate(credential, audience string) (*pb.TokenResponse, error) {
	return w.as("gateway").Authenticate(w.t.Context(), &pb.AuthenticateRequest{Credential: credential, Audience: audience})
}

func (w *world) verify(token, audience, peer string) (auth.Identity, error) {
	v := auth.NewVerifier(audience, func(ctx context.Context) ([]byte, error) {
		r, err := w.as(audience).Keys(ctx, &pb.KeysRequest{})
		return []byte(r.GetJwks()), err
	})
	return v.Verify(w.t.Context(), token, peer)
}

func (w *world) admin() string {
	w.t.Helper()
	b, err := os.ReadFile(filepath.Join(w.dir, "admin.key"))
	if err != nil {
		w.t.Fatal(err)
	}
	return strings.TrimSuffix(string(b), "\n")
}

func (w *world) person(mail string) (user.Session, auth.Identity) {
	w.t.Helper()
	if _, err := w.s.SignUp(w.t.Context(), mail, "correct horse battery", "Meena"); err != nil {
		w.t.Fatal(err)
	}
	x, err := w.s.SignIn(w.t.Context(), mail, "correct horse battery")
	if err != nil {
		w.t.Fatal(err)
	}
	return x, w.identity(x.Access)
}

func (w *world) identity(credential string) auth.Identity {
	w.t.Helper()
	r, err := w.authenticate(credential, "user")
	if err != nil {
		w.t.Fatal(err)
	}
	id, err := w.verify(r.GetToken(), "user", "gateway")
	if err != nil {
		w.t.Fatal(err)
	}
	return id
}

func TestTheAdministratorsKey(t *testing.T) {
	dir := t.TempDir()
	w := open(t, dir, nil)
	key := w.admin()
	id := w.identity(key)
	if id.Tenant != user.TenantDefault || !id.Has("anything:new") || id.Tier != "unlimited" {
		t.Errorf("the administrator is %+v", id)
	}
	info, err := os.Stat(filepath.Join(dir, "admin.key"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if err := w.db.Close(); err != nil {
		t.Fatal(err)
	}
	again := open(t, dir, nil)
	if again.admin() != key {
		t.Error("the second start made another key")
	}
	again.identity(key)
}

func TestTheAdministratorsKeySurvivesACrashBetweenFileAndRow(t *testing.T) {
	dir := t.TempDir()
	left := auth.NewAPIKey(false)
	if err := os.WriteFile(filepath.Join(dir, "admin.key"), []byte(left+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	w := open(t, dir, nil)
	if w.admin() != left {
		t.Error("the file was written anew")
	}
	w.identity(left)
}

func TestKeyLife(t *testing.T) {
	w := open(t, t.TempDir(), nil)
	_, id := w.person("a@example.org")
	k, err := w.s.CreateKey(t.Context(), id, user.NewKey{Name: "app", Scopes: []string{auth.ScopeChat}})
	if err != nil {
		t.Fatal(err)
	}
	got := w.identity(k.Secret)
	if got.Tenant != id.Tenant || got.Subject != id.Subject || !got.Has(auth.ScopeChat) || got.Has(auth.ScopeAudit) || got.Credential != k.ID {
		t.Errorf("the key is %+v", got)
	}
	fresh, err := w.s.RotateKey(t.Context(), id, k.ID)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.authenticate(k.Secret, "chat"); fault.From(err) == nil || fault.From(err).Code != "key_revoked" {
		t.Errorf("the rotated key: %v", err)
	}
	w.identity(fresh.Secret)
	if err := w.s.RevokeKey(t.Context(), id, fresh.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := w.authenticate(fresh.Secret, "chat"); fault.KindOf(err) != fault.Unauthenticated {
		t.Errorf("the revoked key: %v", err)
	}
	pending, err := w.db.Pending(t.Context(), 100)
	if err != nil {
		t.Fatal(err)
	}
	revocations := 0
	for _, e := range pending {
		if strings.Contains(string(e.Payload), k.Secret) {
			t.Error("an event holds a secret")
		}
		if e.Type == user.TypeRevoked {
			revocations++
		}
	}
	if revocations != 2 {
		t.Errorf("%d revocations were told, want 2", revocations)
	}
}

func TestKeysCannotGrow(t *testing.T) {
	w := open(t, t.TempDir(), nil)
	_, id := w.person("a@example.org")
	for _, c := range []struct {
		scope string
		kind  fault.Kind
	}{{auth.ScopeOperate, fault.Denied}, {auth.ScopeAll, fault.Denied}, {"fly:high", fault.Invalid}} {
		if _, err := w.s.CreateKey(t.Context(), id, user.NewKey{Name: "x", Scopes: []string{c.scope}}); fault.KindOf(err) != c.kind {
			t.Errorf("scope %s: %v", c.scope, err)
		}
	}
	_, other := w.person("b@example.org")
	k, err := w.s.CreateKey(t.Context(), id, user.NewKey{Name: "x", Scopes: []string{auth.ScopeChat}})
	if err != nil {
		t.Fatal(err)
	}
	for name, err := range map[string]error{
		"read":   func() error { _, err := w.s.Key(t.Context(), other, k.ID); return err }(),
		"revoke": w.s.RevokeKey(t.Context(), other, k.ID),
		"rotate": func() error { _, err := w.s.RotateKey(t.Context(), other, k.ID); return err }(),
	} {
		if fault.KindOf(err) != fault.Missing {
			t.Errorf("another tenant may %s the key: %v", name, err)
		}
	}
}

func TestExpiredKey(t *testing.T) {
	w := open(t, t.TempDir(), nil)
	_, id := w.person("a@example.org")
	k, err := w.s.CreateKey(t.Context(), id, user.NewKey{Name: "x", Scopes: []string{auth.ScopeChat}, ExpiresIn: time.Nanosecond})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.authenticate(k.Secret, "chat"); fault.From(err) == nil || fault.From(err).Code != "key_expired" {
		t.Errorf("error %v", err)
	}
}

func TestIdempotentKeyCreation(t *testing.T) {
	w := open(t, t.TempDir(), nil)
	_, id := w.person("a@example.org")
	n := user.NewKey{Name: "x", Scopes: []string{auth.ScopeChat}, Idempotency: "once"}
	first, err := w.s.CreateKey(t.Context(), id, n)
	if err != nil {
		t.Fatal(err)
	}
	second, err := w.s.CreateKey(t.Context(), id, n)
	if err != nil || second.Secret != first.Secret || second.ID != first.ID {
		t.Errorf("the second answer differs: %+v, %v", second.Key, err)
	}
	n.Name = "y"
	if _, err := w.s.CreateKey(t.Context(), id, n); fault.KindOf(err) != fault.Conflict {
		t.Errorf("another request under the same key: %v", err)
	}
}

func TestSessions(t *testing.T) {
	w := open(t, t.TempDir(), nil)
	x, id := w.person("a@example.org")
	if _, err := w.s.SignIn(t.Context(), "a@example.org", "wrong password!"); fault.From(err) == nil || fault.From(err).Code != "wrong_credentials" {
		t.Errorf("a wrong password: %v", err)
	}
	if _, err := w.s.SignIn(t.Context(), "nobody@example.org", "correct horse battery"); fault.From(err) == nil || fault.From(err).Code != "wrong_credentials" {
		t.Errorf("no account: %v", err)
	}
	if _, err := w.s.SignUp(t.Context(), " A@Example.org", "correct horse battery", ""); fault.KindOf(err) != fault.Conflict {
		t.Errorf("the same address, written otherwise: %v", err)
	}
	y, err := w.s.Refresh(t.Context(), x.Refresh)
	if err != nil {
		t.Fatal(err)
	}
	w.identity(y.Access)
	if _, err := w.s.Refresh(t.Context(), x.Refresh); fault.KindOf(err) != fault.Unauthenticated {
		t.Errorf("a refresh token used twice: %v", err)
	}
	if _, err := w.authenticate(y.Access, "user"); fault.KindOf(err) != fault.Unauthenticated {
		t.Errorf("the session lives although its refresh token was copied: %v", err)
	}
	z, err := w.s.SignIn(t.Context(), "a@example.org", "correct horse battery")
	if err != nil {
		t.Fatal(err)
	}
	zid := w.identity(z.Access)
	if err := w.s.SignOut(t.Context(), zid); err != nil {
		t.Fatal(err)
	}
	if _, err := w.authenticate(z.Access, "user"); fault.KindOf(err) != fault.Unauthenticated {
		t.Errorf("a session after signing out: %v", err)
	}
	a, err := w.s.Me(t.Context(), id)
	if err != nil || a.Mail != "a@example.org" || a.Name != "Meena" {
		t.Errorf("me %+v, %v", a, err)
	}
}

func TestSignInIsThrottled(t *testing.T) {
	w := open(t, t.TempDir(), func(c *user.Config) { c.SignInBurst = 3 })
	var last error
	for range 5 {
		_, last = w.s.SignIn(t.Context(), "a@example.org", "wrong password!")
	}
	if fault.KindOf(last) != fault.Exhausted || fault.From(last).RetryAfter <= 0 {
		t.Errorf("after five tries: %v", last)
	}
}

func TestSignUpIsClosedWhereTheSettingsSaySo(t *testing.T) {
	w := open(t, t.TempDir(), func(c *user.Config) { c.OpenSignUp = false })
	if _, err := w.s.SignUp(t.Context(), "a@example.org", "correct horse battery", ""); fault.From(err) == nil || fault.From(err).Code != "sign_up_closed" {
		t.Errorf("error %v", err)
	}
}

func TestExchange(t *testing.T) {
	w := open(t, t.TempDir(), nil)
	x, id := w.person("a@example.org")
	r, err := w.authenticate(x.Access, "chat")
	if err != nil {
		t.Fatal(err)
	}
	exchange := func(caller string, req *pb.ExchangeRequest) (*pb.TokenResponse, error) {
		return w.as(caller).Exchange(t.Context(), req)
	}
	token := func(tok string) *pb.ExchangeRequest {
		return &pb.ExchangeRequest{From: &pb.ExchangeRequest_SubjectToken{SubjectToken: tok}, Audience: "guard"}
	}
	got, err := exchange("chat", token(r.GetToken()))
	if err != nil {
		t.Fatal(err)
	}
	if gid, err := w.verify(got.GetToken(), "guard", "chat"); err != nil || gid.Subject != id.Subject || gid.Caller != "chat" {
		t.Errorf("exchanged %+v, %v", gid, err)
	}
	if got.GetExpiresIn() > r.GetExpiresIn() {
		t.Errorf("it lives longer (%d s) than what it came from (%d s)", got.GetExpiresIn(), r.GetExpiresIn())
	}
	grant := func(scopes ...string) *pb.ExchangeRequest {
		return &pb.ExchangeRequest{From: &pb.ExchangeRequest_Grant{Grant: &pb.Grant{Tenant: id.Tenant, Subject: id.Subject, Scopes: scopes}}, Audience: "guard"}
	}
	granted, err := exchange("search", grant(auth.ScopeSearchWrite, auth.ScopeOperate))
	if err != nil || len(granted.GetScopes()) != 1 {
		t.Errorf("a grant beyond the subject's rights gave %v, %v", granted.GetScopes(), err)
	}
	for _, c := range []struct {
		name, caller string
		req          *pb.ExchangeRequest
		kind         fault.Kind
	}{
		{"someone else's token", "search", token(r.GetToken()), fault.Unauthenticated},
		{"a session instead of an internal token", "chat", token(x.Access), fault.Unauthenticated},
		{"a grant by a service that has none", "chat", grant(auth.ScopeChat), fault.Denied},
		{"a grant in another tenant", "search", &pb.ExchangeRequest{From: &pb.ExchangeRequest_Grant{Grant: &pb.Grant{Tenant: user.TenantDefault, Subject: id.Subject}}, Audience: "guard"}, fault.Unauthenticated},
		{"nothing", "chat", &pb.ExchangeRequest{Audience: "guard"}, fault.Invalid},
		{"a caller that the table does not list", "mallory", token(r.GetToken()), fault.Denied},
	} {
		if _, err := exchange(c.caller, c.req); fault.KindOf(err) != c.kind {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	if err := w.s.SignOut(t.Context(), w.identity(x.Access)); err != nil {
		t.Fatal(err)
	}
	if _, err := exchange("chat", token(r.GetToken())); fault.KindOf(err) != fault.Unauthenticated {
		t.Errorf("a token of an ended session was exchanged: %v", err)
	}
}

func TestOnlyTheGatewayAuthenticates(t *testing.T) {
	w := open(t, t.TempDir(), nil)
	_, err := w.as("chat").Authenticate(t.Context(), &pb.AuthenticateRequest{Credential: w.admin(), Audience: "chat"})
	if fault.KindOf(err) != fault.Denied {
		t.Errorf("chat may: %v", err)
	}
}

func TestPublicAndInternalRefuseAlike(t *testing.T) {
	w := open(t, t.TempDir(), nil)
	if _, err := w.authenticate("", "chat"); fault.KindOf(err) != fault.Invalid || len(fault.From(err).Fields) == 0 {
		t.Errorf("an empty credential: %v", err)
	}
	err := rpc.Validate(&pb.CreateKeyRequest{Name: "", Scopes: []string{"x"}})
	if fault.KindOf(err) != fault.Invalid || len(fault.From(err).Fields) != 2 {
		t.Errorf("a key without a name and with a wrong scope: %v", err)
	}
}

func FuzzAuthenticate(f *testing.F) {
	f.Add("aran_live_")
	f.Add("eyJhbGciOiJub25lIn0..")
	f.Add(auth.NewAPIKey(false))
	w := openFuzz(f)
	f.Fuzz(func(t *testing.T, credential string) {
		if _, err := w.Authenticate(t.Context(), credential, "chat", "gateway"); fault.KindOf(err) != fault.Unauthenticated {
			t.Errorf("%q: %v", credential, err)
		}
	})
}

func openFuzz(f *testing.F) *user.Service {
	f.Helper()
	dir := f.TempDir()
	db, err := store.Open(context.Background(), store.Options{Service: "user", Path: filepath.Join(dir, "user.db"), Migrations: user.Migrations})
	if err != nil {
		f.Fatal(err)
	}
	ring, err := seal.Local(filepath.Join(dir, "keyring.key"))
	if err != nil {
		f.Fatal(err)
	}
	box, err := seal.Open(context.Background(), ring, "user", filepath.Join(dir, "keys.db"))
	if err != nil {
		f.Fatal(err)
	}
	s, err := user.New(context.Background(), user.Default(), user.Deps{DB: db, Limits: limit.NewMemory(1000), Box: box, Health: &watch.Health{}, Log: slog.New(slog.DiscardHandler), Server: rpc.Server{Service: "user", Log: slog.New(slog.DiscardHandler)}})
	if err != nil {
		f.Fatal(err)
	}
	return s
}
