package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"path/filepath"
	"time"

	"connectrpc.com/connect"

	"aran/api/gen/aran/guard/v1/guardv1connect"
	"aran/api/gen/aran/infer/v1/inferv1connect"
	"aran/api/gen/aran/search/v1/searchv1connect"
	pb "aran/api/gen/aran/user/v1"
	"aran/api/gen/aran/user/v1/userv1connect"
	"aran/api/openapi"
	"aran/app/handbook"
	"aran/platform/auth"
	"aran/platform/bus"
	"aran/platform/rpc"
	"aran/platform/run"
	"aran/platform/saga"
	"aran/platform/store"
	"aran/service/audit"
	"aran/service/chat"
	"aran/service/gateway"
	"aran/service/guard"
	"aran/service/infer"
	"aran/service/infer/minilm"
	"aran/service/notify"
	"aran/service/recommend"
	"aran/service/search"
	"aran/service/user"
)

// parts is what one service is built from. What it opens is closed in reverse when the process stops.
type parts struct {
	app    *App
	row    service
	dir    string
	log    *slog.Logger
	server rpc.Server
}

func (a *App) parts(row service) (*parts, error) {
	dir, err := a.data.service(row.name)
	if err != nil {
		return nil, err
	}
	p := &parts{app: a, row: row, dir: dir, log: a.log.With(slog.String("service", row.name))}
	p.server = rpc.Server{Service: row.name, Callers: callers(row.name), Log: p.log, Verifier: auth.NewVerifier(row.name, p.keys), State: a.Status}
	return p, nil
}

func (p *parts) store(ctx context.Context, migrations fs.FS) (*store.DB, error) {
	u, err := p.app.cfg.database(p.row.name, "")
	if err != nil {
		return nil, err
	}
	db, err := store.Open(ctx, store.Options{Service: p.row.name, Path: filepath.Join(p.dir, p.row.name+".db"), URL: u, Migrations: migrations, Log: p.log})
	if err != nil {
		return nil, err
	}
	p.app.opened = append(p.app.opened, run.Part{Name: p.row.name + " database", Stop: func(context.Context) error { return db.Close() }})
	return db, nil
}

// bus connects the service, and relays its outbox once everything is built.
func (p *parts) bus(ctx context.Context, db *store.DB) (*bus.Conn, error) {
	conn, err := bus.Connect(ctx, p.app.hub, p.row.name, p.log)
	if err != nil {
		return nil, err
	}
	p.app.opened = append(p.app.opened, run.Part{Name: p.row.name + " bus", Stop: conn.Close})
	p.app.keep(p.row.name, conn)
	if db != nil {
		p.app.relays = append(p.app.relays, run.Part{Name: p.row.name + " outbox", Start: func(ctx context.Context) error {
			return conn.Relay(context.WithoutCancel(ctx), db, p.app.data.unclean)
		}})
	}
	return conn, nil
}

// client is how a service calls another one.
func (p *parts) client(callee string) connect.HTTPClient {
	if err := mayCall(p.row.name, callee); err != nil {
		panic(err) // a bug in this package
	}
	return &http.Client{Transport: p.app.transport(p.row.name, callee)}
}

func address(callee string) string { return "http://" + callee }

func (p *parts) users() userv1connect.UserServiceClient {
	return userv1connect.NewUserServiceClient(p.client(identity), address(identity), rpc.ClientOptions(identity, nil)...)
}

func (p *parts) keys(ctx context.Context) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	r, err := p.users().Keys(ctx, &pb.KeysRequest{})
	return []byte(r.GetJwks()), err
}

// source exchanges the identity that the service was called with for one that its callee takes.
func (p *parts) source() auth.Source {
	return auth.NewSource(func(ctx context.Context, token string, g auth.Grant, audience string) (string, time.Duration, error) {
		req := &pb.ExchangeRequest{Audience: audience, From: &pb.ExchangeRequest_SubjectToken{SubjectToken: token}}
		if token == "" {
			req.From = &pb.ExchangeRequest_Grant{Grant: &pb.Grant{Tenant: g.Tenant, Subject: g.Subject, Scopes: g.Scopes}}
		}
		ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		t, err := p.users().Exchange(ctx, req)
		if err != nil {
			return "", 0, err
		}
		return t.GetToken(), time.Duration(t.GetExpiresIn()) * time.Second, nil
	})
}

