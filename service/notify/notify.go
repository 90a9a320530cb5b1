// Package notify tells receivers outside what happened: webhooks, signed as Standard Webhooks says.
//
// It owns the webhooks of tenants and a durable queue of deliveries, and takes its input from the bus alone: an event,
// the rows of its deliveries and the note that it was seen are one transaction. It never blocks whoever caused an
// event, never sends content, and connects to public addresses only. A delivery comes at least once, always under the
// same id; first attempts of one webhook come in the order of its events, one at a time, and what has to be tried
// again holds up nobody. What was tried for days becomes a dead letter that its owner can replay.
package notify

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"
	"unicode"

	"github.com/google/uuid"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"aran/platform/auth"
	"aran/platform/bus"
	"aran/platform/fault"
	"aran/platform/rpc"
	"aran/platform/seal"
	"aran/platform/store"
	"aran/platform/watch"
	"aran/service/notify/target"
)

// Name is the service's name.
const Name = "notify"

// self is the actor of what nobody asked for.
const self = "service:notify"

// Migrations are the tables of the service.
//
//go:embed migrations/*.sql
var Migrations embed.FS

// Deps is what the service needs.
type Deps struct {
	DB     *store.DB
	Bus    *bus.Conn
	Box    *seal.Box
	Server rpc.Server
	Log    *slog.Logger
	Health *watch.Health
}

// Service keeps webhooks and delivers. Make one with New. Safe for concurrent use.
type Service struct {
	cfg    Config
	d      Deps
	public *rpc.Public
	policy target.Policy
	client *http.Client
	tracer trace.Tracer
	meters meters
	owner  string // of the leases of this life

	wake    chan struct{} // something may be due
	stop    context.CancelFunc
	sending sync.WaitGroup // the loops
	hands   sync.WaitGroup // deliveries in hand
	cut     context.CancelFunc
}

// New registers the routes. Nothing is taken from the bus or delivered before Start.
func New(cfg Config, d Deps) (*Service, error) {
	if err := cfg.Check(); err != nil {
		return nil, err
	}
	s := &Service{
		cfg: cfg, d: d, public: rpc.NewPublic(d.Server, "Webhooks"), policy: target.Policy{UnsafePrivate: cfg.UnsafePrivateTargets},
		tracer: otel.Tracer("aran/service/notify"), owner: uuid.NewString(), wake: make(chan struct{}, 1),
	}
	var err error
	if s.meters, err = s.newMeters(); err != nil {
		return nil, err
	}
	s.client = s.policy.Client(nil)
	s.routes()
	d.Health.Add("notify: database", d.DB.Ping)
	return s, nil
}

// Public is the REST handler.
func (s *Service) Public() *rpc.Public { return s.public }

// Start begins to take events and to deliver.
func (s *Service) Start(ctx context.Context) error {
	if s.cfg.UnsafePrivateTargets {
		s.d.Log.LogAttrs(ctx, slog.LevelWarn, "notify.unsafe_private_targets is set: webhooks reach private networks and this machine")
	}
	if !s.d.DB.Shared() { // what a former life had in hand is nobody's
		if err := s.releaseAll(ctx); err != nil {
			return fmt.Errorf("release deliveries: %w", err)
		}
	}
	loop, stop := context.WithCancel(context.WithoutCancel(ctx))
	hands, cut := context.WithCancel(context.WithoutCancel(ctx))
	s.stop, s.cut = stop, cut
	s.sending.Go(func() { s.dispatch(loop, hands) })
	s.sending.Go(func() { s.tidy(loop) })
	return s.d.Bus.Subscribe(ctx, bus.Work{
		Name: "webhooks", Types: subjects(), DB: s.d.DB, Concurrency: 1, // the order of arrival is the order of deliveries
		Handle: s.queue, After: s.nudge,
	})
}

// drain is how long deliveries in hand may take when the service stops; what is cut off comes again.
const drain = 3 * time.Second

