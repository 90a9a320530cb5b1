package judge

import (
	"fmt"
	"slices"
	"time"

	"aran/platform/llm"
	"aran/platform/secret"
)

// Providers that can be named.
const (
	openAI    = "openai"
	anthropic = "anthropic"
	ollama    = "ollama"
)

// Config says which model judges, and when it is asked.
type Config struct {
	Provider  string        `yaml:"provider" doc:"what speaks for the model: openai (and what is compatible), anthropic or ollama; empty: no model is asked"`
	BaseURL   string        `yaml:"base_url" doc:"address of the provider; empty: the vendor itself, or Ollama on this machine"`
	Model     string        `yaml:"model" doc:"model that judges"`
	APIKey    secret.String `yaml:"api_key" doc:"key of the provider"`
	Timeout   time.Duration `yaml:"timeout" doc:"for one judgement"`
	MinScore  float64       `yaml:"min_score" doc:"the model is asked about texts whose score by the other layers is at least this, 0 to 1"`
	MaxScore  float64       `yaml:"max_score" doc:"and at most this"`
	PerMinute int           `yaml:"per_minute" doc:"texts that one tenant may have judged in a minute; 10 at once"`
	Parallel  int           `yaml:"parallel" doc:"judgements at once"`
	MaxBytes  int           `yaml:"max_bytes" doc:"largest text that the model is asked about"`
	CacheFor  time.Duration `yaml:"cache_for" doc:"how long a judgement of the same text holds"`

	InsecurePlainHTTP bool `yaml:"insecure_plain_http" doc:"allow http to a provider on another machine: texts travel in clear"`
}

// Default asks nobody.
func Default() Config {
	return Config{
		Timeout: 4 * time.Second, MinScore: 0.2, MaxScore: 0.8, PerMinute: 60, Parallel: 8, MaxBytes: 16 << 10, CacheFor: time.Hour,
	}
}

// Check names the first setting that can't be used.
func (c Config) Check() error {
	switch {
	case c.Provider != "" && !slices.Contains([]string{openAI, anthropic, ollama}, c.Provider):
		return fmt.Errorf("judge.provider %q: use openai, anthropic or ollama", c.Provider)
	case c.Provider != "" && c.Model == "":
		return fmt.Errorf("judge.model is empty: name the model that %s is to ask", c.Provider)
	case c.Timeout < 100*time.Millisecond || c.Timeout > time.Minute:
		return fmt.Errorf("judge.timeout %s: use 100ms to 1m", c.Timeout)
	case !(c.MinScore >= 0 && c.MinScore <= c.MaxScore && c.MaxScore <= 1):
		return fmt.Errorf("judge.min_score %v and max_score %v: use 0 to 1, the first not above the second", c.MinScore, c.MaxScore)
	case c.PerMinute < 1 || c.PerMinute > 100_000:
		return fmt.Errorf("judge.per_minute %d: use 1 to 100000", c.PerMinute)
	case c.Parallel < 1 || c.Parallel > 1000:
		return fmt.Errorf("judge.parallel %d: use 1 to 1000", c.Parallel)
	case c.MaxBytes < 100 || c.MaxBytes > 1<<20:
		return fmt.Errorf("judge.max_bytes %d: use 100 to 1048576", c.MaxBytes)
	case c.CacheFor < 0 || c.CacheFor > 24*time.Hour:
		return fmt.Errorf("judge.cache_for %s: use 0s to 24h", c.CacheFor)
	}
	if c.Provider == "" {
		return nil
	}
	_, err := c.provider()
	return err
}

// provider makes the model's provider. Nothing is sent to it.
func (c Config) provider() (llm.Provider, error) {
	l := llm.DefaultLimits()
	l.Retries, l.Answer, l.Event = 0, maxWire, maxWire
	l.FirstByte, l.Idle = c.Timeout, c.Timeout
	o := llm.Options{Name: c.Provider, BaseURL: c.BaseURL, Key: c.APIKey, Limits: l, InsecurePlainHTTP: c.InsecurePlainHTTP}
	var p llm.Provider
	var err error
	switch c.Provider {
	case anthropic:
		p, err = llm.NewAnthropic(o)
	case ollama:
		if o.BaseURL, err = llm.ParseOllamaHost(c.BaseURL); err == nil {
			p, err = llm.NewOpenAI(o)
		}
	default:
		p, err = llm.NewOpenAI(o)
	}
	if err != nil {
		return nil, fmt.Errorf("judge: %w", err)
	}
	return p, nil
}
