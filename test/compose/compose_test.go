// Package compose_test starts the platform as containers and looks at it from outside.
//
// The rules of compose.yaml are checked without an engine. With one (ARAN_TEST_DOCKER, set by the run script) the platform
// is started, a user's way is walked through it, each container is killed and comes back with everything that was
// acknowledged, one service is rolled and rolled back alone, and all is taken down.
package compose_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/goccy/go-yaml"

	"aran/app"
	"aran/test/harness"
)

const project = "arantest"

// platform is a running set of containers.
type platform struct {
	*harness.Process
	file  string
	env   []string
	names []string // of the containers that run
}

func TestPlatformAsContainers(t *testing.T) {
	if os.Getenv("ARAN_TEST_DOCKER") == "" { //nolint:forbidigo // from the suite's run script
		t.Skip("needs a Docker engine: run it with `make compose-test`")
	}
	port := harness.Port(t)
	p := &platform{Process: &harness.Process{Client: harness.Client{URL: "https://127.0.0.1:" + port}}, env: []string{
		"POSTGRES_IMAGE=test/postgres:local", "NATS_IMAGE=test/nats:local", "REDIS_IMAGE=test/redis:local",
		"ARAN_PORT=" + port, "ARAN_SIGN_UP=open", "ARAN_HEALTH_INTERVAL=2s", "ARAN_CERTIFICATE_LIFE=1m",
	}}
	p.trim(t)
	t.Cleanup(func() {
		if t.Failed() {
			p.logs(t)
		}
		p.compose(context.WithoutCancel(t.Context()), t, "down", "--volumes", "--timeout", "10")
	})
	begin := time.Now()
	p.compose(t.Context(), t, "up", "-d")
	p.trust(t)
	p.healthy(t, p.names...)
	t.Logf("%d containers up and healthy in %s", len(p.names), time.Since(begin).Round(time.Second))

	p.AdminKey = p.read(t, "user", "/var/lib/aran/admin.key")
	p.Must(t, http.StatusOK, http.MethodGet, "/api/v1/services", p.AdminKey, nil)

	w := &walk{p: p}
	w.signUp(t)
	w.add(t)
	w.ask(t)
	if t.Failed() {
		return
	}
	t.Run("containers are confined", p.confined)
	t.Run("each database has one role", p.databases)
	t.Run("zones do not meet", p.zones)
	t.Run("one service is rolled and rolled back alone", func(t *testing.T) { p.roll(t, w) })
	for _, name := range p.names {
		t.Run("kill "+name, func(t *testing.T) { p.kill(t, w, name) })
	}
	w.holds(t)
	w.signIn(t)
}

// trim writes compose.yaml without the services that this program does not have yet.
func (p *platform) trim(t *testing.T) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(harness.Root(), "compose.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var f map[string]any
	if err := yaml.UnmarshalWithOptions(b, &f, yaml.AllowDuplicateMapKey()); err != nil {
		t.Fatal(err)
	}
	services := f["services"].(map[string]any) //nolint:forcetypeassert // ours; a panic says enough
	for name, s := range services {
		c := s.(map[string]any) //nolint:forcetypeassert // ours
		delete(c, "build")      // the images are there
		if slices.Contains(coming(), name) && !slices.Contains(app.Names(), name) {
			delete(services, name)
			continue
		}
		if d, ok := c["depends_on"].(map[string]any); ok {
			for _, n := range coming() {
				if !slices.Contains(app.Names(), n) {
					delete(d, n)
				}
			}
		}
		if name != "secrets" {
			p.names = append(p.names, name)
		}
	}
	for key := range f {
		if strings.HasPrefix(key, "x-") {
			delete(f, key)
		}
	}
	slices.Sort(p.names)
	out, err := json.MarshalIndent(f, "", " ") // which is YAML
	if err != nil {
		t.Fatal(err)
	}
	p.file = filepath.Join(t.TempDir(), "compose.yaml")
	if err := os.WriteFile(p.file, out, 0o600); err != nil {
		t.Fatal(err)
	}
}