// Stop takes nothing new in hand and waits a little for what is. It leaves the bus connection to its owner.
func (s *Service) Stop(ctx context.Context) error {
	if s.stop == nil {
		return nil
	}
	s.stop()
	s.sending.Wait()
	fault.Point("notify.stopping")
	timer := time.AfterFunc(drain, s.cut)
	defer timer.Stop()
	defer context.AfterFunc(ctx, s.cut)()
	s.hands.Wait()
	s.cut()
	s.client.CloseIdleConnections()
	return nil
}

func (s *Service) nudge() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// queue makes a delivery for each webhook of the event's tenant that wants its kind and was there before it.
func (s *Service) queue(ctx context.Context, tx *store.Tx, e bus.Event) error {
	o, ok := offered(e.Type)
	if !ok || e.Tenant == "" {
		return nil
	}
	body, err := o.body(e)
	if err != nil {
		return err
	}
	d := Delivery{Event: e.ID, Kind: o.kind, Body: body, traceparent: traceparent(ctx)}
	return s.queueForAll(ctx, tx, e.Tenant, e.Time, d)
}

// traceparent is the trace that ctx belongs to (W3C Trace Context), to be continued by the delivery.
func traceparent(ctx context.Context) string {
	c := propagation.MapCarrier{}
	propagation.TraceContext{}.Inject(ctx, c)
	return c.Get("traceparent")
}

// Endpoint is a webhook of a tenant.
type Endpoint struct {
	ID, Tenant       string
	URL, Description string
	Kinds            []string // what it is told of, sorted
	Enabled          bool
	Reason           string // why it was disabled, when not by its owner: gone, failing, backlog
	Created, Updated time.Time
	FailingSince     time.Time // zero: the last delivery arrived
	OldSecretUntil   time.Time // zero: there is one secret
}

// Reasons why we disable an endpoint.
const (
	reasonGone    = "gone"    // it answered 410
	reasonFailing = "failing" // nothing arrived for Config.DisableAfter
	reasonBacklog = "backlog" // more than Config.MaxBacklog deliveries waited
)

// Statuses of a delivery.
const (
	Pending   = "pending"
	Delivered = "delivered"
	Dead      = "dead"
)

// Delivery is one event on its way to one endpoint.
type Delivery struct {
	Seq              int64
	ID               string // the header webhook-id
	Endpoint, Tenant string
	Event, Kind      string
	Body             []byte
	Status           string
	Attempts         []Attempt // the last maxShown
	Attempted        int64     // all of them
	Due              time.Time // of the next attempt, while pending
	Created, Updated time.Time
	traceparent      string
	tries            int64 // since it was queued or replayed
	epoch            int64 // of the lease under which it is in hand
}

// Attempt is one try to deliver.
type Attempt struct {
	At     time.Time     `json:"at"`
	Status int           `json:"status,omitempty"` // of HTTP; 0: there was no answer
	Error  string        `json:"error,omitempty"`  // a kind; empty: it arrived
	Took   time.Duration `json:"took"`
}

// Bounds on what is kept of one delivery.
const (
	maxShown    = 50
	maxAttempts = 200
)

const (
	maxDescription = 500
	secretPrefix   = "whsec_"
	secretSize     = 32 // bytes; Standard Webhooks asks for 24 to 64
)

// CreateEndpoint makes a webhook and returns its secret, which is shown once. The same idempotency key gives the
// same answer for a day, the secret too.
func (s *Service) CreateEndpoint(ctx context.Context, id auth.Identity, e Endpoint, idempotency string) (Endpoint, string, error) {
	if err := s.check(&e); err != nil {
		return Endpoint{}, "", err
	}
	now := time.Now().UTC().Truncate(time.Microsecond)
	e.Tenant, e.Created, e.Updated = id.Tenant, now, now
	request, err := json.Marshal(struct {
		URL, Description string
		Kinds            []string
		Enabled          bool
	}{e.URL, e.Description, e.Kinds, e.Enabled})
	if err != nil {
		return Endpoint{}, "", fmt.Errorf("create webhook: %w", err)
	}
	e.ID = uuid.Must(uuid.NewV7()).String()
	secret := newSecret()
	row, err := s.sealEndpoint(ctx, e, secret)
	if err != nil {
		return Endpoint{}, "", err
	}
	once, err := s.once(ctx, id, "create_webhook", idempotency, request, answer{e, secret})
	if err != nil {
		return Endpoint{}, "", err
	}
	old, err := s.addEndpoint(ctx, id, e, row, once)
	if err != nil {
		return Endpoint{}, "", err
	}
	fault.Point("notify.endpoint_created")
	if old == nil {
		return e, secret, nil
	}
	a, err := s.recall(ctx, id, old)
	return a.Endpoint, a.Secret, err
}

