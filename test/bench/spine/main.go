// Command spine measures what the platform costs: start, memory, CPU at rest, size, stop, and what it adds to a model's answer.
//
// It runs bin/aran as a process on loopback, without local models. Latency is measured against a scripted provider that
// answers at once, in turns: once directly, once through the platform, so that both see the same noise.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	starts   = 10
	idle     = 10 * time.Second
	requests = 300
	streams  = 20
	binary   = "bin/aran"
	ticks    = 100 // a second, in proc(5); the same on every Linux that Go runs on
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Stdout); err != nil {
		_, _ = fmt.Fprintln(os.Stderr, "bench-spine:", err)
		os.Exit(1) //nolint:gocritic // nothing is open
	}
}

func run(ctx context.Context, w io.Writer) error {
	dir, err := os.MkdirTemp("", "aran-bench")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // a temporary folder
	info, err := os.Stat(binary)
	if err != nil {
		return fmt.Errorf("%w; make build first", err)
	}
	say(w, "binary", "%.1f MB (goal < 100)", float64(info.Size())/1e6)
	for _, part := range []func(context.Context, io.Writer, string) error{startUp, atRest, answers, stopping} {
		if err := part(ctx, w, dir); err != nil {
			return err
		}
	}
	return nil
}

func say(w io.Writer, what, format string, args ...any) {
	_, _ = fmt.Fprintf(w, "%-34s %s\n", what, fmt.Sprintf(format, args...))
}

// process is a running platform.
type process struct {
	cmd           *exec.Cmd
	url, operator string
	key           string
	ready         time.Duration // from exec to the first 200 of /readyz
}

func launch(ctx context.Context, data string, env ...string) (*process, error) {
	listen, err := free(ctx)
	if err != nil {
		return nil, err
	}
	operator, err := free(ctx)
	if err != nil {
		return nil, err
	}
	p := &process{url: "http://" + listen, operator: "http://" + operator}
	p.cmd = exec.CommandContext(ctx, binary, "up", "--data", data, "--listen", listen) //nolint:gosec // our own binary
	p.cmd.Env = append([]string{"PATH=/usr/bin:/bin", "HOME=" + data, "ARAN_MODELS=" + filepath.Join(data, "..", "models"), "ARAN_OPERATOR_LISTEN=" + operator}, env...)
	begin := time.Now()
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	for time.Since(begin) < time.Minute && ctx.Err() == nil {
		if res, err := http.Get(p.url + "/readyz"); err == nil { //nolint:noctx,forbidigo // a poll
			_ = res.Body.Close()
			if res.StatusCode == http.StatusOK {
				p.ready = time.Since(begin)
				key, err := os.ReadFile(filepath.Join(data, "admin.key")) //nolint:gosec // a path of ours
				p.key = strings.TrimSpace(string(key))
				return p, err
			}
		}
		wait(ctx, time.Millisecond)
	}
	return nil, errors.Join(errors.New("it does not get ready"), p.kill())
}

func (p *process) kill() error {
	return errors.Join(p.cmd.Process.Kill(), ignoreExit(p.cmd.Wait()))
}

// stop ends it in order and says how long that took.
func (p *process) stop() (time.Duration, error) {
	begin := time.Now()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return 0, err
	}
	err := p.cmd.Wait()
	return time.Since(begin), err
}

func ignoreExit(err error) error {
	if _, ok := errors.AsType[*exec.ExitError](err); ok {
		return nil
	}
	return err
}

