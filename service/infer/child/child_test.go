package child_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"aran/platform/fault"
	"aran/service/infer/child"
	"aran/service/infer/child/childtest"
)

func TestMain(m *testing.M) {
	childtest.Main()
	m.Run()
}

func pack(model string) child.Pack {
	return child.Pack{Args: []string{"--lib", "/lib", "--model", model}}
}

// start supervises a child on the model; the test binary is the engine.
func start(t *testing.T, model string, change func(*child.Options)) *child.Child {
	t.Helper()
	o := child.Options{
		Name: "tiny", Program: os.Args[0], Memory: 1 << 30, Nice: 5, Log: slog.New(slog.DiscardHandler),
		Pack: func(context.Context) (child.Pack, error) { return pack(model), nil },
	}
	if change != nil {
		change(&o)
	}
	c := child.New(o)
	c.Start(t.Context())
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 5*time.Second)
		defer cancel()
		if err := c.Stop(ctx); err != nil {
			t.Errorf("stop: %v", err)
		}
	})
	return c
}

// ask sends one message and returns the answer's text.
func ask(ctx context.Context, l *child.Lease, text string) (string, error) {
	body := `{"messages":[{"role":"user","content":"` + text + `"}]}`
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://model/v1/chat/completions", strings.NewReader(body))
	if err != nil {
		return "", err
	}
	resp, err := l.Client.Do(r)
	if err != nil {
		return "", err
	}
	b, err := io.ReadAll(resp.Body)
	if err := errors.Join(err, resp.Body.Close()); err != nil {
		return "", err
	}
	var all strings.Builder
	for line := range strings.Lines(string(b)) {
		var c struct {
			Choices []struct{ Delta struct{ Content string } }
		}
		if data, ok := strings.CutPrefix(line, "data: {"); ok && json.Unmarshal([]byte("{"+data), &c) == nil && len(c.Choices) > 0 {
			all.WriteString(c.Choices[0].Delta.Content)
		}
	}
	return all.String(), nil
}

func acquire(t *testing.T, c *child.Child) *child.Lease {
	t.Helper()
	l, err := c.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Release)
	return l
}

func report(t *testing.T, l *child.Lease) (r childtest.Report) {
	t.Helper()
	text, err := ask(t.Context(), l, childtest.Self)
	if err == nil {
		err = json.Unmarshal([]byte(text), &r)
	}
	if err != nil {
		t.Fatalf("%v in %q", err, text)
	}
	return r
}

func waitFor(t *testing.T, what string, there func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	end := time.After(20 * time.Second)
	for !there() {
		select {
		case <-tick.C:
		case <-end:
			t.Fatalf("waited too long for %s", what)
		}
	}
}

func alive(pid int) bool { return syscall.Kill(pid, 0) == nil }

func TestFirstCallerStartsTheChild(t *testing.T) {
	c := start(t, childtest.Good, nil)
	if s := c.State().Status; s != child.Waiting {
		t.Errorf("before the first call: %s", s)
	}
	l := acquire(t, c)
	if text, err := ask(t.Context(), l, "one two"); err != nil || text != "one two" {
		t.Errorf("%q, %v", text, err)
	}
	if s := c.State().Status; s != child.Ready {
		t.Errorf("after it: %s", s)
	}
}

func TestChildIsConfined(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("limits of another process are set on Linux only")
	}
	t.Setenv("OPENAI_API_KEY", "sk-secret")
	c := start(t, childtest.Good, func(o *child.Options) { o.Memory, o.Nice = 700<<20, 7 })
	r := report(t, acquire(t, c))
	if len(r.Env) != 0 {
		t.Errorf("it has an environment: %q", r.Env)
	}
	if r.Nice != 7 {
		t.Errorf("nice %d, want 7", r.Nice)
	}
	for _, want := range []string{"Max data size             734003200", "Max core file size        0", "Max open files            256"} {
		if !strings.Contains(r.Limits, want) {
			t.Errorf("its limits lack %q:\n%s", want, r.Limits)
		}
	}
	info, err := os.Stat(r.Dir)
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the folder of its socket: %v, %v", info, err)
	}
	if r.Files > 12 {
		t.Errorf("it has %d open files", r.Files)
	}
}

func TestStopEndsTheChildWithinASecond(t *testing.T) {
	for _, model := range []string{childtest.Good, childtest.Deaf} {
		c := start(t, model, nil)
		r := report(t, acquire(t, c))
		begin := time.Now()
		if err := c.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(begin); took > time.Second {
			t.Errorf("%s: it took %v", model, took)
		}
		if alive(r.PID) {
			t.Errorf("%s: the process is still there", model)
		}
		if _, err := os.Stat(r.Dir); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: its folder is still there: %v", model, err)
		}
		if _, err := c.Acquire(t.Context()); fault.KindOf(err) != fault.Unavailable {
			t.Errorf("%s: afterwards: %v", model, err)
		}
	}
}

