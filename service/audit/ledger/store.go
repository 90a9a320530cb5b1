package ledger

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math"
	"os"
	"path/filepath"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"aran/platform/secret"
	"aran/platform/store"
)

const (
	selectKey         = `SELECT verifier FROM audit_key WHERE id = 1`
	selectNewest      = `SELECT signed FROM audit_checkpoint ORDER BY size DESC LIMIT 1`
	selectCheckpoints = `SELECT size, root, signed FROM audit_checkpoint ORDER BY size`
	selectEntries     = `SELECT seq, event_id, tenant, type, leaf, added_at FROM audit_entry WHERE seq >= $1 ORDER BY seq LIMIT $2`
	selectEvent       = `SELECT seq, leaf FROM audit_entry WHERE event_id = $1`
	selectNodes       = `SELECT id, hash FROM audit_node WHERE id >= $1 ORDER BY id LIMIT $2`
	selectNode        = `SELECT hash FROM audit_node WHERE id = $1`
)

const page = 1000

// Place is where a log is kept: in a data directory; or in a PostgreSQL database, and only the verifier key in the directory.
type Place struct {
	Dir string        // data directory
	URL secret.String // of the database of the service audit; empty: its file in Dir
}

// In is a Place without a database elsewhere.
func In(dir string) Place { return Place{Dir: dir} }

// open opens the database for reading.
func (p Place) open(ctx context.Context) (*store.ReadOnly, error) {
	if !p.URL.Empty() {
		return store.OpenReadOnlyURL(ctx, p.URL)
	}
	path := filepath.Join(p.Dir, "audit", "audit.db")
	if _, err := os.Stat(path); err != nil {
		return nil, fmt.Errorf("no audit log in %s: %w", p.Dir, err)
	}
	return store.OpenReadOnly(ctx, path)
}

// source reads the log of a data directory beside whoever writes it.
type source struct {
	db      *store.ReadOnly
	key     note.Verifier
	keyLine string
}

// entry is a row of the log.
type entry struct {
	seq              int64
	id, tenant, kind string
	leaf             []byte
	added            int64
}

func openSource(ctx context.Context, place Place) (*source, error) {
	db, err := place.open(ctx)
	if err != nil {
		return nil, fmt.Errorf("open audit log: %w", err)
	}
	s, err := readSource(ctx, place, db)
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return s, nil
}

func readSource(ctx context.Context, place Place, db *store.ReadOnly) (*source, error) {
	file, err := os.ReadFile(filepath.Join(place.Dir, "audit", fileKey))
	if err != nil {
		return nil, fmt.Errorf("read the verifier key: %w", err)
	}
	v, err := ParseKey(file)
	if err != nil {
		return nil, err
	}
	s := &source{db: db, key: v, keyLine: string(file[:len(file)-1])}
	var line string
	err = db.QueryRow(ctx, selectKey).Scan(&line)
	if err == nil && line != s.keyLine {
		err = broken("the database names another verifier key than the file %s", fileKey)
	}
	if err != nil {
		return nil, fmt.Errorf("open audit log: %w", err)
	}
	return s, nil
}

func (s *source) close() { _ = s.db.Close() } // only read

func (s *source) newest(ctx context.Context) ([]byte, error) {
	var signed []byte
	err := s.db.QueryRow(ctx, selectNewest).Scan(&signed)
	if store.NoRows(err) {
		return nil, broken("there is no checkpoint")
	}
	return signed, err
}

// stored is a checkpoint's row.
type stored struct {
	size         int64
	root, signed []byte
}

func (s *source) checkpoints(ctx context.Context) (out []stored, err error) {
	rows, err := s.db.Query(ctx, selectCheckpoints)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var c stored
		if err := rows.Scan(&c.size, &c.root, &c.signed); err != nil {
			return nil, err
		}
		out = append(out, c)
	}
	return out, rows.Err()
}

// entries yields all rows before end, also those that have no business there. No query stays open while the
// caller works.
func (s *source) entries(ctx context.Context, end int64) iter.Seq2[entry, error] {
	return func(yield func(entry, error) bool) {
		for next := int64(math.MinInt64); ; {
			batch, err := s.batch(ctx, next)
			if err != nil {
				yield(entry{}, err)
				return
			}
			for _, e := range batch {
				if e.seq >= end {
					return
				}
				if !yield(e, nil) {
					return
				}
				next = e.seq + 1
			}
			if len(batch) < page {
				return
			}
		}
	}
}

func (s *source) batch(ctx context.Context, seq int64) (out []entry, err error) {
	rows, err := s.db.Query(ctx, selectEntries, seq, page)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var e entry
		if err := rows.Scan(&e.seq, &e.id, &e.tenant, &e.kind, &e.leaf, &e.added); err != nil {
			return nil, err
		}
		out = append(out, e)
	}
	return out, rows.Err()
}

// event finds an entry by its event.
func (s *source) event(ctx context.Context, id string) (seq int64, leaf []byte, err error) {
	err = s.db.QueryRow(ctx, selectEvent, id).Scan(&seq, &leaf)
	if store.NoRows(err) {
		return 0, nil, fmt.Errorf("the log holds no event %q", id)
	}
	return seq, leaf, err
}

// nodes reads up to n stored nodes from id on; the ids have no gap.
func (s *source) nodes(ctx context.Context, id int64, n int) (out []tlog.Hash, err error) {
	rows, err := s.db.Query(ctx, selectNodes, id, n)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var got int64
		var hash []byte
		if err := rows.Scan(&got, &hash); err != nil {
			return nil, err
		}
		if got != id || len(hash) != tlog.HashSize {
			return nil, broken("node %d of the tree is missing or damaged", id)
		}
		out = append(out, tlog.Hash(hash))
		id++
	}
	return out, rows.Err()
}

// reader makes the stored nodes a tlog.HashReader.
func (s *source) reader(ctx context.Context) tlog.HashReader {
	return tlog.HashReaderFunc(func(ids []int64) ([]tlog.Hash, error) {
		out := make([]tlog.Hash, len(ids))
		for i, id := range ids {
			var hash []byte
			if err := s.db.QueryRow(ctx, selectNode, id).Scan(&hash); err != nil {
				return nil, fmt.Errorf("node %d of the tree: %w", id, err)
			}
			if len(hash) != tlog.HashSize {
				return nil, broken("node %d of the tree is damaged", id)
			}
			out[i] = tlog.Hash(hash)
		}
		return out, nil
	})
}
