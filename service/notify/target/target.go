// Package target says where a webhook may go, and goes there.
//
// An address is judged when the connection is made, after every name was resolved: a name that changes its address
// after it was checked gains nothing. Proxies of the environment are not used, redirects are not followed, and no
// address opens that is not on the public Internet, unless the policy says so. NAT64 prefixes of a network's own
// look public and cannot be known here.
package target

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"syscall"
	"time"

	"aran/platform/fault"
	"aran/platform/outward"
)

// Policy says what is allowed. The zero value allows https to public addresses.
type Policy struct {
	// UnsafePrivate allows any address and plain http.
	UnsafePrivate bool
}

const (
	maxURL  = 2048
	maxHost = 253
)

// ErrRefused is the error of a connection to an address that is not allowed.
var ErrRefused = errors.New("the address is not public")

// Check refuses a URL that could never be delivered to, as fault.Invalid with the field "url". It resolves no names.
func (p Policy) Check(raw string) error {
	if why := p.wrong(raw); why != "" {
		f := fault.New(fault.Invalid, "invalid", "The request breaks a rule: see errors.")
		f.Fields = []fault.Field{{Path: "url", Rule: "webhook_url", Message: why}}
		return f
	}
	return nil
}

// wrong says what is wrong with a URL, in words for its owner; empty: nothing.
func (p Policy) wrong(raw string) string {
	if len(raw) > maxURL {
		return fmt.Sprintf("it has %d bytes; at most %d are taken", len(raw), maxURL)
	}
	u, err := url.Parse(raw)
	switch {
	case err != nil || u.Host == "" || u.Opaque != "":
		return "it is not a URL like https://example.com/hook"
	case u.Scheme == "http" && !p.UnsafePrivate:
		return "use https"
	case u.Scheme != "https" && u.Scheme != "http":
		return "use https"
	case u.User != nil:
		return "leave out user and password: every delivery is signed"
	case u.Fragment != "" || strings.Contains(raw, "#"):
		return "leave out the fragment"
	}
	if why := wrongPort(u.Port(), u.Host); why != "" {
		return why
	}
	return p.wrongHost(u.Hostname())
}

// wrongPort allows the ports of the web and those that need no privileges: below stand mail and other services that
// strangers should not talk to through us.
func wrongPort(port, host string) string {
	if port == "" {
		if strings.HasSuffix(host, ":") {
			return "the port is missing after the colon"
		}
		return ""
	}
	if n, err := strconv.Atoi(port); err != nil || n != 443 && n != 80 && (n < 1024 || n > 65535) {
		return "use port 443, 80 or one from 1024 to 65535"
	}
	return ""
}

func (p Policy) wrongHost(host string) string {
	if ip, err := netip.ParseAddr(host); err == nil {
		if !p.UnsafePrivate && !Public(ip) {
			return "the address is not a public one"
		}
		return ""
	}
	switch {
	case host == "" || len(host) > maxHost:
		return "the host is missing or too long"
	case strings.ContainsFunc(host, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '.' && r != '_'
	}):
		return "write the host in ASCII; other letters as punycode (xn--…)"
	case p.UnsafePrivate:
		return ""
	}
	labels := strings.Split(strings.ToLower(strings.TrimSuffix(host, ".")), ".")
	last := labels[len(labels)-1]
	switch {
	case len(labels) < 2 || last == "localhost" || last == "local" || last == "internal":
		return "the host is not a public one"
	case isNumber(last):
		return "the host looks like an address in a form that is not taken"
	}
	return ""
}

// isNumber tells a last label that some resolvers take for a part of an IPv4 address (WHATWG URL, ends in a number).
func isNumber(label string) bool {
	if label == "" {
		return true
	}
	if rest, ok := strings.CutPrefix(label, "0x"); ok {
		return !strings.ContainsFunc(rest, func(r rune) bool { return (r < '0' || r > '9') && (r < 'a' || r > 'f') })
	}
	return !strings.ContainsFunc(label, func(r rune) bool { return r < '0' || r > '9' })
}

// Public reports whether an address belongs to the public Internet and to no special purpose (IANA's registries of
// IPv4 and IPv6 special-purpose addresses, RFC 6890): not loopback, private, link-local, shared (CGNAT), multicast,
// unspecified or for documentation, no form of an IPv4 address inside an IPv6 one, no metadata service of a cloud.
func Public(ip netip.Addr) bool {
	if !ip.IsValid() || ip.Zone() != "" || ip.Is4In6() {
		return false
	}
	for _, p := range special() {
		if p.Contains(ip) {
			return false
		}
	}
	return ip.Is4() || netip.MustParsePrefix("2000::/3").Contains(ip)
}

// special lists what is not public, of IPv4 and inside 2000::/3.
func special() []netip.Prefix {
	texts := []string{
		"0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "168.63.129.16/32", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24",
		"192.31.196.0/24", "192.52.193.0/24", "192.88.99.0/24", "192.168.0.0/16", "192.175.48.0/24", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4",
		"2001::/23", "2001:db8::/32", "2002::/16", "2620:4f:8000::/48", "3fff::/20",
	}
	out := make([]netip.Prefix, len(texts))
	for i, t := range texts {
		out[i] = netip.MustParsePrefix(t)
	}
	return out
}

const (
	dialTimeout = 5 * time.Second
	maxHeader   = 16 << 10
	idle        = 64 // connections kept open, in all
)

// Client returns a client for requests that carry their own deadline. Certificates are checked against roots; nil
// means the system's. Close its idle connections when done.
func (p Policy) Client(roots *x509.CertPool) *http.Client {
	d := &net.Dialer{Timeout: dialTimeout, ControlContext: p.control}
	conf := &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots}
	return &http.Client{
		Transport: &http.Transport{
			Proxy: nil, DialContext: d.DialContext, TLSClientConfig: conf, TLSHandshakeTimeout: dialTimeout, ForceAttemptHTTP2: true, DisableCompression: true,
			MaxResponseHeaderBytes: maxHeader, MaxIdleConns: idle, MaxIdleConnsPerHost: 1, IdleConnTimeout: 30 * time.Second,
		},
		CheckRedirect: outward.Stay,
	}
}

// control judges the address that is about to be connected to.
func (p Policy) control(_ context.Context, network, address string, _ syscall.RawConn) error {
	if p.UnsafePrivate {
		return nil
	}
	if network != "tcp4" && network != "tcp6" {
		return fmt.Errorf("%w: network %s", ErrRefused, network)
	}
	at, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("%w: %s", ErrRefused, address)
	}
	if !Public(at.Addr()) {
		return fmt.Errorf("%w: %s", ErrRefused, at.Addr())
	}
	return nil
}
