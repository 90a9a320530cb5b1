// Package bus carries events between services on NATS JetStream, embedded or remote.
package bus

import (
	"context"
	"encoding/json"
	"log/slog"
	"time"

	"aran/platform/store"
)

// Server is the embedded JetStream server of `aran up`.
type Server struct{}

// StartServer starts an embedded server with its files in dir; it listens nowhere.
func StartServer(ctx context.Context, dir string, log *slog.Logger) (*Server, error) {
	panic("not built")
}

// Stop ends the server after its clients.
func (s *Server) Stop(ctx context.Context) error { panic("not built") }

// Conn is one service's connection.
type Conn struct{}

// Connect connects a service to an embedded server.
func Connect(ctx context.Context, s *Server, service string, log *slog.Logger) (*Conn, error) {
	panic("not built")
}

// Event is a received CloudEvents 1.0 event (structured JSON on the wire).
type Event struct {
	ID, Type, Source, Tenant, Actor, Subject string
	Time                                     time.Time
	Data                                     json.RawMessage
	Attempt                                  int // 1 for the first delivery
}

// Work is a subscription of which each event reaches one replica, once in effect.
type Work struct {
	Name        string   // durable name, unique within the service
	Types       []string // event types; "aran.chat.>" for all of a service's
	DB          *store.DB
	Handle      func(ctx context.Context, tx *store.Tx, e Event) error // runs in the transaction that also writes the inbox row
	Concurrency int                                                    // events in hand at once; 0 means 8
	MaxDeliver  int                                                    // then it becomes a dead letter; 0 means 10
}

// Subscribe starts a work subscription; Close stops what it started. ctx bounds only the set-up.
func (c *Conn) Subscribe(ctx context.Context, w Work) error { panic("not built") }

// Broadcast calls handle for each event of the types from now on, in every replica. Not durable.
func (c *Conn) Broadcast(ctx context.Context, types []string, handle func(ctx context.Context, e Event)) error {
	panic("not built")
}

// Relay publishes the outbox of db until Close; it wakes on commit and polls slowly. Replay marks all kept rows
// unsent first (after an unclean start).
func (c *Conn) Relay(ctx context.Context, db *store.DB, replay bool) error { panic("not built") }

// Close stops consumers, waits for handlers in hand, then the relay, then the connection.
func (c *Conn) Close(ctx context.Context) error { panic("not built") }
