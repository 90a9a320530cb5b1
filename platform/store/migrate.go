package store

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"aran/platform/fault"
)

// breaks is the first line of a migration after which the program of before it no longer works on the database. All
// others only add, so that a service can be rolled back.
const breaks = "-- breaking"

// migrate runs what is new, each file in a transaction of its own.
func (db *DB) migrate(ctx context.Context, files fs.FS) error {
	for _, q := range db.text.own {
		if _, err := db.write.ExecContext(ctx, db.expand(q)); err != nil {
			return err
		}
	}
	done, err := db.applied(ctx)
	if err != nil {
		return err
	}
	breaking, err := db.breaking(ctx)
	if err != nil {
		return err
	}
	var names []string
	if files != nil {
		if names, err = fs.Glob(files, "*.sql"); err != nil {
			return err
		}
		if len(names) == 0 {
			if names, err = fs.Glob(files, "migrations/*.sql"); err != nil {
				return err
			}
		}
	}
	slices.Sort(names)
	known := map[string]bool{}
	for _, name := range names {
		known[base(name)] = true
		if err := db.migrateOne(ctx, files, name, done); err != nil {
			return err
		}
	}
	for _, name := range breaking {
		if !known[name] {
			return fault.New(fault.Conflict, "database_newer", "The database of %s was made by a newer version of this program (%s); use that version.", db.service, name)
		}
	}
	return nil
}

func (db *DB) applied(ctx context.Context) (map[string]string, error) {
	rows, err := db.write.QueryContext(ctx, db.text.migrations)
	if err != nil {
		return nil, err
	}
	defer rows.Close() //nolint:errcheck // read only
	done := map[string]string{}
	for rows.Next() {
		var name, sum string
		if err := rows.Scan(&name, &sum); err != nil {
			return nil, err
		}
		done[name] = sum
	}
	return done, rows.Err()
}

// breaking lists migrations that older programs must not ignore.
func (db *DB) breaking(ctx context.Context) (names []string, err error) {
	rows, err := db.write.QueryContext(ctx, db.text.breaking)
	if err != nil {
		return nil, err
	}
	defer rows.Close() //nolint:errcheck // read only
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			return nil, err
		}
		names = append(names, name)
	}
	return names, rows.Err()
}

func (db *DB) migrateOne(ctx context.Context, files fs.FS, name string, done map[string]string) error {
	b, err := fs.ReadFile(files, name)
	if err != nil {
		return err
	}
	h := sha256.Sum256(b)
	sum := hex.EncodeToString(h[:])
	if old, ok := done[base(name)]; ok {
		if old != sum {
			return fault.New(fault.Conflict, "migration_changed", "The migration %s of %s is not the one that made this database.", base(name), db.service)
		}
		return nil
	}
	tx, err := db.write.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback() //nolint:errcheck // does nothing after the commit
	if _, err := tx.ExecContext(ctx, db.expand(string(b))); err != nil {
		return fmt.Errorf("migration %s: %w", name, err)
	}
	if _, err := tx.ExecContext(ctx, db.text.migrated, base(name), sum, time.Now().UnixMicro()); err != nil {
		return fmt.Errorf("migration %s: %w", name, err)
	}
	if strings.HasPrefix(string(b), breaks) {
		if _, err := tx.ExecContext(ctx, db.text.breaks, base(name)); err != nil {
			return fmt.Errorf("migration %s: %w", name, err)
		}
	}
	return tx.Commit()
}

func base(name string) string { return name[strings.LastIndexByte(name, '/')+1:] }
