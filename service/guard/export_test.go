package guard

import "context"

// Tidy forgets what is old now.
func (s *Service) Tidy(ctx context.Context) error { return s.tidy(ctx) }

// Flush writes the history now.
func (s *Service) Flush(ctx context.Context) error { return s.history.flush(ctx) }

// Book finds what holds for collections.
func (s *Service) Book(ctx context.Context, collections ...string) error {
	_, err := s.rulebook(ctx, Job{Collections: collections})
	return err
}
