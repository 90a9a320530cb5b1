package redis

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strconv"
	"strings"

	goredis "github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"aran/platform/outward"
	"aran/platform/secret"
)

// Config of the connection. The zero value means that there is no Redis.
type Config struct {
	URL         secret.String `yaml:"url" doc:"rediss://user:password@host:6379/0, or redis:// without TLS on loopback; file:PATH and env:NAME are references to it; empty: no Redis"`
	CA          string        `yaml:"ca" doc:"file of the authority (PEM) that signed the server's certificate; empty: the system's"`
	UnsafePlain bool          `yaml:"unsafe_plain" doc:"allow redis:// outside loopback: the password and all that is kept travel in the clear"`
	Pool        int           `yaml:"pool" doc:"connections at most"`
}

// Default is no Redis.
func Default() Config { return Config{Pool: 32} }

// Check names the first setting that can't be used. An empty URL is fine: it means none.
func (c Config) Check() error {
	if c.URL.Empty() {
		return nil
	}
	_, err := c.options()
	return err
}

// options never puts the URL, which may hold a password, into an error.
func (c Config) options() (*goredis.Options, error) {
	u, err := url.Parse(c.URL.Reveal())
	if err != nil {
		return nil, errors.New("redis.url is not a URL: use rediss://user:password@host:6379/0")
	}
	db, err := database(u.Path)
	host := u.Hostname()
	switch {
	case u.Scheme != "redis" && u.Scheme != "rediss":
		return nil, errors.New("redis.url: use redis:// or rediss://")
	case host == "":
		return nil, errors.New("redis.url has no host: use rediss://user:password@host:6379/0")
	case u.RawQuery != "" || u.Fragment != "":
		return nil, errors.New("redis.url takes no parameters: leave out what follows ? and #")
	case err != nil:
		return nil, err
	case c.Pool < 1 || c.Pool > 1000:
		return nil, fmt.Errorf("redis.pool %d: use 1 to 1000", c.Pool)
	case u.Scheme == "redis" && !outward.Loopback(host) && !c.UnsafePlain:
		return nil, errors.New("redis.url is redis:// outside loopback: use rediss://, or set redis.unsafe_plain")
	}
	port := u.Port()
	if port == "" {
		port = "6379"
	}
	var t *tls.Config
	if u.Scheme == "rediss" {
		if t, err = c.tls(host); err != nil {
			return nil, err
		}
	}
	password, _ := u.User.Password()
	return &goredis.Options{
		Addr: net.JoinHostPort(host, port), DB: db, Username: u.User.Username(), Password: password,
		Dialer: dial(t), DialTimeout: dialTimeout, DialerRetries: 1,
		ReadTimeout: ioTimeout, WriteTimeout: ioTimeout, ContextTimeoutEnabled: true,
		PoolSize: c.Pool, MaxActiveConns: c.Pool, PoolTimeout: ioTimeout, ConnMaxIdleTime: idleTimeout, PipelinePoolSize: -1,
		MaxRetries: -1, // a decision that is asked for twice counts twice
		Protocol:   2, DisableIdentity: true,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	}, nil
}

func (c Config) tls(host string) (*tls.Config, error) {
	t := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: host}
	if c.CA == "" {
		return t, nil
	}
	pem, err := os.ReadFile(c.CA)
	if err != nil {
		return nil, fmt.Errorf("redis.ca: %w", err)
	}
	t.RootCAs = x509.NewCertPool()
	if !t.RootCAs.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("redis.ca %q holds no certificate in PEM", c.CA)
	}
	return t, nil
}

func database(path string) (int, error) {
	path = strings.TrimPrefix(path, "/")
	if path == "" {
		return 0, nil
	}
	n, err := strconv.ParseUint(path, 10, 16)
	if err != nil {
		return 0, errors.New("redis.url: what follows the host is the database's number, as /0")
	}
	return int(n), nil
}