// compose runs Docker Compose: docker-compose, or what ARAN_TEST_COMPOSE names.
func (p *platform) compose(ctx context.Context, t *testing.T, args ...string) {
	t.Helper()
	program := "docker-compose"
	if other := os.Getenv("ARAN_TEST_COMPOSE"); other != "" { //nolint:forbidigo // from the suite's run script
		program = other
	}
	args = append([]string{"--project-name", project, "--file", p.file, "--project-directory", harness.Root()}, args...)
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env = append(os.Environ(), p.env...) //nolint:forbidigo // what programs find
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s %s: %v\n%s", program, strings.Join(args, " "), err, out)
	}
}

func docker(ctx context.Context, args ...string) (string, error) {
	var out, fail bytes.Buffer
	cmd := exec.CommandContext(ctx, "docker", args...)
	cmd.Stdout, cmd.Stderr = &out, &fail
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("docker %s: %w: %s", strings.Join(args, " "), err, fail.String())
	}
	return strings.TrimSpace(out.String()), nil
}

func mustDocker(t *testing.T, args ...string) string {
	t.Helper()
	out, err := docker(t.Context(), args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// id of a service's container.
func (p *platform) id(t *testing.T, service string) string {
	t.Helper()
	id := mustDocker(t, "ps", "--all", "--quiet", "--filter", "label=com.docker.compose.project="+project, "--filter", "label=com.docker.compose.service="+service)
	if id == "" || strings.Contains(id, "\n") {
		t.Fatalf("containers of %s: %q", service, id)
	}
	return id
}

// state of a container.
type state struct {
	RestartCount int
	State        struct {
		Pid       int
		Status    string
		StartedAt string
		Health    struct{ Status string }
	}
	Config struct {
		User string
		Env  []string
		Cmd  []string
	}
	HostConfig struct {
		ReadonlyRootfs bool
		Privileged     bool
		CapDrop        []string
		SecurityOpt    []string
		Memory         int64
		PidsLimit      int64
		NanoCpus       int64
	}
}

func inspect(t *testing.T, id string) (s state) {
	t.Helper()
	var all []state
	if err := json.Unmarshal([]byte(mustDocker(t, "inspect", id)), &all); err != nil || len(all) != 1 {
		t.Fatalf("inspect %s: %v", id, err)
	}
	return all[0]
}

const patience = 60 * time.Second

func (p *platform) healthy(t *testing.T, names ...string) {
	t.Helper()
	for _, n := range names {
		id := p.id(t, n)
		harness.Eventually(t, patience, n+" is healthy", func() bool { return inspect(t, id).State.Health.Status == "healthy" })
	}
	harness.Eventually(t, patience, "the platform answers", func() bool {
		a, err := p.Call(t.Context(), http.MethodGet, "/readyz", "", nil)
		return err == nil && a.Status == http.StatusOK
	})
}

// read reads a file of a container.
func (p *platform) read(t *testing.T, service, path string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "f")
	mustDocker(t, "cp", p.id(t, service)+":"+path, to)
	b, err := os.ReadFile(to)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(b))
}

// trust takes nobody for the platform but who has its certificate.
func (p *platform) trust(t *testing.T) {
	t.Helper()
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM([]byte(p.read(t, "gateway", "/run/aran/gateway/authorities/stores.pem"))) {
		t.Fatal("the authority cannot be read")
	}
	transport, ok := http.DefaultTransport.(*http.Transport)
	if !ok {
		t.Fatal("another default transport")
	}
	transport.TLSClientConfig = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	transport.CloseIdleConnections()
}

