package bus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"regexp"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"aran/platform/fault"
	"aran/platform/store"
)

// Work is a subscription of which each event reaches one replica, once in effect.
type Work struct {
	Name        string   // durable name, unique within the service
	Types       []string // event types; "aran.chat.>" for all of a service's
	DB          *store.DB
	Handle      func(ctx context.Context, tx *store.Tx, e Event) error // runs in the transaction that also writes the inbox row
	Concurrency int                                                    // events in hand at once; 0 means 8
	MaxDeliver  int                                                    // then it becomes a dead letter; 0 means 10

	// Prepare, when set, runs before the transaction and may change the event that Handle gets: for what must not
	// hold up the writer (keys, other databases). It may run more than once for an event.
	Prepare func(ctx context.Context, e Event) (Event, error)
	// After, when set, runs after the commit. It must not block.
	After func()
}

const (
	defaultConcurrency = 8
	defaultMaxDeliver  = 10
	waiting            = 256 // events that may wait for a retry or a free worker
	ackWait            = 2 * time.Second
	heartbeat          = 500 * time.Millisecond
	inactive           = 30 * 24 * time.Hour // then the server forgets a consumer that nobody runs any more
	ackTimeout         = 5 * time.Second
	crashFactor        = 3 // an event that came this many times MaxDeliver without an outcome ends the process each time
)

var validName = regexp.MustCompile(`^[a-z0-9_-]{1,64}$`)

func (w *Work) check() error {
	switch {
	case !validName.MatchString(w.Name):
		return fmt.Errorf("the name %q is not of [a-z0-9_-]", w.Name)
	case w.DB == nil || w.Handle == nil:
		return errors.New("database and handler are required")
	case len(w.Types) == 0:
		return errors.New("there are no event types")
	}
	for _, t := range w.Types {
		if !validFilter(t) {
			return fmt.Errorf("the event type %q is not aran.<service>.<event>.v<n> or aran.<service>.>", t)
		}
	}
	if w.Concurrency <= 0 {
		w.Concurrency = defaultConcurrency
	}
	if w.MaxDeliver <= 0 {
		w.MaxDeliver = defaultMaxDeliver
	}
	return nil
}

// consumer runs one Work. Messages wait in line and are taken by at most Concurrency goroutines, which end when
// the line is empty: an idle consumer costs nothing. With a concurrency of 1 the order of arrival is kept.
type consumer struct {
	*Conn
	work    Work
	durable string
	hands   sync.WaitGroup

	mu       sync.Mutex
	js       jetstream.Consumer       // nil until the hub was there
	feed     jetstream.ConsumeContext // the same
	line     []*held
	running  int
	stopping bool
}

// held is a message in our hands; the server is told every now and then that we still have it.
type held struct {
	jetstream.Msg
	beat *time.Timer
}

func hold(m jetstream.Msg) *held {
	h := &held{Msg: m}
	var mu sync.Mutex
	mu.Lock()
	defer mu.Unlock()
	h.beat = time.AfterFunc(heartbeat, func() {
		mu.Lock()
		defer mu.Unlock()
		if h.InProgress() == nil {
			h.beat.Reset(heartbeat)
		}
	})
	return h
}

