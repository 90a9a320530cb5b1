// Package gateway is the edge: the only service that listens to the outside.
//
// It checks who calls, limits, and passes the request on to the service that the route table names, with
// an identity for that one service. It decides nothing about content and keeps nothing. What is not
// in the route table does not exist, and a route is closed unless its service says that anyone may call it.
package gateway

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/metric"

	"aran/api/gen/aran/user/v1/userv1connect"
	"aran/platform/breaker"
	"aran/platform/bus"
	"aran/platform/cache"
	"aran/platform/fault"
	"aran/platform/limit"
	"aran/platform/rpc"
	"aran/platform/watch"
)

// Upstream is a service that the gateway reaches through its Public handler.
type Upstream struct {
	Transport http.RoundTripper
	Routes    []rpc.Route
}

// Deps is what the service stands on.
type Deps struct {
	Door      *Door
	Bus       *bus.Conn
	Limits    limit.Limiter // of requests
	Users     userv1connect.UserServiceClient
	Upstreams map[string]Upstream
	OpenAPI   []byte                        // the merged document
	Services  func(ctx context.Context) any // what runs here, for /api/v1/services
	Health    *watch.Health
	Log       *slog.Logger
}

// Service is the edge. Safe for concurrent use.
type Service struct {
	cfg       Config
	d         Deps
	log       *slog.Logger
	routes    []route
	breakers  map[string]*breaker.Breaker
	proxies   map[string]http.Handler
	trusted   *cache.Cache[credentialKey, principal]
	refused   *cache.Cache[credentialKey, *fault.Error]
	slots     chan struct{}
	perKey    concurrency
	balancers []netip.Prefix // in front, whose word on addresses is taken
	forgot    atomic.Uint64  // revocations so far: what was asked before one is not remembered after it
	meters    meters
}

type meters struct {
	requests metric.Float64Histogram
	active   metric.Int64UpDownCounter
	refused  metric.Int64Counter
}

const (
	trustedEntries = 10_000
	refusedFor     = 5 * time.Second
)

// New builds the edge. It serves when Start is called.
func New(cfg Config, d Deps) (*Service, error) {
	s := &Service{
		cfg: cfg, d: d, log: d.Log, slots: make(chan struct{}, cfg.MaxConcurrent),
		trusted: cache.New[credentialKey, principal](trustedEntries, cfg.CredentialCache), refused: cache.New[credentialKey, *fault.Error](trustedEntries, refusedFor),
		breakers: map[string]*breaker.Breaker{}, proxies: map[string]http.Handler{}, perKey: concurrency{n: map[string]int{}, max: cfg.MaxPerKey},
	}
	var err error
	if s.balancers, err = proxiesOf(cfg.TrustedProxies); err != nil {
		return nil, err
	}
	m := otel.Meter("aran/service/gateway")
	if s.meters.requests, err = m.Float64Histogram("http.server.request.duration", metric.WithUnit("s")); err != nil {
		return nil, err
	}
	if s.meters.active, err = m.Int64UpDownCounter("http.server.active_requests"); err != nil {
		return nil, err
	}
	if s.meters.refused, err = m.Int64Counter("aran_gateway_refused"); err != nil {
		return nil, err
	}
	for name, up := range d.Upstreams {
		s.breakers[name] = breaker.New(name, breaker.Default(), d.Log)
		s.proxies[name] = s.proxy(name, up.Transport)
	}
	if s.routes, err = routesOf(d.Upstreams); err != nil {
		return nil, err
	}
	return s, nil
}

// Start listens to revocations and serves behind the door.
func (s *Service) Start(ctx context.Context) error {
	err := s.d.Bus.Broadcast(ctx, []string{"aran.user.revoked.v1"}, func(_ context.Context, e bus.Event) { s.forget(e.Data) })
	if err != nil {
		return err
	}
	s.d.Door.serve(s.Handler())
	return nil
}

// revocation is the data of aran.user.revoked.v1: the fields that are set must all match.
type revocation struct {
	Credential string `json:"credential"`
	Subject    string `json:"subject"`
	Tenant     string `json:"tenant"`
}

func (s *Service) forget(data []byte) {
	var r revocation
	if json.Unmarshal(data, &r) != nil {
		r = revocation{} // unreadable: forget everyone
	}
	s.forgot.Add(1)
	s.trusted.DeleteFunc(func(_ credentialKey, p principal) bool {
		return (r.Credential == "" || r.Credential == p.credential) && (r.Subject == "" || r.Subject == p.subject) && (r.Tenant == "" || r.Tenant == p.tenant)
	})
}

// route is one served route and the service behind it.
type route struct {
	service string
	rpc.Route
}

// concurrency counts requests in hand per credential.
type concurrency struct {
	mu  sync.Mutex
	n   map[string]int
	max int
}

func (c *concurrency) enter(key string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.n[key] >= c.max {
		return false
	}
	c.n[key]++
	return true
}

func (c *concurrency) leave(key string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.n[key]--; c.n[key] <= 0 {
		delete(c.n, key)
	}
}

// owners is the route table: which service answers below which path. The longest prefix wins.
func owners() map[string]string {
	return map[string]string{
		"/v1/":             "chat",
		"/api/v1/accounts": "user", "/api/v1/sessions": "user", "/api/v1/me": "user", "/api/v1/tenants": "user", "/api/v1/keys": "user",
		"/.well-known/jwks.json": "user",
		"/api/v1/collections":    "search",
		"/api/v1/quarantine":     "search",
		"/api/v1/items":          "recommend", "/api/v1/interactions": "recommend", "/api/v1/recommendations": "recommend",
		"/api/v1/guard":    "guard",
		"/api/v1/models":   "infer",
		"/api/v1/audit":    "audit",
		"/api/v1/webhooks": "notify",
	}
}

// Owner is the service that answers a path; empty when nobody does.
func Owner(path string) string {
	best, owner := "", ""
	for prefix, service := range owners() {
		under := path == prefix || strings.HasPrefix(path, strings.TrimSuffix(prefix, "/")+"/")
		if under && len(prefix) > len(best) {
			best, owner = prefix, service
		}
	}
	return owner
}

// routesOf lists what the services serve, refusing a route that the table sends elsewhere.
func routesOf(upstreams map[string]Upstream) ([]route, error) {
	var out []route
	for name, up := range upstreams {
		for _, r := range up.Routes {
			if o := Owner(r.Pattern); o != name {
				return nil, fault.New(fault.Internal, "route_owner", "%s serves %s %s, but the route table sends that path to %q.", name, r.Method, r.Pattern, o)
			}
			out = append(out, route{name, r})
		}
	}
	slices.SortFunc(out, func(a, b route) int { return strings.Compare(a.Pattern+a.Method, b.Pattern+b.Method) })
	return out, nil
}

// open reports whether anyone may call the path with the method, without a credential.
func (s *Service) open(method, path string) bool {
	return slices.ContainsFunc(s.routes, func(r route) bool { return r.Access.Anyone && r.Method == method && r.Pattern == path })
}
