// Package watch is how an operator sees the platform: logs, metrics, traces and health.
//
// It installs the process-wide OpenTelemetry providers once and serves the operator's endpoints. It
// never sees content: what is logged, counted or traced are ids, sizes and closed sets of labels.
package watch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	otelprom "go.opentelemetry.io/otel/exporters/prometheus"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/resource"
	"go.opentelemetry.io/otel/sdk/trace"
)

// Config of logs, traces and the operator's endpoint.
type Config struct {
	Listen       string  `yaml:"listen" doc:"operator address: /metrics, /healthz, /readyz, /services, pprof"`
	UnsafePublic bool    `yaml:"unsafe_public" doc:"allow an operator address outside loopback; it has no authentication"`
	LogLevel     string  `yaml:"log_level" doc:"debug, info, warn or error"`
	LogFormat    string  `yaml:"log_format" doc:"text or json"`
	OTLPEndpoint string  `yaml:"otlp_endpoint" doc:"URL of an OTLP/HTTP collector for traces; empty: traces stay here"`
	SampleRatio  float64 `yaml:"sample_ratio" doc:"share of traces that is sent, 0 to 1"`
}

// Default settings.
func Default() Config {
	return Config{Listen: "127.0.0.1:9090", LogLevel: "info", LogFormat: "text", SampleRatio: 1}
}

// Check names the first setting that can't be used.
func (c Config) Check() error {
	if _, err := level(c.LogLevel); err != nil {
		return err
	}
	if c.LogFormat != "text" && c.LogFormat != "json" {
		return fmt.Errorf("watch.log_format %q: use text or json", c.LogFormat)
	}
	if c.SampleRatio < 0 || c.SampleRatio > 1 {
		return fmt.Errorf("watch.sample_ratio %v: use a number from 0 to 1", c.SampleRatio)
	}
	return nil
}

func level(name string) (slog.Level, error) {
	var l slog.Level
	if err := l.UnmarshalText([]byte(name)); err != nil {
		return 0, fmt.Errorf("watch.log_level %q: use debug, info, warn or error", name)
	}
	return l, nil
}

// Logger writes to w; c has been checked.
func (c Config) Logger(w io.Writer) (*slog.Logger, error) {
	l, err := level(c.LogLevel)
	if err != nil {
		return nil, err
	}
	o := &slog.HandlerOptions{Level: l}
	if c.LogFormat == "json" {
		return slog.New(traced{slog.NewJSONHandler(w, o)}), nil
	}
	return slog.New(traced{slog.NewTextHandler(w, o)}), nil
}

// Telemetry holds the process's providers. Close flushes them.
type Telemetry struct {
	registry *prometheus.Registry
	traces   *trace.TracerProvider
	metrics  *metric.MeterProvider
}

// Start installs the providers. Without an OTLP endpoint spans are made, so that ids travel, but sent nowhere.
func Start(ctx context.Context, c Config, version string, log *slog.Logger) (*Telemetry, error) {
	res := resource.NewSchemaless(attribute.String("service.name", "aran"), attribute.String("service.version", version))
	opts := []trace.TracerProviderOption{trace.WithResource(res), trace.WithSampler(trace.ParentBased(trace.TraceIDRatioBased(c.SampleRatio)))}
	if c.OTLPEndpoint != "" {
		exp, err := otlptracehttp.New(ctx, otlptracehttp.WithEndpointURL(c.OTLPEndpoint))
		if err != nil {
			return nil, fmt.Errorf("trace exporter: %w", err)
		}
		opts = append(opts, trace.WithBatcher(exp, trace.WithBatchTimeout(500*time.Millisecond)))
	}
	reg := prometheus.NewRegistry()
	reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	exp, err := otelprom.New(otelprom.WithRegisterer(reg), otelprom.WithoutScopeInfo(), otelprom.WithoutTargetInfo())
	if err != nil {
		return nil, fmt.Errorf("metrics exporter: %w", err)
	}
	t := &Telemetry{
		registry: reg,
		traces:   trace.NewTracerProvider(opts...),
		metrics:  metric.NewMeterProvider(metric.WithResource(res), metric.WithReader(exp)),
	}
	otel.SetTracerProvider(t.traces)
	otel.SetMeterProvider(t.metrics)
	otel.SetTextMapPropagator(propagation.TraceContext{})
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) {
		log.LogAttrs(context.Background(), slog.LevelWarn, "telemetry", slog.String("error", err.Error()))
	}))
	return t, nil
}

// Close sends what is left.
func (t *Telemetry) Close(ctx context.Context) error {
	return errors.Join(t.traces.Shutdown(ctx), t.metrics.Shutdown(ctx))
}
