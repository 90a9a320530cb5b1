package user

import (
	"fmt"
	"slices"
	"time"
)

// Config of accounts, sessions and keys.
type Config struct {
	AccessTTL    time.Duration `yaml:"access_ttl" doc:"how long a session's access token is good"`
	RefreshTTL   time.Duration `yaml:"refresh_ttl" doc:"how long a session lives without being refreshed"`
	InternalTTL  time.Duration `yaml:"internal_ttl" doc:"how long a token between services is good"`
	HashMemory   uint32        `yaml:"hash_memory_kib" doc:"memory of one password hash, in KiB (Argon2id)"`
	HashTime     uint32        `yaml:"hash_time" doc:"passes of one password hash (Argon2id)"`
	HashParallel int           `yaml:"hash_parallel" doc:"password hashes computed at once"`
	SignUp       string        `yaml:"sign_up" doc:"who may sign up: open (anyone), closed (by invitation), or loopback (anyone, while the public address is in this process and on loopback, with no balancer in front)"`
	SignInBurst  int           `yaml:"sign_in_burst" doc:"wrong passwords per account before it has to wait; one more is allowed each minute"`

	AdminKeyFile string   `yaml:"-"` // where the administrator's key is written at the first start
	OpenSignUp   bool     `yaml:"-"` // what SignUp comes to here
	Granted      []string `yaml:"-"` // services that may act under a stored grant
}

// Values of Config.SignUp.
const (
	SignUpOpen     = "open"
	SignUpClosed   = "closed"
	SignUpLoopback = "loopback"
)

// Default follows OWASP's password storage cheat sheet (Argon2id, 19 MiB, 2 passes).
func Default() Config {
	return Config{
		AccessTTL: 10 * time.Minute, RefreshTTL: 30 * 24 * time.Hour, InternalTTL: 5 * time.Minute,
		HashMemory: 19 << 10, HashTime: 2, HashParallel: 2, SignUp: SignUpLoopback, SignInBurst: 10, Granted: []string{"search"},
	}
}

// Check names the first setting that can't be used.
func (c Config) Check() error {
	switch {
	case c.AccessTTL < time.Minute || c.AccessTTL > time.Hour:
		return fmt.Errorf("user.access_ttl %s: use 1m to 1h", c.AccessTTL)
	case c.RefreshTTL < c.AccessTTL:
		return fmt.Errorf("user.refresh_ttl %s: use more than user.access_ttl", c.RefreshTTL)
	case c.InternalTTL < 30*time.Second || c.InternalTTL > 15*time.Minute:
		return fmt.Errorf("user.internal_ttl %s: use 30s to 15m", c.InternalTTL)
	case c.HashMemory < 12<<10 || c.HashMemory > 1<<20:
		return fmt.Errorf("user.hash_memory_kib %d: use 12288 to 1048576", c.HashMemory)
	case c.HashTime < 1 || c.HashTime > 20:
		return fmt.Errorf("user.hash_time %d: use 1 to 20", c.HashTime)
	case c.HashParallel < 1 || c.HashParallel > 64:
		return fmt.Errorf("user.hash_parallel %d: use 1 to 64", c.HashParallel)
	case !slices.Contains([]string{SignUpOpen, SignUpClosed, SignUpLoopback}, c.SignUp):
		return fmt.Errorf("user.sign_up %q: use open, closed or loopback", c.SignUp)
	case c.SignInBurst < 1:
		return fmt.Errorf("user.sign_in_burst %d: use 1 or more", c.SignInBurst)
	}
	return nil
}
