// Package pgtest runs a real PostgreSQL server for tests: as a user without rights, on loopback, without syncing.
//
// It takes the server from ARAN_TEST_POSTGRES_BIN (a folder with initdb and postgres), from where test/parts puts one
// with pgvector, or from where Debian puts it. A test is skipped when there is none, unless ARAN_TEST_REQUIRE_PARTS says
// that it must run.
package pgtest

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"aran/platform/secret"
)

// Server is a running PostgreSQL. Its superuser is `postgres`, who needs no password over TCP from loopback.
type Server struct {
	tb   testing.TB
	port string
	dir  string
	bin  string
	cmd  *exec.Cmd
	done chan struct{}
}

// Start starts a server with an empty cluster; it ends with the test.
func Start(tb testing.TB) *Server {
	tb.Helper()
	s := &Server{tb: tb, bin: find(tb), port: freePort(tb)}
	dir, err := os.MkdirTemp("", "aran-pg-") //nolint:usetesting // the server's user must reach it, who cannot enter tb.TempDir
	if err != nil {
		tb.Fatal(err)
	}
	s.dir = dir
	tb.Cleanup(func() { _ = os.RemoveAll(dir) })
	uid, gid := unprivileged(tb)
	if os.Getuid() == 0 {
		if err := os.Chown(dir, uid, gid); err != nil {
			tb.Fatal(err)
		}
	}
	if out, err := s.command("initdb", "-D", filepath.Join(dir, "data"), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync").CombinedOutput(); err != nil {
		tb.Fatalf("initdb: %v\n%s", err, out)
	}
	s.Restart()
	tb.Cleanup(s.Kill)
	return s
}

