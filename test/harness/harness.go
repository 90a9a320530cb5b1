// Package harness runs a real aran process for the suites that look at it from outside.
//
// It starts the binary on a fresh or given data directory, on free loopback ports, waits until it is
// ready, and ends it by pid: in order, or with SIGKILL.
package harness

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Options of a process.
type Options struct {
	Binary string   // empty: bin/aran
	Data   string   // empty: a temporary directory
	Env    []string // added to a clean environment
	Args   []string // after `up`
}

// Process is a running aran.
type Process struct {
	URL, Operator, Data, AdminKey string

	tb   testing.TB
	cmd  *exec.Cmd
	done chan struct{}
	mu   sync.Mutex
	out  bytes.Buffer
	err  error
}

// Root is the repository's root.
func Root() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Join(filepath.Dir(file), "..", "..")
}

// Port returns a free loopback port.
func Port(tb testing.TB) string {
	tb.Helper()
	l, err := (&net.ListenConfig{}).Listen(tb.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	defer l.Close() //nolint:errcheck // only the number is wanted
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		tb.Fatal(err)
	}
	return port
}

// Environment is what a process gets besides Options.Env: enough to find programs, no provider's keys.
func Environment(models string) []string {
	return []string{"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME"), "ARAN_MODELS=" + models} //nolint:forbidigo // what programs find
}

// NoModels is a models directory with nothing in it.
func NoModels(tb testing.TB) string {
	tb.Helper()
	return filepath.Join(tb.TempDir(), "models")
}

// Launch starts a process and does not wait for it to be ready.
func Launch(tb testing.TB, o Options) *Process {
	tb.Helper()
	if o.Binary == "" {
		o.Binary = filepath.Join(Root(), "bin", "aran")
	}
	if o.Data == "" {
		o.Data = filepath.Join(tb.TempDir(), "data")
	}
	listen, operator := "127.0.0.1:"+Port(tb), "127.0.0.1:"+Port(tb)
	p := &Process{URL: "http://" + listen, Operator: "http://" + operator, Data: o.Data, tb: tb, done: make(chan struct{})}
	args := append([]string{"up", "--data", o.Data, "--listen", listen}, o.Args...)
	p.cmd = exec.Command(o.Binary, args...) //nolint:gosec,noctx // our own binary; ended by pid, also after the test's context
	p.cmd.Env = append(append(Environment(filepath.Join(o.Data, "..", "models")), "ARAN_OPERATOR_LISTEN="+operator), o.Env...)
	p.cmd.Stdout, p.cmd.Stderr = (*output)(p), (*output)(p)
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		tb.Fatalf("start %s: %v (make build first)", o.Binary, err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	tb.Cleanup(func() {
		p.Kill()
		if tb.Failed() {
			tb.Logf("output of %s:\n%s", strings.Join(args, " "), tail(p.Output(), 6000))
		}
	})
	return p
}

// Start starts a process and waits until it is ready.
func Start(tb testing.TB, o Options) *Process {
	tb.Helper()
	p := Launch(tb, o)
	if err := p.Ready(60 * time.Second); err != nil {
		tb.Fatalf("%v\n%s", err, tail(p.Output(), 6000))
	}
	return p
}

// Ready waits for /readyz and reads the administrator's key.
func (p *Process) Ready(within time.Duration) error {
	deadline := time.NewTimer(within)
	defer deadline.Stop()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		if res, err := p.get("/readyz"); err == nil {
			_ = res.Body.Close()
			if res.StatusCode == http.StatusOK {
				return p.ReadAdminKey()
			}
		}
		select {
		case <-p.done:
			return fmt.Errorf("ended before it was ready: %w", errors.Join(errEnded, p.err))
		case <-deadline.C:
			return fmt.Errorf("not ready after %s", within)
		case <-tick.C:
		}
	}
}

