// Package outward is how the platform reaches servers that are not its own, and tells which hosts are this machine.
//
// What is sent there is content and keys: connections are bounded and encrypted by TLS 1.2 or newer where they are
// encrypted, and nothing follows a server's word to another place. Whether one may be spoken to in the clear is the
// caller's decision; Loopback is what it rests on.
package outward

import (
	"crypto/tls"
	"net"
	"net/http"
	"time"
)

// Loopback reports whether a host is this machine, by name or by address without a zone: nobody else reads what goes
// there in the clear.
func Loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// Transport makes connections to one server: up to most at once, of which idle are kept. connect bounds the time until
// one stands, and again until it is encrypted. Answers are not decompressed, so that a bomb stays impossible.
func Transport(connect time.Duration, idle, most int) *http.Transport {
	return &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		DialContext:            (&net.Dialer{Timeout: connect, KeepAlive: 30 * time.Second}).DialContext,
		TLSHandshakeTimeout:    connect,
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12},
		ForceAttemptHTTP2:      true,
		MaxIdleConnsPerHost:    idle,
		MaxConnsPerHost:        most,
		IdleConnTimeout:        90 * time.Second,
		MaxResponseHeaderBytes: 64 << 10,
		DisableCompression:     true,
	}
}

// Stay is a CheckRedirect that follows none: it would carry content, and on the same host the key, to a place that
// nobody configured.
func Stay(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
