package ledger

import (
	"context"
	"fmt"
	"math"
	"time"

	"golang.org/x/mod/sumdb/tlog"
)

// unsignedFor is how long entries may go on without a checkpoint: the service signs every quarter of a second.
const unsignedFor = time.Minute

// Verify recomputes the whole log of a data directory: every leaf against its row, the numbers without a gap,
// every stored node of the tree, and the root at every checkpoint that is kept, whose signatures it checks too. So
// all checkpoints are of one log that only grew. A caller that kept checkpoints elsewhere passes them: the log
// must have been in those states too, or it was replaced or cut as a whole.
func Verify(ctx context.Context, place Place, kept ...[]byte) (Report, error) {
	src, err := openSource(ctx, place)
	if err != nil {
		return Report{}, err
	}
	defer src.close()
	v := &verifier{source: src, roots: map[int64]tlog.Hash{}}
	r, err := v.verify(ctx, kept)
	if err != nil {
		return Report{}, fmt.Errorf("verify %s: %w", place.Dir, err)
	}
	return r, nil
}

type verifier struct {
	*source
	roots  map[int64]tlog.Hash // that were signed, by size
	signed int64               // size of the newest checkpoint
	tail   int64               // when the first entry after it was added
	front  Frontier
	nodes  []tlog.Hash // read, not yet compared
	next   int64       // id of the node after those
}

func (v *verifier) verify(ctx context.Context, kept [][]byte) (Report, error) {
	newest, err := v.readCheckpoints(ctx, kept)
	if err != nil {
		return Report{}, err
	}
	v.signed = newest.Size
	if err := v.checkRoot(); err != nil {
		return Report{}, err
	}
	for e, err := range v.entries(ctx, math.MaxInt64) {
		if err != nil {
			return Report{}, err
		}
		if err := v.entry(ctx, e); err != nil {
			return Report{}, err
		}
	}
	for size := range v.roots {
		if size > v.front.Size() {
			return Report{}, broken("a checkpoint signs %d entries, and %d are there", size, v.front.Size())
		}
	}
	r := report(newest, v.keyLine)
	r.Entries, r.Checkpoints, r.Unsigned = v.front.Size(), len(v.roots), v.front.Size()-newest.Size
	return r, nil
}

// readCheckpoints is done before the entries are read, so that a log that grows meanwhile holds more, not fewer.
func (v *verifier) readCheckpoints(ctx context.Context, kept [][]byte) (newest Checkpoint, err error) {
	rows, err := v.checkpoints(ctx)
	if err != nil {
		return Checkpoint{}, err
	}
	if len(rows) == 0 {
		return Checkpoint{}, broken("there is no checkpoint")
	}
	for _, row := range rows {
		if newest, err = OpenCheckpoint(row.signed, v.key); err != nil {
			return Checkpoint{}, fmt.Errorf("checkpoint of %d entries: %w", row.size, err)
		}
		if newest.Size != row.size || string(newest.Root[:]) != string(row.root) {
			return Checkpoint{}, broken("the row of the checkpoint of %d entries is not what was signed", row.size)
		}
		v.roots[row.size] = newest.Root
	}
	for _, signed := range kept {
		c, err := OpenCheckpoint(signed, v.key)
		if err != nil {
			return Checkpoint{}, fmt.Errorf("the checkpoint that was kept elsewhere: %w", err)
		}
		if root, ok := v.roots[c.Size]; ok && root != c.Root {
			return Checkpoint{}, broken("two checkpoints of %d entries differ", c.Size)
		}
		v.roots[c.Size] = c.Root
	}
	return newest, nil
}

func (v *verifier) entry(ctx context.Context, e entry) error {
	if e.seq != v.front.Size() {
		return broken("entry %d is missing", v.front.Size())
	}
	l, err := ParseLeaf(e.leaf)
	if err != nil {
		return fmt.Errorf("entry %d: %w", e.seq, err)
	}
	if l.ID != e.id || l.Tenant != e.tenant || l.Type != e.kind {
		return broken("the row of entry %d is not what its leaf says", e.seq)
	}
	if e.seq == v.signed {
		v.tail = e.added
	}
	if e.seq > v.signed && e.added-v.tail > unsignedFor.Microseconds() {
		return broken("entries from %d on went unsigned for more than %s: checkpoints are missing", v.signed, unsignedFor)
	}
	for _, node := range v.front.Add(tlog.RecordHash(e.leaf)) {
		if e.seq >= v.signed {
			break // its nodes are stored with the next checkpoint
		}
		if err := v.compare(ctx, node); err != nil {
			return err
		}
	}
	return v.checkRoot()
}

// compare holds a node against the stored one.
func (v *verifier) compare(ctx context.Context, node tlog.Hash) error {
	if len(v.nodes) == 0 {
		got, err := v.source.nodes(ctx, v.next, page)
		if err != nil {
			return err
		}
		v.nodes, v.next = got, v.next+int64(len(got))
	}
	if len(v.nodes) == 0 || v.nodes[0] != node {
		return broken("a stored node of the tree above entry %d is not what the entries make it", v.front.Size()-1)
	}
	v.nodes = v.nodes[1:]
	return nil
}

func (v *verifier) checkRoot() error {
	want, ok := v.roots[v.front.Size()]
	if !ok {
		return nil
	}
	root, err := v.front.Root()
	if err != nil {
		return err
	}
	if root != want {
		return broken("the first %d entries have the root %s, their checkpoint signs %s", v.front.Size(), root, want)
	}
	return nil
}

// How long Proof waits for an entry that the running service is about to sign.
const (
	proofWait = 2 * time.Second
	proofLook = 50 * time.Millisecond
)

// Proof makes the proof of one event from a data directory. An entry that has just been added is waited for.
func Proof(ctx context.Context, place Place, event string) (Bundle, error) {
	src, err := openSource(ctx, place)
	if err != nil {
		return Bundle{}, err
	}
	defer src.close()
	seq, leaf, err := src.event(ctx, event)
	if err != nil {
		return Bundle{}, err
	}
	signed, err := src.covering(ctx, seq)
	if err != nil {
		return Bundle{}, err
	}
	return Prove(seq, leaf, signed, src.keyLine, src.reader(ctx))
}

// covering returns the newest checkpoint once it covers an entry.
func (s *source) covering(ctx context.Context, seq int64) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, proofWait)
	defer cancel()
	look := time.NewTicker(proofLook)
	defer look.Stop()
	for {
		signed, err := s.newest(ctx)
		if err != nil {
			return nil, err
		}
		c, err := OpenCheckpoint(signed, s.key)
		if err != nil || seq < c.Size {
			return signed, err
		}
		select {
		case <-look.C:
		case <-ctx.Done():
			return nil, fmt.Errorf("no checkpoint covers entry %d yet: start the platform, it signs what is there: %w", seq, ctx.Err())
		}
	}
}
