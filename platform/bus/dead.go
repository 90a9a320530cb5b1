package bus

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"aran/platform/fault"
)

// DeadLetter is an event that a consumer could not handle.
type DeadLetter struct {
	ID       uint64    `json:"id"` // changes when the event dies again
	Consumer string    `json:"consumer"`
	Event    string    `json:"event"` // id of the event; empty when it could not be read
	Type     string    `json:"type"`
	Kind     string    `json:"kind"`   // of the last error
	Code     string    `json:"code"`   // of the last error
	Reason   string    `json:"reason"` // the last error, for an operator
	Attempts int       `json:"attempts"`
	At       time.Time `json:"at"`
	Raw      []byte    `json:"raw"` // the message as it came
}

const (
	maxReason = 500
	maxList   = 500
)

// bury keeps a message as a dead letter, then acknowledges it. When it cannot be kept it stays where it is.
func (r *consumer) bury(h *held, attempts int, cause error) (outcome string) {
	d := DeadLetter{
		Consumer: r.durable, Type: h.Subject(), Kind: fault.KindOf(cause).String(), Reason: strings.ToValidUTF8(cut(cause.Error(), maxReason), ""),
		Attempts: attempts, At: time.Now().UTC().Truncate(time.Microsecond), Raw: h.Data(),
	}
	if f := fault.From(cause); f != nil {
		d.Code = f.Code
	}
	if e, err := Decode(h.Data()); err == nil {
		d.Event, d.Type = e.ID, e.Type
	}
	ctx, cancel := context.WithTimeout(r.life, ackTimeout)
	defer cancel()
	if err := r.keepDead(ctx, d); err != nil {
		r.log.LogAttrs(ctx, slog.LevelError, "dead letter not kept", slog.String("consumer", r.durable), slog.String("event", d.Event), slog.String("error", err.Error()))
		_ = h.NakWithDelay(backoff(attempts, fault.Unavailable)) // else it comes again by itself, sooner
		return "retry"
	}
	fault.Point("bus.dead_kept")
	r.log.LogAttrs(ctx, slog.LevelError, "event became a dead letter", slog.String("consumer", r.durable), slog.String("event", d.Event),
		slog.String("type", d.Type), slog.Int("attempts", attempts), slog.String("error", d.Reason))
	return r.ack(h, "dead")
}

func cut(s string, n int) string {
	if len(s) > n {
		return s[:n]
	}
	return s
}

// keepDead writes under a subject of consumer and message, of which the stream keeps one: twice is once.
func (c *Conn) keepDead(ctx context.Context, d DeadLetter) error {
	b, err := json.Marshal(d)
	if err != nil {
		return err
	}
	sum := sha256.Sum256(d.Raw)
	_, err = c.js.Publish(ctx, subjectDead+d.Consumer+"."+hex.EncodeToString(sum[:16]), b)
	return err
}

// DeadLetters lists what could not be handled, oldest first, from after an id (0: the first); limit 0 means 50.
func (c *Conn) DeadLetters(ctx context.Context, after uint64, limit int) ([]DeadLetter, error) {
	if limit <= 0 {
		limit = 50
	}
	stream, err := c.js.Stream(ctx, streamDead)
	if err != nil {
		return nil, fmt.Errorf("list dead letters: %w", err)
	}
	var out []DeadLetter
	for next := after + 1; len(out) < min(limit, maxList); {
		m, err := stream.GetMsg(ctx, next, jetstream.WithGetMsgSubject(subjectDead+">"))
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("list dead letters: %w", err)
		}
		d, err := parseDead(m)
		if err != nil {
			return nil, err
		}
		out = append(out, d)
		next = m.Sequence + 1
	}
	return out, nil
}

// DeadLetter returns one; a fault.Missing when there is none with this id.
func (c *Conn) DeadLetter(ctx context.Context, id uint64) (DeadLetter, error) {
	stream, err := c.js.Stream(ctx, streamDead)
	if err != nil {
		return DeadLetter{}, fmt.Errorf("show dead letter: %w", err)
	}
	m, err := stream.GetMsg(ctx, id)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return DeadLetter{}, noLetter(id)
	}
	if err != nil {
		return DeadLetter{}, fmt.Errorf("show dead letter: %w", err)
	}
	return parseDead(m)
}

func noLetter(id uint64) error { return fault.NotFound("dead_letter", fmt.Sprint(id)) }

func parseDead(m *jetstream.RawStreamMsg) (DeadLetter, error) {
	var d DeadLetter
	if err := json.Unmarshal(m.Data, &d); err != nil {
		return DeadLetter{}, fmt.Errorf("read dead letter %d: %w", m.Sequence, err)
	}
	d.ID = m.Sequence
	return d, nil
}

// Replay sends a dead letter to its consumer again, with all its attempts, and forgets it.
func (c *Conn) Replay(ctx context.Context, id uint64) error {
	d, err := c.DeadLetter(ctx, id)
	if err != nil {
		return err
	}
	switch _, err := c.js.Consumer(ctx, streamEvents, d.Consumer); {
	case errors.Is(err, jetstream.ErrConsumerNotFound):
		return fault.New(fault.Conflict, "no_consumer", "Nobody takes the events of %s; discard the dead letter, or start what does.", d.Consumer)
	case err != nil:
		return fmt.Errorf("replay dead letter %d: %w", id, err)
	}
	m := &nats.Msg{Subject: subjectRetry + d.Consumer, Data: d.Raw}
	if _, err := c.js.PublishMsg(ctx, m, jetstream.WithMsgID(uuid.NewString())); err != nil {
		return fmt.Errorf("replay dead letter %d: %w", id, err)
	}
	fault.Point("bus.dead_replayed")
	return c.Discard(ctx, id)
}

// Discard forgets a dead letter for good; a fault.Missing when there is none with this id.
func (c *Conn) Discard(ctx context.Context, id uint64) error {
	if _, err := c.DeadLetter(ctx, id); err != nil {
		return err
	}
	stream, err := c.js.Stream(ctx, streamDead)
	if err != nil {
		return fmt.Errorf("discard dead letter: %w", err)
	}
	if err := stream.DeleteMsg(ctx, id); err != nil {
		return fmt.Errorf("discard dead letter %d: %w", id, err)
	}
	return nil
}
