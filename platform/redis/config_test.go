package redis_test

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"aran/platform/redis"
	"aran/platform/secret"
)

func config(url string) redis.Config {
	c := redis.Default()
	c.URL = secret.New(url)
	return c
}

func TestCheck(t *testing.T) {
	empty := filepath.Join(t.TempDir(), "empty.pem")
	if err := os.WriteFile(empty, []byte("nothing\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, url string
		change    func(*redis.Config)
		fails     string
	}{
		{name: "none at all", url: ""},
		{name: "plain on loopback", url: "redis://:hunter2@127.0.0.1:6379/0"},
		{name: "plain on loopback, IPv6", url: "redis://[::1]"},
		{name: "TLS anywhere", url: "rediss://user:hunter2@cache.example:6380/3"},
		{name: "plain elsewhere", url: "redis://:hunter2@cache.example", fails: "unsafe_plain"},
		{name: "plain elsewhere, on purpose", url: "redis://:hunter2@cache.example", change: func(c *redis.Config) { c.UnsafePlain = true }},
		{name: "a parameter that ends verification", url: "rediss://:hunter2@cache.example?skip_verify=true", fails: "no parameters"},
		{name: "a fragment", url: "rediss://:hunter2@cache.example#x", fails: "no parameters"},
		{name: "another scheme", url: "http://:hunter2@127.0.0.1", fails: "redis:// or rediss://"},
		{name: "no host", url: "redis://", fails: "no host"},
		{name: "no number", url: "redis://127.0.0.1/hunter2", fails: "number"},
		{name: "not a URL", url: "redis://:hunter2@127.0.0.1:port", fails: "not a URL"},
		{name: "control characters", url: "redis://:hunter2\x00@127.0.0.1", fails: "not a URL"},
		{name: "no connections", url: "redis://127.0.0.1", change: func(c *redis.Config) { c.Pool = 0 }, fails: "redis.pool"},
		{name: "no such authority", url: "rediss://h.example", change: func(c *redis.Config) { c.CA = "/does/not/exist" }, fails: "redis.ca"},
		{name: "an authority without certificate", url: "rediss://h.example", change: func(c *redis.Config) { c.CA = empty }, fails: "redis.ca"},
	} {
		cfg := config(c.url)
		if c.change != nil {
			c.change(&cfg)
		}
		err := cfg.Check()
		switch {
		case c.fails == "" && err != nil:
			t.Errorf("%s: %v", c.name, err)
		case c.fails != "" && (err == nil || !strings.Contains(err.Error(), c.fails)):
			t.Errorf("%s: %v does not say %q", c.name, err, c.fails)
		case err != nil && strings.Contains(err.Error(), "hunter2"):
			t.Errorf("%s: the error shows the password: %v", c.name, err)
		}
	}
	if _, err := redis.Open(redis.Default(), slog.New(slog.DiscardHandler)); err == nil {
		t.Error("Open takes an empty URL")
	}
}

// FuzzCheck: whatever stands in the URL, its password is never in the error, and nothing panics.
func FuzzCheck(f *testing.F) {
	f.Add("redis", "", "127.0.0.1:6379/0")
	f.Add("rediss", "u", "h.example/0?skip_verify=true")
	f.Add("redis", "\x7f", "[::1")
	f.Fuzz(func(t *testing.T, scheme, user, rest string) {
		const password = "correct-horse-battery"
		cfg := config(scheme + "://" + user + ":" + password + "@" + rest)
		if err := cfg.Check(); err != nil && strings.Contains(err.Error(), password) {
			t.Errorf("the error shows the password: %v", err)
		}
	})
}
