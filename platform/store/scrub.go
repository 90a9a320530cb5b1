package store

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"time"
)

// ErrInUse is what Scrub returns when readers hold what it should empty; trying again helps.
var ErrInUse = errors.New("the database is being read")

const (
	overwrite   = `PRAGMA secure_delete = ON`
	moveJournal = `PRAGMA wal_checkpoint(TRUNCATE)`
	scrubTries  = 100
	scrubPause  = 10 * time.Millisecond
)

// Overwrite has the engine overwrite what this transaction deletes, instead of leaving it in a free page. On PostgreSQL
// that is left to Scrub.
func (tx *Tx) Overwrite(ctx context.Context) error {
	if tx.db.Shared() {
		return nil
	}
	_, err := tx.Exec(ctx, overwrite)
	return err
}

var tableName = regexp.MustCompile(`^[a-z_]{1,60}$`)

// Scrub removes what is left of deleted and changed rows of a table. On SQLite it moves the journal into the database
// and empties it. On PostgreSQL it writes the table anew, and its old file is deleted; the server's own log keeps older
// states until it is recycled, and archives of it for as long as they are kept.
func (db *DB) Scrub(ctx context.Context, table string) error {
	if !tableName.MatchString(table) {
		return fmt.Errorf("scrub: table %q", table)
	}
	if db.Shared() {
		_, err := db.write.ExecContext(ctx, "VACUUM (FULL) "+table)
		return classify(err)
	}
	for range scrubTries {
		var busy, pages, moved int
		if err := db.write.QueryRowContext(ctx, moveJournal).Scan(&busy, &pages, &moved); err != nil {
			return classify(err)
		}
		if busy == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(scrubPause):
		}
	}
	return ErrInUse
}
