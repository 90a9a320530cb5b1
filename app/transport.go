package app

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http"

	"aran/platform/fault"
	"aran/platform/rpc"
	"aran/platform/run"
)

// MeshConfig says how services reach each other across processes: over mutual TLS with SPIFFE identities.
type MeshConfig struct {
	Listen       string            `yaml:"listen" doc:"address where this process's services are reached by others: 0.0.0.0:7443; empty: by nobody"`
	Services     map[string]string `yaml:"services" doc:"address of each service that another process runs: user=host:7443; what is not here is at SERVICE:7443"`
	Certificates string            `yaml:"certificates" doc:"directory with SERVICE/svid.pem, SERVICE/svid.key and SERVICE/bundle.pem, renewed in place by aran ca or by another authority's helper; empty: no other processes"`
	TrustDomain  string            `yaml:"trust_domain" doc:"SPIFFE trust domain: a service is spiffe://DOMAIN/service/NAME"`
}

const meshPort = "7443"

// LoadMesh reads the settings of the mesh, for `aran ca`. certificates and trustDomain override
// them unless they are empty.
func LoadMesh(file, certificates, trustDomain string) (MeshConfig, error) {
	set := map[string]string{}
	if certificates != "" {
		set["mesh.certificates"] = certificates
	}
	if trustDomain != "" {
		set["mesh.trust_domain"] = trustDomain
	}
	c, err := Load(file, set)
	if err != nil {
		return MeshConfig{}, err
	}
	return c.Mesh, nil
}

func (c *Config) checkMesh() error {
	switch {
	case c.Mesh.Listen != "" && c.Mesh.Certificates == "":
		return errors.New("mesh.listen is set and mesh.certificates is not: services show each other certificates; make them with `aran ca`")
	case c.Mesh.Certificates != "" && c.Mesh.TrustDomain == "":
		return errors.New("mesh.trust_domain is empty: use a name such as aran.local")
	}
	return nil
}

// transport reaches the Internal handler of a service, here or in another process.
func (a *App) transport(caller, callee string) http.RoundTripper {
	if a.here(callee) {
		return a.local(caller, a.late(callee, func(in instance) http.Handler { return in.internal }))
	}
	return a.far(caller, callee, rpc.KindInternal)
}

// front is how the gateway reaches a Public handler.
func (a *App) front(caller, callee string) http.RoundTripper {
	if a.here(callee) {
		return a.local(caller, a.late(callee, func(in instance) http.Handler { return in.public }))
	}
	return a.far(caller, callee, rpc.KindPublic)
}

func (a *App) here(name string) bool {
	for _, r := range a.rows {
		if r.name == name {
			return true
		}
	}
	return false
}

// late looks the handler up when it is called: the identity authority is asked by services that are built before it is known here.
func (a *App) late(callee string, pick func(in instance) http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if h := pick(a.instance(callee)); h != nil {
			h.ServeHTTP(w, r)
			return
		}
		rpc.Problem(w, r, fault.New(fault.Unavailable, "starting", "The service is starting."))
	})
}

func (a *App) local(caller string, h http.Handler) http.RoundTripper {
	l := rpc.InProcess(caller, h)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.locals = append(a.locals, l)
	return l
}

// openMesh loads the identities of the services here.
func (a *App) openMesh(ctx context.Context) error {
	if a.cfg.Mesh.Certificates == "" {
		return nil
	}
	for _, row := range a.rows {
		id, err := rpc.OpenIdentity(ctx, a.cfg.Mesh.Certificates, row.name, a.cfg.Mesh.TrustDomain, a.log)
		if err != nil {
			return err
		}
		a.identities[row.name] = id
		a.opened = append(a.opened, run.Part{Name: row.name + " identity", Stop: func(context.Context) error { return id.Close() }})
	}
	return nil
}

// joinMesh opens the address for other processes. It is open before anything works: services wait for each other.
func (a *App) joinMesh(ctx context.Context) error {
	if a.cfg.Mesh.Listen == "" {
		return nil
	}
	m, err := rpc.NewMesh(a.cfg.Mesh.TrustDomain, a.log.With(slog.String("part", "mesh")))
	if err != nil {
		return err
	}
	for _, row := range a.rows {
		in := a.instance(row.name)
		if in.internal != nil {
			m.Add(a.identities[row.name], rpc.KindInternal, callers(row.name), in.internal)
		}
		if in.public != nil {
			m.Add(a.identities[row.name], rpc.KindPublic, []string{rpc.Gateway}, in.public)
		}
	}
	if err := m.Listen(ctx, a.cfg.Mesh.Listen); err != nil {
		return err
	}
	a.mesh = m
	a.opened = append(a.opened, run.Part{Name: "mesh", Stop: m.Close}) // again, for a start that fails
	return nil
}

// far reaches a handler of a service in another process.
func (a *App) far(caller, callee string, k rpc.Kind) http.RoundTripper {
	address := a.cfg.Mesh.Services[callee]
	if address == "" {
		address = net.JoinHostPort(callee, meshPort)
	}
	f := rpc.Dial(a.identities[caller], callee, k, address)
	a.opened = append(a.opened, run.Part{Name: caller + " to " + callee, Stop: func(context.Context) error { f.Close(); return nil }})
	return f
}

// clientTLS shows a service's identity to a server that is none of ours.
func (a *App) clientTLS(service string) (*tls.Config, error) {
	id := a.identities[service]
	if id == nil {
		return nil, errNoCertificates
	}
	return id.ClientTLS(), nil
}

var errNoCertificates = fault.New(fault.Invalid, "mesh", "mesh.certificates is not set.")