// check says what is wrong with an endpoint, and puts its kinds in order.
func (s *Service) check(e *Endpoint) (err error) {
	if err := s.policy.Check(e.URL); err != nil {
		return err
	}
	runes := 0
	for _, r := range e.Description {
		if runes++; unicode.IsControl(r) {
			return broken("description", "characters", "leave out control characters")
		}
	}
	if runes > maxDescription {
		return broken("description", "max_len", fmt.Sprintf("at most %d characters", maxDescription))
	}
	e.Kinds, err = checkKinds(e.Kinds)
	return err
}

func newSecret() string {
	b := make([]byte, secretSize)
	_, _ = rand.Read(b) // never fails (crypto/rand)
	return secretPrefix + base64.StdEncoding.EncodeToString(b)
}

// answer is what an idempotency key remembers, sealed.
type answer struct {
	Endpoint Endpoint
	Secret   string
}

// once is a request under an idempotency key, with the sealed answer to remember.
type once struct {
	scope, key      string
	request, answer []byte
}

func (s *Service) once(ctx context.Context, id auth.Identity, what, key string, request []byte, a answer) (once, error) {
	o := once{scope: id.Tenant + "/" + id.Subject + "/" + what, key: key, request: request}
	if key == "" {
		return o, nil
	}
	plain, err := json.Marshal(a) //nolint:gosec // it is sealed below
	if err != nil {
		return once{}, fmt.Errorf("remember answer: %w", err)
	}
	o.answer, err = s.d.Box.Seal(ctx, sealedFor(id.Tenant), plain, []byte("notify/answer"))
	return o, err
}

func (s *Service) recall(ctx context.Context, id auth.Identity, sealed []byte) (a answer, err error) {
	plain, err := s.d.Box.Open(ctx, sealedFor(id.Tenant), sealed, []byte("notify/answer"))
	if err != nil {
		return answer{}, fmt.Errorf("remembered answer: %w", err)
	}
	return a, json.Unmarshal(plain, &a)
}

// sealedFor is the subject under whose key a tenant's targets and secrets are.
func sealedFor(tenant string) string { return "tenant:" + tenant }

func targetPlace(endpoint string) []byte { return []byte("notify/target/" + endpoint) }
func secretPlace(endpoint string) []byte { return []byte("notify/secret/" + endpoint) }

// sealedTarget is what of an endpoint is sealed besides its secrets.
type sealedTarget struct {
	URL         string `json:"url"`
	Description string `json:"description,omitempty"`
}

// sealedEndpoint is what the columns hold.
type sealedEndpoint struct{ target, secret []byte }

func (s *Service) sealEndpoint(ctx context.Context, e Endpoint, secret string) (row sealedEndpoint, err error) {
	if row.target, err = s.sealTarget(ctx, e); err != nil {
		return sealedEndpoint{}, err
	}
	if row.secret, err = s.d.Box.Seal(ctx, sealedFor(e.Tenant), []byte(secret), secretPlace(e.ID)); err != nil {
		return sealedEndpoint{}, fmt.Errorf("seal webhook: %w", err)
	}
	return row, nil
}

func (s *Service) sealTarget(ctx context.Context, e Endpoint) ([]byte, error) {
	plain, err := json.Marshal(sealedTarget{e.URL, e.Description})
	if err != nil {
		return nil, fmt.Errorf("seal webhook: %w", err)
	}
	sealed, err := s.d.Box.Seal(ctx, sealedFor(e.Tenant), plain, targetPlace(e.ID))
	if err != nil {
		return nil, fmt.Errorf("seal webhook: %w", err)
	}
	return sealed, nil
}

