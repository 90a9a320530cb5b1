package bus

import (
	"context"
	"log/slog"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"aran/platform/store"
)

// Old rows go, of the outbox and of the inbox, also for a service that only consumes.
func TestPrune(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := context.WithoutCancel(t.Context())
		db, err := store.Open(ctx, store.Options{Service: "shop", Path: filepath.Join(t.TempDir(), "shop.db"), Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		var inbox int
		err = db.Tx(ctx, func(tx *store.Tx) error {
			_, err := tx.Seen(ctx, "shop_count", "event")
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		<-time.After(keepSeen - time.Hour)
		life, cancel := context.WithCancel(ctx)
		c := &Conn{service: "shop", log: slog.New(slog.DiscardHandler), life: life, cancel: cancel, halt: make(chan struct{})}
		c.mu.Lock()
		c.keep(db)
		c.keep(db)
		c.mu.Unlock()
		rows := func() int {
			if err := db.QueryRow(ctx, `SELECT COUNT(*) FROM shop_inbox`).Scan(&inbox); err != nil {
				t.Fatal(err)
			}
			return inbox
		}
		<-time.After(time.Hour - time.Minute)
		if rows() != 1 {
			t.Error("an inbox row went before its time")
		}
		<-time.After(3*pruneEvery + time.Second)
		if rows() != 0 {
			t.Error("an old inbox row stays")
		}
		close(c.halt)
		c.relays.Wait()
		cancel()
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	})
}
