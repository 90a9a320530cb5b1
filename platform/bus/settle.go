package bus

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	settlePause = time.Second
	settleLimit = 5 * time.Second // of one call
)

// errAway answers what needs the hub now.
var errAway = errors.New("the bus is away")

// wish is something that should be at the hub: it is made when the hub is there, and looked at again after it was away.
type wish struct {
	what string
	make func(ctx context.Context) error // may be called again
	done bool
}

// establish makes a wish true, now or as soon as the hub is there. What the hub refuses is an error.
func (c *Conn) establish(ctx context.Context, w *wish) error {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return errClosed
	}
	there := c.prepared && c.nc.IsConnected()
	c.mu.Unlock()
	if there {
		err := w.make(ctx)
		if err != nil && !passing(err) {
			return err
		}
		w.done = err == nil
	}
	c.mu.Lock()
	c.wishes = append(c.wishes, w)
	c.mu.Unlock()
	if !w.done {
		c.log.LogAttrs(ctx, slog.LevelWarn, "bus is away; it is looked for", slog.String("service", c.service), slog.String("wanted", w.what))
		c.notice()
	}
	return nil
}

// passing reports whether an error is of a hub that is away, or not yet whole: a cluster without a leader.
func passing(err error) bool {
	if api, ok := errors.AsType[*jetstream.APIError](err); ok {
		return api.Code >= 500
	}
	for _, p := range []error{
		nats.ErrTimeout, nats.ErrNoResponders, nats.ErrNoServers, nats.ErrDisconnected, nats.ErrConnectionReconnecting, nats.ErrStaleConnection, nats.ErrReconnectBufExceeded,
		jetstream.ErrNoStreamResponse, jetstream.ErrJetStreamNotEnabled, context.DeadlineExceeded, errAway,
	} {
		if errors.Is(err, p) {
			return true
		}
	}
	return false
}

func (c *Conn) notice() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// settle makes wishes true until Close.
func (c *Conn) settle() {
	tick := time.NewTimer(settlePause)
	defer tick.Stop()
	for {
		var again <-chan time.Time
		if !c.settleOnce(c.life) {
			tick.Reset(settlePause)
			again = tick.C
		}
		select {
		case <-c.wake:
		case <-again:
		case <-c.life.Done():
			return
		}
		c.mu.Lock()
		closed := c.closed
		c.mu.Unlock()
		if closed {
			return
		}
	}
}

// settleOnce reports whether nothing is left to do.
func (c *Conn) settleOnce(ctx context.Context) bool {
	c.mu.Lock()
	prepared, wishes := c.prepared, append([]*wish(nil), c.wishes...)
	c.mu.Unlock()
	if !c.nc.IsConnected() {
		return false
	}
	call := func(what string, fn func(ctx context.Context) error) bool {
		ctx, cancel := context.WithTimeout(ctx, settleLimit)
		defer cancel()
		err := fn(ctx)
		if err != nil && c.life.Err() == nil {
			c.log.LogAttrs(ctx, slog.LevelWarn, "bus not ready", slog.String("service", c.service), slog.String("wanted", what), slog.String("error", err.Error()))
		}
		return err == nil
	}
	if !prepared {
		if !call("streams", func(ctx context.Context) error { return c.hub.prepare(ctx, c.js) }) {
			return false
		}
		c.mu.Lock()
		c.prepared = true
		c.mu.Unlock()
	}
	all := true
	for _, w := range wishes {
		if c.isDone(w) {
			continue
		}
		if !call(w.what, w.make) {
			all = false
			continue
		}
		c.mu.Lock()
		w.done = true
		c.mu.Unlock()
	}
	return all
}

func (c *Conn) isDone(w *wish) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return w.done
}

// watch makes the connection tell what happens to it.
func (c *Conn) watch() []nats.Option {
	about := func(err error) []slog.Attr {
		attrs := []slog.Attr{slog.String("service", c.service)}
		if err != nil {
			attrs = append(attrs, slog.String("error", err.Error()))
		}
		return attrs
	}
	return []nats.Option{
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			c.log.LogAttrs(c.life, slog.LevelWarn, "bus connection", about(err)...)
		}),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if c.life.Err() == nil {
				c.log.LogAttrs(c.life, slog.LevelWarn, "bus is away; events wait in the outbox", about(err)...)
			}
		}),
		nats.ConnectHandler(func(*nats.Conn) { c.notice() }),
		nats.ReconnectHandler(func(*nats.Conn) {
			c.log.LogAttrs(c.life, slog.LevelInfo, "bus is back", about(nil)...)
			c.back()
		}),
	}
}

// back has everything looked at again: the hub may have come back without what it had.
func (c *Conn) back() {
	c.mu.Lock()
	c.prepared = false
	for _, w := range c.wishes {
		w.done = false
	}
	c.mu.Unlock()
	c.forgot.Add(1)
	c.notice()
}

// Ping fails while the hub is away.
func (c *Conn) Ping(context.Context) error {
	if !c.nc.IsConnected() {
		return errAway
	}
	return nil
}
