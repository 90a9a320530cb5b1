// Package balancer is a small load balancer for tests of replicas: round robin, with health checks.
//
// It speaks to the outside like a single server. A replica that does not answer /readyz gets no new requests; a
// request that could not be sent at all goes to the next one. It changes nothing of requests and answers but the
// header X-Forwarded-For, and streams what streams.
package balancer

import (
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	checkEvery   = 100 * time.Millisecond
	checkTimeout = time.Second
)

// Balancer spreads requests over replicas. Make one with New, end it with Close. Safe for concurrent use.
type Balancer struct {
	replicas []*replica
	next     atomic.Uint64
	stop     context.CancelFunc
	done     sync.WaitGroup
	idle     *http.Transport
}

type replica struct {
	target *url.URL
	ready  atomic.Bool
	served atomic.Int64
}

// New balances over base URLs and begins to look at their health.
func New(ctx context.Context, targets ...string) (*Balancer, error) {
	life, stop := context.WithCancel(ctx)
	b := &Balancer{stop: stop, idle: &http.Transport{MaxIdleConnsPerHost: 256, DialContext: (&net.Dialer{Timeout: checkTimeout}).DialContext}}
	for _, t := range targets {
		u, err := url.Parse(t)
		if err != nil {
			stop()
			return nil, err
		}
		b.replicas = append(b.replicas, &replica{target: u})
	}
	for _, r := range b.replicas {
		b.done.Go(func() { b.watch(life, r) })
	}
	return b, nil
}

// Close stops the health checks.
func (b *Balancer) Close() {
	b.stop()
	b.done.Wait()
	b.idle.CloseIdleConnections()
}

// Served is how many requests each replica got, in the order of New.
func (b *Balancer) Served() []int64 {
	var out []int64
	for _, r := range b.replicas {
		out = append(out, r.served.Load())
	}
	return out
}

// Ready is how many replicas get requests.
func (b *Balancer) Ready() (n int) {
	for _, r := range b.replicas {
		if r.ready.Load() {
			n++
		}
	}
	return n
}

func (b *Balancer) watch(ctx context.Context, r *replica) {
	tick := time.NewTicker(checkEvery)
	defer tick.Stop()
	for {
		r.ready.Store(b.check(ctx, r))
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

func (b *Balancer) check(ctx context.Context, r *replica) bool {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.target.JoinPath("readyz").String(), nil)
	if err != nil {
		return false
	}
	res, err := b.idle.RoundTrip(req)
	if err != nil {
		return false
	}
	_, _ = io.Copy(io.Discard, io.LimitReader(res.Body, 1<<10))
	_ = res.Body.Close()
	return res.StatusCode == http.StatusOK
}

// ServeHTTP passes a request on. Without a ready replica it answers 503.
func (b *Balancer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	proxy := httputil.ReverseProxy{
		Transport: sender{b}, FlushInterval: -1, ErrorLog: log.New(io.Discard, "", 0),
		Rewrite: func(p *httputil.ProxyRequest) {
			p.SetXForwarded()
			p.Out.Host = p.In.Host
			p.Out.URL.Scheme, p.Out.URL.Host = "http", "replica"
		},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
			if errors.Is(err, errNone) {
				w.Header().Set("Retry-After", "1")
				w.WriteHeader(http.StatusServiceUnavailable)
				return
			}
			w.WriteHeader(http.StatusBadGateway)
		},
	}
	proxy.ServeHTTP(w, r)
}

var errNone = errors.New("no replica is ready")

// sender picks the replica of a request.
type sender struct{ b *Balancer }

// RoundTrip implements http.RoundTripper.
func (s sender) RoundTrip(r *http.Request) (*http.Response, error) {
	first := s.b.next.Add(1)
	n := uint64(len(s.b.replicas))
	for i := range n {
		to := s.b.replicas[(first+i)%n]
		if !to.ready.Load() {
			continue
		}
		out := r.Clone(r.Context())
		out.URL.Scheme, out.URL.Host = to.target.Scheme, to.target.Host
		res, err := s.b.idle.RoundTrip(out)
		if errors.Is(err, syscall.ECONNREFUSED) { // nothing was sent, the body is whole
			to.ready.Store(false)
			continue
		}
		to.served.Add(1)
		return res, err
	}
	return nil, errNone
}
