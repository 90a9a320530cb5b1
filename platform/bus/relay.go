package bus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"aran/platform/fault"
	"aran/platform/store"
)

const (
	relayBatch = 256
	relayPoll  = 5 * time.Second     // commits wake the relay; this is for what a signal missed
	relayPause = time.Second         // after a failure
	keepSent   = 5 * time.Minute     // sent rows stay for longer than the server needs to sync its files
	keepSeen   = 30 * 24 * time.Hour // inbox rows stay for as long as a consumer may be away
	pruneEvery = time.Minute
	lastRound  = 2 * time.Second
)

// Relay publishes the outbox of db until Close; it wakes on commit and polls slowly. Replay marks all kept rows
// unsent first (after an unclean start).
func (c *Conn) Relay(ctx context.Context, db *store.DB, replay bool) error { //nolint:revive // the flag says what the process met at its start
	if replay {
		if err := db.Replay(ctx); err != nil {
			return fmt.Errorf("replay the outbox of %s: %w", c.service, err)
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return errClosed
	}
	c.outboxes = append(c.outboxes, db)
	c.keep(db)
	c.relays.Go(func() { c.relay(db) }) //nolint:contextcheck // ctx bounds the set-up; the relay lives on
	return nil
}

func (c *Conn) relay(db *store.DB) {
	replayed := c.forgot.Load()
	for {
		wait := relayPoll
		if n := c.forgot.Load(); n != replayed && !c.hub.remembers() {
			if err := db.Replay(c.life); err != nil {
				c.log.LogAttrs(c.life, slog.LevelWarn, "outbox not replayed", slog.String("service", c.service), slog.String("error", err.Error()))
			} else {
				replayed = n
			}
		}
		if err := c.drain(c.life, db); err != nil && c.life.Err() == nil {
			c.log.LogAttrs(c.life, slog.LevelWarn, "outbox not sent", slog.String("service", c.service), slog.String("error", err.Error()))
			wait = relayPause
		}
		if !c.nc.IsConnected() {
			wait = relayPause
		}
		timer := time.NewTimer(wait)
		select {
		case <-db.Committed():
		case <-timer.C:
		case <-c.life.Done():
			timer.Stop()
			return
		case <-c.halt:
			timer.Stop()
			ctx, cancel := context.WithTimeout(c.life, lastRound)
			defer cancel()
			if err := c.drain(ctx, db); err != nil {
				c.log.LogAttrs(c.life, slog.LevelWarn, "events stay in the outbox until the next start", slog.String("service", c.service), slog.String("error", err.Error()))
			}
			return
		}
		timer.Stop()
	}
}

// prune deletes old rows of outbox and inbox, until the connection is closed. One goroutine does it for all
// databases that the connection has to do with.
func (c *Conn) prune() {
	tick := time.NewTicker(pruneEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-c.halt:
			return
		case <-c.life.Done():
			return
		}
		c.mu.Lock()
		dbs := slices.Clone(c.kept)
		c.mu.Unlock()
		now := time.Now()
		for _, db := range dbs {
			if err := db.Prune(c.life, now.Add(-keepSent), now.Add(-keepSeen)); err != nil && c.life.Err() == nil {
				c.log.LogAttrs(c.life, slog.LevelWarn, "outbox and inbox not pruned", slog.String("service", c.service), slog.String("error", err.Error()))
			}
		}
	}
}

// keep has a database pruned. The caller holds c.mu.
func (c *Conn) keep(db *store.DB) {
	if slices.Contains(c.kept, db) {
		return
	}
	if c.kept = append(c.kept, db); len(c.kept) == 1 {
		c.relays.Go(c.prune)
	}
}

// drain sends until the outbox holds nothing unsent.
func (c *Conn) drain(ctx context.Context, db *store.DB) error {
	for {
		if !c.nc.IsConnected() {
			return nil // events wait; it says so itself when it goes and comes
		}
		rows, err := db.Pending(ctx, relayBatch)
		if err != nil || len(rows) == 0 {
			return err
		}
		if err := c.send(ctx, db, rows); err != nil {
			return err
		}
	}
}

// send publishes rows in their order, all at once, and marks those that the server has.
func (c *Conn) send(ctx context.Context, db *store.DB, rows []store.Outgoing) error {
	var errs []error
	acks := make([]jetstream.PubAckFuture, 0, len(rows))
	sent := make([]int64, 0, len(rows))
	for _, row := range rows {
		ack, err := c.publish(ctx, row)
		if err != nil {
			errs = append(errs, fmt.Errorf("publish %s: %w", row.ID, err))
			break // those after it wait, to keep their order
		}
		acks = append(acks, ack)
	}
	for i, ack := range acks {
		if err := settled(ctx, ack); err != nil {
			errs = append(errs, fmt.Errorf("publish %s: %w", rows[i].ID, err))
			continue
		}
		sent = append(sent, rows[i].Sequence)
	}
	fault.Point("bus.published")
	c.count(c.meters.published, len(sent), c.service, "sent")
	if failed := len(rows) - len(sent); failed > 0 {
		c.count(c.meters.published, failed, c.service, "failed")
	}
	if len(sent) > 0 {
		if err := db.MarkSent(ctx, sent); err != nil {
			errs = append(errs, fmt.Errorf("mark as sent: %w", err))
		}
		fault.Point("bus.marked")
	}
	return errors.Join(errs...)
}

// publish hands a row to the server under the event's id, by which it knows duplicates. A row that is no event
// could never be sent and would hold up the others: it becomes a dead letter.
func (c *Conn) publish(ctx context.Context, row store.Outgoing) (jetstream.PubAckFuture, error) {
	if _, err := Decode(row.Payload); err != nil {
		c.log.LogAttrs(ctx, slog.LevelError, "the outbox holds what is no event", slog.String("service", c.service), slog.String("event", row.ID), slog.String("error", err.Error()))
		return nil, c.keepDead(ctx, DeadLetter{
			Consumer: c.service + outboxLetters, Event: row.ID, Type: row.Type, Kind: fault.Invalid.String(), Code: "malformed_event",
			Reason: cut(err.Error(), maxReason), Attempts: 1, At: time.Now().UTC(), Raw: row.Payload,
		})
	}
	return c.js.PublishMsgAsync(&nats.Msg{Subject: row.Type, Data: row.Payload, Header: nats.Header{
		"Content-Type": []string{"application/cloudevents+json"},
	}}, jetstream.WithMsgID(row.ID))
}

// outboxLetters ends the consumer's name of a dead letter that never left the outbox.
const outboxLetters = "_outbox"

// settled waits for the server's answer; none is needed for a row that became a dead letter.
func settled(ctx context.Context, ack jetstream.PubAckFuture) error {
	if ack == nil {
		return nil
	}
	select {
	case <-ack.Ok():
		return nil
	case err := <-ack.Err():
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}
