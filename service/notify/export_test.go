package notify

import (
	"context"
	"time"
)

// Prune deletes what is old at a time.
func (s *Service) Prune(ctx context.Context, now time.Time) error { return s.prune(ctx, now) }

// Abandon makes the service behave like one whose machine is gone: what it has in hand is never recorded nor given
// back, and it takes nothing more.
func (s *Service) Abandon() {
	s.owner = "somebody who is gone"
	s.stop()
}

var (
	RetryAfter = retryAfter
	DeliveryID = deliveryID
	Kinds      = kinds
)
