package chat

import (
	"context"
	"errors"
	"slices"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	"aran/platform/fault"
	"aran/platform/llm"
)

// telemetry holds the instruments. Spans and metrics of model calls follow OpenTelemetry's semantic conventions
// for generative AI (status: development); none of them holds content. Labels come from closed sets: a model's
// name is on the span only.
type telemetry struct {
	tracer    trace.Tracer
	answers   metric.Int64Counter
	blocked   metric.Int64Counter
	fallbacks metric.Int64Counter
	first     metric.Float64Histogram
	duration  metric.Float64Histogram
	tokens    metric.Int64Histogram
}

func newTelemetry() (*telemetry, error) {
	t := &telemetry{tracer: otel.Tracer("aran/service/chat")}
	m := otel.Meter("aran/service/chat")
	seconds := metric.WithExplicitBucketBoundaries(.01, .02, .04, .08, .16, .32, .64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
	counts := metric.WithExplicitBucketBoundaries(1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576)
	var errs [6]error
	t.answers, errs[0] = m.Int64Counter("aran_chat_answers_total", metric.WithDescription("Answers, by rung and how they ended."))
	t.blocked, errs[1] = m.Int64Counter("aran_chat_blocked_total", metric.WithDescription("Refused by policy, by place."))
	t.fallbacks, errs[2] = m.Int64Counter("aran_chat_fallbacks_total", metric.WithDescription("Steps of the ladder that did not answer, by provider and reason."))
	t.first, errs[3] = m.Float64Histogram("aran_chat_first_byte_seconds", metric.WithUnit("s"), metric.WithDescription("From the request to the first piece of the answer."), seconds)
	t.duration, errs[4] = m.Float64Histogram("gen_ai.client.operation.duration", metric.WithUnit("s"), metric.WithDescription("Time of a whole model call."), seconds)
	t.tokens, errs[5] = m.Int64Histogram("gen_ai.client.token.usage", metric.WithUnit("{token}"), metric.WithDescription("Tokens of a model call."), counts)
	return t, errors.Join(errs[:]...)
}

// modelCall is one call of a model.
type modelCall struct {
	t      *telemetry
	span   trace.Span
	labels []attribute.KeyValue
	begin  time.Time
}

func (t *telemetry) call(ctx context.Context, g target, r *llm.Request) (context.Context, *modelCall) {
	labels := []attribute.KeyValue{
		attribute.String("gen_ai.operation.name", "chat"),
		attribute.String("gen_ai.provider.name", g.provider.Name()),
	}
	ctx, span := t.tracer.Start(ctx, "chat "+r.Model, trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(labels...),
		trace.WithAttributes(attribute.String("gen_ai.request.model", r.Model), attribute.String("aran.rung", string(g.rung))))
	if r.MaxTokens > 0 {
		span.SetAttributes(attribute.Int("gen_ai.request.max_tokens", r.MaxTokens))
	}
	if r.Temperature != nil {
		span.SetAttributes(attribute.Float64("gen_ai.request.temperature", *r.Temperature))
	}
	return ctx, &modelCall{t: t, span: span, labels: labels, begin: time.Now()}
}

// end closes the span. last is the answer's last event, when there was one.
func (c *modelCall) end(ctx context.Context, last llm.Event, err error) {
	labels := c.labels
	if err != nil {
		kind := attribute.String("error.type", fault.KindOf(err).String())
		labels = append(slices.Clip(labels), kind)
		c.span.SetAttributes(kind)
		c.span.SetStatus(codes.Error, fault.KindOf(err).String())
	}
	if last.Finish != "" {
		c.span.SetAttributes(attribute.String("gen_ai.response.model", last.Model),
			attribute.StringSlice("gen_ai.response.finish_reasons", []string{string(last.Finish)}),
			attribute.Int("gen_ai.usage.input_tokens", last.Usage.Input), attribute.Int("gen_ai.usage.output_tokens", last.Usage.Output))
		for kind, n := range map[string]int{"input": last.Usage.Input, "output": last.Usage.Output} {
			c.t.tokens.Record(ctx, int64(n), metric.WithAttributes(append(slices.Clip(labels), attribute.String("gen_ai.token.type", kind))...))
		}
	}
	c.t.duration.Record(ctx, time.Since(c.begin).Seconds(), metric.WithAttributes(labels...))
	c.span.End()
}
