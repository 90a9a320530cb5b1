package bus

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/mod/semver"

	"aran/platform/fault"
	"aran/platform/secret"
)

// Hub is where events go: a Server in this process, or a Remote one.
type Hub interface {
	dial(service string, opts ...nats.Option) (*nats.Conn, error)
	// prepare makes what is missing at the hub.
	prepare(ctx context.Context, js jetstream.JetStream) error
	// remembers reports whether the hub lives and dies with this process, which then knows what it may have forgotten.
	remembers() bool
}

func (s *Server) dial(service string, opts ...nats.Option) (*nats.Conn, error) {
	return nats.Connect("", append(opts, nats.InProcessServer(s.ns), nats.Name(service), nats.MaxReconnects(-1))...)
}

func (s *Server) prepare(context.Context, jetstream.JetStream) error { return nil } // done at its start

func (s *Server) remembers() bool { return true }

// RemoteOptions say where a NATS server or cluster is, and how to be let in.
type RemoteOptions struct {
	URL      string                                      // nats:// or tls://, several with commas
	Login    func(service string) (secret.String, error) // password of the user that is called like the service; nil: none
	TLS      func(service string) (*tls.Config, error)   // nil: as the URL says, with the system's authorities
	Replicas int                                         // of each stream, 1 to 5; 0 means 1
	Log      *slog.Logger
}

// Remote is a NATS server or cluster that runs elsewhere. It may be away at any time.
type Remote struct{ o RemoteOptions }

// OpenRemote checks the options; nothing is connected yet.
func OpenRemote(o RemoteOptions) (*Remote, error) {
	if o.URL == "" {
		return nil, errors.New("bus: no URL of a NATS server")
	}
	if o.Replicas == 0 {
		o.Replicas = 1
	}
	if o.Replicas < 1 || o.Replicas > 5 {
		return nil, fmt.Errorf("bus: %d replicas of a stream; use 1 to 5", o.Replicas)
	}
	return &Remote{o}, nil
}

const (
	dialTimeout   = 2 * time.Second
	reconnectWait = 500 * time.Millisecond
	pingEvery     = 5 * time.Second // a server that is silent for two of them is taken for gone
)

func (r *Remote) dial(service string, opts ...nats.Option) (*nats.Conn, error) {
	opts = append(opts, nats.Name(service), nats.CustomInboxPrefix(inbox(service)), nats.MaxReconnects(-1), nats.RetryOnFailedConnect(true), nats.Timeout(dialTimeout),
		nats.ReconnectWait(reconnectWait), nats.ReconnectJitter(reconnectWait/2, reconnectWait), nats.PingInterval(pingEvery), nats.MaxPingsOutstanding(2))
	if r.o.Login != nil {
		password, err := r.o.Login(service)
		if err != nil {
			return nil, err
		}
		opts = append(opts, nats.UserInfo(service, password.Reveal()))
	}
	if r.o.TLS != nil {
		c, err := r.o.TLS(service)
		if err != nil {
			return nil, err
		}
		opts = append(opts, nats.Secure(c))
	}
	return nats.Connect(r.o.URL, opts...)
}

// prepare makes the streams unless they are there: another version of the program may have made them in its way.
func (r *Remote) prepare(ctx context.Context, js jetstream.JetStream) error {
	if v := js.Conn().ConnectedServerVersion(); v != "" && !semver.IsValid("v"+v) || semver.Compare("v"+v, oldestServer) < 0 {
		return fmt.Errorf("the NATS server is version %s; %s or newer is needed", v, oldestServer[1:])
	}
	for _, c := range streams() {
		switch _, err := js.Stream(ctx, c.Name); {
		case err == nil:
			continue
		case !errors.Is(err, jetstream.ErrStreamNotFound):
			return fmt.Errorf("stream %s: %w", c.Name, err)
		}
		c.Replicas = r.o.Replicas
		if _, err := js.CreateStream(ctx, c); err != nil && !errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) {
			return fmt.Errorf("stream %s: %w", c.Name, err)
		}
	}
	return nil
}

const oldestServer = "v2.10.0" // the first whose consumers have several filters

