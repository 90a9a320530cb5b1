package bus

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/nats-io/nats.go/jetstream"
)

// Broadcast calls handle for each event of the types from now on, in every replica. Not durable. Calls come one
// after the other, in order; handle must be quick. ctx bounds only the set-up.
func (c *Conn) Broadcast(ctx context.Context, types []string, handle func(ctx context.Context, e Event)) error {
	for _, t := range types {
		if !validFilter(t) {
			return fmt.Errorf("broadcast to %s: the event type %q is not aran.<service>.<event>.v<n> or aran.<service>.>", c.service, t)
		}
	}
	var feed jetstream.ConsumeContext // only establish and what settles call make, one after the other
	return c.establish(ctx, &wish{what: "broadcast", make: func(ctx context.Context) error {
		if feed != nil {
			return nil // an ordered consumer makes itself anew
		}
		js, err := c.js.OrderedConsumer(ctx, streamEvents, jetstream.OrderedConsumerConfig{FilterSubjects: types, DeliverPolicy: jetstream.DeliverNewPolicy})
		if err != nil {
			return fmt.Errorf("broadcast to %s: %w", c.service, err)
		}
		if feed, err = js.Consume(func(m jetstream.Msg) { c.hear(m, handle) }); err != nil {
			return fmt.Errorf("broadcast to %s: %w", c.service, err)
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.closed {
			feed.Stop()
			return errClosed
		}
		c.listeners = append(c.listeners, feed)
		return nil
	}})
}

func (c *Conn) hear(m jetstream.Msg, handle func(ctx context.Context, e Event)) {
	e, err := Decode(m.Data())
	if err != nil {
		c.log.LogAttrs(c.life, slog.LevelWarn, "broadcast not understood", slog.String("service", c.service), slog.String("error", err.Error()))
		return
	}
	e.Attempt = 1
	ctx, span := c.span(e)
	defer span.End()
	if err := guard(func() error { handle(ctx, e); return nil }); err != nil {
		c.log.LogAttrs(ctx, slog.LevelError, "broadcast not handled", slog.String("service", c.service), slog.String("event", e.ID), slog.String("error", err.Error()))
	}
}