// Subscribe starts a work subscription, now or when the hub is there; Close stops what it started. ctx bounds only the set-up.
func (c *Conn) Subscribe(ctx context.Context, w Work) error {
	if err := w.check(); err != nil {
		return fmt.Errorf("subscribe %s of %s: %w", w.Name, c.service, err)
	}
	r := &consumer{Conn: c, work: w, durable: Durable(c.service, w.Name)}
	if err := c.establish(ctx, &wish{what: r.durable, make: r.begin}); err != nil {
		return fmt.Errorf("subscribe %s: %w", r.durable, err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return errClosed
	}
	c.consumers = append(c.consumers, r)
	c.keep(w.DB)
	return nil
}

// begin makes the durable consumer at the hub and starts to take from it. The types of another version of the program
// that runs beside this one stay among its filters.
func (r *consumer) begin(ctx context.Context) error {
	filters := append([]string{subjectRetry + r.durable}, r.work.Types...)
	switch there, err := r.Conn.js.Consumer(ctx, streamEvents, r.durable); {
	case err == nil:
		for _, f := range there.CachedInfo().Config.FilterSubjects {
			if !slices.Contains(filters, f) {
				filters = append(filters, f)
			}
		}
	case !errors.Is(err, jetstream.ErrConsumerNotFound):
		return err
	}
	js, err := r.Conn.js.CreateOrUpdateConsumer(ctx, streamEvents, jetstream.ConsumerConfig{
		Durable: r.durable, FilterSubjects: filters,
		AckPolicy: jetstream.AckExplicitPolicy, AckWait: ackWait, MaxDeliver: -1, // the limit is ours: the server's would drop
		MaxAckPending: r.work.Concurrency + waiting, DeliverPolicy: jetstream.DeliverAllPolicy, InactiveThreshold: inactive,
	})
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.stopping {
		return nil
	}
	if r.feed != nil {
		r.feed.Drain() // it may have ended when the hub forgot the consumer
	}
	r.js = js
	r.feed, err = js.Consume(r.push, jetstream.PullMaxMessages(max(2*r.work.Concurrency, 16)),
		jetstream.ConsumeErrHandler(func(_ jetstream.ConsumeContext, err error) {
			r.log.LogAttrs(r.life, slog.LevelDebug, "bus consumer", slog.String("consumer", r.durable), slog.String("error", err.Error()))
		}))
	return err
}

// source is the consumer at the hub; nil before it was there.
func (r *consumer) source() jetstream.Consumer {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.js
}

func (r *consumer) push(m jetstream.Msg) {
	h := hold(m)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.stopping {
		r.release(h)
		return
	}
	r.line = append(r.line, h)
	if r.running < r.work.Concurrency {
		r.running++
		r.hands.Go(r.run)
	}
}

func (r *consumer) run() {
	for {
		r.mu.Lock()
		if len(r.line) == 0 {
			r.running--
			r.line = nil
			r.mu.Unlock()
			return
		}
		h := r.line[0]
		r.line = r.line[1:]
		r.mu.Unlock()
		r.handle(h)
	}
}

// stop takes no further message and gives back what nobody has begun.
func (r *consumer) stop() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stopping = true
	if r.feed != nil {
		r.feed.Stop()
	}
	for _, h := range r.line {
		r.release(h)
	}
	r.line = nil
}

func (r *consumer) wait() {
	r.mu.Lock()
	feed := r.feed
	r.mu.Unlock()
	if feed != nil {
		<-feed.Closed()
	}
	r.hands.Wait()
}

func (r *consumer) release(h *held) {
	h.beat.Stop()
	if err := h.Nak(); err != nil {
		r.log.LogAttrs(r.life, slog.LevelDebug, "event not given back", slog.String("consumer", r.durable), slog.String("error", err.Error()))
	}
}

func (r *consumer) handle(h *held) {
	defer h.beat.Stop()
	began := time.Now()
	outcome := r.settle(h)
	r.count(r.meters.handled, 1, r.durable, outcome)
	r.meters.took.Record(r.life, since(began), metric.WithAttributes(attribute.String("name", r.durable)))
}