func (p *platform) logs(t *testing.T) {
	for _, n := range append([]string{"secrets"}, p.names...) {
		id, err := docker(context.WithoutCancel(t.Context()), "ps", "-aq", "--filter", "label=com.docker.compose.project="+project, "--filter", "label=com.docker.compose.service="+n)
		if err != nil || id == "" {
			continue
		}
		out, err := exec.CommandContext(context.WithoutCancel(t.Context()), "docker", "logs", "--tail", "25", id).CombinedOutput()
		t.Logf("== %s %v\n%s", n, err, out)
	}
}

// confined asks the engine, not the file, and finds no secret in what it tells of a container.
func (p *platform) confined(t *testing.T) {
	var secrets []string
	for _, n := range app.Names() {
		secrets = append(secrets, p.read(t, n, "/run/aran/"+n+"/bus.password"))
	}
	for _, n := range p.names {
		id := p.id(t, n)
		s := inspect(t, id)
		h := s.HostConfig
		if !h.ReadonlyRootfs || h.Privileged || !slices.Equal(h.CapDrop, []string{"ALL"}) || !slices.Contains(h.SecurityOpt, "no-new-privileges:true") ||
			h.Memory == 0 || h.PidsLimit == 0 || h.NanoCpus == 0 || strings.HasPrefix(s.Config.User, "0") || s.Config.User == "" {
			t.Errorf("%s: user %q, %+v", n, s.Config.User, h)
		}
		told := mustDocker(t, "inspect", id)
		for _, secret := range secrets {
			if strings.Contains(told, secret) {
				t.Errorf("%s shows a secret in what it was made with", n)
			}
		}
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.State.Pid))
		if err != nil {
			t.Error(err)
			continue
		}
		for _, want := range []string{"CapEff:\t0000000000000000", "CapBnd:\t0000000000000000", "NoNewPrivs:\t1"} {
			if !bytes.Contains(status, []byte(want)) {
				t.Errorf("the process of %s lacks %q", n, want)
			}
		}
	}
}

// databases: a role enters its own databases and is refused by every other.
func (p *platform) databases(t *testing.T) {
	postgres := p.id(t, "postgres")
	try := func(role, database, password string) (string, error) {
		return docker(t.Context(), "exec", "-e", "PGPASSWORD="+password, postgres, "psql", "-XAt",
			"host=127.0.0.1 sslmode=require user=aran_"+role+" dbname="+database, "-c", "SELECT current_user")
	}
	chat := p.read(t, "chat", "/run/aran/chat/database.password")
	for _, mine := range []string{"aran_chat", "aran_chat_keys"} {
		if out, err := try("chat", mine, chat); err != nil || out != "aran_chat" {
			t.Errorf("chat in %s: %q %v", mine, out, err)
		}
	}
	for _, n := range app.Names() {
		for _, other := range []string{"aran_" + n, "aran_" + n + "_keys"} {
			if n == "chat" || n == "gateway" {
				continue
			}
			if out, err := try("chat", other, chat); err == nil || !strings.Contains(err.Error(), "permission denied") {
				t.Errorf("chat in %s: %q %v, want permission denied", other, out, err)
			}
		}
	}
	if _, err := try("chat", "aran_chat", "not it"); err == nil {
		t.Error("a wrong password is let in")
	}
	if _, err := docker(t.Context(), "exec", "-e", "PGPASSWORD="+chat, postgres, "psql", "-X", "host=127.0.0.1 sslmode=disable user=aran_chat dbname=aran_chat", "-c", ""); err == nil {
		t.Error("PostgreSQL is entered without TLS")
	}
}

