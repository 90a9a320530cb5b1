package audit

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/google/uuid"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"aran/platform/fault"
	"aran/service/audit/ledger"
)

// signer continues the tree over new entries and signs it. Its Frontier is what the newest checkpoint covers.
type signer struct {
	svc      *Service
	key      note.Signer
	verifier string

	turn  sync.Mutex // one sign at a time
	front *ledger.Frontier

	mu   sync.Mutex
	last checkpoint
}

// checkpoint is a signed state of the log.
type checkpoint struct {
	size   int64
	root   tlog.Hash
	signed []byte
	at     time.Time
}

// chunk is how many entries one checkpoint adds at most, so that catching up stays bounded.
const chunk = 2000

// openSigner loads the log's key (made at the first start) and the tree under the newest checkpoint.
func (s *Service) openSigner(ctx context.Context) (*signer, error) {
	key, verifier, err := s.key(ctx)
	if err != nil {
		return nil, err
	}
	fault.Point("audit.key_made")
	if err := writeVerifier(s.d.Dir, verifier); err != nil {
		return nil, fmt.Errorf("write the verifier key: %w", err)
	}
	sg := &signer{svc: s, key: key, verifier: verifier, front: &ledger.Frontier{}}
	if sg.last, err = s.newestCheckpoint(ctx); errors.Is(err, errNone) {
		return sg, nil
	}
	if err != nil {
		return nil, err
	}
	return sg, sg.resume(ctx)
}

// key returns the log's key; its private half is under the service's own data key.
func (s *Service) key(ctx context.Context) (note.Signer, string, error) {
	private, verifier, err := s.storedKey(ctx)
	if errors.Is(err, errNone) {
		if private, verifier, err = s.makeKey(ctx); err != nil {
			return nil, "", err
		}
	}
	if err != nil {
		return nil, "", err
	}
	text, err := s.d.Box.Open(ctx, system, private, []byte("audit/key"))
	if err != nil {
		return nil, "", fmt.Errorf("unseal the log's key: %w", err)
	}
	k, err := note.NewSigner(string(text))
	if err != nil {
		return nil, "", fmt.Errorf("read the log's key: %w", err)
	}
	return k, verifier, nil
}

// makeKey makes a key under a name of its own, so that two logs are never mistaken for one another. Of two
// processes that do so at once, one wins.
func (s *Service) makeKey(ctx context.Context) (private []byte, verifier string, err error) {
	text, verifier, err := ledger.NewKey("aran.audit/" + uuid.NewString())
	if err != nil {
		return nil, "", err
	}
	if private, err = s.d.Box.Seal(ctx, system, []byte(text), []byte("audit/key")); err != nil {
		return nil, "", fmt.Errorf("seal the log's key: %w", err)
	}
	fault.Point("audit.key_sealed")
	return s.keepKey(ctx, private, verifier)
}

// resume takes up the tree where the newest checkpoint left it. Nodes that are missing or wrong are made again
// from the entries; when those do not give the root that was signed, the log was changed, and nothing is signed.
func (sg *signer) resume(ctx context.Context) error {
	v, err := ledger.ParseKey([]byte(sg.verifier + "\n"))
	if err != nil {
		return err
	}
	c, err := ledger.OpenCheckpoint(sg.last.signed, v)
	if err != nil {
		return err
	}
	if c.Size != sg.last.size || c.Root != sg.last.root {
		return fmt.Errorf("%w: the newest checkpoint's row is not what was signed", ledger.ErrBroken)
	}
	if sg.front, err = sg.svc.edge(ctx, c.Size); err == nil {
		if root, err := sg.front.Root(); err == nil && root == c.Root {
			return nil
		}
	}
	sg.svc.d.Log.LogAttrs(ctx, slog.LevelWarn, "audit tree is rebuilt from the entries", slog.Int64("entries", c.Size))
	if sg.front, err = sg.svc.rebuild(ctx, c.Size); err != nil {
		return fmt.Errorf("rebuild the tree: %w", err)
	}
	root, err := sg.front.Root()
	if err != nil {
		return err
	}
	if root != c.Root || sg.front.Size() != c.Size {
		return fmt.Errorf("%w: the entries are not those that were signed; run aran audit verify, and put the database back from a backup", ledger.ErrBroken)
	}
	return nil
}

