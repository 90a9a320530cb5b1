package audit

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"aran/platform/bus"
	"aran/platform/fault"
	"aran/platform/store"
	"aran/service/audit/ledger"
)

// Migrations are the tables of the service.
//
//go:embed migrations/*.sql
var Migrations embed.FS

const (
	selectKnown  = `SELECT COUNT(*) FROM audit_entry WHERE event_id = $1`
	insertEntry  = `INSERT INTO audit_entry (seq, event_id, tenant, type, leaf, added_at) SELECT COALESCE(MAX(seq), -1) + 1, $1, $2, $3, $4, $5 FROM audit_entry`
	selectLeaves = `SELECT seq, leaf FROM audit_entry WHERE seq >= $1 ORDER BY seq LIMIT $2`

	selectEvent  = `SELECT seq, leaf FROM audit_entry WHERE event_id = $1 AND tenant = $2`
	selectAll    = `SELECT seq, leaf FROM audit_entry WHERE tenant = $1 AND seq < $2 ORDER BY seq DESC LIMIT $3`
	selectType   = `SELECT seq, leaf FROM audit_entry WHERE tenant = $1 AND seq < $2 AND type = $4 ORDER BY seq DESC LIMIT $3`
	selectPrefix = `SELECT seq, leaf FROM audit_entry WHERE tenant = $1 AND seq < $2 AND type >= $4 AND type < $5 ORDER BY seq DESC LIMIT $3`

	selectKey = `SELECT sealed, verifier FROM audit_key WHERE id = 1`
	insertKey = `INSERT INTO audit_key (id, verifier, sealed, made_at) VALUES (1, $1, $2, $3) ON CONFLICT (id) DO NOTHING`

	selectNode  = `SELECT hash FROM audit_node WHERE id = $1`
	insertNode  = `INSERT INTO audit_node (id, hash) VALUES ($1, $2) ON CONFLICT (id) DO UPDATE SET hash = excluded.hash`
	deleteNodes = `DELETE FROM audit_node WHERE id >= $1`

	selectCheckpoint = `SELECT size, root, signed, signed_at FROM audit_checkpoint ORDER BY size DESC LIMIT 1`
	insertCheckpoint = `INSERT INTO audit_checkpoint (size, root, signed, signed_at) VALUES ($1, $2, $3, $4)`
	// The newest of each hour stays, for ever; $1 is the beginning of this hour, $2 an hour.
	thinCheckpoints = `DELETE FROM audit_checkpoint WHERE signed_at < $1 AND size > 0 AND EXISTS (SELECT 1 FROM audit_checkpoint n
		WHERE n.signed_at / $2 = audit_checkpoint.signed_at / $2 AND n.size > audit_checkpoint.size)`
)

var errNone = errors.New("there is none")

// row is an entry.
type row struct {
	seq  int64
	leaf []byte
}

// appendEntry gives the event, whose data is the leaf by now, the next number. The writer is one, so numbers have
// no gap. An event that is in the log is not added again: the inbox knows the recent ones, this all of them.
func appendEntry(ctx context.Context, tx *store.Tx, e bus.Event, now time.Time) (added bool, err error) {
	if !fault.InboxOff() {
		var known int
		if err := tx.QueryRow(ctx, selectKnown, e.ID).Scan(&known); err != nil {
			return false, fmt.Errorf("look for the event: %w", err)
		}
		if known > 0 {
			return false, nil
		}
	}
	if err := tx.ExecOne(ctx, insertEntry, e.ID, e.Tenant, e.Type, []byte(e.Data), now.UnixMicro()); err != nil {
		return false, fmt.Errorf("append entry: %w", err)
	}
	return true, nil
}

func (s *Service) list(ctx context.Context, tenant, kind string, before int64, limit int) ([]row, error) {
	if before <= 0 {
		before = 1 << 62
	}
	if kind == "" {
		return s.rows(ctx, selectAll, tenant, before, limit)
	}
	if prefix, ok := strings.CutSuffix(kind, "."); ok {
		return s.rows(ctx, selectPrefix, tenant, before, limit, kind, prefix+"/") // the character after the dot
	}
	return s.rows(ctx, selectType, tenant, before, limit, kind)
}

