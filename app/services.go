package app

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"aran/app/secrets"
	"aran/platform/bus"
	"aran/platform/fault"
	"aran/platform/rpc"
)

// service is one row of the table from which everything about running services comes: start and stop
// order, who may call whom, and what `aran run` accepts.
type service struct {
	name string
	// calls lists the services whose Internal handler it may call. Calls are acyclic.
	// Every service may also ask user for tokens.
	calls []string
	// fronts says that it reaches every Public handler: only the gateway does.
	fronts bool
	// works names its work subscriptions: nobody else may touch them at the bus.
	works []string
	// stores says that it has a database of its own.
	stores bool
	// singleton: at most one replica works at a time.
	singleton bool
	build     func(ctx context.Context, p *parts) (instance, error)
}

// instance is a built service. Public and internal are nil when it has none.
type instance struct {
	public      *rpc.Public
	internal    http.Handler
	start, stop func(ctx context.Context) error
}

// identity is the service that everybody may ask for tokens, and that asks nobody.
const identity = "user"

// table lists the services, callees before their callers: this is the start order, and reversed the stop order.
func table() []service {
	return []service{
		{name: identity, stores: true, build: buildUser},
		{name: "audit", works: []string{"log"}, stores: true, build: buildAudit},
		{name: "notify", works: []string{"webhooks"}, stores: true, build: buildNotify},
		{name: "infer", stores: true, build: buildInfer},
		{name: "guard", stores: true, calls: []string{"infer"}, build: buildGuard},
		{name: "search", works: []string{"ingest"}, stores: true, calls: []string{"guard", "infer"}, build: buildSearch},
		{name: "recommend", stores: true, build: buildRecommend},
		{name: "chat", stores: true, calls: []string{"search", "guard", "infer"}, build: buildChat},
		{name: "gateway", calls: []string{}, fronts: true, build: buildGateway},
	}
}

// Names lists every service in start order.
func Names() []string {
	var out []string
	for _, s := range table() {
		out = append(out, s.name)
	}
	return out
}

// Storing lists the services that have a database of their own.
func Storing() []string {
	var out []string
	for _, s := range table() {
		if s.stores {
			out = append(out, s.name)
		}
	}
	return out
}

// Known returns the names given, or all when there are none. It refuses what is no service.
func Known(names []string) ([]string, error) {
	if len(names) == 0 {
		return Names(), nil
	}
	for _, n := range names {
		if !slices.Contains(Names(), n) {
			return nil, fault.New(fault.Invalid, "unknown_service", "There is no service %q; there are %s.", n, strings.Join(Names(), ", "))
		}
	}
	return names, nil
}

// Parties lists what services need at the stores that they share with other processes; no names mean all of them.
func Parties(names []string) ([]secrets.Party, error) {
	names, err := Known(names)
	if err != nil {
		return nil, err
	}
	var out []secrets.Party
	for _, s := range table() {
		if !slices.Contains(names, s.name) {
			continue
		}
		p := secrets.Party{Name: s.name, Stores: s.stores, Edge: s.fronts, Foreign: foreign(s.name)}
		switch {
		case s.name == recorder:
			p.Roles = []bus.Role{bus.RoleRecorder}
		case s.fronts: // the administrator's commands arrive there
			p.Roles = []bus.Role{bus.RoleReplayer}
		}
		out = append(out, p)
	}
	return out, nil
}

// foreign lists the durable names of all work subscriptions but those of a service.
func foreign(name string) (out []string) {
	for _, s := range table() {
		for _, w := range s.works {
			if s.name != name {
				out = append(out, bus.Durable(s.name, w))
			}
		}
	}
	return out
}

// callers lists who may call the Internal handler of a service.
func callers(name string) []string {
	var out []string
	for _, s := range table() {
		if slices.Contains(s.calls, name) || name == identity {
			out = append(out, s.name)
		}
	}
	return out
}

// choose returns the rows of the named services in start order. What they call must be among them, or there must be a
// way to the processes that run it.
func (c *Config) choose(names []string) ([]service, error) {
	var out []service
	if _, err := Known(names); err != nil {
		return nil, err
	}
	for _, s := range table() {
		if !slices.Contains(names, s.name) {
			continue
		}
		for _, need := range append([]string{identity}, s.calls...) {
			if need != s.name && !slices.Contains(names, need) && c.Mesh.Certificates == "" {
				return nil, fault.New(fault.Invalid, "service_missing", "%s calls %s, which is not among the services to run; add it, or set mesh.certificates to reach it in another process.", s.name, need)
			}
		}
		out = append(out, s)
	}
	return out, nil
}

// mayCall refuses a client for a call that the table does not list.
func mayCall(caller, callee string) error {
	if !slices.Contains(callers(callee), caller) {
		return fmt.Errorf("the table does not let %s call %s", caller, callee)
	}
	return nil
}
