package gateway

import (
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"aran/platform/outward"
)

// Config of the edge.
type Config struct {
	Listen          string        `yaml:"listen" doc:"public address"`
	TLSCert         string        `yaml:"tls_cert" doc:"file of the certificate chain (PEM); needed outside loopback"`
	TLSKey          string        `yaml:"tls_key" doc:"file of its private key (PEM)"`
	UnsafePlainHTTP bool          `yaml:"unsafe_plain_http" doc:"allow plain HTTP outside loopback: credentials travel in the clear"`
	AllowOrigins    []string      `yaml:"allow_origins" doc:"origins of web pages that may call the API (CORS); none: no page may"`
	TrustedProxies  []string      `yaml:"trusted_proxies" doc:"addresses or networks (CIDR) of balancers in front, whose X-Forwarded-For is believed; none: nobody's is"`
	ReadTimeout     time.Duration `yaml:"read_timeout" doc:"for a request's header and body to arrive"`
	WriteTimeout    time.Duration `yaml:"write_timeout" doc:"for one write to a client that does not read"`
	RequestTimeout  time.Duration `yaml:"request_timeout" doc:"for a whole answer, streams included"`
	MaxBody         int64         `yaml:"max_body_bytes" doc:"largest body of any route; routes have smaller limits of their own"`
	MaxConcurrent   int           `yaml:"max_concurrent" doc:"requests in hand at once; more are refused with 503"`
	MaxPerKey       int           `yaml:"max_concurrent_per_key" doc:"requests in hand at once per credential; the administrator's has no limit"`
	Rate            Rate          `yaml:"rate"`
	SignInRate      Rate          `yaml:"sign_in_rate"`
	SecurityContact string        `yaml:"security_contact" doc:"where to report a vulnerability of this instance, as mailto:… or https:…; shown in /.well-known/security.txt (RFC 9116)"`
	CredentialCache time.Duration `yaml:"credential_cache" doc:"how long a checked credential is trusted; revocation ends it at once"`
}

// Rate allows Burst at once and PerMinute on average.
type Rate struct {
	PerMinute int `yaml:"per_minute" doc:"requests a minute on average"`
	Burst     int `yaml:"burst" doc:"requests at once"`
}

// Default is safe on loopback.
func Default() Config {
	return Config{
		Listen: "127.0.0.1:8080", ReadTimeout: 30 * time.Second, WriteTimeout: 30 * time.Second, RequestTimeout: 10 * time.Minute,
		MaxBody: 32 << 20, MaxConcurrent: 1000, MaxPerKey: 64, Rate: Rate{600, 120}, SignInRate: Rate{60, 30}, CredentialCache: 30 * time.Second,
	}
}

// Check names the first setting that can't be used.
func (c Config) Check() error {
	host, _, err := net.SplitHostPort(c.Listen)
	if err != nil {
		return fmt.Errorf("gateway.listen %q: use host:port, as 127.0.0.1:8080", c.Listen)
	}
	switch {
	case (c.TLSCert == "") != (c.TLSKey == ""):
		return fmt.Errorf("gateway.tls_cert and gateway.tls_key: set both or none")
	case c.TLSCert == "" && !outward.Loopback(strings.Trim(host, "[]")) && !c.UnsafePlainHTTP:
		return fmt.Errorf("gateway.listen %q is not on loopback: set gateway.tls_cert and gateway.tls_key, or gateway.unsafe_plain_http", c.Listen)
	case slices.Contains(c.AllowOrigins, "*"):
		return fmt.Errorf("gateway.allow_origins: name the origins; * would let every page call the API")
	case c.Rate.PerMinute < 1 || c.Rate.Burst < 1 || c.SignInRate.PerMinute < 1 || c.SignInRate.Burst < 1:
		return fmt.Errorf("gateway.rate and gateway.sign_in_rate: use 1 or more")
	case c.MaxConcurrent < 1 || c.MaxPerKey < 1:
		return fmt.Errorf("gateway.max_concurrent and gateway.max_concurrent_per_key: use 1 or more")
	case c.ReadTimeout <= 0 || c.WriteTimeout <= 0 || c.RequestTimeout <= 0:
		return fmt.Errorf("gateway.read_timeout, write_timeout and request_timeout: use more than 0")
	case c.CredentialCache < 0 || c.CredentialCache > 30*time.Second:
		return fmt.Errorf("gateway.credential_cache %s: use 0 to 30s", c.CredentialCache)
	case c.MaxBody < 1<<20:
		return fmt.Errorf("gateway.max_body_bytes %d: use 1048576 or more", c.MaxBody)
	}
	_, err = proxiesOf(c.TrustedProxies)
	return err
}