// ReadAdminKey reads the administrator's key from the data directory, where it is once the platform is ready.
func (p *Process) ReadAdminKey() error {
	key, err := os.ReadFile(filepath.Join(p.Data, "admin.key"))
	if err != nil {
		return fmt.Errorf("ready without an administrator's key: %w", err)
	}
	p.AdminKey = strings.TrimSpace(string(key))
	return nil
}

var errEnded = errors.New("process ended")

func (p *Process) get(path string) (*http.Response, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.URL+path, nil)
	if err != nil {
		return nil, err
	}
	return http.DefaultTransport.RoundTrip(req)
}

// Pid of the process.
func (p *Process) Pid() int { return p.cmd.Process.Pid }

// Kill ends it with SIGKILL and waits.
func (p *Process) Kill() {
	_ = p.cmd.Process.Kill()
	<-p.done
}

// Stop ends it in order and says how long that took.
func (p *Process) Stop() (time.Duration, error) {
	begin := time.Now()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return 0, err
	}
	select {
	case <-p.done:
		return time.Since(begin), p.err
	case <-time.After(20 * time.Second):
		p.Kill()
		return time.Since(begin), errors.New("did not stop within 20 s")
	}
}

// Ended is closed when the process is gone.
func (p *Process) Ended() <-chan struct{} { return p.done }

// ExitCode of an ended process; -1 after a signal.
func (p *Process) ExitCode() int { return p.cmd.ProcessState.ExitCode() }

// Output is what it wrote so far.
func (p *Process) Output() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.out.String()
}

type output Process

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.out.Write(b)
}

// Answer is a response read whole.
type Answer struct {
	Status int
	Header http.Header
	Body   []byte
}

// JSON decodes the body.
func (a Answer) JSON(tb testing.TB, into any) {
	tb.Helper()
	if err := json.Unmarshal(a.Body, into); err != nil {
		tb.Fatalf("answer %d %.500s: %v", a.Status, a.Body, err)
	}
}

// Call sends a request as key (empty: without a credential) and returns the answer, or the transport's error. A string
// or []byte body goes out as it is, anything else as JSON.
func (p *Process) Call(ctx context.Context, method, path, key string, body any, header ...string) (Answer, error) {
	var r io.Reader
	switch b := body.(type) {
	case nil:
	case string:
		r = strings.NewReader(b)
	case []byte:
		r = bytes.NewReader(b)
	default:
		j, err := json.Marshal(b)
		if err != nil {
			return Answer{}, err
		}
		r = bytes.NewReader(j)
	}
	req, err := http.NewRequestWithContext(ctx, method, p.URL+path, r)
	if err != nil {
		return Answer{}, err
	}
	if key != "" {
		req.Header.Set("Authorization", "Bearer "+key)
	}
	if r != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	res, err := (&http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}).Do(req)
	if err != nil {
		return Answer{}, err
	}
	defer res.Body.Close() //nolint:errcheck // read whole below
	b, err := io.ReadAll(io.LimitReader(res.Body, 64<<20))
	return Answer{res.StatusCode, res.Header, b}, err
}

// Must is Call that expects a status.
func (p *Process) Must(tb testing.TB, status int, method, path, key string, body any, header ...string) Answer {
	tb.Helper()
	a, err := p.Call(tb.Context(), method, path, key, body, header...)
	if err != nil {
		tb.Fatalf("%s %s: %v", method, path, err)
	}
	if a.Status != status {
		tb.Fatalf("%s %s answered %d, want %d: %.1000s", method, path, a.Status, status, a.Body)
	}
	return a
}

// Eventually polls until ok says so, or fails the test.
func Eventually(tb testing.TB, within time.Duration, what string, ok func() bool) {
	tb.Helper()
	deadline := time.NewTimer(within)
	defer deadline.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-deadline.C:
			tb.Fatalf("not within %s: %s", within, what)
		case <-tick.C:
		}
	}
}

func tail(s string, n int) string {
	if len(s) > n {
		return "…" + s[len(s)-n:]
	}
	return s
}