func buildUser(ctx context.Context, p *parts) (instance, error) {
	db, err := p.store(ctx, user.Migrations)
	if err != nil {
		return instance{}, err
	}
	conn, err := p.bus(ctx, db)
	if err != nil {
		return instance{}, err
	}
	box, err := p.box(ctx)
	if err != nil {
		return instance{}, err
	}
	limits, err := p.app.limits(p.row.name)
	if err != nil {
		return instance{}, err
	}
	cfg := p.app.cfg.User
	cfg.OpenSignUp = cfg.SignUp == user.SignUpOpen || cfg.SignUp == user.SignUpLoopback && p.app.here(rpc.Gateway) && onLoopback(p.app.cfg.Gateway.Listen) && len(p.app.cfg.Gateway.TrustedProxies) == 0
	s, err := user.New(ctx, cfg, user.Deps{DB: db, Bus: conn, Box: box, Limits: limits, Server: p.server, Log: p.log, Health: p.app.health})
	if err != nil {
		return instance{}, err
	}
	return instance{s.Public(), s.Internal(), s.Start, s.Stop}, nil
}

func buildAudit(ctx context.Context, p *parts) (instance, error) {
	db, err := p.store(ctx, audit.Migrations)
	if err != nil {
		return instance{}, err
	}
	conn, err := p.bus(ctx, nil)
	if err != nil {
		return instance{}, err
	}
	box, err := p.box(ctx)
	if err != nil {
		return instance{}, err
	}
	s, err := audit.New(p.app.cfg.Audit, audit.Deps{DB: db, Bus: conn, Box: box, Server: p.server, Log: p.log, Health: p.app.health, Dir: p.dir})
	if err != nil {
		return instance{}, err
	}
	return instance{s.Public(), nil, s.Start, s.Stop}, nil
}

func buildNotify(ctx context.Context, p *parts) (instance, error) {
	db, err := p.store(ctx, notify.Migrations)
	if err != nil {
		return instance{}, err
	}
	conn, err := p.bus(ctx, db)
	if err != nil {
		return instance{}, err
	}
	box, err := p.box(ctx)
	if err != nil {
		return instance{}, err
	}
	s, err := notify.New(p.app.cfg.Notify, notify.Deps{DB: db, Bus: conn, Box: box, Server: p.server, Log: p.log, Health: p.app.health})
	if err != nil {
		return instance{}, err
	}
	return instance{s.Public(), nil, s.Start, s.Stop}, nil
}

func buildInfer(ctx context.Context, p *parts) (instance, error) {
	db, err := p.store(ctx, infer.Migrations)
	if err != nil {
		return instance{}, err
	}
	if _, err := p.bus(ctx, db); err != nil {
		return instance{}, err
	}
	s, err := infer.New(p.app.cfg.Infer, infer.Deps{DB: db, Server: p.server, Log: p.log, Health: p.app.health, Alone: len(p.app.rows) == 1})
	if err != nil {
		return instance{}, err
	}
	return instance{s.Public(), s.Internal(), s.Start, s.Stop}, nil
}

func buildGuard(ctx context.Context, p *parts) (instance, error) {
	db, err := p.store(ctx, guard.Migrations)
	if err != nil {
		return instance{}, err
	}
	if _, err := p.bus(ctx, db); err != nil {
		return instance{}, err
	}
	box, err := p.box(ctx)
	if err != nil {
		return instance{}, err
	}
	s, err := guard.New(p.app.cfg.Guard, guard.Deps{
		DB: db, Box: box, Server: p.server, Log: p.log, Health: p.app.health,
		Infer: inferv1connect.NewInferServiceClient(p.client("infer"), address("infer"), rpc.ClientOptions("infer", p.source())...),
	})
	if err != nil {
		return instance{}, err
	}
	return instance{s.Public(), s.Internal(), s.Start, s.Stop}, nil
}

