package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"aran/platform/rpc"
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
	Version   string   `json:"version"`
	Ready     bool     `json:"ready"`
	Error     string   `json:"error,omitempty"` // why nothing is known of it
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
func (a *App) Status(ctx context.Context) any { return a.status(ctx) }

func (a *App) status(ctx context.Context) State {
	s := State{Version: a.version}
	s.Ready, s.Checks = a.health.Ready(ctx)
	for name, note := range a.notes {
		c := watch.Check{Name: name, OK: true}
		if err := note(ctx); err != nil {
			c = watch.Check{Name: name, Error: err.Error()}
		}
		s.Checks = append(s.Checks, c)
	}
	started := map[string]time.Duration{}
	for _, t := range a.group.Took() {
		started[t.Name] = t.Took
	}
	a.mu.Lock()
	conns, took := maps.Clone(a.conns), maps.Clone(a.took)
	a.mu.Unlock()
	for _, r := range a.rows {
		s.Services = append(s.Services, ServiceState{r.name, a.version, s.Ready, "", r.singleton, r.calls, ms(took[r.name]), ms(started[r.name])})
	}
	for _, c := range conns {
		if n, err := c.Pending(ctx); err == nil {
			s.Waiting += n
		}
	}
	for _, c := range conns {
		if letters, err := c.DeadLetters(ctx, 0, maxLetters); err == nil {
			s.DeadLetters = len(letters)
		}
		break
	}
	return s
}

const askTimeout = time.Second

// Overview is Status with what runs in other processes, in the order of the table.
func (a *App) Overview(ctx context.Context) any {
	s := a.status(ctx)
	here := map[string]ServiceState{}
	for _, r := range s.Services {
		here[r.Name] = r
	}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for _, row := range table() {
		if _, known := here[row.name]; known || row.fronts {
			continue
		}
		wg.Go(func() {
			other, err := a.ask(ctx, row.name)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				here[row.name] = ServiceState{Name: row.name, Error: err.Error(), Singleton: row.singleton, Calls: row.calls}
				return
			}
			s.Waiting += other.Waiting
			s.Checks = append(s.Checks, other.Checks...)
			for _, r := range other.Services {
				if r.Name == row.name {
					here[row.name] = r
				}
			}
		})
	}
	wg.Wait()
	s.Services = s.Services[:0]
	for _, row := range table() {
		r, known := here[row.name]
		if known {
			s.Services = append(s.Services, r)
		}
		s.Ready = s.Ready && r.Ready
	}
	slices.SortFunc(s.Checks, func(a, b watch.Check) int { return strings.Compare(a.Name, b.Name) })
	return s
}

var errNoRoutes = errors.New("it serves nothing to the outside")

// ask asks another process for its State.
func (a *App) ask(ctx context.Context, name string) (State, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address(name)+rpc.StatePath, nil)
	if err != nil {
		return State{}, err
	}
	front := a.fronts[name]
	if front == nil {
		return State{}, errNoRoutes
	}
	res, err := front.RoundTrip(req)
	if err != nil {
		return State{}, err
	}
	defer res.Body.Close() //nolint:errcheck // only read
	if res.StatusCode != http.StatusOK {
		return State{}, fmt.Errorf("it answers %d", res.StatusCode)
	}
	var s State
	return s, json.NewDecoder(io.LimitReader(res.Body, 1<<20)).Decode(&s)
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
