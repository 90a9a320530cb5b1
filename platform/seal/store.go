package seal

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"aran/platform/fault"
	"aran/platform/store"
)

//go:embed migrations/*.sql
var files embed.FS

func migrations() (fs.FS, error) { return fs.Sub(files, "migrations") }

const (
	insertKeyring = `INSERT INTO seal_keyring (service, fingerprint, namer, created_at) VALUES ($1, $2, $3, $4) ON CONFLICT (service) DO NOTHING`
	selectKeyring = `SELECT service, fingerprint, namer FROM seal_keyring`
	insertSubject = `INSERT INTO seal_subject (id, data_key, pseudonym, created_at) VALUES ($1, $2, $3, $4) ON CONFLICT (id) DO NOTHING`
	selectSubject = `SELECT id, data_key, pseudonym, erased_at FROM seal_subject WHERE id = $1`
	selectByName  = `SELECT id, data_key, pseudonym, erased_at FROM seal_subject WHERE pseudonym = $1`
	eraseSubject  = `INSERT INTO seal_subject (id, created_at, erased_at) VALUES ($1, $2, $2)
		ON CONFLICT (id) DO UPDATE SET data_key = NULL, pseudonym = NULL, erased_at = excluded.erased_at WHERE seal_subject.erased_at IS NULL`
)

// keyring writes the row of a new database, or returns the one that is there.
func (b *Box) keyring(ctx context.Context, fingerprint string, namer []byte) (service, known string, wrapped []byte, err error) {
	err = b.db.Tx(ctx, func(tx *store.Tx) error {
		if _, err := tx.Exec(ctx, insertKeyring, b.service, fingerprint, namer, time.Now().UnixMicro()); err != nil {
			return err
		}
		return tx.QueryRow(ctx, selectKeyring).Scan(&service, &known, &wrapped)
	})
	return service, known, wrapped, err
}

// row is a subject's wrapped key.
type row struct {
	id, dataKey []byte
	pseudonym   string
}

var errUnknown = errors.New("no such subject")

// find returns errUnknown for a subject that has no row, and a fault for an erased one.
func (b *Box) find(ctx context.Context, id []byte) (row, error) {
	return scanSubject(b.db.QueryRow(ctx, selectSubject, id))
}

// findByPseudonym is find for who does not know the subject's name.
func (b *Box) findByPseudonym(ctx context.Context, pseudonym string) (row, error) {
	return scanSubject(b.db.QueryRow(ctx, selectByName, pseudonym))
}

// keep writes a new subject's keys unless there are some, and returns those that hold.
func (b *Box) keep(ctx context.Context, fresh row) (row, error) {
	var r row
	err := b.db.Tx(ctx, func(tx *store.Tx) error {
		if _, err := tx.Exec(ctx, insertSubject, fresh.id, fresh.dataKey, fresh.pseudonym, time.Now().UnixMicro()); err != nil {
			return err
		}
		var err error
		r, err = scanSubject(tx.QueryRow(ctx, selectSubject, fresh.id))
		return err
	})
	return r, err
}

func scanSubject(s store.Row) (row, error) {
	var r row
	var pseudonym sql.NullString
	var erased sql.NullInt64
	err := s.Scan(&r.id, &r.dataKey, &pseudonym, &erased)
	r.pseudonym = pseudonym.String
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return row{}, errUnknown
	case err != nil:
		return row{}, fmt.Errorf("read keys: %w", err)
	case erased.Valid:
		return row{}, errErased()
	}
	return r, nil
}

// erase takes the keys out of the row; the database is told to leave no trace of them.
func (b *Box) erase(ctx context.Context, id []byte) error {
	return b.db.Tx(ctx, func(tx *store.Tx) error {
		if err := tx.Overwrite(ctx); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, eraseSubject, id, time.Now().UnixMicro())
		return err
	})
}

// scrub empties what still holds erased keys: journals, or pages of the table that nobody reads any more.
func (b *Box) scrub(ctx context.Context) error {
	err := b.db.Scrub(ctx, "seal_subject")
	if errors.Is(err, store.ErrInUse) {
		return fault.New(fault.Unavailable, "erasure_unfinished", "The keys are erased, but traces of them are still in a journal; erase again.")
	}
	return err
}
