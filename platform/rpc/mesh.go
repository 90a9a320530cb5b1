package rpc

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/spiffetls/tlsconfig"

	"aran/platform/fault"
)

// Kind is one of a service's two handlers.
type Kind string

// Kinds. They are never on one mux: the name in the TLS handshake chooses.
const (
	KindInternal Kind = "internal"
	KindPublic   Kind = "public"
)

// serverName is what a client asks for in its handshake (SNI).
func serverName(service string, k Kind, td spiffeid.TrustDomain) string {
	return service + "." + string(k) + "." + td.Name()
}

const (
	maxStreams  = 4000            // on a connection; a caller with more opens another
	pingAfter   = 3 * time.Second // of silence
	pingTimeout = 3 * time.Second

	// What a reader may leave unread: so much waits on its side, then the writer does. The connection's share is that of
	// all its streams, so that those who do not read never hold up those who do.
	streamWindow     = 64 << 10
	connectionWindow = maxStreams * streamWindow
)

// Mesh is the listener of a process for calls of other processes' services, over mutual TLS 1.3 and HTTP/2.
type Mesh struct {
	domain spiffeid.TrustDomain
	log    *slog.Logger
	hosts  map[string]*host // by server name

	maxStreams int

	listener net.Listener
	server   *http.Server
	done     chan struct{}
}

type host struct {
	identity *Identity
	callers  []string
	handler  http.Handler
}

// NewMesh hosts nothing yet.
func NewMesh(trustDomain string, log *slog.Logger) (*Mesh, error) {
	td, err := spiffeid.TrustDomainFromString(trustDomain)
	if err != nil {
		return nil, fmt.Errorf("trust domain %q: %w", trustDomain, err)
	}
	return &Mesh{domain: td, log: log, hosts: map[string]*host{}, maxStreams: maxStreams, done: make(chan struct{})}, nil
}

// Add serves one handler of a service to the callers that are named, and to nobody else. All are added before Listen.
func (m *Mesh) Add(id *Identity, k Kind, callers []string, h http.Handler) {
	m.hosts[serverName(id.service, k, m.domain)] = &host{id, callers, h}
}

// Listen opens the address and serves. ctx bounds only the set-up; Close ends it.
func (m *Mesh) Listen(ctx context.Context, address string) error {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if err != nil {
		return fault.New(fault.Conflict, "address_in_use", "The address %s can't be listened to; change mesh.listen.", address).Because(err)
	}
	base, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	protocols := &http.Protocols{}
	protocols.SetHTTP2(true)
	m.server = &http.Server{
		Handler: http.HandlerFunc(m.serve), TLSConfig: &tls.Config{MinVersion: tls.VersionTLS13, GetConfigForClient: m.choose, NextProtos: []string{"h2"}},
		Protocols: protocols, HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams: m.maxStreams, SendPingTimeout: pingAfter, PingTimeout: pingTimeout,
			MaxReceiveBufferPerStream: streamWindow, MaxReceiveBufferPerConnection: connectionWindow,
		},
		ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 5 * time.Minute, MaxHeaderBytes: 64 << 10,
		BaseContext: func(net.Listener) context.Context { return base }, ErrorLog: slog.NewLogLogger(m.log.Handler(), slog.LevelDebug),
	}
	m.server.RegisterOnShutdown(func() { cancel(Stopping()) }) // open streams end at once
	m.listener = l
	go func() {
		defer close(m.done)
		if err := m.server.ServeTLS(l, "", ""); err != nil && !errors.Is(err, http.ErrServerClosed) {
			m.log.LogAttrs(base, slog.LevelError, "the listener for other services failed", slog.String("error", err.Error()))
		}
	}()
	return nil
}

// Address is where it listens.
func (m *Mesh) Address() string { return m.listener.Addr().String() }

// Close refuses new calls, ends open streams, and waits for what is in hand.
func (m *Mesh) Close(ctx context.Context) error {
	if m.server == nil {
		return nil
	}
	err := m.server.Shutdown(ctx)
	if err != nil {
		err = errors.Join(err, m.server.Close())
	}
	<-m.done
	return err
}

// choose answers a handshake as the service that it asks for.
func (m *Mesh) choose(hello *tls.ClientHelloInfo) (*tls.Config, error) {
	h, ok := m.hosts[hello.ServerName]
	if !ok {
		return nil, fmt.Errorf("nothing is called %.100q here", hello.ServerName)
	}
	c := tlsconfig.MTLSServerConfig(h.identity, h.identity, tlsconfig.AuthorizeMemberOf(m.domain))
	c.MinVersion, c.NextProtos = tls.VersionTLS13, []string{"h2"}
	c.SessionTicketsDisabled = true // a resumed session would outlive the certificate that it was opened with
	return c, nil
}

// serve finds out who calls, from the certificate alone, and passes the call on to the handler of the handshake.
func (m *Mesh) serve(w http.ResponseWriter, r *http.Request) {
	if r.TLS == nil || len(r.TLS.PeerCertificates) == 0 || m.hosts[r.TLS.ServerName] == nil {
		Problem(w, r, fault.New(fault.Denied, "caller_refused", "This is not open to the caller."))
		return
	}
	h, leaf, now := m.hosts[r.TLS.ServerName], r.TLS.PeerCertificates[0], time.Now()
	if now.After(leaf.NotAfter) { // it was good when the connection was opened
		w.Header().Set("Connection", "close")
		Problem(w, r, fault.New(fault.Unauthenticated, "certificate_expired", "The caller's certificate has expired."))
		return
	}
	if old(leaf, now) {
		w.Header().Set("Connection", "close") // the caller opens a new connection, with the certificate that it has by now
	}
	peer := peerOf(m.domain, leaf)
	if !slices.Contains(h.callers, peer) {
		Problem(w, r, fault.New(fault.Denied, "caller_refused", "This is not open to the caller."))
		m.log.LogAttrs(r.Context(), slog.LevelWarn, "caller refused", slog.String("peer", peer), slog.String("asked", r.TLS.ServerName))
		return
	}
	h.handler.ServeHTTP(w, r.WithContext(WithPeer(r.Context(), peer)))
}

// old reports whether two thirds of a certificate's life are over.
func old(c *x509.Certificate, now time.Time) bool {
	return now.After(c.NotAfter.Add(-c.NotAfter.Sub(c.NotBefore) / 3))
}

func peerOf(td spiffeid.TrustDomain, leaf *x509.Certificate) string {
	if len(leaf.URIs) != 1 {
		return ""
	}
	id, err := spiffeid.FromURI(leaf.URIs[0])
	if err != nil {
		return ""
	}
	return serviceOf(td, id)
}
