package app

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"slices"
	"time"

	"aran/platform/watch"
	"aran/service/gateway"
	"aran/service/infer/registry"
)

// listenOperator serves the operator's address from the start, so that a start that takes long can be watched.
func (a *App) listenOperator(ctx context.Context) error {
	if a.cfg.Watch.Listen == "" {
		return nil
	}
	l, err := gateway.Listen(ctx, a.cfg.Watch.Listen, "watch.listen (ARAN_OPERATOR_LISTEN)")
	if err != nil {
		return err
	}
	a.operator = &http.Server{
		Handler: a.telemetry.Operator(a.health, a.Status), ReadHeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10,
		ErrorLog: slog.NewLogLogger(a.log.Handler(), slog.LevelDebug),
	}
	go func() {
		if err := a.operator.Serve(l); err != nil && !errors.Is(err, http.ErrServerClosed) {
			a.group.Fail("operator address", err)
		}
	}()
	return nil
}

// ServiceState is one line of /services.
type ServiceState struct {
	Name      string   `json:"name"`
	Singleton bool     `json:"singleton"`
	Calls     []string `json:"calls"`
	OpenMS    float64  `json:"open_ms"`  // to open and build
	StartMS   float64  `json:"start_ms"` // to begin to work
}

// State is what /services shows.
type State struct {
	Version     string         `json:"version"`
	Ready       bool           `json:"ready"`
	Services    []ServiceState `json:"services"`
	Checks      []watch.Check  `json:"checks"`
	Waiting     int            `json:"events_waiting"` // events that some consumer has not taken yet
	DeadLetters int            `json:"dead_letters"`   // events that no consumer could take
}

// Status says what runs here and how it stands.
func (a *App) Status(ctx context.Context) any {
	s := State{Version: a.version}
	s.Ready, s.Checks = a.health.Ready(ctx)
	started := map[string]time.Duration{}
	for _, t := range a.group.Took() {
		started[t.Name] = t.Took
	}
	for _, r := range a.rows {
		s.Services = append(s.Services, ServiceState{r.name, r.singleton, r.calls, ms(a.built1[r.name]), ms(started[r.name])})
	}
	for _, c := range a.conns {
		if n, err := c.Pending(ctx); err == nil {
			s.Waiting += n
		}
	}
	for _, c := range a.conns {
		if letters, err := c.DeadLetters(ctx, 0, maxLetters); err == nil {
			s.DeadLetters = len(letters)
		}
		break
	}
	return s
}

const maxLetters = 1000

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// modelLines say which models answer.
func modelLines(cfg *Config) []string {
	providers := providers(cfg)
	local := "none; answers are extracted from documents (rung extractive): run `aran model pull`"
	if reg, err := cfg.Registry(); err == nil {
		if models, err := reg.List(context.Background()); err == nil {
			for _, m := range models {
				if installed(m) {
					local = m.Name + " (local)"
				}
			}
		}
	}
	if len(providers) == 0 {
		return []string{local + "; set ANTHROPIC_API_KEY, OPENAI_API_KEY or OLLAMA_HOST for a larger one"}
	}
	return []string{shorten(providers), local}
}

func installed(m registry.Model) bool {
	return m.Kind == registry.Generate && m.Status == registry.Installed
}

// providers lists the configured ones.
func providers(cfg *Config) (out []string) {
	for name, on := range map[string]bool{
		"anthropic": !cfg.Chat.AnthropicAPIKey.Empty(), "openai": !cfg.Chat.OpenAIAPIKey.Empty() || cfg.Chat.OpenAIBaseURL != "", "ollama": cfg.Chat.OllamaHost != "",
	} {
		if on {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}