func buildSearch(ctx context.Context, p *parts) (instance, error) {
	db, err := p.store(ctx, search.Migrations)
	if err != nil {
		return instance{}, err
	}
	conn, err := p.bus(ctx, db)
	if err != nil {
		return instance{}, err
	}
	sagas, err := saga.Open(ctx, db, p.row.name, search.Definitions, p.log)
	if err != nil {
		return instance{}, err
	}
	p.app.opened = append(p.app.opened, run.Part{Name: p.row.name + " sagas", Stop: sagas.Stop})
	if err := sagas.Succeed(p.dir); err != nil {
		return instance{}, err
	}
	encoder, err := minilm.Load()
	if err != nil {
		return instance{}, err
	}
	source := p.source()
	s, err := search.New(p.app.cfg.Search, search.Deps{
		DB: db, Bus: conn, Sagas: sagas, Server: p.server, Log: p.log,
		Guard: guardv1connect.NewGuardServiceClient(p.client("guard"), address("guard"), rpc.ClientOptions("guard", source)...),
		Infer: inferv1connect.NewInferServiceClient(p.client("infer"), address("infer"), rpc.ClientOptions("infer", source)...),
		Count: encoder.Tokenizer().Count, Packs: [][]byte{handbook.Pack()}, Dir: filepath.Join(p.dir, "vectors"), Cache: filepath.Join(p.dir, "search-pdf"),
	})
	if err != nil {
		return instance{}, err
	}
	p.app.health.Add("search: database", db.Ping)
	return instance{
		s.Public(), s.Internal(),
		func(ctx context.Context) error { return errors.Join(sagas.Launch(ctx), s.Start(ctx)) },
		func(ctx context.Context) error { return errors.Join(s.Stop(ctx), sagas.Rest(ctx)) },
	}, nil
}

func buildRecommend(ctx context.Context, p *parts) (instance, error) {
	db, err := p.store(ctx, recommend.Migrations)
	if err != nil {
		return instance{}, err
	}
	if _, err := p.bus(ctx, db); err != nil {
		return instance{}, err
	}
	box, err := p.box(ctx)
	if err != nil {
		return instance{}, err
	}
	s, err := recommend.New(p.app.cfg.Recommend, recommend.Deps{DB: db, Box: box, Server: p.server, Log: p.log, Health: p.app.health})
	if err != nil {
		return instance{}, err
	}
	return instance{s.Public(), nil, s.Start, s.Stop}, nil
}

func buildChat(ctx context.Context, p *parts) (instance, error) {
	db, err := p.store(ctx, chat.Migrations)
	if err != nil {
		return instance{}, err
	}
	if _, err := p.bus(ctx, db); err != nil {
		return instance{}, err
	}
	source := p.source()
	s, err := chat.New(p.app.cfg.Chat, chat.Deps{
		DB: db, Server: p.server, Log: p.log, Health: p.app.health,
		Search: searchv1connect.NewSearchServiceClient(p.client("search"), address("search"), rpc.ClientOptions("search", source)...),
		Guard:  guardv1connect.NewGuardServiceClient(p.client("guard"), address("guard"), rpc.ClientOptions("guard", source)...),
		Infer:  inferv1connect.NewInferServiceClient(p.client("infer"), address("infer"), rpc.ClientOptions("infer", source)...),
	})
	if err != nil {
		return instance{}, err
	}
	return instance{s.Public(), nil, s.Start, s.Stop}, nil
}

func buildGateway(ctx context.Context, p *parts) (instance, error) {
	conn, err := p.bus(ctx, nil)
	if err != nil {
		return instance{}, err
	}
	limits, err := p.app.limits(p.row.name)
	if err != nil {
		return instance{}, err
	}
	routes := map[string][]rpc.Route{}
	if err := json.Unmarshal(openapi.Routes, &routes); err != nil {
		return instance{}, fmt.Errorf("api/openapi/routes.json: %w", err)
	}
	upstreams := map[string]gateway.Upstream{}
	for name, served := range routes {
		p.app.fronts[name] = p.app.front(p.row.name, name)
		upstreams[name] = gateway.Upstream{Transport: p.app.fronts[name], Routes: served}
	}
	s, err := gateway.New(p.app.cfg.Gateway, gateway.Deps{
		Door: p.app.door, Bus: conn, Limits: limits, Users: p.users(), Upstreams: upstreams, OpenAPI: openapi.Document, Services: p.app.Overview, Health: p.app.health, Log: p.log,
	})
	if err != nil {
		return instance{}, err
	}
	return instance{start: s.Start, stop: s.Stop}, nil
}
