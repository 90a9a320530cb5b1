// Package redistest runs a real redis-server for tests.
//
// It starts the installed program on a free loopback port, with a password and without persistence, and ends
// it by pid. Where the program is not installed a test is skipped and says so, or fails when
// ARAN_TEST_REQUIRE_PARTS is 1.
package redistest

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"net"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"aran/platform/secret"
)

const startTimeout = 20 * time.Second

// Server is a running redis-server. Its methods are for the test's own goroutine.
type Server struct {
	tb       testing.TB
	dir      string
	port     string
	password string
	more     []string

	cmd  *exec.Cmd
	done chan struct{}
	out  output
}

// Start starts a server for this test and returns its URL, which holds the password.
func Start(tb testing.TB) string {
	tb.Helper()
	return Launch(tb).URL()
}

// Launch starts a server that the test will kill, stop or start again. More lines of configuration may be given;
// %PORT% in them is the port.
func Launch(tb testing.TB, config ...string) *Server {
	tb.Helper()
	path, err := exec.LookPath("redis-server")
	if err != nil {
		if v, unset := secret.Resolve("env:ARAN_TEST_REQUIRE_PARTS"); unset == nil && v.Reveal() == "1" {
			tb.Fatal("redis-server is not installed, and ARAN_TEST_REQUIRE_PARTS is 1: apt-get install redis-server")
		}
		tb.Skip("SKIPPED, NOT TESTED: redis-server is not installed (apt-get install redis-server)")
	}
	for range 5 { // a free port may be taken by the time the server wants it
		s := &Server{tb: tb, dir: tb.TempDir(), port: freePort(tb), password: rand.Text(), more: config}
		if err = s.start(path); err == nil {
			tb.Cleanup(s.Kill)
			return s
		}
	}
	tb.Fatalf("start redis-server: %v", err)
	return nil
}

// URL is redis://:password@127.0.0.1:port/0.
func (s *Server) URL() string { return "redis://:" + s.password + "@" + s.Addr() + "/0" }

// Addr is the address that it listens on.
func (s *Server) Addr() string { return net.JoinHostPort("127.0.0.1", s.port) }

// Password is what a client needs.
func (s *Server) Password() string { return s.password }

// Kill ends it with SIGKILL and waits until it is gone.
func (s *Server) Kill() {
	s.signal(syscall.SIGKILL)
	<-s.done
}

// Pause stops it with SIGSTOP: connections stay, nothing answers.
func (s *Server) Pause() { s.signal(syscall.SIGSTOP) }

// Resume ends a Pause.
func (s *Server) Resume() { s.signal(syscall.SIGCONT) }

// Restart starts it again after Kill, empty, at the same address.
func (s *Server) Restart() {
	s.tb.Helper()
	if err := s.start(s.cmd.Path); err != nil {
		s.tb.Fatalf("restart redis-server: %v", err)
	}
}

func (s *Server) signal(sig syscall.Signal) {
	select {
	case <-s.done: // the pid may be another's by now
	default:
		_ = s.cmd.Process.Signal(sig) // it may have ended by itself
	}
}

// start runs the server and waits until it listens.
func (s *Server) start(path string) error {
	lines := []string{
		"bind 127.0.0.1", "port " + s.port, "protected-mode yes", "requirepass " + s.password,
		`save ""`, "appendonly no", "daemonize no", "dir " + s.dir,
	}
	for _, l := range s.more {
		lines = append(lines, strings.ReplaceAll(l, "%PORT%", s.port))
	}
	cmd := exec.Command(path, "-") //nolint:noctx // the installed program; ended by pid
	cmd.Stdin = strings.NewReader(strings.Join(lines, "\n") + "\n")
	cmd.Stdout, cmd.Stderr = &s.out, &s.out
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return err
	}
	done := make(chan struct{})
	go func() {
		_ = cmd.Wait() // its output tells more
		close(done)
	}()
	s.cmd, s.done = cmd, done
	ctx, cancel := context.WithTimeout(context.WithoutCancel(s.tb.Context()), startTimeout)
	defer cancel()
	for {
		if listens(ctx, s.Addr()) {
			return nil
		}
		select {
		case <-done:
			return fmt.Errorf("it ended: %s", s.out.tail())
		case <-ctx.Done():
			s.Kill()
			return fmt.Errorf("it does not listen: %s", s.out.tail())
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// listens reports whether somebody takes connections at addr.
func listens(ctx context.Context, addr string) bool {
	conn, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "tcp", addr)
	return err == nil && conn.Close() == nil
}

func freePort(tb testing.TB) string {
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

// output keeps the end of what a server writes.
type output struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

// Write appends.
func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.buf.Len() > 1<<20 {
		o.buf.Reset()
	}
	return o.buf.Write(b)
}

func (o *output) tail() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	s := o.buf.String()
	return s[max(0, len(s)-2000):]
}
