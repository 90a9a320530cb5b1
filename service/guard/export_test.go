package guard

import (
	"context"
	"net/http"
)

// Tidy forgets what is old now.
func (s *Service) Tidy(ctx context.Context) error { return s.tidy(ctx) }

// Flush writes the history now.
func (s *Service) Flush(ctx context.Context) error { return s.history.flush(ctx) }

// Book finds what holds for collections.
func (s *Service) Book(ctx context.Context, collections ...string) error {
	_, err := s.rulebook(ctx, Job{Collections: collections})
	return err
}

// ScanHere answers a scan without the middleware before it.
func (s *Service) ScanHere(w http.ResponseWriter, r *http.Request) { s.scan(w, r) }
