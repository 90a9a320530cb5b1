package search

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"aran/platform/fault"
	"aran/platform/vector"
)

const (
	hostedWait  = time.Second     // a search waits so long for vectors that the server lacks
	hostedEvery = 5 * time.Second // pause between two looks at what the server lacks
	hostedBatch = 200             // vectors that are put at once
)

// hosted searches vectors on a server of Qdrant's or Pinecone's. Rows of search_vector are what the vectors are: the
// server's are made of them, by whichever replica sees first that they are missing, and a mark beside them says up to
// which generation they go. A server that lost all is filled again. While it is away, search goes by words.
// Safe for concurrent use.
type hosted struct {
	db   db
	host vector.Host
	log  *slog.Logger

	mu     sync.Mutex
	spaces map[indexKey]*hostedSpace
}

type hostedSpace struct {
	collection int64
	encoder    string
	dim        int
	name       string
	kept       vector.Kept
	busy       sync.Mutex
	generation atomic.Int64 // that the server has for certain
	wanted     atomic.Int64
}

// openHost makes the client that the settings want; nil: none.
func openHost(d db, cfg Config, log *slog.Logger) (*hosted, error) {
	o := vector.HostOptions{URL: cfg.VectorsURL, Key: cfg.VectorsKey, Prefix: cfg.VectorsPrefix, Timeout: cfg.VectorsTimeout}
	h := &hosted{db: d, log: log, spaces: map[indexKey]*hostedSpace{}}
	var err error
	switch cfg.Vectors {
	case VectorsQdrant:
		h.host, err = vector.NewQdrant(o, log)
	case VectorsPinecone:
		h.host, err = vector.NewPinecone(o, log)
	default:
		return nil, nil //nolint:nilnil // the settings want none
	}
	if err != nil {
		return nil, fmt.Errorf("search.vectors_url and search.vectors_key: %w", err)
	}
	return h, nil
}

// check refuses a server that can never do; one that is away may come back.
func (h *hosted) check(ctx context.Context) error {
	err := h.host.Check(ctx)
	if fault.KindOf(err) == fault.Unavailable || fault.KindOf(err) == fault.Deadline {
		h.log.LogAttrs(ctx, slog.LevelWarn, "the vector server is away; search goes by words until it is back", slog.String("error", err.Error()))
		return nil
	}
	return err
}

func (h *hosted) use(collection int64, encoder string, dim int) *hostedSpace {
	h.mu.Lock()
	defer h.mu.Unlock()
	k := indexKey{collection, encoder}
	s, ok := h.spaces[k]
	if !ok {
		sum := sha256.Sum256([]byte(encoder))
		s = &hostedSpace{collection: collection, encoder: encoder, dim: dim, name: fmt.Sprintf("%d-%x", collection, sum[:8])}
		s.kept = h.host.Space(vector.Name{Space: s.name, Model: encoder, Dim: dim})
		s.generation.Store(-1)
		h.spaces[k] = s
	}
	return s
}

// search is like that of indexes. What the server lacks is put first if that is quickly done; else it answers with what
// it has, and says that something is missing.
func (h *hosted) search(ctx context.Context, c Collection, encoder string, q []float32, k int, allowed []int64) (near nearest, err error) {
	s := h.use(c.id, encoder, len(q))
	s.wanted.Store(max(s.wanted.Load(), c.generation))
	if s.generation.Load() < c.generation {
		wait, cancel := context.WithTimeout(ctx, hostedWait)
		near.foreign = !h.catchUp(wait, s, c.generation)
		cancel()
	}
	if near.hits, err = s.kept.Search(ctx, vector.Query{Model: encoder, Vector: q}, k, allowed); err != nil {
		if f := fault.KindOf(err); (f != fault.Unavailable && f != fault.Deadline) || ctx.Err() != nil {
			return near, err
		}
		h.log.LogAttrs(ctx, slog.LevelWarn, "the vector server is away; search goes by words", slog.String("error", err.Error()))
		return nearest{foreign: true}, nil
	}
	if near.foreign {
		return near, nil
	}
	near.foreign, err = h.db.foreignVectors(ctx, c.id, encoder)
	return near, err
}

