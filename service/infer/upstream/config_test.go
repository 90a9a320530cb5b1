package upstream

import (
	"strings"
	"testing"
	"time"

	"aran/platform/secret"
)

func TestSettingsThatAreRefused(t *testing.T) {
	good := func() Config { c := tei(KindEmbed); c.Name, c.URL = "gpu", "https://gpu.example:8080"; return c }
	if err := good().Check(); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(c *Config){
		"no name":               func(c *Config) { c.Name = "" },
		"unknown engine":        func(c *Config) { c.Engine = "torchserve" },
		"kind it has not":       func(c *Config) { c.Kind = KindGenerate },
		"no model":              func(c *Config) { c.Model = "" },
		"no revision":           func(c *Config) { c.Revision = "" },
		"bad digest":            func(c *Config) { c.Digest = "abc" },
		"no dimension":          func(c *Config) { c.Dim = 0 },
		"plain http":            func(c *Config) { c.URL = "http://gpu.example:8080" },
		"credentials in it":     func(c *Config) { c.URL = "https://a:b@gpu.example" },
		"another scheme":        func(c *Config) { c.URL = "unix:///socket" },
		"query":                 func(c *Config) { c.URL = "https://gpu.example/?a=b" },
		"timeout without bound": func(c *Config) { c.Timeout = 24 * time.Hour },
		"batch without bound":   func(c *Config) { c.Batch = 1 << 20 },
		"key with a line break": func(c *Config) { c.Key = secret.New("a\nb") },
	} {
		c := good()
		change(&c)
		if err := c.Check(); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	c := good()
	c.URL, c.NoTLS = "http://gpu.example:8080", true
	if err := c.Check(); err != nil {
		t.Errorf("plain http, allowed: %v", err)
	}
	c.URL, c.NoTLS = "http://127.0.0.1:8080/v1", false
	if err := c.Check(); err != nil {
		t.Errorf("plain http on loopback: %v", err)
	}
}

// Vectors of two models are never compared: whatever makes another model makes another digest, and nothing else does.
func TestIdentity(t *testing.T) {
	base := tei(KindEmbed)
	for name, c := range map[string]struct {
		change func(c *Config)
		other  bool
	}{
		"model":     {func(c *Config) { c.Model = "thenlper/gte-large" }, true},
		"revision":  {func(c *Config) { c.Revision = "main" }, true},
		"dimension": {func(c *Config) { c.Dim = 4 }, true},
		"engine":    {func(c *Config) { c.Engine = VLLM }, true},
		"digest":    {func(c *Config) { c.Digest = strings.Repeat("a", 64) }, true},
		"address":   {func(c *Config) { c.URL = "https://elsewhere.example" }, false},
		"name":      {func(c *Config) { c.Name = "other" }, false},
	} {
		changed := base
		c.change(&changed)
		if other := changed.Identity() != base.Identity(); other != c.other || len(changed.Identity()) != 64 {
			t.Errorf("another %s: another digest %v, want %v", name, other, c.other)
		}
	}
}
