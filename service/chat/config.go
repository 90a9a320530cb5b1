package chat

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"aran/platform/llm"
	"aran/platform/secret"
)

// Config of answers: where models are, and how long they may take.
type Config struct {
	AnthropicAPIKey  secret.String `yaml:"anthropic_api_key" doc:"key of Anthropic; switches this provider on (ANTHROPIC_API_KEY)"`
	AnthropicBaseURL string        `yaml:"anthropic_base_url" doc:"address of the Messages API, without /v1; empty: Anthropic itself"`
	AnthropicModel   string        `yaml:"anthropic_model" doc:"model of this provider that \"default\" means; empty: the first that it lists"`
	OpenAIAPIKey     secret.String `yaml:"openai_api_key" doc:"key of OpenAI or of a compatible server; switches this provider on (OPENAI_API_KEY)"`
	OpenAIBaseURL    string        `yaml:"openai_base_url" doc:"address of a compatible server (llama.cpp, vLLM, …), with /v1; switches this provider on, also without a key (OPENAI_BASE_URL)"`
	OpenAIModel      string        `yaml:"openai_model" doc:"model of this provider that \"default\" means; empty: the first that it lists"`
	OllamaHost       string        `yaml:"ollama_host" doc:"Ollama, as host, host:port or URL; switches this provider on (OLLAMA_HOST)"`
	OllamaModel      string        `yaml:"ollama_model" doc:"model of Ollama that \"default\" means; empty: the first that it lists"`
	LocalModel       string        `yaml:"local_model" doc:"local model that answers when no provider does; empty: none"`
	Order            []string      `yaml:"order" doc:"providers in the order in which they are asked"`

	InsecurePlainHTTP     bool `yaml:"insecure_plain_http" doc:"allow http to providers on other machines: keys and prompts travel in clear"`
	InsecureUnscannedData bool `yaml:"insecure_unscanned_data" doc:"let images, files and tools that run at a provider pass, which the guard cannot read"`

	Timeout       time.Duration `yaml:"timeout" doc:"for the models of one answer, streams included"`
	Connect       time.Duration `yaml:"connect_timeout" doc:"to connect to a provider"`
	FirstByte     time.Duration `yaml:"first_byte_timeout" doc:"until a model's first piece of an answer; then the next one is asked"`
	Idle          time.Duration `yaml:"idle_timeout" doc:"between two pieces of an answer"`
	GuardTimeout  time.Duration `yaml:"guard_timeout" doc:"for one check of texts"`
	SearchTimeout time.Duration `yaml:"search_timeout" doc:"for finding passages"`
	Heartbeat     time.Duration `yaml:"heartbeat" doc:"between signs of life in a stream that waits for its model"`
	ModelsTTL     time.Duration `yaml:"models_ttl" doc:"how long a provider's list of models is good"`

	Template       string `yaml:"template" doc:"prompt template for questions about documents"`
	Spotlight      string `yaml:"spotlight" doc:"how passages and results of tools are set apart for providers: off, delimit, datamark or encode"`
	LocalSpotlight string `yaml:"local_spotlight" doc:"the same for the local model"`
	Passages       int    `yaml:"passages" doc:"passages that a model is given"`
	PassageBytes   int    `yaml:"passage_bytes" doc:"bytes of all passages together, for models with a large context"`
	LocalTokens    int    `yaml:"local_max_tokens" doc:"longest answer of the local model when the request sets no limit"`
	MaxBody        int64  `yaml:"max_body_bytes" doc:"largest request"`
	MaxConcurrent  int    `yaml:"max_concurrent" doc:"answers in the making at once"`
}

// Provider names, as in the setting order, in events and in metrics.
const (
	nameAnthropic = "anthropic"
	nameOpenAI    = "openai"
	nameOllama    = "ollama"
	nameLocal     = "local"
)

// Models that "default" means at the vendors themselves, when the operator names none.
const (
	anthropicDefault = "claude-sonnet-5-5"
	openAIDefault    = "gpt-5.4-mini"
)

// Default asks nobody outside: a provider is there when its key or address is.
func Default() Config {
	return Config{
		LocalModel: "smollm2-135m-instruct", Order: []string{nameAnthropic, nameOpenAI, nameOllama},
		Timeout: 4 * time.Minute, Connect: 5 * time.Second, FirstByte: 30 * time.Second, Idle: 60 * time.Second,
		GuardTimeout: 5 * time.Second, SearchTimeout: 10 * time.Second, Heartbeat: 15 * time.Second, ModelsTTL: 5 * time.Minute,
		Template: templateSpotlit, Spotlight: spotDatamark, LocalSpotlight: spotDelimit, Passages: 6, PassageBytes: 16 << 10, LocalTokens: 256,
		MaxBody: 4 << 20, MaxConcurrent: 256,
	}
}

