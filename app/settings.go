package app

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"

	"aran/config"
	"aran/platform/limit"
	"aran/platform/outward"
	"aran/platform/redis"
	"aran/platform/secret"
	"aran/platform/watch"
	"aran/service/audit"
	"aran/service/chat"
	"aran/service/gateway"
	"aran/service/guard"
	"aran/service/infer"
	"aran/service/infer/registry"
	"aran/service/notify"
	"aran/service/recommend"
	"aran/service/search"
	"aran/service/user"
)

// Config holds every section of aran.yaml.
type Config struct {
	Data      DataConfig
	Store     StoreConfig
	Bus       BusConfig
	Redis     redis.Config
	Limit     limit.Config
	Mesh      MeshConfig
	Client    ClientConfig
	Watch     watch.Config
	Gateway   gateway.Config
	User      user.Config
	Chat      chat.Config
	Search    search.Config
	Recommend recommend.Config
	Guard     guard.Config
	Infer     infer.Config
	Audit     audit.Config
	Notify    notify.Config
}

// DataConfig says where everything is kept.
type DataConfig struct {
	Dir     string `yaml:"dir" doc:"directory of all databases, keys and events"`
	Keyring string `yaml:"keyring" doc:"file of the key-encryption key; empty: keyring.key in the data directory"`
}

// ClientConfig is for the commands that call a running platform.
type ClientConfig struct {
	URL string        `yaml:"url" doc:"address of the platform; empty: gateway.listen"`
	Key secret.String `yaml:"key" doc:"API key; empty: the administrator's, from the data directory"`
}

// Default is what runs without a file.
func Default() *Config {
	return &Config{
		Data: DataConfig{Dir: "./aran-data"}, Bus: BusConfig{Replicas: 1}, Redis: redis.Default(), Limit: limit.Default(), Mesh: MeshConfig{TrustDomain: "aran.local"},
		Watch: watch.Default(), Gateway: gateway.Default(), User: user.Default(), Chat: chat.Default(),
		Search: search.Default(), Recommend: recommend.Default(), Guard: guard.Default(), Infer: infer.Default(), Audit: audit.Default(), Notify: notify.Default(),
	}
}

// Sections are the top-level keys of aran.yaml, in the order of the reference page.
func (c *Config) Sections() []config.Section {
	return []config.Section{
		{Name: "data", Doc: "Where everything is kept.", Into: &c.Data},
		{Name: "store", Doc: "Databases that replicas share.", Into: &c.Store},
		{Name: "bus", Doc: "How events travel.", Into: &c.Bus},
		{Name: "redis", Doc: "What replicas count together.", Into: &c.Redis},
		{Name: "limit", Doc: "How limits are counted by several processes.", Into: &c.Limit},
		{Name: "mesh", Doc: "How services reach each other across processes.", Into: &c.Mesh},
		{Name: "gateway", Doc: "The edge: the public address, limits and time-outs.", Into: &c.Gateway},
		{Name: "user", Doc: "Accounts, sessions and API keys.", Into: &c.User},
		{Name: "chat", Doc: "Model providers and how answers are made.", Into: &c.Chat},
		{Name: "search", Doc: "Documents and finding passages.", Into: &c.Search},
		{Name: "recommend", Doc: "What users did, and what is recommended to them.", Into: &c.Recommend},
		{Name: "guard", Doc: "What is blocked, redacted and flagged.", Into: &c.Guard},
		{Name: "infer", Doc: "Local models.", Into: &c.Infer},
		{Name: "audit", Doc: "The log of decisions.", Into: &c.Audit},
		{Name: "notify", Doc: "Webhooks: how receivers outside are told.", Into: &c.Notify},
		{Name: "watch", Doc: "Logs, metrics, traces and the operator's address.", Into: &c.Watch},
		{Name: "client", Doc: "For the commands that call a running platform.", Into: &c.Client},
	}
}

// aliases are variables that others named, or that are shorter than their key.
func aliases() map[string]string {
	return map[string]string{
		"ANTHROPIC_API_KEY":    "chat.anthropic_api_key",
		"OPENAI_API_KEY":       "chat.openai_api_key",
		"OPENAI_BASE_URL":      "chat.openai_base_url",
		"OLLAMA_HOST":          "chat.ollama_host",
		"ARAN_DATA":            "data.dir",
		"ARAN_MODELS":          "infer.models_dir",
		"ARAN_OPERATOR_LISTEN": "watch.listen",
		"ARAN_LISTEN":          "gateway.listen",
	}
}

// Load reads the settings: defaults, file, environment, then set (from flags).
func Load(file string, set map[string]string) (*Config, error) {
	c := Default()
	err := config.Load(config.Source{
		File: file, Env: config.Environ(), Flags: set, Aliases: aliases(), Ignore: []string{"ARAN_FAULT_", "ARAN_TEST_"},
	}, c.Sections())
	if err != nil {
		return nil, err
	}
	for _, check := range []func() error{c.loopbackOperator, c.checkBackends, c.checkMesh, c.Redis.Check, c.Limit.Check} {
		if err := check(); err != nil {
			return nil, err
		}
	}
	if c.Data.Keyring == "" {
		c.Data.Keyring = filepath.Join(c.Data.Dir, "keyring.key")
	}
	c.User.AdminKeyFile = filepath.Join(c.Data.Dir, "admin.key")
	return c, nil
}

func (c *Config) loopbackOperator() error {
	if c.Watch.Listen != "" && !onLoopback(c.Watch.Listen) && !c.Watch.UnsafePublic {
		return fmt.Errorf("watch.listen %q is not on loopback and has no authentication: use 127.0.0.1, or set watch.unsafe_public", c.Watch.Listen)
	}
	return nil
}

func onLoopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	return outward.Loopback(host)
}

// Registry opens the model registry that these settings name.
func (c *Config) Registry() (*registry.Registry, error) {
	return c.Infer.Registry()
}

// ClientAccess is where and as whom the commands call a running platform. A url given overrides the settings.
func (c *Config) ClientAccess(url string) (string, secret.String, error) {
	if url == "" {
		url = c.Client.URL
	}
	if url == "" {
		url = "http://" + c.Gateway.Listen
	}
	if !c.Client.Key.Empty() {
		return url, c.Client.Key, nil
	}
	key, err := secret.Resolve("file:" + c.User.AdminKeyFile)
	if errors.Is(err, os.ErrNotExist) {
		return "", secret.String{}, fmt.Errorf("no API key: %s is not there; start the platform first, name its --data, or set ARAN_CLIENT_KEY", c.User.AdminKeyFile)
	}
	if err != nil {
		return "", secret.String{}, err
	}
	return url, secret.New(strings.TrimSpace(key.Reveal())), nil
}
