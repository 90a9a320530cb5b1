// Package bus carries events between services on NATS JetStream, embedded or remote.
//
// It owns the way of an event from the outbox of one service (Relay) to the handlers of others: Subscribe for
// work, which one replica does, once in effect; Broadcast for what every replica must hear. It never drops an
// event: what a handler cannot do is tried again with growing pauses and then kept as a dead letter, and when
// the stream is full, events wait in their outbox. A caller must know: events come at least once and not
// strictly in order; the inbox row that Subscribe writes in the handler's own transaction makes it once.
package bus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	"aran/platform/store"
)

const scope = "aran/platform/bus"

// Conn is one service's connection. Safe for concurrent use.
type Conn struct {
	service string
	hub     Hub
	nc      *nats.Conn
	js      jetstream.JetStream
	log     *slog.Logger
	tracer  trace.Tracer
	meters  meters

	life   context.Context // of handlers and relays, from Connect to the end of Close
	cancel context.CancelFunc
	relays sync.WaitGroup // and what prunes
	halt   chan struct{}  // closed when relays should make a last round and end

	settling sync.WaitGroup
	wake     chan struct{} // there is something to settle
	forgot   atomic.Int64  // times that the hub was away and may have forgotten what it had not yet on disk

	mu        sync.Mutex
	closed    bool
	prepared  bool // the hub has what we need of it
	wishes    []*wish
	consumers []*consumer
	listeners []jetstream.ConsumeContext
	outboxes  []*store.DB
	kept      []*store.DB // databases whose old rows are pruned
}

type meters struct {
	published, handled metric.Int64Counter
	took               metric.Float64Histogram
}

func newMeters() meters {
	m := otel.Meter(scope)
	var out meters
	var errs [3]error
	out.published, errs[0] = m.Int64Counter("aran_bus_published_total", metric.WithDescription("Events sent from an outbox, by service and outcome."))
	out.handled, errs[1] = m.Int64Counter("aran_bus_handled_total", metric.WithDescription("Events handled, by consumer and outcome."))
	out.took, errs[2] = m.Float64Histogram("aran_bus_handle_seconds", metric.WithUnit("s"), metric.WithDescription("Time from an event's arrival to its commit, by consumer."))
	if err := errors.Join(errs[:]...); err != nil {
		otel.Handle(err)
	}
	return out
}

// Connect connects a service to a hub. One that is away is no error: it is looked for until Close, and what was
// subscribed meanwhile begins when it is there.
func Connect(ctx context.Context, hub Hub, service string, log *slog.Logger) (*Conn, error) {
	life, cancel := context.WithCancel(context.WithoutCancel(ctx))
	c := &Conn{
		service: service, hub: hub, log: log, tracer: otel.Tracer(scope), meters: newMeters(),
		life: life, cancel: cancel, halt: make(chan struct{}), wake: make(chan struct{}, 1),
	}
	var err error
	if c.nc, err = hub.dial(service, c.watch()...); err != nil {
		cancel()
		return nil, fmt.Errorf("connect %s to the bus: %w", service, err)
	}
	if c.js, err = jetstream.New(c.nc, jetstream.WithPublishAsyncMaxPending(2*relayBatch), jetstream.WithPublishAsyncTimeout(pubTimeout)); err != nil {
		cancel()
		c.nc.Close()
		return nil, fmt.Errorf("connect %s to the bus: %w", service, err)
	}
	c.settleOnce(ctx)
	c.settling.Go(c.settle)
	return c, nil
}

// errClosed answers what comes after Close.
var errClosed = errors.New("the bus connection is closed")

// Close stops consumers, waits for handlers in hand, then the relay (which sends what is still in the outbox),
// then the connection. When ctx ends, what is still running is cancelled: nothing is lost, some comes again.
func (c *Conn) Close(ctx context.Context) error {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return nil
	}
	c.closed = true
	consumers, listeners := c.consumers, c.listeners
	c.mu.Unlock()
	c.notice()
	c.settling.Wait()

	for _, l := range listeners {
		l.Stop()
	}
	for _, w := range consumers {
		w.stop()
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for _, w := range consumers {
			w.wait()
		}
		for _, l := range listeners {
			<-l.Closed()
		}
		close(c.halt)
		c.relays.Wait()
	}()
	var err error
	select {
	case <-ended:
	case <-ctx.Done():
		err = fmt.Errorf("close bus of %s: %w", c.service, ctx.Err())
	}
	c.cancel()
	select {
	case <-ended:
	case <-time.After(cancelGrace):
	}
	c.nc.Close()
	return err
}

// Pending counts what this connection still has to do: events in its outboxes, and events that its work
// subscriptions have not finished.
func (c *Conn) Pending(ctx context.Context) (int, error) {
	c.mu.Lock()
	consumers, outboxes := c.consumers, c.outboxes
	c.mu.Unlock()
	n := 0
	for _, db := range outboxes {
		unsent, err := db.Unsent(ctx)
		if err != nil {
			return 0, fmt.Errorf("look at the outbox: %w", err)
		}
		n += unsent
	}
	for _, w := range consumers {
		js := w.source()
		if js == nil {
			continue // not begun: the hub is away
		}
		info, err := js.Info(ctx)
		if err != nil {
			return 0, fmt.Errorf("look at %s: %w", w.durable, err)
		}
		n += int(info.NumPending) + info.NumAckPending //nolint:gosec // far below 2^63
	}
	return n, nil
}

const (
	cancelGrace = time.Second // for handlers to notice
	pubTimeout  = 5 * time.Second
)

func (c *Conn) count(m metric.Int64Counter, n int, who, outcome string) {
	m.Add(c.life, int64(n), metric.WithAttributes(attribute.String("name", who), attribute.String("outcome", outcome)))
}

func since(t time.Time) float64 { return time.Since(t).Seconds() }