// catchUp reports whether the server has a generation, which it may be given first.
func (h *hosted) catchUp(ctx context.Context, s *hostedSpace, generation int64) bool {
	if !s.busy.TryLock() {
		return s.generation.Load() >= generation
	}
	defer s.busy.Unlock()
	if s.generation.Load() >= generation {
		return true
	}
	err := h.db.InTurn(ctx, "search vectors "+s.name, func(ctx context.Context) error { return h.fill(ctx, s, generation) })
	if err != nil {
		h.log.LogAttrs(ctx, slog.LevelInfo, "the vector server lacks something yet", slog.Int64("collection", s.collection), slog.String("error", err.Error()))
		return false
	}
	s.generation.Store(generation)
	return true
}

// fill brings the server from its mark to a generation. Doing any of it twice changes nothing.
func (h *hosted) fill(ctx context.Context, s *hostedSpace, generation int64) error {
	mark, err := s.kept.Mark(ctx)
	if err != nil {
		return err
	}
	now, gone, err := h.db.generation(ctx, s.collection)
	if err != nil || gone {
		return errors.Join(err, h.host.Drop(ctx, s.name))
	}
	if mark > now || now-mark > keptGenerations { // of another database, or too far behind
		if err := h.host.Drop(ctx, s.name); err != nil {
			return err
		}
		mark = -1
	}
	if mark >= generation {
		return nil
	}
	var batch []vector.Item
	flush := func() error {
		err := s.kept.Put(ctx, batch...)
		batch = batch[:0]
		return err
	}
	err = h.db.changed(ctx, s.collection, mark, s.encoder, func(edition int64, first int, packed []byte) error {
		if len(packed)%(4*s.dim) != 0 {
			return fmt.Errorf("vectors of edition %d: %d bytes are not vectors of %d numbers", edition, len(packed), s.dim)
		}
		items, _, err := part{edition: edition, first: first, passages: len(packed) / (4 * s.dim), packed: packed}.items()
		if err != nil {
			return err
		}
		if batch = append(batch, items...); len(batch) < hostedBatch {
			return nil
		}
		return flush()
	})
	if err == nil {
		err = flush()
	}
	if err != nil {
		return err
	}
	went, err := h.db.gone(ctx, s.collection, mark)
	if err != nil {
		return err
	}
	if len(went) > 0 {
		if err := s.kept.Delete(ctx, went...); err != nil {
			return err
		}
	}
	return s.kept.SetMark(ctx, generation)
}

// refresh takes what was deleted from the server. What fails is done when it is back.
func (h *hosted) refresh(ctx context.Context) {
	if err := h.sweep(ctx); err != nil {
		h.log.LogAttrs(ctx, slog.LevelWarn, "what was deleted is not gone from the vector server yet; it is tried again", slog.String("error", err.Error()))
	}
}

// sweep looks through all spaces of the server: what belongs to a collection that is gone is dropped, and what was
// deleted from the others is deleted there, searched or not.
func (h *hosted) sweep(ctx context.Context) error {
	names, err := h.host.Spaces(ctx)
	if err != nil {
		return err
	}
	for _, name := range names {
		n, _, _ := strings.Cut(name, "-")
		collection, err := strconv.ParseInt(n, 10, 64)
		if err != nil {
			continue // not one of ours
		}
		_, gone, err := h.db.generation(ctx, collection)
		switch {
		case err != nil:
			return err
		case gone:
			err = h.host.Drop(ctx, name)
		default:
			err = h.deleteGone(ctx, name, collection)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (h *hosted) deleteGone(ctx context.Context, name string, collection int64) error {
	s := h.host.Space(vector.Name{Space: name}) // of whatever model
	mark, err := s.Mark(ctx)
	if err != nil {
		return err
	}
	went, err := h.db.gone(ctx, collection, mark)
	if err != nil || len(went) == 0 {
		return err
	}
	return s.Delete(ctx, went...)
}

// keep brings the server up to date for what is searched, and sweeps it, until ctx ends.
func (h *hosted) keep(ctx context.Context) {
	h.refresh(ctx)
	ticker := time.NewTicker(hostedEvery)
	defer ticker.Stop()
	for swept := time.Now(); ; {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		h.once(ctx)
		if time.Since(swept) > tidyEvery {
			h.refresh(ctx)
			swept = time.Now()
		}
	}
}

func (h *hosted) once(ctx context.Context) {
	h.mu.Lock()
	var behind []*hostedSpace
	for _, s := range h.spaces {
		if s.generation.Load() < s.wanted.Load() {
			behind = append(behind, s)
		}
	}
	h.mu.Unlock()
	for _, s := range behind {
		h.catchUp(ctx, s, s.wanted.Load())
	}
}
