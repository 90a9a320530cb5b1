package infer

import (
	"context"
	"fmt"
	"slices"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	"aran/platform/fault"
	"aran/service/infer/registry"
)

// telemetry holds the instruments. Names and attributes are those of OpenTelemetry's semantic conventions for
// generative AI where there are any; a model's name is from the registry, so the set is closed.
type telemetry struct {
	tracer   trace.Tracer
	duration metric.Float64Histogram
	first    metric.Float64Histogram
	each     metric.Float64Histogram
	used     metric.Int64Counter
	refused  metric.Int64Counter
	batch    metric.Int64Histogram
	restarts metric.Int64Counter
	retries  metric.Int64Counter
	rollouts metric.Int64Counter
}

func newTelemetry() (*telemetry, error) {
	t := &telemetry{tracer: otel.Tracer("aran/service/infer")}
	m := otel.Meter("aran/service/infer")
	seconds := metric.WithExplicitBucketBoundaries(.01, .02, .04, .08, .16, .32, .64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
	tokens := metric.WithExplicitBucketBoundaries(.001, .0025, .005, .0075, .01, .025, .05, .075, .1, .25, .5, 1, 2.5)
	var errs [9]error
	t.duration, errs[0] = m.Float64Histogram("gen_ai.server.request.duration", metric.WithUnit("s"), metric.WithDescription("Time of a whole model call."), seconds)
	t.first, errs[1] = m.Float64Histogram("gen_ai.server.time_to_first_token", metric.WithUnit("s"), metric.WithDescription("Time to the first token of an answer."), seconds)
	t.each, errs[2] = m.Float64Histogram("gen_ai.server.time_per_output_token", metric.WithUnit("s"), metric.WithDescription("Time for each further token of an answer."), tokens)
	t.used, errs[3] = m.Int64Counter("aran_infer_tokens_total", metric.WithDescription("Tokens that models read and wrote."))
	t.refused, errs[4] = m.Int64Counter("aran_infer_refused_total", metric.WithDescription("Calls refused because too many waited, or because they could not be done in time."))
	t.restarts, errs[5] = m.Int64Counter("aran_infer_failures_total", metric.WithDescription("Times that the process of a local model failed."))
	t.retries, errs[6] = m.Int64Counter("aran_infer_retries_total", metric.WithDescription("Calls that failed on a version on trial and were answered by the active one."))
	t.rollouts, errs[7] = m.Int64Counter("aran_infer_rollouts_total", metric.WithDescription("Rollouts of a model's version, by how they ended and why."))
	t.batch, errs[8] = m.Int64Histogram("aran_infer_batch_texts", metric.WithDescription("Texts that were embedded together."), metric.WithExplicitBucketBoundaries(1, 2, 4, 8, 16, 32, 64, 128))
	for _, err := range errs {
		if err != nil {
			return nil, fmt.Errorf("infer metrics: %w", err)
		}
	}
	return t, nil
}

func (t *telemetry) retried(ctx context.Context, model string) {
	t.retries.Add(ctx, 1, metric.WithAttributes(attribute.String("gen_ai.request.model", model)))
}

// ended counts a rollout; outcome and reason are from closed sets.
func (t *telemetry) ended(ctx context.Context, model, outcome, reason string) {
	t.rollouts.Add(ctx, 1, metric.WithAttributes(attribute.String("gen_ai.request.model", model), attribute.String("outcome", outcome), attribute.String("reason", reason)))
}

// modelCall is one call of a model.
type modelCall struct {
	t       *telemetry
	span    trace.Span
	labels  []attribute.KeyValue
	begin   time.Time
	started time.Time // first piece
}

func (t *telemetry) begin(ctx context.Context, operation, model string) (context.Context, *modelCall) {
	labels := []attribute.KeyValue{
		attribute.String("gen_ai.operation.name", operation),
		attribute.String("gen_ai.provider.name", "aran"),
		attribute.String("gen_ai.request.model", model),
	}
	ctx, span := t.tracer.Start(ctx, operation+" "+model, trace.WithSpanKind(trace.SpanKindInternal), trace.WithAttributes(labels...)) //nolint:spancheck // modelCall.end ends it
	return ctx, &modelCall{t: t, span: span, labels: labels, begin: time.Now()}                                                        //nolint:spancheck // modelCall.end ends it
}

// piece notes the first piece of an answer.
func (c *modelCall) piece(ctx context.Context) {
	if c.started.IsZero() {
		c.started = time.Now()
		c.t.first.Record(ctx, c.started.Sub(c.begin).Seconds(), metric.WithAttributes(c.labels...))
	}
}

// answered notes in the trace which version it was.
func (c *modelCall) answered(m *registry.Model) {
	c.span.SetAttributes(attribute.String("gen_ai.response.model", m.Name+"@"+m.Version), attribute.String("aran.infer.digest", m.Digest))
}

func (c *modelCall) tokens(ctx context.Context, input, output int) {
	c.span.SetAttributes(attribute.Int("gen_ai.usage.input_tokens", input))
	c.t.used.Add(ctx, int64(input), metric.WithAttributes(append(slices.Clip(c.labels), attribute.String("gen_ai.token.type", "input"))...))
	if output == 0 {
		return
	}
	c.span.SetAttributes(attribute.Int("gen_ai.usage.output_tokens", output))
	c.t.used.Add(ctx, int64(output), metric.WithAttributes(append(slices.Clip(c.labels), attribute.String("gen_ai.token.type", "output"))...))
	if output > 1 && !c.started.IsZero() {
		c.t.each.Record(ctx, time.Since(c.started).Seconds()/float64(output-1), metric.WithAttributes(c.labels...))
	}
}

func (c *modelCall) end(ctx context.Context, err error) {
	labels := c.labels
	if err != nil {
		kind := fault.KindOf(err)
		switch ctx.Err() {
		case context.Canceled:
			kind = fault.Canceled
		case context.DeadlineExceeded:
			kind = fault.Deadline
		}
		labels = append(slices.Clip(labels), attribute.String("error.type", kind.String()))
		c.span.SetAttributes(attribute.String("error.type", kind.String()))
		c.span.SetStatus(codes.Error, kind.String())
	}
	c.t.duration.Record(ctx, time.Since(c.begin).Seconds(), metric.WithAttributes(labels...))
	c.span.End()
}
