package infer

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"aran/platform/fault"
	"aran/service/infer/child"
	"aran/service/infer/encoder"
	"aran/service/infer/minilm"
	"aran/service/infer/queue"
	"aran/service/infer/registry"
)

// version is one version of a model that answers, or is able to.
type version struct {
	registry.Model
	s     *Service
	child *child.Child // nil: computed here
	gate  *queue.Gate  // of a language model: it answers one at a time

	embeds *queue.Batcher[text, minilm.Embedding] // of an encoder: texts of any callers together

	users atomic.Int64           // calls under way; it grows only while its served holds it
	crash atomic.Pointer[string] // how its process ended, if it did
	asked time.Time              // by digest, last; guarded by the mutex of its served

	mu   sync.Mutex
	pace time.Duration // of a call, a moving average
}

// open makes a version that is not running yet. A child's process starts at the first call, or when it is woken.
func (s *Service) open(m *registry.Model) *version {
	v := &version{Model: *m, s: s}
	switch {
	case m.Engine == registry.LlamaCpp:
		v.gate = queue.NewGate(queue.Options{
			What: "questions are asked", AtOnce: 1, Calls: s.cfg.GenerateQueue, Wait: s.cfg.GenerateWait, Refused: s.refusals("chat"),
		})
		v.child = s.newChild(v, s.cfg.engine(), s.cfg.Nice, s.cfg.IdleStop)
	case m.Engine == registry.Encoder:
		v.child = s.newChild(v, s.self, 0, 0)
	case m.Engine == registry.Builtin:
		v.Digest = s.encoderDigest
		if s.ownProcess() {
			v.child = s.newChild(v, s.self, 0, 0)
		}
	}
	if v.Kind == registry.Embed {
		v.embeds = queue.NewBatcher(queue.Options{
			What: "texts are embedded", AtOnce: s.cfg.embedAtOnce(), Calls: s.cfg.EmbedQueue, Wait: s.cfg.EmbedWait, Refused: s.refusals("embeddings"),
		}, embedBatch, textCost, v.encodeBatch)
	}
	if v.child != nil {
		v.child.Start(s.life)
	}
	return v
}

func (s *Service) newChild(v *version, program string, nice int, idle time.Duration) *child.Child {
	return child.New(child.Options{
		Name: v.Name, Program: program, Memory: int64(s.cfg.MemoryMB) << 20, Nice: nice, IdleStop: idle, Log: s.d.Log,
		Pack:    func(ctx context.Context) (child.Pack, error) { return s.pack(ctx, v) },
		Changed: func(st child.State) { s.changed(v, st) },
	})
}

// ownProcess says whether the built-in encoder runs in a process of its own.
func (s *Service) ownProcess() bool {
	return s.cfg.EncoderProcess == ProcessOwn || s.cfg.EncoderProcess == ProcessAuto && s.d.Alone
}

// program is how this program starts itself: by its open file, so that a newer one put in its place is not taken
// for it.
func program() string {
	if runtime.GOOS == "linux" {
		return "/proc/self/exe"
	}
	self, err := os.Executable()
	if err != nil {
		return os.Args[0]
	}
	return self
}

// pack is what a child runs. All of its files are read and compared with the manifest each time.
func (s *Service) pack(ctx context.Context, v *version) (child.Pack, error) {
	if v.Engine == registry.Builtin {
		return child.Pack{Args: encoder.Args(encoder.Builtin, "")}, nil
	}
	ref := v.Name + "@" + v.Version
	m, err := s.registry.Model(ctx, ref)
	if err != nil {
		return child.Pack{}, err
	}
	switch m.Status {
	case registry.Installed:
	case registry.Unsupported:
		return child.Pack{}, &child.MissingError{Reason: fmt.Sprintf("Model %s runs on %s only.", v.Name, strings.Join(m.Platforms, ", "))}
	default:
		return child.Pack{}, &child.MissingError{Reason: fmt.Sprintf("Model %s is not installed; `aran model pull %[1]s` fetches it.", v.Name)}
	}
	if m.Digest != v.Digest {
		return child.Pack{}, fmt.Errorf("model %s has another content now: SHA-256 %s, was %s", ref, m.Digest, v.Digest)
	}
	if v.Engine == registry.LlamaCpp {
		if info, err := os.Stat(s.cfg.engine()); err != nil || info.IsDir() {
			return child.Pack{}, &child.MissingError{Reason: fmt.Sprintf("The engine of model %s, aran-llama, is not beside aran; build it, or set infer.engine.", v.Name)}
		}
	}
	if err := s.registry.Verify(ctx, ref); err != nil {
		return child.Pack{}, err
	}
	weights := filepath.Join(m.Dir, filepath.FromSlash(m.Weights))
	if v.Engine == registry.Encoder {
		return child.Pack{Args: encoder.Args(weights, weightsDigest(&m.Manifest))}, nil
	}
	return child.Pack{Args: s.llamaArgs(weights, filepath.Join(m.Dir, filepath.FromSlash(m.Libraries)), m.Context)}, nil
}