func (sg *signer) newest() checkpoint {
	sg.mu.Lock()
	defer sg.mu.Unlock()
	return sg.last
}

// signing is what one replica does at a time.
const signing = "audit signing"

// sign covers what was recorded since the last checkpoint, in chunks, continuing what other replicas signed meanwhile.
// The first checkpoint of a log is of no entry.
func (sg *signer) sign(ctx context.Context, now time.Time) error {
	sg.turn.Lock()
	defer sg.turn.Unlock()
	if err := sg.follow(ctx); err != nil {
		return err
	}
	for {
		n, err := sg.step(ctx, now)
		if err != nil || n < chunk {
			return err
		}
	}
}

// follow takes up a checkpoint that another replica made.
func (sg *signer) follow(ctx context.Context) error {
	c, err := sg.svc.newestCheckpoint(ctx)
	if errors.Is(err, errNone) || err == nil && c.size == sg.newest().size {
		return nil
	}
	if err != nil {
		return err
	}
	sg.mu.Lock()
	sg.last = c
	sg.mu.Unlock()
	return sg.resume(ctx)
}

func (sg *signer) step(ctx context.Context, now time.Time) (int, error) {
	leaves, err := sg.svc.leaves(ctx, sg.front.Size(), chunk)
	if err != nil {
		return 0, fmt.Errorf("read new entries: %w", err)
	}
	last := sg.newest()
	if len(leaves) == 0 && last.signed != nil {
		return 0, nil
	}
	front := sg.front.Clone()
	first := tlog.StoredHashCount(front.Size())
	var nodes []tlog.Hash
	for _, leaf := range leaves {
		nodes = append(nodes, front.Add(tlog.RecordHash(leaf))...)
	}
	root, err := front.Root()
	if err != nil {
		return 0, err
	}
	signed, err := ledger.Checkpoint{Origin: sg.key.Name(), Size: front.Size(), Root: root}.Sign(sg.key)
	if err != nil {
		return 0, err
	}
	fault.Point("audit.unsigned")
	c := checkpoint{size: front.Size(), root: root, signed: signed, at: now}
	if err := sg.svc.keepCheckpoint(ctx, c, first, nodes, thin(!now.Truncate(time.Hour).Equal(last.at.Truncate(time.Hour)))); err != nil {
		return 0, fmt.Errorf("keep checkpoint: %w", err)
	}
	fault.Point("audit.signed")
	sg.front = front
	sg.mu.Lock()
	sg.last = c
	sg.mu.Unlock()
	return len(leaves), nil
}

// sign makes a checkpoint and tells those who wait for one.
func (s *Service) sign(ctx context.Context) error {
	sg, err := s.opened()
	if err != nil {
		return err
	}
	ran, err := s.d.DB.Alone(ctx, signing, func(ctx context.Context) error { return sg.sign(ctx, time.Now()) })
	if !ran && err == nil {
		s.recorded() // what it does not see of ours is signed the next time
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failure = err
	if err == nil {
		close(s.signed)
		s.signed = make(chan struct{})
	}
	return err
}

// signLoop signs after entries were recorded, not more often than SignEvery; an idle log costs nothing.
func (s *Service) signLoop(ctx context.Context) {
	wake := s.dirty
	for {
		select {
		case <-ctx.Done():
			return
		case <-wake:
		}
		if err := s.sign(ctx); err != nil && ctx.Err() == nil {
			s.d.Log.LogAttrs(ctx, slog.LevelError, "audit log not signed", slog.String("error", err.Error()))
			s.recorded() // try again
		}
		timer := time.NewTimer(s.cfg.SignEvery)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
	}
}
