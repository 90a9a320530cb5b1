package harness

import (
	"bytes"
	"context"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"aran/platform/redis/redistest"
	"aran/platform/store/pgtest"
)

// Parts are the real servers that replicas share: PostgreSQL, Redis and NATS, each a process of its own on loopback.
type Parts struct {
	Postgres *pgtest.Server
	Redis    *redistest.Server
	NATS     *NATS
}

// StartParts starts all three, with a database and a role for each of the services that store.
func StartParts(tb testing.TB, services []string) *Parts {
	tb.Helper()
	p := &Parts{Postgres: pgtest.Start(tb), Redis: redistest.Launch(tb), NATS: StartNATS(tb)}
	for _, s := range services {
		role := "aran_" + s
		p.Postgres.Exec("postgres", "CREATE ROLE "+role+" LOGIN")
		for _, db := range []string{role, role + "_keys"} {
			p.Postgres.Exec("postgres", "CREATE DATABASE "+db+" OWNER "+role+" TEMPLATE template0 ENCODING 'UTF8' LOCALE 'C'", "REVOKE ALL ON DATABASE "+db+" FROM PUBLIC")
			p.Postgres.Exec(db, "REVOKE ALL ON SCHEMA public FROM PUBLIC", "GRANT ALL ON SCHEMA public TO "+role)
		}
	}
	return p
}

// Env are the settings of a process that stands on the parts.
func (p *Parts) Env() []string {
	return []string{
		"ARAN_STORE_URL=postgres://aran_{service}@127.0.0.1:" + p.Postgres.Port() + "/aran_{service}?sslmode=disable",
		"ARAN_BUS_URL=" + p.NATS.URL(), "ARAN_REDIS_URL=" + p.Redis.URL(),
	}
}

// NATS is a nats-server with JetStream.
type NATS struct {
	tb   testing.TB
	port string
	dir  string
	path string
	cmd  *exec.Cmd
	done chan struct{}
	out  bytes.Buffer
}

// natsServer builds the server of the version that go.mod names: distributions have older ones.
func natsServer(tb testing.TB) string {
	tb.Helper()
	path := filepath.Join(Root(), ".cache", "parts", "nats-server")
	cmd := exec.CommandContext(tb.Context(), "go", "build", "-o", path, "github.com/nats-io/nats-server/v2") //nolint:gosec // the toolchain
	cmd.Dir = Root()
	if out, err := cmd.CombinedOutput(); err != nil {
		tb.Fatalf("build nats-server: %v\n%s", err, out)
	}
	return path
}

// StartNATS starts a server with empty streams.
func StartNATS(tb testing.TB) *NATS {
	tb.Helper()
	n := &NATS{tb: tb, port: Port(tb), dir: tb.TempDir(), path: natsServer(tb)}
	n.Restart()
	tb.Cleanup(n.Kill)
	return n
}

// URL of the server.
func (n *NATS) URL() string { return "nats://127.0.0.1:" + n.port }

// Restart starts it, also after Kill, on the same port and files.
func (n *NATS) Restart() {
	n.tb.Helper()
	n.cmd = exec.Command(n.path, "-a", "127.0.0.1", "-p", n.port, "-js", "-sd", filepath.Join(n.dir, "js")) //nolint:gosec,noctx // ended by pid
	n.out.Reset()
	n.cmd.Stdout, n.cmd.Stderr = &n.out, &n.out
	n.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := n.cmd.Start(); err != nil {
		n.tb.Fatal(err)
	}
	cmd, done := n.cmd, make(chan struct{})
	n.done = done
	go func() { _ = cmd.Wait(); close(done) }()
	Eventually(n.tb, 20*time.Second, "nats-server answers", func() bool {
		c, err := nats.Connect(n.URL(), nats.Timeout(time.Second))
		if err != nil {
			return false
		}
		defer c.Close()
		js, err := c.JetStream()
		if err != nil {
			return false
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_, err = js.AccountInfo(nats.Context(ctx))
		return err == nil
	})
}

// Kill ends it with SIGKILL and waits.
func (n *NATS) Kill() {
	_ = n.cmd.Process.Kill()
	<-n.done
}
