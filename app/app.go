// Package app knows every service: the table of them, how they are wired, and in which order they start and stop.
//
// It is the only package that does. It locks the data directory before it opens anything, builds every
// service, and only then lets them work.
package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"aran/platform/bus"
	"aran/platform/limit"
	"aran/platform/rpc"
	"aran/platform/run"
	"aran/platform/seal"
	"aran/platform/watch"
	"aran/service/gateway"
)

const (
	startTimeout = 60 * time.Second
	stopTimeout  = 10 * time.Second
)

// Options of a process.
type Options struct {
	Version  string
	Services []string // of Names
	Log      io.Writer
}

// App is a process's services. Make one with Open.
type App struct {
	cfg     *Config
	version string
	log     *slog.Logger
	rows    []service

	data       *dataDir
	telemetry  *watch.Telemetry
	health     *watch.Health
	keyring    *seal.Keyring
	hub        bus.Hub
	limits     func(service string) (limit.Limiter, error)
	notes      map[string]func(ctx context.Context) error // what is watched, but not needed to be ready
	door       *gateway.Door
	identities map[string]*rpc.Identity
	mesh       *rpc.Mesh // nil when no other process calls
	fronts     map[string]http.RoundTripper
	operator   *http.Server

	opened []run.Part // what was opened, closed in reverse
	relays []run.Part
	group  *run.Group

	mu     sync.Mutex // what is shown while it is still being built
	conns  map[string]*bus.Conn
	built  map[string]instance
	took   map[string]time.Duration // to open and build
	locals []*rpc.Local
}

// Open builds the services. Nothing works yet. What is away (databases) is waited for until ctx ends; the public
// address answers meanwhile that the platform is starting. When it fails, everything that was opened is closed again.
func Open(ctx context.Context, cfg *Config, o Options) (_ *App, err error) {
	rows, err := cfg.choose(o.Services)
	if err != nil {
		return nil, err
	}
	log, err := cfg.Watch.Logger(o.Log)
	if err != nil {
		return nil, err
	}
	a := &App{
		cfg: cfg, version: o.Version, log: log, rows: rows, health: &watch.Health{}, notes: map[string]func(context.Context) error{}, identities: map[string]*rpc.Identity{}, fronts: map[string]http.RoundTripper{},
		conns: map[string]*bus.Conn{}, built: map[string]instance{}, took: map[string]time.Duration{}, group: run.New(log, startTimeout, stopTimeout),
	}
	if a.data, err = openData(cfg.Data.Dir); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, a.closeAll(context.WithoutCancel(ctx)), a.data.release(!a.data.unclean))
		}
	}()
	if err := a.addresses(ctx); err != nil {
		return nil, err
	}
	if err := a.foundation(ctx); err != nil {
		return nil, err
	}
	for _, row := range rows {
		if err := a.build(ctx, row); err != nil {
			return nil, err
		}
	}
	return a, a.joinMesh(ctx)
}

