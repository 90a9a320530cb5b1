package child

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// maxSocketPath is what every Unix takes (macOS: 104 with the final zero).
const maxSocketPath = 103

// process is one life of the child.
type process struct {
	cmd    *exec.Cmd
	dir    string // private; holds the socket
	stdin  io.WriteCloser
	client *http.Client
	begin  time.Time
	said   *diary
	exited chan struct{} // closed after err is set
	err    error
}

func startProcess(o Options, pack Pack) (*process, error) {
	dir, err := socketDir()
	if err != nil {
		return nil, err
	}
	socket := filepath.Join(dir, "s")
	p := &process{dir: dir, begin: time.Now(), exited: make(chan struct{}), client: socketClient(socket), said: &diary{log: o.Log, model: o.Name}}
	p.cmd = exec.Command(o.Program, append(slices.Clip(pack.Args), "--socket", socket)...) //nolint:gosec,noctx // the operator's program; it outlives calls and ends with its standard input
	p.cmd.Env = []string{}                                                                 // it needs none, and ours holds secrets
	p.cmd.Dir = dir
	p.cmd.Stderr = p.said
	p.cmd.WaitDelay = endPatience
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // a Ctrl-C at the terminal is for us
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		return nil, errors.Join(fmt.Errorf("start %s: %w", o.Program, err), os.RemoveAll(dir))
	}
	if err := p.cmd.Start(); err != nil {
		return nil, errors.Join(fmt.Errorf("start engine: %w", err), os.RemoveAll(dir))
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.exited)
	}()
	if err := restrain(p.cmd.Process.Pid, o.Memory, o.Nice); err != nil {
		p.end()
		return nil, err
	}
	return p, nil
}

// Folders of sockets, and when an empty one is surely nobody's.
const (
	dirPrefix = "aran-model-"
	staleDir  = 10 * time.Minute
)

// sweep removes folders of processes whose parent was killed: the child took its socket away, and could not
// do more. A folder that is not empty stays.
func sweep(parent string) {
	found, err := filepath.Glob(filepath.Join(parent, dirPrefix+"*"))
	if err != nil {
		return // a temporary folder whose name is a bad pattern
	}
	for _, dir := range found {
		if info, err := os.Lstat(dir); err == nil && info.IsDir() && time.Since(info.ModTime()) > staleDir {
			_ = os.Remove(dir)
		}
	}
}

// socketDir makes a folder that only we may enter, with a path short enough for a socket.
func socketDir() (string, error) {
	for _, parent := range []string{os.TempDir(), "/tmp"} {
		sweep(parent)
		dir, err := os.MkdirTemp(parent, dirPrefix) // mode 0700
		if err != nil {
			return "", fmt.Errorf("folder of the socket: %w", err)
		}
		if len(filepath.Join(dir, "s")) <= maxSocketPath {
			return dir, nil
		}
		if err := os.Remove(dir); err != nil {
			return "", fmt.Errorf("folder of the socket: %w", err)
		}
	}
	return "", errors.New("folder of the socket: its path would be too long")
}

func socketClient(path string) *http.Client {
	return &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", path)
		},
		MaxIdleConnsPerHost: 16, IdleConnTimeout: 30 * time.Second, DisableCompression: true,
	}}
}

// waitHealthy asks until the model is loaded.
func (p *process) waitHealthy(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if p.healthy(ctx) {
			return nil
		}
		select {
		case <-p.exited:
			return p.reason()
		case <-ctx.Done():
			return fmt.Errorf("the model did not load: %w", ctx.Err())
		case <-tick.C:
		}
	}
}

func (p *process) healthy(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://model/health", http.NoBody)
	if err != nil {
		return false
	}
	resp, err := p.client.Do(r)
	if err != nil {
		return false
	}
	ok := resp.StatusCode == http.StatusOK
	_, err = io.Copy(io.Discard, io.LimitReader(resp.Body, 4096))
	return errors.Join(err, resp.Body.Close()) == nil && ok
}

// reason says why the process ended, with the last error that it wrote.
func (p *process) reason() error {
	<-p.exited
	how := "it ended by itself"
	if p.err != nil {
		how = p.err.Error()
	}
	if last := p.said.lastError(); last != "" {
		how = last + " (" + how + ")"
	}
	return fmt.Errorf("model process: %s", how)
}

func (p *process) kill() {
	select {
	case <-p.exited:
		return // its number may be another's by now
	default:
	}
	_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
}

// end closes the child's standard input, which asks it to end, and kills it when it does not.
func (p *process) end() {
	_ = p.stdin.Close()
	t := time.NewTimer(endPatience)
	defer t.Stop()
	select {
	case <-p.exited:
	case <-t.C:
		p.kill()
		<-p.exited
	}
	p.client.CloseIdleConnections()
	_ = os.RemoveAll(p.dir)
}

// lower sets the priority of the group that the process leads, so of all its threads. One that has ended, or
// that has a lower priority already, is left alone.
func lower(pid, nice int) error {
	err := syscall.Setpriority(syscall.PRIO_PGRP, pid, nice)
	if err == nil || errors.Is(err, syscall.ESRCH) || errors.Is(err, syscall.EACCES) || errors.Is(err, syscall.EPERM) {
		return nil
	}
	return fmt.Errorf("lower the priority of the model process: %w", err)
}

// diary takes what the child writes to standard error: JSON lines of its own, and whatever native code says.
// It is other people's text: it is cut, and only ever logged as a value.
type diary struct {
	log   *slog.Logger
	model string

	mu   sync.Mutex
	line []byte
	last string
}

const maxLine = 2048

// Write takes lines in pieces.
func (d *diary) Write(b []byte) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for rest := b; len(rest) > 0; {
		line, after, ended := bytes.Cut(rest, []byte("\n"))
		rest = after
		d.line = append(d.line, line[:min(len(line), maxLine-len(d.line))]...)
		if ended {
			d.entry(string(d.line))
			d.line = d.line[:0]
		}
	}
	return len(b), nil
}

func (d *diary) entry(line string) {
	if strings.TrimSpace(line) == "" {
		return
	}
	var e struct {
		Level slog.Level `json:"level"`
		Error string     `json:"error"`
		Msg   string     `json:"msg"`
	}
	level, text := slog.LevelDebug, line
	if json.Unmarshal([]byte(line), &e) == nil && e.Msg != "" {
		level, text = e.Level, e.Msg
		if e.Error != "" {
			text += ": " + e.Error
		}
	} else if strings.HasPrefix(line, "fatal error:") || strings.HasPrefix(line, "runtime: out of memory") {
		level = slog.LevelError
	}
	if level >= slog.LevelError {
		d.last = strings.ToValidUTF8(text, "?")
	}
	d.log.LogAttrs(context.Background(), min(level, slog.LevelWarn), "model process says", slog.String("model", d.model), slog.String("text", strings.ToValidUTF8(text, "?")))
}

func (d *diary) lastError() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.last
}
