package rpc

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffetls/tlsconfig"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"

	"aran/platform/fault"
)

const (
	meshDial      = 2 * time.Second // for a connection to one address
	meshHandshake = 3 * time.Second
	meshLookup    = 2 * time.Second
	lookUpEvery   = 5 * time.Second
	avoidFor      = 10 * time.Second // an address that did not answer is tried last for so long
	maxLanes      = 8                // replicas of a service that calls are spread over
	maxDials      = 2                // connections of a lane; each carries maxStreams calls
)

// Far is a transport to one handler of a service in other processes. Calls are spread over the addresses that the
// service's name has; one that does not answer is passed over. A renewed certificate is shown from the next call on, and
// what runs on the connections of the former one goes on. Safe for concurrent use.
type Far struct {
	callee     string
	id         *Identity
	host, port string
	tls        *tls.Config
	turn       atomic.Uint32
	lookup     func(ctx context.Context, host string) ([]string, error)
	looks      sync.WaitGroup
	mu         sync.Mutex
	closed     bool
	addresses  []string // known ones; none before the first connection
	looking    bool
	looked     time.Time
	shown      *x509svid.SVID // what the lanes' connections show
	lanes      []*http.Transport
	away       map[string]time.Time // addresses that did not answer, and when
}

// Dial makes a transport that shows id and accepts nobody but callee at address, a host and a port. Nothing is connected yet.
func Dial(id *Identity, callee string, k Kind, address string) *Far {
	c := tlsconfig.MTLSClientConfig(id, id, tlsconfig.AuthorizeID(identityOf(id.domain, callee)))
	c.MinVersion, c.ServerName, c.NextProtos = tls.VersionTLS13, serverName(callee, k, id.domain), []string{"h2"}
	f := &Far{callee: callee, id: id, tls: c, lookup: net.DefaultResolver.LookupHost, away: map[string]time.Time{}}
	var err error
	if f.host, f.port, err = net.SplitHostPort(address); err != nil {
		f.host = address // it cannot be dialed, and the error says why
	}
	f.turn.Store(rand.Uint32()) //nolint:gosec // a spread, not a secret
	return f
}

// RoundTrip implements http.RoundTripper. A service that cannot be reached is a fault.Unavailable.
func (f *Far) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Scheme != "https" { // services are called by their name, as in one process
		u := *r.URL
		u.Scheme = "https"
		r = r.Clone(r.Context())
		r.URL = &u
	}
	if r.Host == "" {
		r.Host = r.URL.Host
	}
	res, err := f.lane(r.Context()).RoundTrip(r)
	if err == nil {
		res.Header.Del("Connection")
		res.Body = &farBody{res.Body, r.Context(), f}
		return res, nil
	}
	return nil, f.broken(r.Context(), err)
}

// broken says what a failure of the connection is to the caller: its own doing, or a service that is away.
func (f *Far) broken(ctx context.Context, err error) error {
	if cause := ctx.Err(); cause != nil {
		return cause
	}
	return fault.New(fault.Unavailable, "service_away", "The service %s cannot be reached; try again.", f.callee).After(time.Second).Because(err)
}

// farBody is an answer whose service may die before its end.
type farBody struct {
	io.ReadCloser
	ctx context.Context //nolint:containedctx // of the call that the answer belongs to
	far *Far
}

func (b *farBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = b.far.broken(b.ctx, err)
	}
	return n, err
}

// Close drops connections that are idle.
func (f *Far) Close() {
	f.mu.Lock()
	f.closed = true
	lanes := f.lanes
	f.mu.Unlock()
	f.looks.Wait()
	for _, l := range lanes {
		l.CloseIdleConnections()
	}
}