// Restart starts the server again after Kill, on the same port and files.
func (s *Server) Restart() {
	s.tb.Helper()
	s.cmd = s.command("postgres", "-D", filepath.Join(s.dir, "data"), "-p", s.port, "-c", "listen_addresses=127.0.0.1", "-k", s.dir,
		"-c", "fsync=off", "-c", "max_connections=250", "-c", "shared_buffers=64MB", "-c", "autovacuum=off", "-c", "log_min_messages=fatal")
	log, err := os.OpenFile(filepath.Join(s.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		s.tb.Fatal(err)
	}
	defer log.Close() //nolint:errcheck // the process has its own
	s.cmd.Stdout, s.cmd.Stderr = log, log
	if err := s.cmd.Start(); err != nil {
		s.tb.Fatal(err)
	}
	done := make(chan struct{})
	s.done = done
	cmd := s.cmd
	go func() { _ = cmd.Wait(); close(done) }()
	deadline := time.Now().Add(30 * time.Second)
	for {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		c, err := pgx.Connect(ctx, s.URL("postgres", "postgres"))
		if err == nil {
			_ = c.Close(ctx)
			cancel()
			return
		}
		cancel()
		select {
		case <-done:
			b, _ := os.ReadFile(filepath.Join(s.dir, "log"))
			s.tb.Fatalf("postgres ended:\n%s", b)
		case <-time.After(20 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			s.tb.Fatalf("postgres is not ready: %v", err)
		}
	}
}

// Kill ends the server at once, as a crash does: SIGKILL for the whole of it.
func (s *Server) Kill() {
	if s.cmd == nil || s.cmd.Process == nil {
		return
	}
	_ = s.cmd.Process.Signal(syscall.SIGSTOP) // so that no child is born meanwhile
	pids := s.pids()
	for _, pid := range pids {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	<-s.done
	for _, pid := range pids[1:] {
		awaitEnd(pid)
	}
	_ = os.Remove(filepath.Join(s.dir, "data", "postmaster.pid")) // its children are gone too: nothing holds the files
}

// Pause stops the server's processes without ending them, as a machine that hangs; Resume lets them go on.
func (s *Server) Pause() { s.signal(syscall.SIGSTOP) }

// Resume is the end of Pause.
func (s *Server) Resume() { s.signal(syscall.SIGCONT) }

func (s *Server) signal(sig syscall.Signal) {
	for _, pid := range s.pids() {
		_ = syscall.Kill(pid, sig)
	}
}

// pids are the server's process and then its children.
func (s *Server) pids() []int {
	pids := []int{s.cmd.Process.Pid}
	children, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pids[0], pids[0]))
	for f := range strings.FieldsSeq(string(children)) {
		if pid, err := strconv.Atoi(f); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

// awaitEnd waits until a process holds nothing any more: it is gone, or only its name is left.
func awaitEnd(pid int) {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); <-tick.C {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil || strings.Contains(string(stat), ") Z ") {
			return
		}
	}
}

// URL of a database as a role.
func (s *Server) URL(role, database string) string {
	return fmt.Sprintf("postgres://%s@127.0.0.1:%s/%s?sslmode=disable", role, s.port, database)
}

// Port it listens on.
func (s *Server) Port() string { return s.port }

// Exec runs statements as the superuser, each by itself.
func (s *Server) Exec(database string, statements ...string) {
	s.tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	c, err := pgx.Connect(ctx, s.URL("postgres", database))
	if err != nil {
		s.tb.Fatal(err)
	}
	defer c.Close(ctx) //nolint:errcheck // a test's
	for _, q := range statements {
		if _, err := c.Exec(ctx, q); err != nil {
			s.tb.Fatalf("%s: %v", q, err)
		}
	}
}

// Database makes an empty one and returns the superuser's URL of it.
func (s *Server) Database() string {
	s.tb.Helper()
	name := fmt.Sprintf("probe_%d", databases.Add(1))
	s.Exec("postgres", "CREATE DATABASE "+name+" TEMPLATE template0 ENCODING 'UTF8' LOCALE 'C'")
	return s.URL("postgres", name)
}

var databases atomic.Int64 //nolint:gochecknoglobals // names of one test process

// StartVector is Start with a server that has pgvector. The test is skipped when there is none, as in Start.
func StartVector(tb testing.TB) *Server {
	tb.Helper()
	s := Start(tb)
	if s.HasVector() {
		return s
	}
	const missing = "this PostgreSQL has no pgvector: run test/parts, or set ARAN_TEST_POSTGRES_BIN to a server that has it"
	if required() {
		tb.Fatal(missing)
	}
	tb.Skip(missing)
	return nil
}

// VectorDatabase makes an empty one with pgvector in it.
func (s *Server) VectorDatabase() string {
	s.tb.Helper()
	url := s.Database()
	c, err := pgx.ParseConfig(url)
	if err != nil {
		s.tb.Fatal(err)
	}
	s.Exec(c.Database, "CREATE EXTENSION vector")
	return url
}

// HasVector reports whether the server has the pgvector extension.
func (s *Server) HasVector() bool {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	c, err := pgx.Connect(ctx, s.URL("postgres", "postgres"))
	if err != nil {
		s.tb.Fatal(err)
	}
	defer c.Close(ctx) //nolint:errcheck // a test's
	var n int
	if err := c.QueryRow(ctx, `SELECT COUNT(*) FROM pg_available_extensions WHERE name = 'vector'`).Scan(&n); err != nil {
		s.tb.Fatal(err)
	}
	return n > 0
}

// find returns the folder of the server's programs.
func find(tb testing.TB) string {
	tb.Helper()
	if dir, unset := secret.Resolve("env:ARAN_TEST_POSTGRES_BIN"); unset == nil && !dir.Empty() {
		return dir.Reveal()
	}
	for _, place := range []string{cached(), "/usr/lib/postgresql/*/bin/postgres"} {
		if found, _ := filepath.Glob(place); len(found) > 0 {
			return filepath.Dir(found[len(found)-1])
		}
	}
	const missing = "no PostgreSQL here: install it, or set ARAN_TEST_POSTGRES_BIN to the folder of initdb"
	if required() {
		tb.Fatal(missing)
	}
	tb.Skip(missing)
	return ""
}

func required() bool {
	v, unset := secret.Resolve("env:ARAN_TEST_REQUIRE_PARTS")
	return unset == nil && !v.Empty()
}

// cached is where test/parts puts a server, seen from this file.
func cached() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Join(filepath.Dir(file), "../../../.cache/parts/postgresql-*/bin/postgres")
}

// command runs a program of the server as a user without rights, in a process group of its own.
func (s *Server) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(s.bin, name), args...) //nolint:gosec,noctx // ended by pid
	cmd.Dir = s.dir
	libs := filepath.Join(s.bin, "..", "lib") // of a server that brings its own
	cmd.Env = []string{"PATH=/usr/bin:/bin", "LC_ALL=C", "TZ=UTC", "LD_LIBRARY_PATH=" + libs}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if os.Getuid() == 0 {
		uid, gid := unprivileged(s.tb)
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)} //nolint:gosec // of the system's own list
	}
	return cmd
}

func unprivileged(tb testing.TB) (uid, gid int) {
	tb.Helper()
	u, err := user.Lookup("nobody")
	if err != nil {
		tb.Fatal(err)
	}
	uid, err = strconv.Atoi(u.Uid)
	if err != nil {
		tb.Fatal(err)
	}
	gid, err = strconv.Atoi(u.Gid)
	if err != nil {
		tb.Fatal(err)
	}
	return uid, gid
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