func free(ctx context.Context) (string, error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

func wait(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

func startUp(ctx context.Context, w io.Writer, dir string) error {
	var empty, existing []time.Duration
	for i := range starts {
		data := filepath.Join(dir, "start"+strconv.Itoa(i))
		for _, times := range []*[]time.Duration{&empty, &existing} {
			p, err := launch(ctx, data)
			if err != nil {
				return err
			}
			*times = append(*times, p.ready)
			if i == starts-1 {
				if err := p.breakdown(ctx, w, times == &empty); err != nil {
					return err
				}
			}
			if _, err := p.stop(); err != nil {
				return err
			}
		}
	}
	say(w, "start, empty directory", "%s (goal < 500 ms)", spread(empty))
	say(w, "start, existing directory", "%s (goal < 200 ms)", spread(existing))
	return nil
}

// breakdown prints what the services' parts of the start took.
func (p *process) breakdown(ctx context.Context, w io.Writer, empty bool) error { //nolint:revive // only a heading
	var state struct {
		Services []struct {
			Name  string
			Open  float64 `json:"open_ms"`
			Start float64 `json:"start_ms"`
		}
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.operator+"/services", http.NoBody)
	if err != nil {
		return err
	}
	res, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		return err
	}
	defer res.Body.Close() //nolint:errcheck // read whole
	if err := json.NewDecoder(res.Body).Decode(&state); err != nil {
		return err
	}
	var parts []string
	for _, s := range state.Services {
		parts = append(parts, fmt.Sprintf("%s %.0f+%.0f", s.Name, s.Open, s.Start))
	}
	name := "  existing: ms to open + to start"
	if empty {
		name = "  empty: ms to open + to start"
	}
	say(w, name, "%s", strings.Join(parts, ", "))
	return nil
}

func atRest(ctx context.Context, w io.Writer, dir string) error {
	p, err := launch(ctx, filepath.Join(dir, "rest"))
	if err != nil {
		return err
	}
	wait(ctx, 3*time.Second) // the start's own work ends
	before, err := p.cpu()
	if err != nil {
		return err
	}
	wait(ctx, idle)
	after, err := p.cpu()
	if err != nil {
		return err
	}
	memory, err := p.memory()
	if err != nil {
		return err
	}
	say(w, "memory at rest, without models", "%.0f MB resident (goal < 80)", memory)
	say(w, "CPU at rest", "%.1f %% of a core (goal < 3)", 100*(after-before).Seconds()/idle.Seconds())
	_, err = p.stop()
	return err
}

// cpu is the time that the process used (proc(5), stat).
func (p *process) cpu() (time.Duration, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	f := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	user, err := strconv.Atoi(f[11])
	if err != nil {
		return 0, err
	}
	system, err := strconv.Atoi(f[12])
	return time.Duration(user+system) * time.Second / ticks, err
}

// memory is the resident set in MB.
func (p *process) memory() (float64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kb, err := strconv.Atoi(strings.Fields(rest)[0])
			return float64(kb) * 1024 / 1e6, err
		}
	}
	return 0, errors.New("no VmRSS")
}

// provider is an OpenAI-compatible server that answers at once; when held, streams stay open until release.
func provider(hold <-chan struct{}) *httptest.Server {
	return httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/models") {
			_, _ = io.WriteString(w, `{"object":"list","data":[{"id":"mock","object":"model","owned_by":"bench"}]}`)
			return
		}
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "text/event-stream")
		for _, text := range []string{"Returns are free ", "for thirty days.\n", "Ask us."} {
			_, _ = fmt.Fprintf(w, "data: {\"id\":\"x\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"mock\",\"choices\":[{\"index\":0,\"delta\":{\"content\":%q},\"finish_reason\":null}]}\n\n", text)
			w.(http.Flusher).Flush()
		}
		if hold != nil {
			select {
			case <-hold:
			case <-r.Context().Done():
				return
			}
		}
		_, _ = io.WriteString(w, "data: {\"id\":\"x\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"mock\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":5,\"completion_tokens\":9,\"total_tokens\":14}}\n\ndata: [DONE]\n\n")
	}))
}

const question = `{"model":"mock","stream":true,"messages":[{"role":"user","content":"How long can I return an order, and what does it cost me?"}]%s}`

// ask sends a question and returns the times to the first byte of the body and to its end.
func ask(ctx context.Context, client *http.Client, url, key, extension string) (first, whole time.Duration, err error) {
	begin := time.Now()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url+"/v1/chat/completions", strings.NewReader(fmt.Sprintf(question, extension)))
	if err != nil {
		return 0, 0, err
	}
	req.Header.Set("Authorization", "Bearer "+key)
	req.Header.Set("Content-Type", "application/json")
	res, err := client.Do(req)
	if err != nil {
		return 0, 0, err
	}
	defer res.Body.Close() //nolint:errcheck // read whole
	if _, err := io.ReadFull(res.Body, make([]byte, 1)); err != nil {
		return 0, 0, err
	}
	first = time.Since(begin)
	b, err := io.ReadAll(res.Body)
	if err == nil && (res.StatusCode != http.StatusOK || !bytes.Contains(b, []byte("[DONE]"))) {
		err = fmt.Errorf("%d %.300s", res.StatusCode, b)
	}
	return first, time.Since(begin), err
}

