package store_test

import (
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"aran/platform/fault"
	"aran/platform/secret"
	"aran/platform/store"
	"aran/platform/store/pgtest"
	"aran/platform/store/storetest"
)

func openPostgres(t *testing.T, url string, m fstest.MapFS) (*store.DB, error) {
	t.Helper()
	return store.Open(t.Context(), store.Options{Service: "probe", URL: secret.New(url), Migrations: m})
}

func mustOpen(t *testing.T, url string) *store.DB {
	t.Helper()
	db, err := openPostgres(t, url, storetest.Migrations())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db
}

func TestPostgreSQL(t *testing.T) {
	server := pgtest.Start(t)
	storetest.Run(t, func(t *testing.T) *store.DB { t.Helper(); return mustOpen(t, server.Database()) })
	t.Run("migrations that do not fit are refused", func(t *testing.T) {
		url := server.Database()
		migrationsMustFit(t, func(m fstest.MapFS) (*store.DB, error) { return openPostgres(t, url, m) })
	})
	t.Run("replicas that start together migrate once", func(t *testing.T) {
		url := server.Database()
		var wg sync.WaitGroup
		for range 5 {
			wg.Go(func() { mustOpen(t, url) })
		}
		wg.Wait()
	})
	t.Run("replicas write one after the other", func(t *testing.T) { serial(t, server.Database()) })
	t.Run("a database that sorts otherwise is refused", func(t *testing.T) {
		server.Exec("postgres", "CREATE DATABASE probe_latin TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'")
		if _, err := openPostgres(t, server.URL("postgres", "probe_latin"), nil); err == nil || fault.From(err).Code != "database_locale" {
			t.Errorf("error %v", err)
		}
	})
	t.Run("an unreadable URL does not show its password", func(t *testing.T) {
		if _, err := openPostgres(t, "postgres://u:hunter2@[::1/x", nil); err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("error %v", err)
		}
	})
	t.Run("a server that hangs is a fault until it goes on", func(t *testing.T) { hang(t, server) })
	t.Run("a server that crashes is a fault until it is back", func(t *testing.T) { crash(t, server) })
}

func hang(t *testing.T, server *pgtest.Server) {
	store.Impatient(t, 300*time.Millisecond)
	db := mustOpen(t, server.Database())
	if err := add(t, db, "n", 7); err != nil {
		t.Fatal(err)
	}
	read := map[string]func(q store.Querier) error{
		"a row": func(q store.Querier) error {
			var n int64
			err := q.QueryRow(t.Context(), `SELECT n FROM probe_thing WHERE id = $1`, "n").Scan(&n)
			if err == nil && n != 7 {
				t.Errorf("read %d", n)
			}
			return err
		},
		"rows": func(q store.Querier) error {
			rows, err := q.Query(t.Context(), `SELECT n FROM probe_thing`)
			if err != nil {
				return err
			}
			for rows.Next() {
				continue
			}
			return errors.Join(rows.Err(), rows.Close())
		},
	}
	for name, r := range read { // the connections are there
		if err := r(db); err != nil {
			t.Fatal(name, err)
		}
	}
	server.Pause()
	resume := sync.OnceFunc(server.Resume)
	defer resume()
	for name, r := range read {
		if err := r(db); fault.KindOf(err) != fault.Unavailable {
			t.Errorf("%s: %v", name, err)
		}
		if err := db.Snapshot(t.Context(), r); fault.KindOf(err) != fault.Unavailable {
			t.Errorf("%s in a snapshot: %v", name, err)
		}
	}
	resume()
	for name, r := range read {
		if err := db.Snapshot(t.Context(), r); err != nil {
			t.Errorf("%s, after it went on: %v", name, err)
		}
	}
	err := db.Snapshot(t.Context(), func(q store.Querier) error {
		if err := read["a row"](q); err != nil {
			return err
		}
		server.Pause()
		defer server.Resume()
		return read["rows"](q)
	})
	if fault.KindOf(err) != fault.Unavailable {
		t.Errorf("within a snapshot: %v", err)
	}
}

// serial: what one replica read in a write transaction is still so when it writes, whatever the others do.
func serial(t *testing.T, url string) {
	a, b := mustOpen(t, url), mustOpen(t, url)
	if err := add(t, a, "n", 0); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for _, db := range []*store.DB{a, b} {
		for range 4 {
			wg.Go(func() {
				for range 25 {
					err := db.Tx(t.Context(), func(tx *store.Tx) error {
						var n int64
						if err := tx.QueryRow(t.Context(), `SELECT n FROM probe_thing WHERE id = $1`, "n").Scan(&n); err != nil {
							return err
						}
						return tx.ExecOne(t.Context(), `UPDATE probe_thing SET n = $1 WHERE id = $2`, n+1, "n")
					})
					if err != nil {
						t.Error(err)
					}
				}
			})
		}
	}
	wg.Wait()
	var n int64
	if err := a.QueryRow(t.Context(), `SELECT n FROM probe_thing WHERE id = $1`, "n").Scan(&n); err != nil || n != 200 {
		t.Errorf("counted to %d, want 200 (%v)", n, err)
	}
}

func add(t *testing.T, db *store.DB, id string, n int64) error {
	t.Helper()
	return db.Tx(t.Context(), func(tx *store.Tx) error {
		_, err := tx.Exec(t.Context(), `INSERT INTO probe_thing (id, n) VALUES ($1, $2)`, id, n)
		return err
	})
}

func crash(t *testing.T, server *pgtest.Server) {
	db := mustOpen(t, server.Database())
	if err := add(t, db, "before", 1); err != nil {
		t.Fatal(err)
	}
	server.Kill()
	if err := add(t, db, "lost", 1); fault.KindOf(err) != fault.Unavailable {
		t.Errorf("a write without a server: %v", err)
	}
	var n int
	if err := db.QueryRow(t.Context(), `SELECT COUNT(*) FROM probe_thing`).Scan(&n); fault.KindOf(err) != fault.Unavailable {
		t.Errorf("a read without a server: %v", err)
	}
	server.Restart()
	deadline := time.Now().Add(20 * time.Second)
	for {
		err := add(t, db, "after", 1)
		if err == nil || store.IsUnique(err) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("it does not come back: %v", err)
		}
	}
	if err := db.QueryRow(t.Context(), `SELECT COUNT(*) FROM probe_thing`).Scan(&n); err != nil || n != 2 {
		t.Errorf("%d rows, %v; want what was acknowledged", n, err)
	}
	if err := add(t, db, "before", 1); !store.IsUnique(err) {
		t.Errorf("a key twice: %v", err)
	}
}
