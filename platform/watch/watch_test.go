package watch_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"go.opentelemetry.io/otel"

	"aran/platform/watch"
)

func TestConfigNamesWhatIsWrong(t *testing.T) {
	for _, c := range []struct {
		name string
		edit func(*watch.Config)
		want string
	}{
		{"level", func(c *watch.Config) { c.LogLevel = "loud" }, "watch.log_level"},
		{"format", func(c *watch.Config) { c.LogFormat = "xml" }, "watch.log_format"},
		{"ratio", func(c *watch.Config) { c.SampleRatio = 2 }, "watch.sample_ratio"},
	} {
		cfg := watch.Default()
		c.edit(&cfg)
		if err := cfg.Check(); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v does not name %s", c.name, err, c.want)
		}
	}
	if err := watch.Default().Check(); err != nil {
		t.Errorf("the default settings: %v", err)
	}
}

func TestReady(t *testing.T) {
	var h watch.Health
	broken := errors.New("database is away")
	var fail error
	h.Add("store", func(context.Context) error { return fail })
	if ok, _ := h.Ready(t.Context()); ok {
		t.Error("ready before everything was started")
	}
	h.Open()
	if ok, _ := h.Ready(t.Context()); !ok {
		t.Error("not ready although all is well")
	}
	fail = broken
	ok, checks := h.Ready(t.Context())
	if ok || checks[0].Error != broken.Error() {
		t.Errorf("ready %v, checks %v with a broken part", ok, checks)
	}
	fail = nil
	h.Drain()
	if ok, _ := h.Ready(t.Context()); ok {
		t.Error("ready while stopping")
	}
}

func TestOperatorEndpointsAndTraceIDsInLogs(t *testing.T) {
	cfg := watch.Default()
	var out bytes.Buffer
	log, err := cfg.Logger(&out)
	if err != nil {
		t.Fatal(err)
	}
	tel, err := watch.Start(t.Context(), cfg, "test", log)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := tel.Close(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	}()
	counter, err := otel.Meter("aran/test").Int64Counter("aran_test_things")
	if err != nil {
		t.Fatal(err)
	}
	counter.Add(t.Context(), 3)
	var h watch.Health
	srv := httptest.NewServer(tel.Operator(&h, func(context.Context) any { return []string{"gateway"} }))
	defer srv.Close()
	for path, want := range map[string]string{"/metrics": "aran_test_things_total 3", "/healthz": "ok", "/readyz": "not ready", "/services": "gateway", "/debug/pprof/": "goroutine"} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, srv.URL+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		res, err := srv.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		if !strings.Contains(string(body), want) {
			t.Errorf("%s does not say %q: %.300s", path, want, body)
		}
	}
	ctx, span := otel.Tracer("aran/test").Start(t.Context(), "work")
	log.LogAttrs(ctx, slog.LevelInfo, "done")
	span.End()
	if !strings.Contains(out.String(), "trace_id="+span.SpanContext().TraceID().String()) {
		t.Errorf("no trace id in %q", out.String())
	}
}