func (s *Service) openTarget(ctx context.Context, tenant, id string, sealed []byte) (t sealedTarget, err error) {
	plain, err := s.d.Box.Open(ctx, sealedFor(tenant), sealed, targetPlace(id))
	if err != nil {
		return sealedTarget{}, fmt.Errorf("open webhook %s: %w", id, err)
	}
	if err := json.Unmarshal(plain, &t); err != nil {
		return sealedTarget{}, fmt.Errorf("open webhook %s: %w", id, err)
	}
	return t, nil
}

// Endpoints lists a tenant's webhooks, newest first. after is the id of the last one that was seen.
func (s *Service) Endpoints(ctx context.Context, tenant, after string, limit int) ([]Endpoint, error) {
	rows, err := s.endpointRows(ctx, tenant, after, limit)
	if err != nil {
		return nil, err
	}
	out := make([]Endpoint, len(rows))
	for i, r := range rows {
		if out[i], err = s.openEndpoint(ctx, r); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// Endpoint returns one of a tenant's webhooks; another's is not there.
func (s *Service) Endpoint(ctx context.Context, tenant, id string) (Endpoint, error) {
	r, err := s.endpointRow(ctx, tenant, id)
	if err != nil {
		return Endpoint{}, err
	}
	return s.openEndpoint(ctx, r)
}

func (s *Service) openEndpoint(ctx context.Context, r endpointRow) (Endpoint, error) {
	t, err := s.openTarget(ctx, r.Tenant, r.ID, r.target)
	if err != nil {
		return Endpoint{}, err
	}
	e := r.Endpoint
	e.URL, e.Description = t.URL, t.Description
	if time.Now().After(e.OldSecretUntil) {
		e.OldSecretUntil = time.Time{}
	}
	return e, nil
}

// Change is what of an endpoint is to be set; nil leaves it.
type Change struct {
	URL, Description *string
	Kinds            []string
	Enabled          *bool
}

// ChangeEndpoint sets what is given. To enable an endpoint, or to give it another URL, gives it a fresh start: what
// waits for it goes out.
func (s *Service) ChangeEndpoint(ctx context.Context, id auth.Identity, endpoint string, c Change) (Endpoint, error) {
	r, err := s.endpointRow(ctx, id.Tenant, endpoint)
	if err != nil {
		return Endpoint{}, err
	}
	e, err := s.openEndpoint(ctx, r)
	if err != nil {
		return Endpoint{}, err
	}
	fresh := false
	if c.URL != nil {
		fresh = *c.URL != e.URL
		e.URL = *c.URL
	}
	if c.Description != nil {
		e.Description = *c.Description
	}
	if c.Kinds != nil {
		e.Kinds = c.Kinds
	}
	if c.Enabled != nil {
		fresh = fresh || *c.Enabled && !e.Enabled
		e.Enabled = *c.Enabled
	}
	if e.Enabled {
		e.Reason = ""
	}
	if fresh {
		e.FailingSince = time.Time{}
	}
	if err := s.check(&e); err != nil {
		return Endpoint{}, err
	}
	sealed, err := s.sealTarget(ctx, e)
	if err != nil {
		return Endpoint{}, err
	}
	e.Updated = time.Now().UTC().Truncate(time.Microsecond)
	if err := s.setEndpoint(ctx, id, e, r.version, sealed, fresh); err != nil {
		return Endpoint{}, err
	}
	s.nudge()
	return e, nil
}

// RotateSecret gives an endpoint a new secret, which is shown once. For Config.SecretOverlap deliveries carry the
// signatures of both.
func (s *Service) RotateSecret(ctx context.Context, id auth.Identity, endpoint, idempotency string) (Endpoint, string, error) {
	e, err := s.Endpoint(ctx, id.Tenant, endpoint)
	if err != nil {
		return Endpoint{}, "", err
	}
	now := time.Now().UTC().Truncate(time.Microsecond)
	e.Updated, e.OldSecretUntil = now, now.Add(s.cfg.SecretOverlap)
	secret := newSecret()
	sealed, err := s.d.Box.Seal(ctx, sealedFor(id.Tenant), []byte(secret), secretPlace(e.ID))
	if err != nil {
		return Endpoint{}, "", fmt.Errorf("seal secret: %w", err)
	}
	once, err := s.once(ctx, id, "rotate_webhook_secret", idempotency, []byte(endpoint), answer{e, secret})
	if err != nil {
		return Endpoint{}, "", err
	}
	old, err := s.setSecret(ctx, id, e, sealed, once)
	if err != nil {
		return Endpoint{}, "", err
	}
	fault.Point("notify.secret_rotated")
	if old == nil {
		return e, secret, nil
	}
	a, err := s.recall(ctx, id, old)
	return a.Endpoint, a.Secret, err
}

// DeleteEndpoint removes a webhook and all its deliveries. One that another has in hand may still arrive.
func (s *Service) DeleteEndpoint(ctx context.Context, id auth.Identity, endpoint string) error {
	return s.removeEndpoint(ctx, id, endpoint)
}

// Test queues a message of the kind webhook.test.
func (s *Service) Test(ctx context.Context, id auth.Identity, endpoint, idempotency string) (Delivery, error) {
	now := time.Now().UTC().Truncate(time.Microsecond)
	event := store.NewEventID()
	body, err := encode(kindTest, event, now, []string{"endpoint"}, map[string]any{"endpoint": endpoint})
	if err != nil {
		return Delivery{}, err
	}
	d := Delivery{
		ID: deliveryID(event, endpoint), Endpoint: endpoint, Tenant: id.Tenant, Event: event, Kind: kindTest, Body: body, Status: Pending,
		Due: now, Created: now, Updated: now, traceparent: traceparent(ctx),
	}
	key := once{scope: id.Tenant + "/" + id.Subject + "/test_webhook", key: idempotency, request: []byte(endpoint), answer: []byte(d.ID)}
	queued, err := s.queueTest(ctx, d, key)
	if err != nil {
		return Delivery{}, err
	}
	s.nudge()
	return s.delivery(ctx, id.Tenant, endpoint, queued)
}

// Deliveries lists those of an endpoint, newest first, of one status or of all: those before a sequence number (0: from the newest).
func (s *Service) Deliveries(ctx context.Context, tenant, endpoint, status string, before int64, limit int) ([]Delivery, error) {
	if _, err := s.endpointRow(ctx, tenant, endpoint); err != nil {
		return nil, err
	}
	return s.deliveries(ctx, endpoint, status, before, limit)
}

// Delivery returns one.
func (s *Service) Delivery(ctx context.Context, tenant, endpoint, id string) (Delivery, error) {
	return s.delivery(ctx, tenant, endpoint, id)
}

// Replay queues a delivery that arrived or is dead again, under its old id and with all its attempts.
func (s *Service) Replay(ctx context.Context, id auth.Identity, endpoint, delivery string) (Delivery, error) {
	d, err := s.delivery(ctx, id.Tenant, endpoint, delivery)
	if err != nil {
		return Delivery{}, err
	}
	switch {
	case d.Status == Pending:
		return Delivery{}, fault.New(fault.Conflict, "delivery_pending", "This delivery is on its way.")
	case d.Attempted >= maxAttempts:
		return Delivery{}, fault.New(fault.Conflict, "delivery_exhausted", "This delivery was tried %d times; no more.", d.Attempted)
	}
	if err := s.replay(ctx, id, d); err != nil {
		return Delivery{}, err
	}
	s.nudge()
	return s.delivery(ctx, id.Tenant, endpoint, delivery)
}

func digest(text string) string {
	h := sha256.Sum256([]byte(text))
	return hex.EncodeToString(h[:])
}

// errDisabled answers what needs an endpoint that takes deliveries.
func errDisabled() error {
	return fault.New(fault.Conflict, "webhook_disabled", "This webhook is disabled; enable it first.")
}

// errLost says that another replica has taken over what this one had in hand.
var errLost = errors.New("another replica has taken over")
