package bus

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"aran/platform/fault"
)

// Trimming takes away what every consumer is done with, and nothing that one of them still needs.
func TestTrim(t *testing.T) {
	s, err := StartServer(t.Context(), t.TempDir(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Stop(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	ctx := t.Context()
	for i := range 100 {
		if _, err := s.js.Publish(ctx, fmt.Sprint("aran.farm.e", i%2, ".v1"), make([]byte, 1000)); err != nil {
			t.Fatal(err)
		}
	}
	first := func() uint64 {
		t.Helper()
		stream, err := s.js.Stream(ctx, streamEvents)
		if err != nil {
			t.Fatal(err)
		}
		return stream.CachedInfo().State.FirstSeq
	}
	run := func(keep uint64, before time.Time) {
		t.Helper()
		if err := trim(ctx, s.js, keep, before); err != nil {
			t.Fatal(err)
		}
	}
	consume := func(name, filter string, n int) {
		t.Helper()
		c, err := s.js.CreateOrUpdateConsumer(ctx, streamEvents, jetstream.ConsumerConfig{Durable: name, FilterSubject: filter, AckPolicy: jetstream.AckExplicitPolicy})
		if err != nil {
			t.Fatal(err)
		}
		for range n {
			m, err := c.Next()
			if err != nil {
				t.Fatal(err)
			}
			if err := m.DoubleAck(ctx); err != nil {
				t.Fatal(err)
			}
		}
	}
	long, tomorrow := time.Now().Add(-time.Hour), time.Now().Add(24*time.Hour)
	if run(0, tomorrow); first() != 1 {
		t.Errorf("without a consumer the stream begins at %d", first())
	}
	consume("all", "aran.>", 60)
	if run(0, tomorrow); first() != 61 {
		t.Errorf("60 are done with, and the stream begins at %d", first())
	}
	consume("some", "aran.farm.e1.>", 0)
	consume("all", "aran.>", 40)
	if run(0, tomorrow); first() != 61 {
		t.Errorf("a consumer needs 62, and the stream begins at %d", first())
	}
	consume("some", "aran.farm.e1.>", 20)
	if run(0, long); first() < 100 {
		t.Errorf("all are done with and no byte may stay; the stream begins at %d", first())
	}
	for range 50 {
		if _, err := s.js.Publish(ctx, "aran.farm.e0.v1", make([]byte, 1000)); err != nil {
			t.Fatal(err)
		}
	}
	consume("all", "aran.>", 50)
	at := first()
	if run(30_000, long); first() <= at || first() > 130 {
		t.Errorf("some 28 of 50 should stay; the stream begins at %d", first())
	}
	at = first()
	if run(softBytes, long); first() != at {
		t.Errorf("few and young ones should stay; the stream begins at %d, not %d", first(), at)
	}
}

func TestBackoff(t *testing.T) {
	for _, c := range []struct {
		name    string
		attempt int
		kind    fault.Kind
		most    time.Duration
	}{
		{"the first retry is quick", 1, fault.Internal, time.Second},
		{"it doubles", 3, fault.Internal, 4 * time.Second},
		{"up to a minute", 60, fault.Internal, time.Minute},
		{"longer while a part is away", 1, fault.Unavailable, 5 * time.Second},
		{"up to five minutes", 60, fault.Unavailable, 5 * time.Minute},
	} {
		for range 100 {
			if d := backoff(c.attempt, c.kind); d > c.most || d < c.most*4/5 {
				t.Errorf("%s: %s, want up to a fifth less than %s", c.name, d, c.most)
			}
		}
	}
}
