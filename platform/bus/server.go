package bus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sort"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// The streams. Events live on subjects equal to their type; a dead letter that is replayed goes to its consumer alone.
const (
	streamEvents = "ARAN"
	streamDead   = "ARAN_DEAD"
	subjectRetry = "aran_retry."
	subjectDead  = "aran_dead."
)

const (
	syncEvery    = 30 * time.Second // what a power failure may take; the outbox keeps rows for longer than that
	dedupeWindow = 2 * time.Minute
	hardBytes    = 1 << 30  // then publishing is refused and events wait in their outbox: nothing is dropped
	softBytes    = 64 << 20 // of events that every consumer is done with
	keepDone     = 7 * 24 * time.Hour
	deadBytes    = 128 << 20
	maxStore     = 2 << 30
	maxMemory    = 16 << 20
	trimEvery    = time.Minute
	readyTimeout = 10 * time.Second
)

// Server is the embedded JetStream server of `aran up`.
type Server struct {
	ns   *server.Server
	nc   *nats.Conn
	js   jetstream.JetStream
	log  *slog.Logger
	stop context.CancelFunc
	done sync.WaitGroup
}

// StartServer starts an embedded server with its files in dir; it listens nowhere.
func StartServer(ctx context.Context, dir string, log *slog.Logger) (*Server, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("start bus: %w", err)
	}
	ns, err := server.NewServer(&server.Options{
		ServerName: "aran", DontListen: true, NoSigs: true, NoSystemAccount: true,
		JetStream: true, StoreDir: dir, SyncInterval: syncEvery, JetStreamMaxStore: maxStore, JetStreamMaxMemory: maxMemory,
		DisableJetStreamBanner: true,
	})
	if err != nil {
		return nil, fmt.Errorf("start bus: %w", err)
	}
	ns.SetLoggerV2(serverLog{log}, false, false, false)
	ns.Start()
	s := &Server{ns: ns, log: log}
	if err := s.open(ctx); err != nil {
		s.end()
		return nil, fmt.Errorf("start bus in %s: %w", dir, err)
	}
	loop, stop := context.WithCancel(context.WithoutCancel(ctx))
	s.stop = stop
	s.done.Go(func() { trimLoop(loop, s.js, s.log) })
	return s, nil
}

func (s *Server) open(ctx context.Context) error {
	if !s.ns.ReadyForConnections(readyTimeout) {
		return errors.New("the server is not ready in time")
	}
	if !s.ns.JetStreamEnabled() {
		return errors.New("its files cannot be used; the log says why")
	}
	var err error
	if s.nc, err = nats.Connect("", nats.InProcessServer(s.ns), nats.Name("aran"), nats.MaxReconnects(-1)); err != nil {
		return err
	}
	if s.js, err = jetstream.New(s.nc); err != nil {
		return err
	}
	return ensureStreams(ctx, s.js)
}

func streams() []jetstream.StreamConfig {
	return []jetstream.StreamConfig{
		{
			Name: streamEvents, Subjects: []string{"aran.>", subjectRetry + ">"}, Storage: jetstream.FileStorage, Duplicates: dedupeWindow,
			MaxBytes: hardBytes, Discard: jetstream.DiscardNew, MaxMsgSize: maxEvent + 4096,
		},
		{
			Name: streamDead, Subjects: []string{subjectDead + ">"}, Storage: jetstream.FileStorage,
			MaxMsgsPerSubject: 1, MaxBytes: deadBytes, Discard: jetstream.DiscardNew,
		},
	}
}

func ensureStreams(ctx context.Context, js jetstream.JetStream) error {
	for _, c := range streams() {
		if _, err := js.CreateOrUpdateStream(ctx, c); err != nil {
			return fmt.Errorf("stream %s: %w", c.Name, err)
		}
	}
	return nil
}

// Stop ends the server after its clients.
func (s *Server) Stop(ctx context.Context) error {
	s.stop()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		s.done.Wait()
		s.end()
	}()
	select {
	case <-ended:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("stop bus: %w", ctx.Err())
	}
}

func (s *Server) end() {
	if s.nc != nil {
		s.nc.Close()
	}
	s.ns.Shutdown()
	s.ns.WaitForShutdown()
}

func trimLoop(ctx context.Context, js jetstream.JetStream, log *slog.Logger) {
	tick := time.NewTicker(trimEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if err := trim(ctx, js, softBytes, time.Now().Add(-keepDone)); err != nil && ctx.Err() == nil {
			log.LogAttrs(ctx, slog.LevelWarn, "bus not trimmed", slog.String("error", err.Error()))
		}
	}
}

// trim removes events that every consumer is done with: those older than before, and the oldest while there are
// more bytes than keep. What a consumer still needs stays, however old.
func trim(ctx context.Context, js jetstream.JetStream, keep uint64, before time.Time) error {
	stream, err := js.Stream(ctx, streamEvents)
	if err != nil {
		return err
	}
	st := stream.CachedInfo().State
	if st.Msgs == 0 || (st.Bytes <= keep && st.FirstTime.After(before)) {
		return nil
	}
	end, err := finished(ctx, stream, st) // everything up to and with end is done with
	if err != nil || end < st.FirstSeq {
		return err
	}
	cut := st.FirstSeq // the first to stay
	if st.Bytes > keep {
		mean := max(st.Bytes/st.Msgs, 1)
		cut = min(st.FirstSeq+(st.Bytes-keep)/mean+1, end+1)
	}
	young := uint64(sort.Search(int(end+1-cut), func(i int) bool { //nolint:gosec // a difference of two sequence numbers
		m, err := stream.GetMsg(ctx, cut+uint64(i)) //nolint:gosec // not negative
		return err == nil && m.Time.After(before)
	}))
	if cut += young; cut == st.FirstSeq {
		return nil
	}
	return stream.Purge(ctx, jetstream.WithPurgeSequence(cut))
}

// finished is the last sequence number that no consumer needs any more; 0 when there is none, or no consumer.
func finished(ctx context.Context, stream jetstream.Stream, st jetstream.StreamState) (uint64, error) {
	end, seen := st.LastSeq, false
	list := stream.ListConsumers(ctx)
	for c := range list.Info() {
		if c.Config.AckPolicy == jetstream.AckNonePolicy {
			continue // a broadcast has what it has
		}
		seen = true
		if c.NumPending > 0 || c.NumAckPending > 0 {
			end = min(end, c.AckFloor.Stream)
		}
	}
	if err := list.Err(); err != nil {
		return 0, err
	}
	if !seen {
		return 0, nil
	}
	return end, nil
}

// serverLog passes the server's words on to slog.
type serverLog struct{ log *slog.Logger }

func (l serverLog) say(level slog.Level, format string, v []any) {
	l.log.LogAttrs(context.Background(), level, "nats", slog.String("text", fmt.Sprintf(format, v...)))
}

func (l serverLog) Noticef(format string, v ...any) { l.say(slog.LevelDebug, format, v) }
func (l serverLog) Warnf(format string, v ...any)   { l.say(slog.LevelWarn, format, v) }
func (l serverLog) Fatalf(format string, v ...any)  { l.say(slog.LevelError, format, v) }
func (l serverLog) Errorf(format string, v ...any)  { l.say(slog.LevelError, format, v) }
func (l serverLog) Debugf(format string, v ...any)  { l.say(slog.LevelDebug, format, v) }
func (l serverLog) Tracef(format string, v ...any)  { l.say(slog.LevelDebug, format, v) }