// lane is the transport for the next call.
func (f *Far) lane(ctx context.Context) *http.Transport {
	svid, _ := f.id.GetX509SVID() // never fails
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.addresses) > 0 && !f.looking && !f.closed && time.Since(f.looked) > lookUpEvery && net.ParseIP(f.host) == nil {
		f.looking = true
		f.looks.Go(func() { f.look(context.WithoutCancel(ctx)) })
	}
	want := min(max(len(f.addresses), 1), maxLanes)
	if f.shown != svid || len(f.lanes) != want {
		old := f.lanes
		f.lanes, f.shown = make([]*http.Transport, want), svid
		for i := range f.lanes {
			f.lanes[i] = f.transport(i)
		}
		for _, l := range old {
			l.CloseIdleConnections() // those in use close when they are idle
		}
	}
	return f.lanes[int(f.turn.Add(1))%want]
}

func (f *Far) transport(lane int) *http.Transport {
	protocols := &http.Protocols{}
	protocols.SetHTTP2(true)
	return &http.Transport{
		DialTLSContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return f.connect(ctx, lane) },
		Protocols:      protocols, DisableCompression: true,
		HTTP2: &http.HTTP2Config{
			SendPingTimeout: pingAfter, PingTimeout: pingTimeout, MaxReceiveBufferPerStream: streamWindow, MaxReceiveBufferPerConnection: connectionWindow,
		},
		IdleConnTimeout: 30 * time.Second, MaxIdleConns: 4, MaxConnsPerHost: maxDials,
	}
}

// look keeps the addresses current; those in hand are kept when the name service is away.
func (f *Far) look(ctx context.Context) {
	found, err := f.resolve(ctx)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.looking, f.looked = false, time.Now()
	if err == nil {
		f.addresses = found
	}
}

func (f *Far) resolve(ctx context.Context) ([]string, error) {
	if net.ParseIP(f.host) != nil {
		return []string{f.host}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, meshLookup)
	defer cancel()
	found, err := f.lookup(ctx, f.host)
	if err != nil {
		return nil, err
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("%s has no address", f.host)
	}
	slices.Sort(found) // a lane's address stays the same
	return slices.Compact(found), nil
}

// connect opens a connection for a lane: to its own address, or else to the others in turn.
func (f *Far) connect(ctx context.Context, lane int) (net.Conn, error) {
	addresses, err := f.order(ctx, lane)
	if err != nil {
		return nil, err
	}
	var errs []error
	for _, a := range addresses {
		conn, err := f.open(ctx, a)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		f.mu.Lock()
		if err == nil {
			delete(f.away, a)
		} else {
			f.away[a] = time.Now()
		}
		f.mu.Unlock()
		if err == nil {
			return conn, nil
		}
		errs = append(errs, err)
	}
	return nil, errors.Join(errs...)
}

// order lists the addresses to try: the lane's own first, those that lately did not answer last.
func (f *Far) order(ctx context.Context, lane int) ([]string, error) {
	f.mu.Lock()
	addresses := slices.Clone(f.addresses)
	f.mu.Unlock()
	if len(addresses) == 0 {
		found, err := f.resolve(ctx)
		if err != nil {
			return nil, err
		}
		f.mu.Lock()
		f.addresses, f.looked = found, time.Now()
		f.mu.Unlock()
		addresses = slices.Clone(found)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for a, at := range f.away {
		if time.Since(at) > avoidFor {
			delete(f.away, a)
		}
	}
	first := lane % len(addresses)
	addresses = slices.Concat(addresses[first:], addresses[:first])
	slices.SortStableFunc(addresses, func(a, b string) int { return f.away[a].Compare(f.away[b]) })
	return addresses[:min(len(addresses), maxLanes)], nil
}

func (f *Far) open(ctx context.Context, address string) (net.Conn, error) {
	dialer := &net.Dialer{Timeout: meshDial, KeepAlive: 15 * time.Second}
	raw, err := dialer.DialContext(ctx, "tcp", net.JoinHostPort(address, cmp.Or(f.port, "0")))
	if err != nil {
		return nil, err
	}
	conn := tls.Client(raw, f.tls)
	ctx, cancel := context.WithTimeout(ctx, meshHandshake)
	defer cancel()
	if err := conn.HandshakeContext(ctx); err != nil {
		return nil, errors.Join(err, raw.Close())
	}
	return conn, nil
}