func (r *Remote) remembers() bool { return false }

// Trim keeps the streams small, as the embedded server does for itself, until ctx ends. Any number may do so.
func (r *Remote) Trim(ctx context.Context, service string) error {
	nc, err := r.dial(service)
	if err != nil {
		return fmt.Errorf("trim the bus: %w", err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		return fmt.Errorf("trim the bus: %w", err)
	}
	trimLoop(ctx, js, r.o.Log)
	return nil
}

// Leases: a service whose database is its own file must not run twice on one bus, for the two would know different things.
const (
	leaseBucket = "ARAN_LEASES"
	leaseFor    = 10 * time.Second
	leaseRenew  = 3 * time.Second
)

// Hold takes the lease of a service, waiting for one that lapses. It is renewed until the release is called; lost is
// called when that fails for longer than the lease. When another process keeps it, that is a fault.Conflict.
func (r *Remote) Hold(ctx context.Context, service string, lost func(error)) (release func(), err error) {
	nc, err := r.dial(service)
	if err != nil {
		return nil, err
	}
	l := &lease{nc: nc, service: service, holder: uuid.NewString(), lost: lost}
	if err := l.take(ctx); err != nil {
		nc.Close()
		return nil, err
	}
	life, end := context.WithCancel(context.WithoutCancel(ctx))
	l.done.Go(func() { l.renew(life) })
	return func() {
		end()
		l.done.Wait()
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), dialTimeout)
		defer cancel()
		_ = l.kv.Delete(ctx, service, jetstream.LastRevision(l.revision)) // else it lapses
		nc.Close()
	}, nil
}

type lease struct {
	nc              *nats.Conn
	kv              jetstream.KeyValue
	service, holder string
	revision        uint64
	lost            func(error)
	done            sync.WaitGroup
}

func (l *lease) take(ctx context.Context) error {
	js, err := jetstream.New(l.nc)
	if err != nil {
		return err
	}
	tick := time.NewTicker(leaseRenew / 3)
	defer tick.Stop()
	var held time.Time // since when we see another one hold it
	for {
		err := l.try(ctx, js)
		if err == nil {
			return nil
		}
		if !errors.Is(err, jetstream.ErrKeyExists) {
			held = time.Time{} // the bus is away: nothing is known
		} else if held.IsZero() {
			held = time.Now()
		} else if time.Since(held) > leaseFor+leaseRenew {
			return fault.New(fault.Conflict, "second_replica", "Another process runs %s on this bus, and its database is a file that replicas cannot share: stop that one, or set store.url for both.", l.service)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("lease of %s: %w", l.service, ctx.Err()), err)
		}
	}
}

func (l *lease) try(ctx context.Context, js jetstream.JetStream) (err error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	if l.kv == nil {
		l.kv, err = js.KeyValue(ctx, leaseBucket)
		if errors.Is(err, jetstream.ErrBucketNotFound) {
			l.kv, err = js.CreateKeyValue(ctx, jetstream.KeyValueConfig{Bucket: leaseBucket, TTL: leaseFor, MaxBytes: 1 << 20})
		}
		if err != nil {
			l.kv = nil
			return err
		}
	}
	l.revision, err = l.kv.Create(ctx, l.service, []byte(l.holder))
	return err
}

func (l *lease) renew(ctx context.Context) {
	tick := time.NewTicker(leaseRenew)
	defer tick.Stop()
	good := time.Now()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		call, cancel := context.WithTimeout(ctx, dialTimeout)
		revision, err := l.kv.Update(call, l.service, []byte(l.holder), l.revision)
		if err != nil { // lapsed, while the bus was away: it may still be free
			revision, err = l.kv.Create(call, l.service, []byte(l.holder))
		}
		cancel()
		switch {
		case err == nil:
			l.revision, good = revision, time.Now()
		case ctx.Err() != nil:
			return
		case errors.Is(err, jetstream.ErrKeyExists) && time.Since(good) > leaseFor:
			l.lost(fault.New(fault.Conflict, "second_replica", "Another process took over %s on this bus.", l.service).Because(err))
			return
		}
	}
}
