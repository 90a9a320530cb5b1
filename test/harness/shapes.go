package harness

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"aran/app"
	"aran/platform/auth/ca"
	"aran/test/balancer"
)

// Platform is a running platform of one of the shapes, as its user sees it: an address and the administrator's key.
type Platform struct {
	Client
	Processes []*Process // callees first
	Parts     *Parts     // nil in one process
	Balancer  *balancer.Balancer

	tb testing.TB
}

// Shape is a way to run the same services.
type Shape struct {
	Name string
	Open func(tb testing.TB, env ...string) *Platform // env is added to the settings of each process
}

// Shapes are all of them.
func Shapes() []Shape {
	return []Shape{{"one process", One}, {"two replicas", Two}, {"nine processes", Apart}}
}

const startWithin = 90 * time.Second

// One is `aran up`.
func One(tb testing.TB, env ...string) *Platform {
	tb.Helper()
	p := Start(tb, Options{Env: env})
	return &Platform{Client: p.Client, Processes: []*Process{p}, tb: tb}
}

// Two is two processes with every service, on shared servers and behind a balancer. Both start at once on empty databases.
func Two(tb testing.TB, env ...string) *Platform {
	tb.Helper()
	return TwoOf(tb, "", env...)
}

// TwoOf is Two with a binary of one's choice; empty: bin/aran.
func TwoOf(tb testing.TB, binary string, env ...string) *Platform {
	tb.Helper()
	parts := StartParts(tb, storing())
	env = append(parts.Env(), append([]string{"ARAN_GATEWAY_TRUSTED_PROXIES=127.0.0.1", "ARAN_USER_SIGN_UP=open", "ARAN_DATA_KEYRING=" + filepath.Join(tb.TempDir(), "shared", "keyring.key")}, env...)...)
	s := &Platform{Parts: parts, tb: tb}
	var urls []string
	for range 2 {
		p := Launch(tb, Options{Binary: binary, Env: env})
		s.Processes = append(s.Processes, p)
		urls = append(urls, p.URL)
	}
	s.balance(urls)
	s.AwaitReady(startWithin)
	return s
}

func (s *Platform) balance(urls []string) {
	s.tb.Helper()
	b, err := balancer.New(context.WithoutCancel(s.tb.Context()), urls...)
	if err != nil {
		s.tb.Fatal(err)
	}
	server := httptest.NewServer(b)
	s.tb.Cleanup(func() { server.CloseClientConnections(); server.Close(); b.Close() })
	s.Balancer, s.URL = b, server.URL
}

// certificateLife is short, so that certificates are renewed while the suites run.
const certificateLife = 20 * time.Second

// Apart is every service as a process of its own, with its own database, role, keyring and certificate.
func Apart(tb testing.TB, env ...string) *Platform {
	tb.Helper()
	return ApartOf(tb, "", env...)
}

// ApartOf is Apart with a binary of one's choice; empty: bin/aran.
func ApartOf(tb testing.TB, binary string, env ...string) *Platform {
	tb.Helper()
	s := LayApart(tb, binary, env...)
	for _, p := range s.Processes {
		p.Again()
	}
	s.AwaitReady(startWithin)
	return s
}

// LayApart prepares what ApartOf starts: the servers run, the services do not yet. In env, {service} is the service's name.
func LayApart(tb testing.TB, binary string, env ...string) *Platform {
	tb.Helper()
	s := &Platform{Parts: StartParts(tb, storing()), tb: tb}
	certificates := filepath.Join(tb.TempDir(), "certificates")
	authority(tb, certificates)
	addresses, listen := map[string]string{}, map[string]string{}
	var table []string
	for _, name := range app.Names() {
		listen[name] = "127.0.0.1:" + Port(tb)
		addresses[name] = listen[name]
		table = append(table, fmt.Sprintf("%s: %q", name, listen[name]))
	}
	for _, name := range app.Names() {
		own := append(s.Parts.Env(), "ARAN_MESH_LISTEN="+listen[name], "ARAN_MESH_SERVICES={"+strings.Join(table, ", ")+"}", "ARAN_MESH_CERTIFICATES="+certificates,
			"ARAN_USER_SIGN_UP=open")
		for _, e := range env {
			own = append(own, strings.ReplaceAll(e, "{service}", name))
		}
		p := Lay(tb, Options{Binary: binary, Services: []string{name}, Env: own})
		s.Processes = append(s.Processes, p)
		if p.URL != "" {
			s.URL = p.URL
		}
	}
	return s
}

// authority issues certificates for all services, and renews them until the test ends.
func authority(tb testing.TB, out string) {
	tb.Helper()
	a, err := ca.Open(filepath.Join(tb.TempDir(), "ca"), "aran.local")
	if err != nil {
		tb.Fatal(err)
	}
	for _, name := range app.Names() {
		if err := a.Issue(out, name, certificateLife); err != nil {
			tb.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(tb.Context()))
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = a.Serve(ctx, out, app.Names(), certificateLife, slog.New(slog.DiscardHandler))
	}()
	tb.Cleanup(func() { cancel(); <-done })
}

// storing lists the services with a database.
func storing() []string { return app.Storing() }

// AwaitReady waits until every process is ready, and the balancer with them, and finds the administrator's key.
func (s *Platform) AwaitReady(within time.Duration) {
	s.tb.Helper()
	for _, p := range s.Processes {
		if err := p.Ready(within); err != nil && !errors.Is(err, os.ErrNotExist) {
			s.tb.Fatalf("%s: %v\n%s", p.Name(), err, tail(p.Output(), 6000))
		}
		if key, err := os.ReadFile(filepath.Join(p.Data, "admin.key")); err == nil {
			s.AdminKey = strings.TrimSpace(string(key))
		}
	}
	if s.Balancer != nil {
		Eventually(s.tb, within, "the balancer sees all replicas", func() bool { return s.Balancer.Ready() == len(s.Processes) })
	}
	if s.AdminKey == "" {
		s.tb.Fatal("no process wrote an administrator's key")
	}
}

// Of returns a process that runs a service.
func (s *Platform) Of(service string) *Process {
	s.tb.Helper()
	for _, p := range s.Processes {
		if len(p.o.Services) == 0 || slices.Contains(p.o.Services, service) {
			return p
		}
	}
	s.tb.Fatalf("no process runs %s", service)
	return nil
}

// Stop ends all processes in order, callers first, and says how long that took.
func (s *Platform) Stop() (took time.Duration, err error) {
	for _, p := range slices.Backward(s.Processes) {
		d, e := p.Stop()
		took, err = took+d, errors.Join(err, e)
	}
	return took, err
}

// Name says what runs in it.
func (p *Process) Name() string {
	if len(p.o.Services) == 0 {
		return "all services"
	}
	return strings.Join(p.o.Services, " ")
}