// zones asks for names from inside a container's network: who shares no network has no address.
func (p *platform) zones(t *testing.T) {
	for _, c := range []struct {
		from, to string
		meet     bool
	}{
		{"infer", "user", true},
		{"infer", "audit", false},
		{"infer", "redis", false},
		{"audit", "postgres", true},
		{"audit", "chat", false},
		{"audit", "search", false},
		{"guard", "audit", false},
		{"authority", "user", false},
	} {
		_, err := docker(t.Context(), "run", "--rm", "-e", "RES_OPTIONS=timeout:1 attempts:1", "--network", "container:"+p.id(t, c.from), "test/postgres:local", "psql", "-X", "connect_timeout=3 port=1 host="+c.to)
		found := err != nil && strings.Contains(err.Error(), "refused")
		unknown := err != nil && strings.Contains(err.Error(), "could not translate host name")
		if found != c.meet || unknown == c.meet {
			t.Errorf("%s looks for %s: %v; they should meet: %v", c.from, c.to, err, c.meet)
		}
	}
}

// roll gives chat another tag, and takes it back: nobody else is touched.
func (p *platform) roll(t *testing.T, w *walk) {
	mustDocker(t, "tag", "aran:local", "aran:next")
	before := map[string]string{}
	for _, n := range p.names {
		before[n] = p.id(t, n)
	}
	for _, tag := range []string{"next", "local"} {
		p.env = append(p.env, "ARAN_CHAT_VERSION="+tag)
		p.compose(t.Context(), t, "up", "-d", "--no-deps", "chat")
		p.healthy(t, "chat")
		if image := mustDocker(t, "inspect", "--format", "{{.Config.Image}}", p.id(t, "chat")); image != "aran:"+tag {
			t.Errorf("chat runs %s, want aran:%s", image, tag)
		}
		for _, n := range p.names {
			if n != "chat" && p.id(t, n) != before[n] {
				t.Errorf("%s was made anew when chat was rolled", n)
			}
		}
		w.ask(t)
	}
}

