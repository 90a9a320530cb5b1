package app

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"path/filepath"
	"strings"

	"aran/platform/bus"
	"aran/platform/limit"
	"aran/platform/outward"
	"aran/platform/redis"
	"aran/platform/run"
	"aran/platform/seal"
	"aran/platform/secret"
	"aran/service/audit/ledger"
	"aran/service/search"
)

// StoreConfig says where the services' databases are.
type StoreConfig struct {
	URL         secret.String `yaml:"url" doc:"PostgreSQL database of each service, with {service} for its name: postgres://aran_{service}@host:5432/aran_{service}?sslmode=verify-full; its keys are in the database of that name with _keys behind it; empty: files in the data directory"`
	Password    string        `yaml:"password" doc:"reference to the role's password: file:/run/aran/{service}/database.password or env:NAME; empty: none, or in the URL"`
	UnsafePlain bool          `yaml:"unsafe_plain" doc:"allow PostgreSQL on other machines without a checked certificate: documents travel in the clear"`
}

// BusConfig says where events go.
type BusConfig struct {
	URL         secret.String `yaml:"url" doc:"NATS servers: nats://host:4222 or tls://host:4222, several with commas; empty: a server in this process"`
	Password    string        `yaml:"password" doc:"reference to the password of the user that is called like the service: file:/run/aran/{service}/bus.password or env:NAME; empty: none"`
	Replicas    int           `yaml:"replicas" doc:"NATS servers that keep each event, 1 to 5; at most as many as there are"`
	UnsafePlain bool          `yaml:"unsafe_plain" doc:"allow nats:// to other machines: events and passwords travel in the clear"`
}

// perService replaces {service} in a setting that is the same for all services but for their name.
func perService(setting, service string) string {
	return strings.ReplaceAll(setting, "{service}", service)
}

// database is the URL of a service's database; suffix is "" or "_keys". Empty: a file.
func (c *Config) database(service, suffix string) (secret.String, error) {
	if c.Store.URL.Empty() {
		return secret.String{}, nil
	}
	u, err := c.storeURL(service)
	if err != nil {
		return secret.String{}, err
	}
	u.Path += suffix
	if c.Store.Password != "" {
		p, err := secret.Resolve(perService(c.Store.Password, service))
		if err != nil {
			return secret.String{}, fmt.Errorf("store.password: %w", err)
		}
		u.User = url.UserPassword(u.User.Username(), p.Reveal())
	}
	return secret.New(u.String()), nil
}

// storeURL is the address of a service's database as it is set, without what store.password refers to.
func (c *Config) storeURL(service string) (*url.URL, error) {
	u, err := url.Parse(perService(c.Store.URL.Reveal(), service))
	if err != nil || u.Scheme != "postgres" && u.Scheme != "postgresql" || u.Path == "" {
		return nil, errStoreURL // the cause would show a password
	}
	return u, nil
}

// AuditLog is where the log of decisions is kept.
func (c *Config) AuditLog() (ledger.Place, error) {
	u, err := c.database("audit", "")
	return ledger.Place{Dir: c.Data.Dir, URL: u}, err
}

// checkBackends refuses what could not work together.
func (c *Config) checkBackends() error {
	if err := errors.Join(c.checkStore(), c.checkBus()); err != nil {
		return err
	}
	if !c.Store.URL.Empty() && c.Bus.URL.Empty() {
		return errors.New("store.url is set and bus.url is not: replicas that share databases must share the bus; set bus.url to a NATS server")
	}
	if c.Search.Vectors == search.VectorsPgvector && c.Store.URL.Empty() {
		return errors.New("search.vectors is pgvector and store.url is not set: pgvector is an extension of PostgreSQL; set store.url, or search.vectors to memory")
	}
	return nil
}

// checkStore reads the URL of the databases. It opens no password: a process may read that of its own services only.
func (c *Config) checkStore() error {
	if c.Store.URL.Empty() {
		return nil
	}
	u, err := c.storeURL(identity)
	if err != nil {
		return err
	}
	if !strings.Contains(c.Store.URL.Reveal(), "{service}") {
		return errors.New("store.url has no {service} in it: each service has a database of its own")
	}
	mode := u.Query().Get("sslmode")
	if !outward.Loopback(u.Hostname()) && mode != "verify-full" && mode != "verify-ca" && !c.Store.UnsafePlain {
		return errors.New("store.url leads to another machine without sslmode=verify-full: add it (and sslrootcert=FILE), or set store.unsafe_plain")
	}
	return nil
}

