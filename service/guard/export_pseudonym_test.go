package guard

import "context"

// DropExpired is one round of what runs by itself every ten minutes.
func (s *Service) DropExpired(ctx context.Context) (int, error) {
	return s.vault.dropExpired(ctx, tidyAtOnce)
}
