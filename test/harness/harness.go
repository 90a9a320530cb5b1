// Package harness runs a real aran process for the suites that look at it from outside.
//
// It starts the binary on a fresh or given data directory, on free loopback ports, waits until it is
// ready, and ends it by pid: in order, or with SIGKILL.
package harness

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Options of a process.
type Options struct {
	Binary   string   // empty: bin/aran
	Data     string   // empty: a temporary directory
	Env      []string // added to a clean environment
	Args     []string // after the command
	Services []string // empty: all of them (`aran up`)
}

// Process is a running aran. Its methods are for the test's own goroutine, Kill, Stop and Again one at a time.
type Process struct {
	Client
	Operator, Data string

	tb       testing.TB
	o        Options
	armed    []string
	public   string // address, when the gateway is here
	operator string
	cmd      *exec.Cmd
	done     chan struct{}
	mu       sync.Mutex
	out      bytes.Buffer
	err      error
}

// Root is the repository's root.
func Root() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Join(filepath.Dir(file), "..", "..")
}

// Port returns a free loopback port that it did not return before, below those that outgoing connections get: it stays
// free while a process that has it is down.
func Port(tb testing.TB) string {
	tb.Helper()
	for range 100 {
		port := strconv.Itoa(firstPort + rand.IntN(lastPort-firstPort)) //nolint:gosec // any will do
		if _, given := ports.LoadOrStore(port, true); given {
			continue
		}
		l, err := (&net.ListenConfig{}).Listen(tb.Context(), "tcp", net.JoinHostPort("127.0.0.1", port))
		if err == nil {
			_ = l.Close()
			return port
		}
	}
	tb.Fatal("no free port")
	return ""
}

const firstPort, lastPort = 10000, 32000

var ports sync.Map //nolint:gochecknoglobals // what this test process gave away

// Listen opens an address that was used a moment ago.
func Listen(tb testing.TB, address string) (net.Listener, error) {
	tb.Helper()
	var l net.Listener
	var err error
	for range 100 {
		if l, err = (&net.ListenConfig{}).Listen(context.WithoutCancel(tb.Context()), "tcp", address); err == nil {
			return l, nil
		}
		<-time.After(50 * time.Millisecond)
	}
	return nil, err
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
	p := Lay(tb, o)
	p.Again()
	return p
}

// Lay prepares a process on addresses of its own, for Again to start.
func Lay(tb testing.TB, o Options) *Process {
	tb.Helper()
	if o.Binary == "" {
		o.Binary = filepath.Join(Root(), "bin", "aran")
	}
	if o.Data == "" {
		o.Data = filepath.Join(tb.TempDir(), "data")
	}
	p := &Process{tb: tb, o: o, Data: o.Data, operator: "127.0.0.1:" + Port(tb)}
	p.Operator = "http://" + p.operator
	if p.hasGateway() {
		p.public = "127.0.0.1:" + Port(tb)
		p.URL = "http://" + p.public
	}
	tb.Cleanup(func() {
		if p.cmd == nil {
			return // never started
		}
		p.Kill()
		if tb.Failed() {
			tb.Logf("output of %s:\n%s", strings.Join(p.cmd.Args[1:], " "), tail(p.Output(), 6000))
		}
	})
	return p
}

// Again starts the process anew, on its addresses and data, after it ended. It does not wait for it to be ready.
func (p *Process) Again() {
	p.tb.Helper()
	args := []string{"up"}
	if len(p.o.Services) > 0 {
		args = append([]string{"run"}, p.o.Services...)
	}
	args = append(args, "--data", p.o.Data)
	if p.public != "" {
		args = append(args, "--listen", p.public)
	}
	p.cmd = exec.Command(p.o.Binary, append(args, p.o.Args...)...) //nolint:gosec,noctx // our own binary; ended by pid, also after the test's context
	p.cmd.Env = p.environment()
	p.cmd.Stdout, p.cmd.Stderr = (*output)(p), (*output)(p)
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	p.done = make(chan struct{})
	if err := p.cmd.Start(); err != nil {
		close(p.done)
		p.tb.Fatalf("start %s: %v (make build first)", p.o.Binary, err)
	}
	cmd, done := p.cmd, p.done
	go func() {
		p.err = cmd.Wait()
		close(done)
	}()
}

// With replaces the binary that Again starts: another version of the program.
func (p *Process) With(binary string) { p.o.Binary = binary }

func (p *Process) environment() []string {
	return append(append(Environment(filepath.Join(p.o.Data, "..", "models")), "ARAN_OPERATOR_LISTEN="+p.operator), slices.Concat(p.o.Env, p.armed)...)
}

// Command is a subcommand of the same binary with the settings of the process.
func (p *Process) Command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, p.o.Binary, args...) //nolint:gosec // our own binary
	cmd.Env = p.environment()
	return cmd
}

func (p *Process) hasGateway() bool {
	return len(p.o.Services) == 0 || slices.Contains(p.o.Services, "gateway")
}

func (p *Process) hasUsers() bool {
	return len(p.o.Services) == 0 || slices.Contains(p.o.Services, "user")
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

// Ready waits for /readyz and reads the administrator's key, where this process made it.
func (p *Process) Ready(within time.Duration) error {
	deadline := time.NewTimer(within)
	defer deadline.Stop()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		if p.IsReady() {
			if p.hasUsers() && p.hasGateway() {
				return p.ReadAdminKey()
			}
			return nil
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

// IsReady asks once: the public address where there is one, else the operator's.
func (p *Process) IsReady() bool {
	base := p.URL
	if base == "" {
		base = p.Operator
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, base+"/readyz", nil)
	if err != nil {
		return false
	}
	res, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		return false
	}
	_ = res.Body.Close()
	return res.StatusCode == http.StatusOK
}

// Pid of the process.
func (p *Process) Pid() int { return p.cmd.Process.Pid }

// Arm sets settings for the starts to come, over those of Options; none takes earlier ones back.
func (p *Process) Arm(env ...string) { p.armed = env }

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
