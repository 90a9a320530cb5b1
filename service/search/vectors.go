package search

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"aran/platform/fault"
)

const (
	copyParts = 16 // of an edition's vectors, in one transaction
	copyAgain = 5 * time.Second
	tendEvery = 5 * time.Minute
)

// errNoPostgres: the two settings are of different sections, so the check stands where both are known.
var errNoPostgres = errors.New("search.vectors is pgvector and search keeps its data in a file: set store.url to a PostgreSQL server, or search.vectors to memory")

// near finds the k passages of a collection nearest to a query, among what the viewer may read.
func (s *Service) near(ctx context.Context, sc scope, e embedded, k int) (nearest, error) {
	if s.inDatabase.Load() {
		return s.db.nearest(ctx, sc, e, k)
	}
	allowed, err := s.db.allowed(ctx, sc)
	if err != nil {
		return nearest{}, err
	}
	if s.hosted != nil {
		return s.hosted.search(ctx, sc.Collection, e.digest, e.vectors[0], k, allowed)
	}
	return s.indexes.search(ctx, sc.Collection, e.digest, e.vectors[0], k, allowed)
}

// openVectors makes the tables of pgvector, when the settings want them.
func (s *Service) openVectors(ctx context.Context) error {
	if s.cfg.Vectors == VectorsPgvector {
		return s.db.vectors.Create(ctx)
	}
	if s.hosted != nil {
		if err := s.hosted.check(ctx); err != nil {
			return err
		}
	}
	there, err := s.db.vectors.There(ctx, s.db)
	if err == nil && there {
		s.log.LogAttrs(ctx, slog.LevelInfo, "vectors are kept in pgvector too, as another replica or an earlier setting wants it")
	}
	return err
}

// keepVectors copies what pgvector lacks, and goes over to it; until then indexes in memory answer, with the same
// passages. Then it looks after the graphs of large collections, until ctx ends.
func (s *Service) keepVectors(ctx context.Context) {
	for wait := time.Duration(0); ; {
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
		wait = tendEvery
		if err := s.keepVectorsOnce(ctx); err != nil && ctx.Err() == nil {
			s.log.LogAttrs(ctx, slog.LevelWarn, "vectors in the database not looked after; it is tried again", slog.String("error", err.Error()))
			wait = copyAgain
		}
	}
}

func (s *Service) keepVectorsOnce(ctx context.Context) error {
	if !s.inDatabase.Load() {
		began := time.Now()
		if err := s.copyVectors(ctx); err != nil {
			return fmt.Errorf("copy vectors: %w", err)
		}
		s.inDatabase.Store(true)
		s.indexes.clear(ctx)
		s.log.LogAttrs(ctx, slog.LevelInfo, "vectors are searched in the database", slog.Duration("copied_in", time.Since(began)))
	}
	return s.db.vectors.Tend(ctx)
}

// copyVectors goes through all parts once: those stored meanwhile are copied by whoever stores them.
func (s *Service) copyVectors(ctx context.Context) error {
	if err := s.db.dropStrays(ctx); err != nil {
		return err
	}
	var at place
	for done := false; !done; {
		var err error
		if at, done, err = s.db.copyVectors(ctx, at, copyParts); err != nil {
			return err
		}
		fault.Point("search.vectors_copied")
	}
	return nil
}
