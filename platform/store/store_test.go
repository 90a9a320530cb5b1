package store_test

import (
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"aran/platform/fault"
	"aran/platform/store"
	"aran/platform/store/storetest"
)

func open(t *testing.T, path string, m fstest.MapFS) (*store.DB, error) {
	t.Helper()
	return store.Open(t.Context(), store.Options{Service: "probe", Path: path, Migrations: m})
}

func TestSQLite(t *testing.T) {
	storetest.Run(t, func(t *testing.T) *store.DB {
		t.Helper()
		db, err := open(t, filepath.Join(t.TempDir(), "probe.db"), storetest.Migrations())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := db.Close(); err != nil {
				t.Error(err)
			}
		})
		return db
	})
}

func TestMigrationsThatDoNotFitAreRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "probe.db")
	migrationsMustFit(t, func(m fstest.MapFS) (*store.DB, error) { return open(t, path, m) })
}

func migrationsMustFit(t *testing.T, open func(m fstest.MapFS) (*store.DB, error)) {
	t.Helper()
	opens := func(m fstest.MapFS) {
		t.Helper()
		db, err := open(m)
		if err == nil {
			err = db.Close()
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	first := storetest.Migrations()
	opens(first)
	changed := fstest.MapFS{"0001_start.sql": {Data: []byte(`CREATE TABLE probe_other (id TEXT)`)}}
	if _, err := open(changed); err == nil || fault.From(err).Code != "migration_changed" {
		t.Errorf("a changed migration: %v", err)
	}
	broken := storetest.Migrations()
	broken["0002_more.sql"] = &fstest.MapFile{Data: []byte(`CREATE TABLE probe_half (id TEXT); SELEC nonsense`)}
	if _, err := open(broken); err == nil || !strings.Contains(err.Error(), "0002_more.sql") {
		t.Errorf("a broken migration: %v", err)
	}
	opens(first) // the half of it is gone
	adds := storetest.Migrations()
	adds["0002_more.sql"] = &fstest.MapFile{Data: []byte(`ALTER TABLE probe_thing ADD COLUMN more TEXT`)}
	opens(adds)
	opens(first) // rolled back: what a newer one added does no harm
	adds["0003_break.sql"] = &fstest.MapFile{Data: []byte("-- breaking\nALTER TABLE probe_thing DROP COLUMN more")}
	opens(adds)
	if _, err := open(first); err == nil || fault.From(err).Code != "database_newer" {
		t.Errorf("a migration from the future that breaks: %v", err)
	}
}

func TestReadOnlyBesideAWriter(t *testing.T) {
	path := filepath.Join(t.TempDir(), "probe.db")
	db, err := open(t, path, storetest.Migrations())
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close() //nolint:errcheck // the test is about the other one
	ro, err := store.OpenReadOnly(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer ro.Close() //nolint:errcheck // it only reads
	err = ro.Snapshot(t.Context(), func(q store.Querier) error {
		var before, after int
		if err := q.QueryRow(t.Context(), `SELECT COUNT(*) FROM probe_thing`).Scan(&before); err != nil {
			return err
		}
		err := db.Tx(t.Context(), func(tx *store.Tx) error {
			_, err := tx.Exec(t.Context(), `INSERT INTO probe_thing (id, n) VALUES ('a', 1)`)
			return err
		})
		if err != nil {
			return err
		}
		if err := q.QueryRow(t.Context(), `SELECT COUNT(*) FROM probe_thing`).Scan(&after); err != nil {
			return err
		}
		if before != 0 || after != 0 {
			t.Errorf("the snapshot moved from %d to %d rows", before, after)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ro.Query(t.Context(), `DELETE FROM probe_thing`); err == nil {
		t.Error("it wrote")
	}
}