// settle handles a message and tells the server what became of it.
func (r *consumer) settle(h *held) (outcome string) {
	meta, err := h.Metadata()
	if err != nil {
		r.log.LogAttrs(r.life, slog.LevelError, "message without metadata", slog.String("consumer", r.durable), slog.String("error", err.Error()))
		return "refused"
	}
	attempt := int(meta.NumDelivered) //nolint:gosec // small
	e, err := Decode(h.Data())
	if err != nil {
		return r.bury(h, attempt, fault.New(fault.Invalid, "malformed_event", "The message is not an event.").Because(err))
	}
	e.Attempt = attempt
	if attempt > crashFactor*r.work.MaxDeliver {
		return r.bury(h, attempt, fault.New(fault.Internal, "no_outcome", "The event was delivered %d times without an outcome.", attempt-1))
	}
	outcome, err = r.deliver(e)
	if err == nil {
		fault.Point("bus.handled")
		return r.ack(h, outcome)
	}
	if r.life.Err() != nil {
		r.release(h)
		return "cancelled"
	}
	if attempt >= r.work.MaxDeliver {
		return r.bury(h, attempt, err)
	}
	pause := backoff(attempt, fault.KindOf(err))
	r.log.LogAttrs(r.life, slog.LevelWarn, "event not handled", slog.String("consumer", r.durable), slog.String("event", e.ID),
		slog.String("type", e.Type), slog.Int("attempt", attempt), slog.Duration("again_in", pause), slog.String("error", err.Error()))
	if err := h.NakWithDelay(pause); err != nil {
		r.log.LogAttrs(r.life, slog.LevelDebug, "event not given back", slog.String("consumer", r.durable), slog.String("error", err.Error()))
	}
	return "retry"
}

// deliver runs the handler and the inbox row in one transaction, inside a span of the producer's trace.
func (r *consumer) deliver(e Event) (outcome string, err error) {
	ctx, span := r.span(e)
	defer span.End()
	defer func() {
		if err != nil {
			span.RecordError(err)
			span.SetStatus(codes.Error, fault.KindOf(err).String())
		}
	}()
	if r.work.Prepare != nil {
		if err := guard(func() (err error) { e, err = r.work.Prepare(ctx, e); return err }); err != nil {
			return "", err
		}
		fault.Point("bus.prepared")
	}
	err = r.work.DB.Tx(ctx, func(tx *store.Tx) error {
		fresh, err := tx.Seen(ctx, r.durable, e.ID)
		if err != nil {
			return fmt.Errorf("look into the inbox: %w", err)
		}
		if !fresh {
			outcome = "duplicate"
			return nil
		}
		outcome = "done"
		return guard(func() error { return r.work.Handle(ctx, tx, e) })
	})
	if err == nil && r.work.After != nil {
		err = guard(func() error { r.work.After(); return nil })
	}
	return outcome, err
}

// span continues the trace that the event carries, and links to the span that caused it.
func (c *Conn) span(e Event) (context.Context, trace.Span) {
	ctx := propagation.TraceContext{}.Extract(c.life, propagation.MapCarrier{"traceparent": e.traceParent, "tracestate": e.traceState})
	opts := []trace.SpanStartOption{
		trace.WithSpanKind(trace.SpanKindConsumer),
		trace.WithAttributes(
			attribute.String("messaging.system", "nats"), attribute.String("messaging.operation.type", "process"),
			attribute.String("messaging.destination.name", e.Type), attribute.String("messaging.message.id", e.ID),
			attribute.String("messaging.consumer.group.name", c.service)),
	}
	if from := trace.SpanContextFromContext(ctx); from.IsValid() {
		opts = append(opts, trace.WithLinks(trace.Link{SpanContext: from}))
	}
	return c.tracer.Start(ctx, "process "+e.Type, opts...) //nolint:spancheck // the caller ends it
}

func (r *consumer) ack(h *held, outcome string) string {
	ctx, cancel := context.WithTimeout(r.life, ackTimeout)
	defer cancel()
	if err := h.DoubleAck(ctx); err != nil { // it will come again, and the inbox knows it
		r.log.LogAttrs(ctx, slog.LevelDebug, "event not acknowledged", slog.String("consumer", r.durable), slog.String("error", err.Error()))
	}
	return outcome
}

// guard turns a panic into an error.
func guard(fn func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("the handler panicked: %v\n%s", p, debug.Stack())
		}
	}()
	return fn()
}

// backoff grows from 1 s to 1 min, and from 5 s to 5 min while another part is away; a fifth of it is random.
func backoff(attempt int, kind fault.Kind) time.Duration {
	first, most := time.Second, time.Minute
	if kind == fault.Unavailable {
		first, most = 5*time.Second, 5*time.Minute
	}
	d := min(first<<min(attempt-1, 10), most)
	return d - time.Duration(rand.Int64N(int64(d/5))) //nolint:gosec // a spread, not a secret
}