func TestCrashedChildIsStartedAgain(t *testing.T) {
	c := start(t, childtest.Good, nil)
	l := acquire(t, c)
	first := report(t, l).PID
	if err := syscall.Kill(first, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the crash to be noticed", func() bool { return c.State().Status == child.Failed })
	_, err := c.Acquire(t.Context())
	if f := fault.From(err); f == nil || f.Kind != fault.Unavailable || f.RetryAfter < time.Second {
		t.Errorf("while it is away: %v; want Unavailable with RetryAfter", err)
	}
	waitFor(t, "the restart", func() bool { return c.State().Status == child.Ready })
	if second := report(t, acquire(t, c)).PID; second == first {
		t.Error("it is the same process")
	}
}

func TestHangingChildCanBeKilled(t *testing.T) {
	c := start(t, childtest.Good, nil)
	l := acquire(t, c)
	got := make(chan error, 1)
	go func() {
		_, err := ask(t.Context(), l, childtest.Hang)
		got <- err
	}()
	l.Kill()
	if err := <-got; err == nil {
		t.Error("the call went on")
	}
	waitFor(t, "the restart", func() bool { return c.State().Status == child.Ready })
}

func TestChildThatNeverStarts(t *testing.T) {
	var mu sync.Mutex
	var seen []child.Status
	c := start(t, childtest.Crash, func(o *child.Options) {
		o.Changed = func(s child.State) {
			mu.Lock()
			defer mu.Unlock()
			seen = append(seen, s.Status)
		}
	})
	_, err := c.Acquire(t.Context())
	if fault.KindOf(err) != fault.Unavailable || !strings.Contains(err.Error(), "tensor 'blk.0' is not there") {
		t.Errorf("%v; want Unavailable with the engine's own words as the cause", err)
	}
	if f := fault.From(err); strings.Contains(f.Detail, "tensor") {
		t.Errorf("the caller is told %q", f.Detail)
	}
	waitFor(t, "a second try", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(seen) >= 4
	})
	mu.Lock()
	defer mu.Unlock()
	for i, want := range []child.Status{child.Loading, child.Failed, child.Loading, child.Failed} {
		if seen[i] != want {
			t.Errorf("changes %v", seen)
			break
		}
	}
}

func TestProgramThatIsNotThere(t *testing.T) {
	c := start(t, childtest.Good, func(o *child.Options) { o.Program = "/nowhere/aran-llama" })
	if _, err := c.Acquire(t.Context()); fault.KindOf(err) != fault.Unavailable || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("%v", err)
	}
}

func TestMissingModelThatArrives(t *testing.T) {
	var mu sync.Mutex
	var reason error = &child.MissingError{Reason: "Model tiny is not installed."}
	c := start(t, childtest.Good, func(o *child.Options) {
		o.Pack = func(context.Context) (child.Pack, error) {
			mu.Lock()
			defer mu.Unlock()
			return pack(childtest.Good), reason
		}
	})
	for range 2 {
		_, err := c.Acquire(t.Context())
		if f := fault.From(err); f == nil || f.Code != "model_missing" || f.Detail != "Model tiny is not installed." {
			t.Errorf("%v; want model_missing", err)
		}
	}
	if s := c.State(); s.Status != child.Missing {
		t.Errorf("%+v", s)
	}
	mu.Lock()
	reason = nil
	mu.Unlock()
	if text, err := ask(t.Context(), acquire(t, c), "here"); err != nil || text != "here" {
		t.Errorf("after it was installed: %q, %v", text, err)
	}
}

func TestCallersWaitWhileTheModelLoads(t *testing.T) {
	dir := t.TempDir()
	hold := filepath.Join(dir, "hold")
	if err := os.WriteFile(hold, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	c := start(t, filepath.Join(dir, childtest.Slow), nil)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := c.Acquire(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a caller with little time: %v", err)
	}
	if s := c.State().Status; s != child.Loading {
		t.Errorf("state %s", s)
	}
	got := make(chan error, 1)
	go func() {
		l, err := c.Acquire(t.Context())
		if err == nil {
			l.Release()
		}
		got <- err
	}()
	if err := os.Remove(hold); err != nil {
		t.Fatal(err)
	}
	if err := <-got; err != nil {
		t.Errorf("a caller with patience: %v", err)
	}
}

func TestIdleChildSleepsAndWakes(t *testing.T) {
	c := start(t, childtest.Good, func(o *child.Options) { o.IdleStop = 50 * time.Millisecond })
	l, err := c.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	pid := report(t, l).PID
	if s := c.State().Status; s != child.Ready {
		t.Errorf("in use: %s", s)
	}
	l.Release()
	waitFor(t, "sleep", func() bool { return c.State().Status == child.Asleep && !alive(pid) })
	if next := report(t, acquire(t, c)).PID; next == pid {
		t.Error("it did not sleep")
	}
}

func TestFoldersOfKilledParentsAreRemoved(t *testing.T) {
	tmp, err := os.MkdirTemp("/tmp", "t-") //nolint:usetesting // t.TempDir is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(tmp); err != nil {
			t.Error(err)
		}
	})
	t.Setenv("TMPDIR", tmp)
	old, used, young := filepath.Join(tmp, "aran-model-1"), filepath.Join(tmp, "aran-model-2"), filepath.Join(tmp, "aran-model-3")
	yesterday := time.Now().Add(-24 * time.Hour)
	for _, dir := range []string{old, used, young} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(os.WriteFile(filepath.Join(used, "s"), nil, 0o600), os.Chtimes(old, yesterday, yesterday), os.Chtimes(used, yesterday, yesterday)); err != nil {
		t.Fatal(err)
	}
	acquire(t, start(t, childtest.Good, nil))
	if _, err := os.Stat(old); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("an empty old folder is still there: %v", err)
	}
	for _, dir := range []string{used, young} {
		if _, err := os.Stat(dir); err != nil {
			t.Errorf("a folder that may be in use is gone: %v", err)
		}
	}
}

func TestStopBeforeStart(t *testing.T) {
	c := child.New(child.Options{Log: slog.New(slog.DiscardHandler)})
	if err := c.Stop(t.Context()); err != nil {
		t.Error(err)
	}
}
