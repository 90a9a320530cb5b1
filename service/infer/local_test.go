package infer

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	inferv1 "aran/api/gen/aran/infer/v1"
	"aran/platform/fault"
	"aran/service/infer/child/childtest"
	"aran/service/infer/registry"
)

func sum(b []byte) string {
	h := sha256.Sum256(b)
	return hex.EncodeToString(h[:])
}

// local is a world whose model `tiny` is installed.
func local(t *testing.T, change func(*Config)) *world {
	t.Helper()
	cfg := settings(t)
	if change != nil {
		change(&cfg)
	}
	w := &world{t: t, cfg: cfg}
	w.pull()
	return newWorld(t, cfg, database(t), fake)
}

func TestGenerate(t *testing.T) {
	w := local(t, nil)
	text, last, err := w.generate(t.Context(), "one two three", func(r *inferv1.GenerateRequest) { r.MaxTokens = 2 })
	if err != nil {
		t.Fatal(err)
	}
	if text != "one two " || last.GetFinishReason() != "length" || last.GetPromptTokens() != 1 || last.GetCompletionTokens() != 2 {
		t.Errorf("%q, %v", text, last)
	}
	if text, _, err := w.generate(t.Context(), "hello", func(r *inferv1.GenerateRequest) { r.Model = "default" }); err == nil && text != "hello" || err != nil && fault.From(err).Code != "model_missing" {
		t.Errorf("default: %q, %v", text, err) // the first by name, which is not the one installed here
	}
	if s := w.status("tiny"); s != Ready {
		t.Errorf("status %s", s)
	}
}

func TestGenerateWithoutTheModel(t *testing.T) {
	w := newWorld(t, settings(t), database(t), fake)
	_, _, err := w.generate(t.Context(), "hello", nil)
	if f := fault.From(err); f == nil || f.Kind != fault.Unavailable || f.Code != "model_missing" || !strings.Contains(f.Detail, "aran model pull tiny") {
		t.Errorf("%v; want one line that says what is missing", err)
	}
	if s := w.status("tiny"); s != Missing {
		t.Errorf("status %s", s)
	}
	w.pull()
	if text, _, err := w.generate(t.Context(), "hello", nil); err != nil || text != "hello" {
		t.Errorf("after it was pulled: %q, %v", text, err)
	}
}

func TestGenerateWithoutTheEngine(t *testing.T) {
	w := local(t, func(c *Config) { c.Engine = filepath.Join(t.TempDir(), "aran-llama") })
	_, _, err := w.generate(t.Context(), "hello", nil)
	if f := fault.From(err); f == nil || f.Code != "model_missing" || !strings.Contains(f.Detail, "aran-llama") {
		t.Errorf("%v", err)
	}
}

func TestDamagedModelIsNotRun(t *testing.T) {
	w := local(t, nil)
	reg, err := w.cfg.Registry()
	if err != nil {
		t.Fatal(err)
	}
	m, err := reg.Model(t.Context(), "tiny")
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(m.Dir, childtest.Good)
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	b[5] ^= 1
	if err := errors.Join(os.Chmod(name, 0o600), os.WriteFile(name, b, 0o600)); err != nil {
		t.Fatal(err)
	}
	_, _, err = w.generate(t.Context(), "hello", nil)
	if fault.KindOf(err) != fault.Unavailable || w.status("tiny") != Failed {
		t.Errorf("%v, status %s", err, w.status("tiny"))
	}
	if _, err := w.s.Generate(t.Context(), Prompt{Model: "tiny", Messages: []Message{{"user", "a"}}}, nil); !strings.Contains(err.Error(), "expected SHA-256") {
		t.Errorf("the log would not say why: %v", err)
	}
}

func TestAnswersThatFail(t *testing.T) {
	w := local(t, nil)
	for _, c := range []struct {
		ask  string
		kind fault.Kind
		code string
	}{
		{childtest.Long, fault.Invalid, "context_exceeded"},
		{childtest.Busy, fault.Unavailable, "model_unavailable"},
		{childtest.Die, fault.Unavailable, "model_broke_off"},
	} {
		_, _, err := w.generate(t.Context(), c.ask, nil)
		f := fault.From(err)
		if f == nil || f.Kind != c.kind || f.Code != c.code || c.kind == fault.Unavailable && f.RetryAfter <= 0 {
			t.Errorf("%s: %v", c.ask, err)
		}
	}
	waitFor(t, "the restart", func() bool {
		text, _, err := w.generate(t.Context(), "hello", nil)
		return err == nil && text == "hello"
	})
}