func (a *App) build(ctx context.Context, row service) error {
	begin := time.Now()
	p, err := a.parts(row)
	if err != nil {
		return err
	}
	in, err := row.build(ctx, p)
	if err != nil {
		return fmt.Errorf("%s: %w", row.name, err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.built[row.name], a.took[row.name] = in, time.Since(begin)
	return nil
}

// addresses opens where this process is asked, so that one that is taken is found before anything else.
func (a *App) addresses(ctx context.Context) (err error) {
	if a.telemetry, err = watch.Start(ctx, a.cfg.Watch, a.version, a.log); err != nil {
		return err
	}
	a.opened = append(a.opened, run.Part{Name: "telemetry", Stop: a.telemetry.Close})
	if a.here(rpc.Gateway) {
		if a.door, err = gateway.Open(ctx, a.cfg.Gateway, a.log.With(slog.String("service", rpc.Gateway))); err != nil {
			return err
		}
		a.opened = append(a.opened, run.Part{Name: "public address", Stop: a.door.Close})
	}
	return a.listenOperator(ctx)
}

// foundation opens what all services stand on.
func (a *App) foundation(ctx context.Context) (err error) {
	if a.keyring, err = seal.Local(a.cfg.Data.Keyring); err != nil {
		return err
	}
	if err := a.openMesh(ctx); err != nil {
		return err
	}
	if err := a.openBus(ctx); err != nil {
		return err
	}
	return a.openLimits()
}

func (a *App) instance(name string) instance {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.built[name]
}

func (a *App) keep(service string, conn *bus.Conn) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.conns[service] = conn
}

// Start lets the services work, callees first; the edge opens last.
func (a *App) Start(ctx context.Context) error {
	for _, p := range a.relays {
		a.group.Add(p)
	}
	for _, row := range a.rows {
		in := a.instance(row.name)
		a.group.Add(run.Part{Name: row.name, Start: in.start, Stop: in.stop})
	}
	if a.mesh != nil {
		a.group.Add(run.Part{Name: "calls of other processes", Stop: a.mesh.Close}) // they end before what they call
	}
	if err := a.group.Start(ctx); err != nil {
		return errors.Join(err, a.finish(context.WithoutCancel(ctx), err))
	}
	a.health.Open()
	return nil
}

// Wait returns when ctx ends or a part fails.
func (a *App) Wait(ctx context.Context) error { return a.group.Wait(ctx) }

// Stop ends everything in order.
func (a *App) Stop(ctx context.Context) error {
	a.health.Drain()
	err := a.group.Stop(ctx)
	return errors.Join(err, a.finish(ctx, err))
}

func (a *App) finish(ctx context.Context, failed error) error {
	a.mu.Lock()
	locals := a.locals
	a.mu.Unlock()
	waitCtx, cancel := context.WithTimeout(ctx, stopTimeout)
	defer cancel()
	var errs []error
	for _, l := range locals {
		errs = append(errs, l.Wait(waitCtx))
	}
	errs = append(errs, a.closeAll(ctx))
	err := errors.Join(errs...)
	return errors.Join(err, a.data.release(err == nil && failed == nil))
}

func (a *App) closeAll(ctx context.Context) error {
	var errs []error
	if a.operator != nil {
		errs = append(errs, a.operator.Close())
	}
	for _, v := range slices.Backward(a.opened) {
		ctx, cancel := context.WithTimeout(ctx, stopTimeout)
		if err := v.Stop(ctx); err != nil {
			errs = append(errs, fmt.Errorf("close %s: %w", v.Name, err))
		}
		cancel()
	}
	a.opened = nil
	return errors.Join(errs...)
}

// Services lists what runs here, in start order.
func (a *App) Services() []string {
	var out []string
	for _, r := range a.rows {
		out = append(out, r.name)
	}
	return out
}

// PublicAddress is where the gateway listens; empty when it does not run here.
func (a *App) PublicAddress() string {
	if a.door == nil {
		return ""
	}
	return a.door.Address()
}

// OpenAPI is the public document of the services here, merged from what their handlers serve.
func (a *App) OpenAPI() ([]byte, error) {
	parts := map[string]*huma.OpenAPI{}
	for name, in := range a.built {
		if in.public != nil {
			parts[name] = in.public.OpenAPI()
		}
	}
	return rpc.Merge("Aran", apiVersion, parts)
}

// apiVersion is the public API's, not the program's.
const apiVersion = "1"

// Route is a served route and who serves it.
type Route struct {
	Service string
	rpc.Route
}

// Routes lists what is served to the outside, from the handlers themselves.
func (a *App) Routes() []Route {
	var out []Route
	for _, row := range a.rows {
		if in := a.built[row.name]; in.public != nil {
			for _, r := range in.public.Routes() {
				out = append(out, Route{row.name, r})
			}
		}
	}
	if a.door != nil {
		for _, r := range gateway.OwnRoutes() {
			out = append(out, Route{rpc.Gateway, r})
		}
	}
	return out
}

// Internal is a service's Internal handler, for tests that replay public credentials against it; nil when it has none.
func (a *App) Internal(name string) http.Handler { return a.built[name].internal }

// ModelLines say which models answer, for a person at a terminal.
func (a *App) ModelLines() []string {
	if _, here := a.built["chat"]; !here {
		return nil
	}
	return modelLines(a.cfg)
}

// shorten is for lines on a terminal.
func shorten(names []string) string { return strings.Join(names, ", ") }