// kill ends a container's process from outside; the engine starts it again, and what was acknowledged is there.
func (p *platform) kill(t *testing.T, w *walk, name string) {
	w.add(t)
	id := p.id(t, name)
	s := inspect(t, id)
	begin := time.Now()
	if err := syscall.Kill(s.State.Pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	harness.Eventually(t, patience, name+" runs again", func() bool {
		now := inspect(t, id)
		return now.State.Status == "running" && now.State.StartedAt != s.State.StartedAt && now.State.Pid != s.State.Pid && now.State.Pid != 0
	})
	p.healthy(t, p.names...)
	w.found(t)
	w.ask(t)
	t.Logf("well again after %s", time.Since(begin).Round(100*time.Millisecond))
}

var errNotYet = errors.New("not yet")

// walk is a user's way, with what was acknowledged on it.
type walk struct {
	p       *platform
	key     string
	added   []string // documents
	events  []string // of answers
	session string
}

const (
	mail     = "meena@example.org"
	password = "correct horse battery"
)

func (w *walk) signUp(t *testing.T) {
	t.Helper()
	w.p.Must(t, http.StatusCreated, http.MethodPost, "/api/v1/accounts", "", map[string]string{"email": mail, "password": password, "name": "Meena"})
	w.signIn(t)
	var key struct{ Key string }
	w.p.Must(t, http.StatusCreated, http.MethodPost, "/api/v1/keys", w.session, map[string]any{
		"name": "walk", "scopes": []string{"chat:use", "models:read", "search:read", "search:write", "audit:read"},
	}).JSON(t, &key)
	w.key = key.Key
	w.p.Must(t, http.StatusCreated, http.MethodPost, "/api/v1/collections", w.key, map[string]string{"name": "shop"})
}

func (w *walk) signIn(t *testing.T) {
	t.Helper()
	var s struct {
		AccessToken string `json:"access_token"`
	}
	w.p.Must(t, http.StatusCreated, http.MethodPost, "/api/v1/sessions", "", map[string]string{"email": mail, "password": password}).JSON(t, &s)
	w.session = s.AccessToken
}

// add stores a document; it is acknowledged, and not waited for.
func (w *walk) add(t *testing.T) {
	t.Helper()
	n := len(w.added) + 1
	id := "policy-" + strconv.Itoa(n)
	a, err := w.p.Call(t.Context(), http.MethodPost, "/api/v1/collections/shop/documents", w.key, map[string]string{
		"id": id, "title": fmt.Sprint("Policy ", n), "content_type": "text/markdown",
		"text": fmt.Sprintf("# Refunds\n\nThe refund for lamp model %d is paid within %d days of the parcel's arrival in Rotterdam.\n", n, 10+n),
	})
	if err != nil || a.Status != http.StatusCreated && a.Status != http.StatusAccepted {
		t.Fatalf("document: %d %s %v", a.Status, a.Body, err)
	}
	w.added = append(w.added, id)
}

// found waits until every document is indexed, and searches for the last.
func (w *walk) found(t *testing.T) {
	t.Helper()
	for _, id := range w.added {
		harness.Eventually(t, patience, id+" is indexed", func() bool {
			a, err := w.p.Call(t.Context(), http.MethodGet, "/api/v1/collections/shop/documents/"+id, w.key, nil)
			if err == nil && a.Status == http.StatusNotFound {
				t.Fatalf("%s was acknowledged and is gone", id)
			}
			var d struct{ Status string }
			return err == nil && a.Status == http.StatusOK && json.Unmarshal(a.Body, &d) == nil && d.Status == "indexed"
		})
	}
	last := w.added[len(w.added)-1]
	harness.Eventually(t, patience, last+" is found", func() bool {
		a, err := w.p.Call(t.Context(), http.MethodPost, "/api/v1/collections/shop/search", w.key, map[string]any{"query": fmt.Sprintf("refund for lamp model %d", len(w.added)), "limit": 50})
		var out struct{ Hits []struct{ Document string } }
		if err != nil || a.Status != http.StatusOK || json.Unmarshal(a.Body, &out) != nil {
			return false
		}
		return slices.ContainsFunc(out.Hits, func(h struct{ Document string }) bool { return h.Document == last })
	})
}

// ask asks about the documents and gets an answer that cites them.
func (w *walk) ask(t *testing.T) {
	t.Helper()
	w.found(t)
	last := errNotYet
	harness.Eventually(t, patience, "an answer with citations", func() bool {
		a, err := w.p.Call(t.Context(), http.MethodPost, "/v1/chat/completions", w.key, map[string]any{
			"model": "default", "max_tokens": 48, "messages": []map[string]string{{"role": "user", "content": "Within how many days is the refund for a lamp paid?"}},
			"aran": map[string]any{"collections": []string{"shop"}},
		})
		if err != nil || a.Status != http.StatusOK {
			last = fmt.Errorf("%d %.300s %w", a.Status, a.Body, errors.Join(err))
			return false
		}
		var answer struct {
			Choices []struct{ Message struct{ Content string } }
			Aran    struct {
				Rung, Audit string
				Citations   []struct{ Document string }
			}
		}
		a.JSON(t, &answer)
		if len(answer.Aran.Citations) == 0 || len(answer.Choices) == 0 || strings.TrimSpace(answer.Choices[0].Message.Content) == "" || answer.Aran.Audit == "" {
			last = fmt.Errorf("%.500s", a.Body)
			return false
		}
		w.events = append(w.events, answer.Aran.Audit)
		return true
	})
	if len(w.events) == 0 {
		t.Fatal(last)
	}
}

// holds: every answer is in the log, with its proof.
func (w *walk) holds(t *testing.T) {
	t.Helper()
	for _, e := range w.events {
		harness.Eventually(t, patience, "event "+e+" has its proof", func() bool {
			a, err := w.p.Call(t.Context(), http.MethodGet, "/api/v1/audit/proof/"+e, w.key, nil)
			return err == nil && a.Status == http.StatusOK
		})
	}
	w.p.Must(t, http.StatusOK, http.MethodGet, "/api/v1/audit/checkpoint", w.key, nil)
	t.Logf("%d documents and %d answers were acknowledged, and are there", len(w.added), len(w.events))
}