func weightsDigest(m *registry.Manifest) string {
	for _, f := range m.Files {
		if f.Path == m.Weights {
			return f.SHA256
		}
	}
	return ""
}

func (s *Service) llamaArgs(weights, libraries string, size int) []string {
	if s.cfg.Context > 0 {
		size = s.cfg.Context
	}
	return []string{
		"--lib", libraries, "--model", weights, "--threads", fmt.Sprint(s.cfg.threads()), "--ctx", fmt.Sprint(size), "--queue", "1",
	}
}

// encode makes the vectors of texts. What a process answers is checked against the manifest.
func (v *version) encode(ctx context.Context, texts []string, query bool) ([]minilm.Embedding, error) {
	begin := time.Now()
	out, err := v.compute(ctx, texts, query)
	if err != nil {
		return nil, err
	}
	v.took(time.Since(begin))
	return out, nil
}

func (v *version) compute(ctx context.Context, texts []string, query bool) ([]minilm.Embedding, error) {
	if v.child == nil {
		out, err := v.s.encode(ctx, texts)
		if err != nil && ctx.Err() == nil {
			v.s.encoderFailed.Store(&err)
			return nil, fault.New(fault.Internal, "encoder_failed", "The encoder failed.").Because(err)
		}
		return out, err
	}
	lease, err := v.child.Acquire(ctx)
	if err != nil {
		return nil, err
	}
	defer lease.Release()
	watchdog := time.AfterFunc(v.s.cfg.Stall, lease.Kill)
	defer watchdog.Stop()
	out, err := encodeChecked(ctx, lease.Client, texts, query, v.Dim)
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, fault.New(fault.Unavailable, "model_broke_off", "Model %s broke off; try again.", v.Name).After(time.Second).Because(err)
	}
	return out, nil
}

// encodeChecked refuses vectors of another length than the manifest's, or not of unit length.
func encodeChecked(ctx context.Context, c *http.Client, texts []string, query bool, dim int) ([]minilm.Embedding, error) {
	out, err := encoder.Encode(ctx, c, texts, query)
	if err != nil {
		return nil, err
	}
	for i := range out {
		if len(out[i].Vector) != dim {
			return nil, fmt.Errorf("vector %d has %d numbers, the manifest says %d", i, len(out[i].Vector), dim)
		}
		var square float64
		for _, x := range out[i].Vector {
			square += float64(x) * float64(x)
		}
		if math.Abs(square-1) > 1e-2 {
			return nil, fmt.Errorf("vector %d has length %.3g, want 1", i, math.Sqrt(square))
		}
	}
	return out, nil
}

// took notes how long a call lasted.
func (v *version) took(d time.Duration) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.pace == 0 {
		v.pace = d
	}
	v.pace += (d - v.pace) / 8
}

func (v *version) meanPace() time.Duration {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.pace
}

// status is the version's, as callers see it.
func (v *version) status() string {
	if v.child == nil {
		if v.Engine == registry.Builtin && v.s.encoderFailed.Load() != nil {
			return Failed
		}
		return Ready
	}
	switch v.child.State().Status {
	case child.Ready, child.Asleep:
		return Ready
	case child.Failed:
		return Failed
	case child.Missing:
		return Missing
	default:
		return Loading
	}
}

func (v *version) event(status string) ModelEvent {
	return ModelEvent{Name: v.Name, Version: v.Version, Digest: v.Digest, Status: status}
}

// close ends the process, and waits for what is still computed here.
func (v *version) close(ctx context.Context) (err error) {
	if v.child != nil {
		err = v.child.Stop(ctx)
	}
	if v.embeds != nil {
		v.embeds.Close()
	}
	return err
}