func TestHangingModelIsRestarted(t *testing.T) {
	w := local(t, func(c *Config) { c.Stall = time.Second })
	before := pid(t, w)
	_, _, err := w.generate(t.Context(), childtest.Hang, nil)
	if f := fault.From(err); f == nil || f.Code != "model_broke_off" || !strings.Contains(err.Error(), "try again") {
		t.Errorf("%v", err)
	}
	waitFor(t, "the restart", func() bool {
		_, _, err := w.generate(t.Context(), "hello", nil)
		return err == nil
	})
	if after := pid(t, w); after == before {
		t.Error("the process that hung is still there")
	}
}

func pid(t *testing.T, w *world) int {
	t.Helper()
	text, _, err := w.generate(t.Context(), childtest.Self, nil)
	var r childtest.Report
	if err == nil {
		err = json.Unmarshal([]byte(text), &r)
	}
	if err != nil {
		t.Fatal(err)
	}
	return r.PID
}

func TestCallerWhoLeaves(t *testing.T) {
	w := local(t, nil)
	before := pid(t, w)
	ctx, cancel := context.WithCancel(t.Context())
	got := make(chan error, 1)
	go func() {
		_, _, err := w.generate(ctx, childtest.Hang, nil)
		got <- err
	}()
	waitFor(t, "the question", func() bool { return w.s.lookup("tiny").current().gate.Present() == 1 })
	cancel()
	if err := <-got; err == nil {
		t.Error("no error")
	}
	waitFor(t, "the place to be free", func() bool { return w.s.lookup("tiny").current().gate.Present() == 0 })
	if after := pid(t, w); after != before {
		t.Error("the process was restarted for a caller who left")
	}
}

func TestStopEndsOpenStreams(t *testing.T) {
	w := local(t, nil)
	process := pid(t, w)
	got := make(chan error, 1)
	go func() {
		_, _, err := w.generate(context.WithoutCancel(t.Context()), childtest.Hang, nil)
		got <- err
	}()
	waitFor(t, "the question", func() bool { return w.s.lookup("tiny").current().gate.Present() == 1 })
	w.stop() // checks that it takes less than a second
	if err := <-got; fault.KindOf(err) != fault.Unavailable {
		t.Errorf("the open answer: %v", err)
	}
	if syscall.Kill(process, 0) == nil {
		t.Error("the process outlived its service")
	}
}

// named filters events.
func named(events []ModelEvent, name string) (out []string) {
	for _, e := range events {
		if e.Name == name {
			out = append(out, e.Status)
		}
	}
	return out
}

// run counts the models that infer runs itself; those inside other parts of the program have no state that changes.
func run(t *testing.T, w *world) (n int) {
	for _, name := range w.s.registry.Names() {
		m, err := w.s.registry.Model(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		if m.Engine != registry.Inside {
			n++
		}
	}
	return n
}

func TestChangesAreEventsOncePerChange(t *testing.T) {
	cfg := settings(t)
	cfg.Preload = true
	db := database(t)
	first := newWorld(t, cfg, db, fake)
	waitFor(t, "the first look", func() bool { return len(first.events()) == run(t, first) })
	if got := named(first.events(), "tiny"); len(got) != 1 || got[0] != Missing {
		t.Errorf("at first: %v", got)
	}
	if got := named(first.events(), "all-minilm-l6-v2"); len(got) != 1 || got[0] != Ready {
		t.Errorf("the encoder: %v", got)
	}
	first.stop()

	first.pull()
	second := newWorld(t, cfg, db, fake)
	waitFor(t, "the model", func() bool { return len(named(second.events(), "tiny")) == 2 })
	process := pid(t, second)
	if err := syscall.Kill(process, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "failure and recovery", func() bool { return len(named(second.events(), "tiny")) == 4 })
	second.stop()

	third := newWorld(t, cfg, db, fake)
	waitFor(t, "the model again", func() bool { return third.status("tiny") == Ready })
	events := third.events()
	if got := strings.Join(named(events, "tiny"), " "); got != "missing ready failed ready" {
		t.Errorf("events: %s", got)
	}
	if want := run(t, third) + 3; len(events) != want {
		t.Errorf("%d events, want %d: each change once, over three starts", len(events), want)
	}
	if e := events[len(events)-1]; len(e.Digest) != 64 || e.Version != "1" {
		t.Errorf("%+v", e)
	}
}