func (s *Service) rows(ctx context.Context, query string, args ...any) (out []row, err error) {
	rows, err := s.d.DB.Query(ctx, query, args...)
	if err != nil {
		return nil, fmt.Errorf("read entries: %w", err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var r row
		if err := rows.Scan(&r.seq, &r.leaf); err != nil {
			return nil, fmt.Errorf("read entries: %w", err)
		}
		out = append(out, r)
	}
	return out, rows.Err()
}

// find returns a tenant's entry; another's is not there.
func (s *Service) find(ctx context.Context, tenant, event string) (row, error) {
	var r row
	err := s.d.DB.QueryRow(ctx, selectEvent, event, tenant).Scan(&r.seq, &r.leaf)
	if store.NoRows(err) {
		return row{}, fault.NotFound("audit_event", event)
	}
	if err != nil {
		return row{}, fmt.Errorf("find entry: %w", err)
	}
	return r, nil
}

// leaves returns up to n leaves from an entry on. A gap says that somebody removed one.
func (s *Service) leaves(ctx context.Context, from int64, n int) ([][]byte, error) {
	rows, err := s.rows(ctx, selectLeaves, from, n)
	if err != nil {
		return nil, err
	}
	out := make([][]byte, len(rows))
	for i, r := range rows {
		if r.seq != from+int64(i) {
			return nil, fmt.Errorf("%w: entry %d is missing", ledger.ErrBroken, from+int64(i))
		}
		out[i] = r.leaf
	}
	return out, nil
}

func (s *Service) storedKey(ctx context.Context) (private []byte, verifier string, err error) {
	err = s.d.DB.QueryRow(ctx, selectKey).Scan(&private, &verifier)
	if store.NoRows(err) {
		return nil, "", errNone
	}
	return private, verifier, err
}

// keepKey stores a new key unless there is one, and returns the one that holds.
func (s *Service) keepKey(ctx context.Context, private []byte, verifier string) (_ []byte, _ string, err error) {
	err = s.d.DB.Tx(ctx, func(tx *store.Tx) error {
		if _, err := tx.Exec(ctx, insertKey, verifier, private, time.Now().UnixMicro()); err != nil {
			return err
		}
		return tx.QueryRow(ctx, selectKey).Scan(&private, &verifier)
	})
	return private, verifier, err
}

func (s *Service) newestCheckpoint(ctx context.Context) (checkpoint, error) {
	var c checkpoint
	var root []byte
	var at int64
	err := s.d.DB.QueryRow(ctx, selectCheckpoint).Scan(&c.size, &root, &c.signed, &at)
	if store.NoRows(err) {
		return checkpoint{}, errNone
	}
	if err != nil {
		return checkpoint{}, fmt.Errorf("read the newest checkpoint: %w", err)
	}
	if len(root) != tlog.HashSize {
		return checkpoint{}, fmt.Errorf("%w: the newest checkpoint's row is damaged", ledger.ErrBroken)
	}
	c.root, c.at = tlog.Hash(root), time.UnixMicro(at)
	return c, nil
}

// thin says whether checkpoints of past hours are to be thinned along the way.
type thin bool

// keepCheckpoint stores a checkpoint and the nodes that it adds to the tree, from id first on.
func (s *Service) keepCheckpoint(ctx context.Context, c checkpoint, first int64, nodes []tlog.Hash, past thin) error {
	return s.d.DB.Tx(ctx, func(tx *store.Tx) error {
		for i, hash := range nodes {
			if _, err := tx.Exec(ctx, insertNode, first+int64(i), hash[:]); err != nil {
				return err
			}
		}
		if _, err := tx.Exec(ctx, insertCheckpoint, c.size, c.root[:], c.signed, c.at.UnixMicro()); err != nil {
			return err
		}
		if !past {
			return nil
		}
		_, err := tx.Exec(ctx, thinCheckpoints, c.at.Truncate(time.Hour).UnixMicro(), time.Hour.Microseconds())
		return err
	})
}

// nodeReader reads stored nodes of the tree.
func (s *Service) nodeReader(ctx context.Context) tlog.HashReader {
	return tlog.HashReaderFunc(func(ids []int64) ([]tlog.Hash, error) {
		out := make([]tlog.Hash, len(ids))
		for i, id := range ids {
			var hash []byte
			if err := s.d.DB.QueryRow(ctx, selectNode, id).Scan(&hash); err != nil {
				return nil, fmt.Errorf("node %d of the tree: %w", id, err)
			}
			if len(hash) != tlog.HashSize {
				return nil, fmt.Errorf("node %d of the tree has %d bytes", id, len(hash))
			}
			out[i] = tlog.Hash(hash)
		}
		return out, nil
	})
}

func (s *Service) edge(ctx context.Context, size int64) (*ledger.Frontier, error) {
	return ledger.Resume(size, s.nodeReader(ctx))
}

// rebuild makes all nodes of the first size entries again.
func (s *Service) rebuild(ctx context.Context, size int64) (*ledger.Frontier, error) {
	if err := s.d.DB.Tx(ctx, func(tx *store.Tx) error {
		_, err := tx.Exec(ctx, deleteNodes, 0)
		return err
	}); err != nil {
		return nil, err
	}
	front := &ledger.Frontier{}
	for front.Size() < size {
		leaves, err := s.leaves(ctx, front.Size(), int(min(chunk, size-front.Size())))
		if err != nil {
			return nil, err
		}
		if len(leaves) == 0 {
			return nil, fmt.Errorf("%w: %d entries are there, the newest checkpoint signs %d", ledger.ErrBroken, front.Size(), size)
		}
		next, nodes := tlog.StoredHashCount(front.Size()), []tlog.Hash(nil)
		for _, leaf := range leaves {
			nodes = append(nodes, front.Add(tlog.RecordHash(leaf))...)
		}
		if err := s.d.DB.Tx(ctx, func(tx *store.Tx) error {
			for i, hash := range nodes {
				if _, err := tx.Exec(ctx, insertNode, next+int64(i), hash[:]); err != nil {
					return err
				}
			}
			return nil
		}); err != nil {
			return nil, err
		}
		fault.Point("audit.rebuilding")
	}
	return front, nil
}
