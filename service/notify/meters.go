package notify

import (
	"context"
	"errors"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

// meters are the metrics; labels are from closed sets.
type meters struct {
	queued, attempts, dead, disabled metric.Int64Counter
	took                             metric.Float64Histogram
}

func (s *Service) newMeters() (meters, error) {
	m := otel.Meter("aran/service/notify")
	var out meters
	var errs [6]error
	out.queued, errs[0] = m.Int64Counter("aran_notify_queued_total", metric.WithDescription("Deliveries queued, by kind of event."))
	out.attempts, errs[1] = m.Int64Counter("aran_notify_attempts_total", metric.WithDescription("Attempts to deliver, by outcome."))
	out.dead, errs[2] = m.Int64Counter("aran_notify_dead_total", metric.WithDescription("Deliveries that became dead letters."))
	out.disabled, errs[3] = m.Int64Counter("aran_notify_disabled_total", metric.WithDescription("Webhooks that were disabled, by reason."))
	out.took, errs[4] = m.Float64Histogram("aran_notify_attempt_seconds", metric.WithUnit("s"), metric.WithDescription("Time of an attempt, by outcome."))
	_, errs[5] = m.Int64ObservableGauge("aran_notify_pending", metric.WithDescription("Deliveries that wait for enabled webhooks."),
		metric.WithInt64Callback(func(ctx context.Context, o metric.Int64Observer) error {
			n, err := s.pending(ctx)
			if err == nil {
				o.Observe(n)
			}
			return err
		}))
	return out, errors.Join(errs[:]...)
}

func (m meters) count(ctx context.Context, c metric.Int64Counter, label, value string) {
	c.Add(ctx, 1, metric.WithAttributes(attribute.String(label, value)))
}

func (m meters) attempt(ctx context.Context, o outcome) {
	outcome := o.kind
	if outcome == "" {
		outcome = Delivered
	}
	set := metric.WithAttributes(attribute.String("outcome", outcome))
	m.attempts.Add(ctx, 1, set)
	m.took.Record(ctx, o.took.Seconds(), set)
}