func answers(ctx context.Context, w io.Writer, dir string) error {
	mock := provider(nil)
	defer mock.Close()
	p, err := launch(ctx, filepath.Join(dir, "answers"), "OPENAI_API_KEY=bench", "OPENAI_BASE_URL="+mock.URL+"/v1")
	if err != nil {
		return err
	}
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: streams}, Timeout: time.Minute}
	const cited = `,"aran":{"collections":["handbook"]}`
	for range 20 { // warm
		for _, f := range []string{"", cited} {
			if _, _, err := ask(ctx, client, p.url, p.key, f); err != nil {
				return err
			}
		}
	}
	var direct, through, grounded, directWhole, throughWhole []time.Duration
	var plain time.Duration
	for range requests {
		a, b, err := ask(ctx, client, mock.URL, p.key, "")
		if err != nil {
			return err
		}
		before, err := p.cpu()
		if err != nil {
			return err
		}
		c, d, err := ask(ctx, client, p.url, p.key, "")
		if err != nil {
			return err
		}
		after, err := p.cpu()
		if err != nil {
			return err
		}
		plain += after - before
		e, _, err := ask(ctx, client, p.url, p.key, cited)
		if err != nil {
			return err
		}
		direct, directWhole, through, throughWhole, grounded = append(direct, a), append(directWhole, b), append(through, c), append(throughWhole, d), append(grounded, e)
	}
	say(w, "first byte, provider direct", "%s", spread(direct))
	say(w, "first byte, through the platform", "%s (adds %s)", spread(through), median(through)-median(direct))
	say(w, "  with retrieval and citations", "%s (adds %s)", spread(grounded), median(grounded)-median(direct))
	say(w, "whole answer, direct / through", "%s / %s", spread(directWhole), spread(throughWhole))
	say(w, "CPU per request", "%.2f ms, its events and audit entry included", 1000*plain.Seconds()/requests)
	_, err = p.stop()
	return err
}

func stopping(ctx context.Context, w io.Writer, dir string) error {
	hold := make(chan struct{})
	mock := provider(hold)
	p, err := launch(ctx, filepath.Join(dir, "stop"), "OPENAI_API_KEY=bench", "OPENAI_BASE_URL="+mock.URL+"/v1")
	if err != nil {
		return err
	}
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: streams}}
	var open, ended sync.WaitGroup
	for range streams {
		open.Add(1)
		ended.Go(func() {
			req, err := http.NewRequestWithContext(ctx, http.MethodPost, p.url+"/v1/chat/completions", strings.NewReader(fmt.Sprintf(question, "")))
			if err != nil {
				open.Done()
				return
			}
			req.Header.Set("Authorization", "Bearer "+p.key)
			req.Header.Set("Content-Type", "application/json")
			res, err := client.Do(req)
			if err != nil {
				open.Done()
				return
			}
			_, _ = io.ReadFull(res.Body, make([]byte, 1))
			open.Done()
			_, _ = io.Copy(io.Discard, res.Body)
			_ = res.Body.Close()
		})
	}
	open.Wait()
	took, err := p.stop()
	say(w, "stop with open streams", "%s for %d streams (goal < 1 s)", took.Round(time.Millisecond), streams)
	close(hold)
	ended.Wait()
	mock.Close()
	return err
}

func median(d []time.Duration) time.Duration {
	s := slices.Sorted(slices.Values(d))
	return s[len(s)/2].Round(10 * time.Microsecond)
}

// spread is the median with the range that holds nine of ten.
func spread(d []time.Duration) string {
	s := slices.Sorted(slices.Values(d))
	at := func(q float64) time.Duration { return s[int(q*float64(len(s)-1))].Round(10 * time.Microsecond) }
	return fmt.Sprintf("median %s (%s to %s, n=%d)", at(.5), at(.05), at(.95), len(s))
}