// Check names the first setting that can't be used.
func (c Config) Check() error {
	for _, d := range []struct {
		key    string
		value  time.Duration
		lo, hi time.Duration
	}{
		{"timeout", c.Timeout, time.Second, 10 * time.Minute},
		{"connect_timeout", c.Connect, 10 * time.Millisecond, time.Minute},
		{"first_byte_timeout", c.FirstByte, 10 * time.Millisecond, 10 * time.Minute},
		{"idle_timeout", c.Idle, 10 * time.Millisecond, 10 * time.Minute},
		{"guard_timeout", c.GuardTimeout, 10 * time.Millisecond, time.Minute},
		{"search_timeout", c.SearchTimeout, 10 * time.Millisecond, time.Minute},
		{"heartbeat", c.Heartbeat, 100 * time.Millisecond, time.Minute},
		{"models_ttl", c.ModelsTTL, time.Second, 24 * time.Hour},
	} {
		if d.value < d.lo || d.value > d.hi {
			return fmt.Errorf("chat.%s %s: use %s to %s", d.key, d.value, d.lo, d.hi)
		}
	}
	for _, n := range []struct {
		key           string
		value, lo, hi int64
	}{
		{"passages", int64(c.Passages), 1, 20},
		{"passage_bytes", int64(c.PassageBytes), 1000, 1 << 20},
		{"local_max_tokens", int64(c.LocalTokens), 16, 4096},
		{"max_body_bytes", c.MaxBody, 1 << 10, 32 << 20},
		{"max_concurrent", int64(c.MaxConcurrent), 1, 100_000},
	} {
		if n.value < n.lo || n.value > n.hi {
			return fmt.Errorf("chat.%s %d: use %d to %d", n.key, n.value, n.lo, n.hi)
		}
	}
	if c.Template != templateSpotlit && c.Template != templateGrounded && c.Template != templateUnmarked {
		return fmt.Errorf("chat.template %q: there are %q, %q and %q", c.Template, templateSpotlit, templateGrounded, templateUnmarked)
	}
	for key, v := range map[string]string{"spotlight": c.Spotlight, "local_spotlight": c.LocalSpotlight} {
		if !slices.Contains(spotlights(), v) {
			return fmt.Errorf("chat.%s %q: use %s", key, v, strings.Join(spotlights(), ", "))
		}
	}
	known := Default().Order
	for i, name := range c.Order {
		if !slices.Contains(known, name) || slices.Contains(c.Order[:i], name) {
			return fmt.Errorf("chat.order: %q is unknown or there twice; use %s, each once", name, strings.Join(known, ", "))
		}
	}
	_, err := c.providers()
	return err
}

// limits of a provider over HTTP.
func (c Config) limits() llm.Limits {
	l := llm.DefaultLimits()
	l.Connect, l.FirstByte, l.Idle = c.Connect, c.FirstByte, c.Idle
	return l
}

// configured is a provider and the model that "default" means there; empty: the first that it lists.
type configured struct {
	llm.Provider
	model string
}

// providers makes those that are switched on, in order. Nothing is sent to them.
func (c Config) providers() ([]configured, error) {
	var out []configured
	for _, name := range c.Order {
		p, err := c.provider(name)
		if err != nil {
			return nil, fmt.Errorf("chat: %w", err)
		}
		if p.Provider != nil {
			out = append(out, p)
		}
	}
	return out, nil
}

func (c Config) provider(name string) (configured, error) {
	o := llm.Options{Name: name, Limits: c.limits(), InsecurePlainHTTP: c.InsecurePlainHTTP}
	switch {
	case name == nameAnthropic && !c.AnthropicAPIKey.Empty():
		o.Key, o.BaseURL = c.AnthropicAPIKey, c.AnthropicBaseURL
		p, err := llm.NewAnthropic(o)
		if err != nil {
			return configured{}, err
		}
		return configured{p, preferred(c.AnthropicModel, c.AnthropicBaseURL, anthropicDefault)}, nil
	case name == nameOpenAI && (!c.OpenAIAPIKey.Empty() || c.OpenAIBaseURL != ""):
		o.Key, o.BaseURL = c.OpenAIAPIKey, c.OpenAIBaseURL
		p, err := llm.NewOpenAI(o)
		if err != nil {
			return configured{}, err
		}
		return configured{p, preferred(c.OpenAIModel, c.OpenAIBaseURL, openAIDefault)}, nil
	case name == nameOllama && c.OllamaHost != "":
		base, err := llm.ParseOllamaHost(c.OllamaHost)
		if err != nil {
			return configured{}, err
		}
		o.BaseURL = base
		p, err := llm.NewOpenAI(o)
		if err != nil {
			return configured{}, err
		}
		return configured{p, c.OllamaModel}, nil
	}
	return configured{}, nil
}

// preferred is the operator's model, or the vendor's own default; a server at another address has neither.
func preferred(named, base, vendors string) string {
	if named == "" && base == "" {
		return vendors
	}
	return named
}