// checkBus reads the addresses of NATS servers.
func (c *Config) checkBus() error {
	for server := range strings.SplitSeq(c.Bus.URL.Reveal(), ",") {
		if c.Bus.URL.Empty() {
			break
		}
		u, err := url.Parse(strings.TrimSpace(server))
		if err != nil || u.Scheme != "nats" && u.Scheme != "tls" || u.Hostname() == "" {
			return errors.New("bus.url cannot be read: use nats://host:4222 or tls://host:4222, several with commas")
		}
		if u.Scheme == "nats" && !outward.Loopback(u.Hostname()) && !c.Bus.UnsafePlain {
			return errors.New("bus.url is nats:// to another machine: use tls://, or set bus.unsafe_plain")
		}
	}
	return nil
}

var errStoreURL = errors.New("store.url cannot be read: use postgres://aran_{service}@host:5432/aran_{service}?sslmode=verify-full")

// openBus starts a server in this process, or finds out about the one elsewhere.
func (a *App) openBus(ctx context.Context) error {
	log := a.log.With(slog.String("part", "bus"))
	if a.cfg.Bus.URL.Empty() {
		s, err := bus.StartServer(ctx, filepath.Join(a.data.path, "bus"), log)
		if err != nil {
			return err
		}
		a.hub = s
		a.opened = append(a.opened, run.Part{Name: "bus", Stop: s.Stop})
		return nil
	}
	o := bus.RemoteOptions{URL: a.cfg.Bus.URL.Reveal(), Replicas: a.cfg.Bus.Replicas, Log: log}
	if a.cfg.Bus.Password != "" {
		o.Login = func(service string) (secret.String, error) {
			p, err := secret.Resolve(perService(a.cfg.Bus.Password, service))
			if err != nil {
				return secret.String{}, fmt.Errorf("bus.password: %w", err)
			}
			return p, nil
		}
	}
	if strings.Contains(a.cfg.Bus.URL.Reveal(), "tls://") && a.cfg.Mesh.Certificates != "" {
		o.TLS = func(service string) (*tls.Config, error) { return a.clientTLS(service) }
	}
	r, err := bus.OpenRemote(o)
	if err != nil {
		return err
	}
	a.hub = r
	a.trimBus(ctx, r)
	return a.holdLeases(ctx, r)
}

// recorder has seen every event when its own consumer has: it may remove what everybody is done with.
const recorder = "audit"

// trimBus keeps the remote streams small, where the recorder runs.
func (a *App) trimBus(ctx context.Context, r *bus.Remote) {
	if !a.here(recorder) {
		return
	}
	life, end := context.WithCancel(context.WithoutCancel(ctx))
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := r.Trim(life, recorder); err != nil {
			a.log.LogAttrs(life, slog.LevelWarn, "bus not trimmed", slog.String("error", err.Error()))
		}
	}()
	a.opened = append(a.opened, run.Part{Name: "bus trimming", Stop: func(context.Context) error { end(); <-done; return nil }})
}

// holdLeases keeps a second process from running a service whose database is a file of this one.
func (a *App) holdLeases(ctx context.Context, r *bus.Remote) error {
	if !a.cfg.Store.URL.Empty() {
		return nil
	}
	for _, row := range a.rows {
		if !row.stores {
			continue
		}
		release, err := r.Hold(ctx, row.name, func(err error) { a.group.Fail("lease of "+row.name, err) })
		if err != nil {
			return err
		}
		a.opened = append(a.opened, run.Part{Name: row.name + " lease", Stop: func(context.Context) error { release(); return nil }})
	}
	return nil
}

// openLimits opens what counts requests: shared by replicas through Redis, or in this process.
func (a *App) openLimits() error {
	if a.cfg.Redis.URL.Empty() {
		a.limits = func(string) (limit.Limiter, error) { return limit.NewMemory(a.cfg.Limit.MaxKeys), nil }
		return nil
	}
	client, err := redis.Open(a.cfg.Redis, a.log.With(slog.String("part", "redis")))
	if err != nil {
		return err
	}
	a.opened = append(a.opened, run.Part{Name: "redis", Stop: func(context.Context) error { return client.Close() }})
	a.notes["redis"] = client.Ping
	a.limits = func(service string) (limit.Limiter, error) {
		return limit.NewShared(limit.NewRedis(client, service), a.cfg.Limit, a.log)
	}
	return nil
}

func (p *parts) box(ctx context.Context) (*seal.Box, error) {
	u, err := p.app.cfg.database(p.row.name, "_keys")
	if err != nil {
		return nil, err
	}
	var box *seal.Box
	if u.Empty() {
		box, err = seal.Open(ctx, p.app.keyring, p.row.name, filepath.Join(p.dir, "keys.db"))
	} else {
		box, err = seal.OpenURL(ctx, p.app.keyring, p.row.name, u, p.log)
	}
	if err != nil {
		return nil, err
	}
	p.app.opened = append(p.app.opened, run.Part{Name: p.row.name + " keys", Stop: func(context.Context) error { return box.Close() }})
	return box, nil
}
