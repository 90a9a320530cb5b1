package search

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"aran/platform/bus"
	"aran/platform/fault"
)

const (
	eraseWithin = 5 * time.Second // a deletion waits so long for the last row; the rest follows by itself
	tidyEvery   = time.Minute
	dueAtOnce   = 100
	scrubEvery  = 30 * time.Second
	stuckAfter  = time.Hour // then a document that is still queued is taken into work again
)

// erase deletes what was thrown away, and takes it out of memory. What the caller's time does not suffice for, tidy does.
func (s *Service) erase(ctx context.Context, collection int64) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), eraseWithin)
	defer cancel()
	defer s.nudge()
	s.unclean.Store(true)
	if err := errors.Join(s.indexes.refresh(ctx, collection), s.lexicons.refresh(ctx, collection)); err != nil {
		return err
	}
	if s.hosted != nil {
		s.hosted.refresh(ctx)
	}
	if err := s.sweep(ctx); err != nil {
		if ctx.Err() != nil {
			return nil // tidy goes on with it
		}
		return err
	}
	if err := s.scrub(ctx); err != nil && ctx.Err() == nil {
		s.log.LogAttrs(ctx, slog.LevelWarn, "deleted rows are not overwritten yet; it is tried again", slog.String("error", err.Error()))
	}
	return nil
}

// scrub takes what was deleted out of the database's journal. A file's pages are overwritten as they are deleted from; on
// PostgreSQL that is the server's own business (VACUUM).
func (s *Service) scrub(ctx context.Context) error {
	if s.db.Shared() || !s.unclean.Swap(false) {
		return nil
	}
	err := s.db.Scrub(ctx, "search_edition")
	if err != nil {
		s.unclean.Store(true)
	}
	return err
}

// sweep empties the trash, piece by piece.
func (s *Service) sweep(ctx context.Context) error {
	for {
		done, err := s.db.sweepOne(ctx)
		if err != nil || done {
			return err
		}
		s.unclean.Store(true)
		fault.Point("search.swept")
	}
}

// forget brings what other replicas hold in memory up to date after a deletion.
func (s *Service) forget(ctx context.Context, e bus.Event) {
	for c := range s.indexes.all() {
		if err := s.indexes.refresh(ctx, c); err != nil {
			s.log.LogAttrs(ctx, slog.LevelWarn, "index not refreshed", slog.String("event", e.ID), slog.String("error", err.Error()))
		}
	}
	for _, c := range s.lexicons.all() {
		if err := s.lexicons.refresh(ctx, c); err != nil {
			s.log.LogAttrs(ctx, slog.LevelWarn, "words index not refreshed", slog.String("event", e.ID), slog.String("error", err.Error()))
		}
	}
}

func (s *Service) nudge() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// tidy empties the trash and takes parked editions back into work, until ctx ends.
func (s *Service) tidy(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.wake:
		case <-timer.C:
		}
		wait, err := s.tidyOnce(ctx)
		if err != nil && ctx.Err() == nil {
			s.log.LogAttrs(ctx, slog.LevelWarn, "tidying up failed; it is tried again", slog.String("error", err.Error()))
		}
		timer.Reset(wait)
	}
}

// tidyOnce returns how long until there may be something to do.
func (s *Service) tidyOnce(ctx context.Context) (time.Duration, error) {
	if err := s.sweep(ctx); err != nil {
		return tidyEvery, err
	}
	for done := false; !done; {
		var err error
		if done, err = s.db.lookAtMetadata(ctx, dueAtOnce); err != nil {
			return tidyEvery, err
		}
	}
	at := now()
	if last := s.scrubbed.Load(); at.UnixMicro()-last > scrubEvery.Microseconds() {
		s.scrubbed.Store(at.UnixMicro())
		if err := s.scrub(ctx); err != nil {
			s.log.LogAttrs(ctx, slog.LevelDebug, "deleted rows are not overwritten yet; it is tried again", slog.String("error", err.Error()))
		}
	}
	if err := s.db.rescue(ctx, at.UnixMicro(), at.Add(-stuckAfter).UnixMicro()); err != nil {
		return tidyEvery, err
	}
	due, err := s.db.due(ctx, at.UnixMicro(), dueAtOnce)
	if err != nil {
		return tidyEvery, err
	}
	for _, in := range due {
		if err := s.ingest.Start(ctx, in.id(), in); err != nil {
			return tidyEvery, err
		}
		fault.Point("search.parked_restarted")
		if err := s.db.started(ctx, in); err != nil {
			return tidyEvery, err
		}
	}
	job, err := s.dueJobs(ctx, at)
	if err != nil {
		return tidyEvery, err
	}
	waiting, err := s.settle(ctx)
	if err != nil {
		return tidyEvery, err
	}
	next, err := s.db.nextDue(ctx)
	if err != nil {
		return tidyEvery, err
	}
	if next == 0 || job != 0 && job < next {
		next = job
	}
	if soon := at.Add(s.grace()).UnixMicro(); waiting && (next == 0 || soon < next) {
		next = soon
	}
	if next == 0 {
		return tidyEvery, nil
	}
	return max(time.Millisecond, min(tidyEvery, time.Until(time.UnixMicro(next)))), nil
}
