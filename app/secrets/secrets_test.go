package secrets_test

import (
	"crypto/tls"
	"crypto/x509"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"

	"aran/app/secrets"
	"aran/platform/bus"
)

func parties() []secrets.Party {
	return []secrets.Party{
		{Name: "audit", Stores: true, Roles: []bus.Role{bus.RoleRecorder}},
		{Name: "chat", Stores: true},
		{Name: "gateway", Edge: true, Roles: []bus.Role{bus.RoleReplayer}},
	}
}

// files reads everything below a directory.
func files(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		rel, _ := filepath.Rel(dir, path)
		out[rel] = string(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func made(t *testing.T, o secrets.Options) map[string]string {
	t.Helper()
	if err := secrets.Make(o); err != nil {
		t.Fatal(err)
	}
	return files(t, o.Dir)
}

func TestMakeTwiceKeepsWhatIsThere(t *testing.T) {
	o := secrets.Options{Dir: t.TempDir(), Parties: parties()}
	first := made(t, o)
	for _, want := range []string{
		"audit/database.password", "audit/bus.password", "audit/redis.url", "audit/keyring.key", "audit/authorities/stores.pem", "gateway/tls.pem", "gateway/tls.key",
		"postgres/roles", "postgres/server.pem", "nats/users.conf", "nats/server.key", "redis/users.acl",
	} {
		if first[want] == "" {
			t.Errorf("%s was not made", want)
		}
	}
	if _, there := first["gateway/database.password"]; there {
		t.Error("a service without a database has a password for one")
	}
	second := made(t, o)
	for name, was := range first {
		if strings.HasPrefix(name, "postgres/roles") || strings.HasPrefix(name, "nats/users") {
			continue // salted anew
		}
		if second[name] != was {
			t.Errorf("%s changed", name)
		}
	}
	o.Renew = true
	third := made(t, o)
	for name, was := range first {
		if keeps := strings.HasSuffix(name, "keyring.key"); (third[name] == was) != keeps {
			t.Errorf("renewing: %s is the same: %v, want %v", name, third[name] == was, keeps)
		}
	}
	o.Renew, o.Parties = false, append(o.Parties, secrets.Party{Name: "notify", Stores: true})
	fourth := made(t, o)
	if fourth["chat/bus.password"] != third["chat/bus.password"] || fourth["notify/bus.password"] == "" || !strings.Contains(fourth["postgres/roles"], "aran_notify ") {
		t.Error("a service that came later did not get its own, or changed another's")
	}
}

func TestStoresAreNotToldPasswords(t *testing.T) {
	got := made(t, secrets.Options{Dir: t.TempDir(), Parties: parties()})
	for name, password := range got {
		if !strings.HasSuffix(name, ".password") {
			continue
		}
		for other, text := range got {
			if other != name && strings.Contains(text, password) {
				t.Errorf("%s is also in %s", name, other)
			}
		}
	}
	users := got["nats/users.conf"]
	at := strings.Index(users, `user: "chat", password: "`) + len(`user: "chat", password: "`)
	hash, _, _ := strings.Cut(users[at:], `"`)
	if err := bcrypt.CompareHashAndPassword([]byte(hash), []byte(got["chat/bus.password"])); err != nil {
		t.Errorf("the bus does not know chat's password: %v", err)
	}
	if !strings.Contains(got["redis/users.acl"], "user chat on #") || !strings.Contains(got["redis/users.acl"], "~aran:chat:* ") {
		t.Errorf("redis: %s", got["redis/users.acl"])
	}
}

func TestFilesAreTheirOwnersAlone(t *testing.T) {
	dir := t.TempDir()
	for name := range made(t, secrets.Options{Dir: dir, Parties: parties()}) {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		store := slices.Contains([]string{"postgres", "nats", "redis"}, filepath.Dir(name))
		switch mode := info.Mode().Perm(); {
		case strings.HasSuffix(name, ".pem"): // certificates are for everybody
		case store && mode != 0o640, !store && mode != 0o600:
			t.Errorf("%s has mode %v", name, mode)
		}
	}
}

func TestCertificates(t *testing.T) {
	o := secrets.Options{Dir: t.TempDir(), Parties: parties()}
	first := made(t, o)
	roots := func(got map[string]string, service string) *x509.CertPool {
		p := x509.NewCertPool()
		if !p.AppendCertsFromPEM([]byte(got[service+"/authorities/stores.pem"])) {
			t.Fatalf("%s trusts nobody", service)
		}
		return p
	}
	check := func(got map[string]string, file, host string) error {
		pair, err := tls.X509KeyPair([]byte(got[file+".pem"]), []byte(got[file+".key"]))
		if err != nil {
			return err
		}
		_, err = pair.Leaf.Verify(x509.VerifyOptions{Roots: roots(got, "chat"), DNSName: host})
		return err
	}
	for file, host := range map[string]string{"postgres/server": "postgres", "nats/server": "nats", "redis/server": "redis", "gateway/tls": "localhost"} {
		if err := check(first, file, host); err != nil {
			t.Errorf("%s: %v", file, err)
		}
	}
	if check(first, "nats/server", "postgres") == nil || check(first, "gateway/tls", "ask.example.org") == nil {
		t.Error("a certificate is good for another's name")
	}
	o.Hosts = []string{"ask.example.org", "192.0.2.7"}
	second := made(t, o)
	for _, host := range o.Hosts {
		if err := check(second, "gateway/tls", host); err != nil {
			t.Errorf("%s: %v", host, err)
		}
	}
	// Cut short after the first certificate: the next run makes them fit again.
	if err := os.WriteFile(filepath.Join(o.Dir, "postgres", "server.pem"), []byte(first["postgres/server.pem"]), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(o.Dir, "audit", "authorities", "stores.pem")); err != nil {
		t.Fatal(err)
	}
	if err := check(made(t, o), "postgres/server", "postgres"); err != nil {
		t.Errorf("after a run that was cut short: %v", err)
	}
	for name := range files(t, o.Dir) {
		if strings.Contains(name, "ca.key") {
			t.Errorf("the authority's key was kept in %s", name)
		}
	}
}

func TestCheck(t *testing.T) {
	o := secrets.Options{Dir: t.TempDir(), Parties: parties()}
	got := made(t, o)
	if err := secrets.Check(o.Dir, o.Parties, time.Now()); err == nil || !strings.Contains(err.Error(), "svid.pem") {
		t.Errorf("without an authority's certificates: %v", err)
	}
	for _, p := range o.Parties { // any certificate will do
		if err := os.WriteFile(filepath.Join(o.Dir, p.Name, "svid.pem"), []byte(got["nats/server.pem"]), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := secrets.Check(o.Dir, o.Parties, time.Now()); err != nil {
		t.Errorf("complete, but: %v", err)
	}
	if err := secrets.Check(o.Dir, o.Parties, time.Now().AddDate(2, 0, 0)); err == nil {
		t.Error("certificates that are over are good")
	}
	for name := range maps.Keys(got) {
		if !strings.Contains(name, "password") && !strings.Contains(name, "keyring") {
			continue
		}
		path := filepath.Join(o.Dir, name)
		if err := os.Rename(path, path+".away"); err != nil {
			t.Fatal(err)
		}
		if secrets.Check(o.Dir, o.Parties, time.Now()) == nil {
			t.Errorf("%s is missing, and nobody says so", name)
		}
		if err := os.Rename(path+".away", path); err != nil {
			t.Fatal(err)
		}
	}
}

func TestPut(t *testing.T) {
	path := filepath.Join(t.TempDir(), "chat", "provider.key")
	for _, c := range []struct {
		name, in, want string
	}{
		{"a line", "sk-1\n", "sk-1"},
		{"replaced", "sk-2", "sk-2"},
	} {
		if err := secrets.Put(path, strings.NewReader(c.in)); err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		b, err := os.ReadFile(path)
		if err != nil || string(b) != c.want {
			t.Errorf("%s: %q %v", c.name, b, err)
		}
	}
	for _, in := range []string{"", "\n", strings.Repeat("x", 1<<17)} {
		if err := secrets.Put(path, strings.NewReader(in)); err == nil {
			t.Errorf("%d bytes were taken", len(in))
		}
	}
	if b, _ := os.ReadFile(path); string(b) != "sk-2" {
		t.Errorf("a refused secret left %q", b)
	}
}
