package app

import (
	"strings"
	"testing"

	"aran/platform/secret"
)

func TestBackendsAreCheckedBeforeTheyAreUsed(t *testing.T) {
	const password = "se%kret"
	for _, c := range []struct {
		name, store, bus, want string
	}{
		{"nothing elsewhere", "", "", ""},
		{"on this machine", "postgres://aran_{service}@127.0.0.1/aran_{service}", "nats://127.0.0.1:4222", ""},
		{"elsewhere, over TLS", "postgres://aran_{service}@db/aran_{service}?sslmode=verify-full", "tls://a:4222,tls://b:4222", ""},
		{"elsewhere in the clear", "postgres://aran_{service}@db/aran_{service}", "tls://a:4222", "store.unsafe_plain"},
		{"one server in the clear", "", "tls://a:4222,nats://b:4222", "bus.unsafe_plain"},
		{"another kind of database", "mysql://x/{service}", "nats://127.0.0.1:4222", "use postgres://"},
		{"one database for all", "postgres://a@127.0.0.1/aran", "nats://127.0.0.1:4222", "{service}"},
		{"databases without a bus", "postgres://a@127.0.0.1/{service}", "", "set bus.url"},
		{"a bus that is none", "", "http://127.0.0.1:4222", "bus.url"},
		{"a password that breaks the URL", "", "nats://u:" + password + "@127.0.0.1:x", "bus.url"},
	} {
		cfg := Default()
		cfg.Store.URL, cfg.Bus.URL = secret.New(c.store), secret.New(c.bus)
		cfg.Store.Password = "file:/nowhere/{service}/database.password" // which a process of another service may not read
		said := ""
		if err := cfg.checkBackends(); err != nil {
			said = err.Error()
		}
		if c.want == "" && said != "" || !strings.Contains(said, c.want) || strings.Contains(said, password) {
			t.Errorf("%s: %q, want %q", c.name, said, c.want)
		}
	}
}
