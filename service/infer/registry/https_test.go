package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// hub is a small server of model files. Behaviour is set per path; the zero value serves well.
type hub struct {
	*httptest.Server

	mu    sync.Mutex
	files map[string][]byte
	etag  string
	ways  map[string]func(w http.ResponseWriter, r *http.Request, n int) bool // true: answered
	asked map[string][]http.Header
}

func newHub(t *testing.T) *hub {
	t.Helper()
	h := &hub{
		files: map[string][]byte{"/model.gguf": weights, "/liba.v1.so": library}, etag: `"v1"`,
		ways: map[string]func(http.ResponseWriter, *http.Request, int) bool{}, asked: map[string][]http.Header{},
	}
	h.Server = httptest.NewServer(h)
	t.Cleanup(h.Close)
	return h
}

func (h *hub) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.mu.Lock()
	h.asked[r.URL.Path] = append(h.asked[r.URL.Path], r.Header.Clone())
	n, way, b, etag := len(h.asked[r.URL.Path]), h.ways[r.URL.Path], h.files[r.URL.Path], h.etag
	h.mu.Unlock()
	if way != nil && way(w, r, n) {
		return
	}
	if b == nil {
		http.NotFound(w, r)
		return
	}
	if etag != "" {
		w.Header().Set("ETag", etag)
	}
	http.ServeContent(w, r, "", time.Time{}, strings.NewReader(string(b)))
}

func (h *hub) at(path string) []Source { return []Source{{HTTPS: h.URL + path}} }

func (h *hub) requests(path string) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.asked[path])
}

func (h *hub) header(path string, n int, key string) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	if n > len(h.asked[path]) {
		return "no such request"
	}
	return h.asked[path][n-1].Get(key)
}

// breakOff answers with the first n bytes of the file and cuts the connection.
func (h *hub) breakOff(w http.ResponseWriter, n int) {
	w.Header().Set("ETag", h.etag)
	w.Header().Set("Content-Length", strconv.Itoa(len(weights)))
	_, _ = w.Write(weights[:n])
	_ = http.NewResponseController(w).Flush()
	panic(http.ErrAbortHandler)
}

func TestHTTPS(t *testing.T) {
	half := len(weights) / 2
	for _, c := range []struct {
		name   string
		way    func(h *hub) func(w http.ResponseWriter, r *http.Request, n int) bool
		ask    int    // requests for the file
		range2 string // Range of the second one
		fails  string // part of the error, when it is to fail
	}{
		{name: "a good server", ask: 1},
		{
			name: "a transfer that broke off is resumed", ask: 2, range2: fmt.Sprintf("bytes=%d-", half),
			way: func(h *hub) func(http.ResponseWriter, *http.Request, int) bool {
				return func(w http.ResponseWriter, _ *http.Request, n int) bool {
					if n == 1 {
						h.breakOff(w, half)
					}
					return false
				}
			},
		},
		{
			name: "a server without ranges starts again", ask: 2, range2: fmt.Sprintf("bytes=%d-", half),
			way: func(h *hub) func(http.ResponseWriter, *http.Request, int) bool {
				return func(w http.ResponseWriter, _ *http.Request, n int) bool {
					if n == 1 {
						h.breakOff(w, half)
					}
					_, _ = w.Write(weights)
					return true
				}
			},
		},
		{
			name: "a file that changed meanwhile starts again", ask: 2, range2: fmt.Sprintf("bytes=%d-", half),
			way: func(h *hub) func(http.ResponseWriter, *http.Request, int) bool {
				return func(w http.ResponseWriter, _ *http.Request, n int) bool {
					if n == 1 {
						h.breakOff(w, half)
					}
					h.mu.Lock()
					h.etag = `"v2"`
					h.mu.Unlock()
					return false
				}
			},
		},
		{
			name: "without a validator nothing is resumed", ask: 2, range2: "",
			way: func(h *hub) func(http.ResponseWriter, *http.Request, int) bool {
				h.etag = ""
				return func(w http.ResponseWriter, _ *http.Request, n int) bool {
					if n == 1 {
						h.breakOff(w, half)
					}
					return false
				}
			},
		},
		{
			name: "a wrong range is thrown away", ask: 3, range2: fmt.Sprintf("bytes=%d-", half),
			way: func(h *hub) func(http.ResponseWriter, *http.Request, int) bool {
				return func(w http.ResponseWriter, _ *http.Request, n int) bool {
					switch n {
					case 1:
						h.breakOff(w, half)
					case 2:
						w.Header().Set("Content-Range", fmt.Sprintf("bytes 0-%d/%d", half-1, len(weights)))
						w.WriteHeader(http.StatusPartialContent)
						_, _ = w.Write(weights[:half])
						return true
					}
					return false
				}
			},
		},
		{
			name: "a busy server is asked again", ask: 2,
			way: func(*hub) func(http.ResponseWriter, *http.Request, int) bool {
				return func(w http.ResponseWriter, _ *http.Request, n int) bool {
					if n == 1 {
						w.Header().Set("Retry-After", "0")
						w.WriteHeader(http.StatusServiceUnavailable)
					}
					return n == 1
				}
			},
		},
		{
			name: "a server that stays busy is given up", ask: maxAttempts, fails: "gave up after 5 attempts: status 429",
			way: func(*hub) func(http.ResponseWriter, *http.Request, int) bool {
				return func(w http.ResponseWriter, _ *http.Request, _ int) bool {
					w.Header().Set("Retry-After", "0")
					w.WriteHeader(http.StatusTooManyRequests)
					return true
				}
			},
		},
		{
			name: "a missing file is not asked for again", ask: 1, fails: "status 404",
			way: func(*hub) func(http.ResponseWriter, *http.Request, int) bool {
				return func(w http.ResponseWriter, r *http.Request, _ int) bool { http.NotFound(w, r); return true }
			},
		},
		{
			name: "a file of another size is not fetched", ask: 1, fails: fmt.Sprintf("has 3 bytes, expected %d", len(weights)),
			way: func(*hub) func(http.ResponseWriter, *http.Request, int) bool {
				return func(w http.ResponseWriter, _ *http.Request, _ int) bool { _, _ = w.Write([]byte("GGU")); return true }
			},
		},
		{
			name: "a file that does not end is cut off", ask: 1, fails: "more than",
			way: func(*hub) func(http.ResponseWriter, *http.Request, int) bool {
				return func(w http.ResponseWriter, r *http.Request, _ int) bool {
					for r.Context().Err() == nil {
						if _, err := w.Write(weights); err != nil {
							return true
						}
					}
					return true
				}
			},
		},
		{
			name: "a wrong digest is refused", ask: 1, fails: "expected SHA-256 " + sum(weights) + ", got " + sum(swapped()) + "; it was deleted",
			way: func(*hub) func(http.ResponseWriter, *http.Request, int) bool {
				return func(w http.ResponseWriter, _ *http.Request, _ int) bool { _, _ = w.Write(swapped()); return true }
			},
		},
		{
			name: "a redirect to plain http elsewhere is refused", ask: 1, fails: "use https",
			way: func(*hub) func(http.ResponseWriter, *http.Request, int) bool {
				return func(w http.ResponseWriter, r *http.Request, _ int) bool {
					http.Redirect(w, r, "http://models.example/model.gguf", http.StatusFound)
					return true
				}
			},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			h := newHub(t)
			if c.way != nil {
				h.ways["/model.gguf"] = c.way(h)
			}
			r := open(t, t.TempDir(), tiny(h.at("/model.gguf"), h.at("/liba.v1.so")), Options{})
			err := r.Pull(t.Context(), "tiny", nil)
			switch {
			case c.fails == "" && err != nil:
				t.Fatal(err)
			case c.fails == "" && r.Verify(t.Context(), "tiny") != nil:
				t.Error("what was pulled does not verify")
			case c.fails != "" && (err == nil || !strings.Contains(err.Error(), c.fails)):
				t.Errorf("%v; want %q", err, c.fails)
			case c.fails != "":
				empty(t, r)
			}
			if n := h.requests("/model.gguf"); n != c.ask {
				t.Errorf("%d requests, want %d", n, c.ask)
			}
			if c.ask > 1 && c.fails == "" {
				if got := h.header("/model.gguf", 2, "Range"); got != c.range2 {
					t.Errorf("second request has Range %q, want %q", got, c.range2)
				}
			}
			if enc := h.header("/model.gguf", 1, "Accept-Encoding"); enc != "identity" {
				t.Errorf("Accept-Encoding %q", enc)
			}
		})
	}
}

// swapped is weights with one bit turned: same size, other digest.
func swapped() []byte {
	b := slices.Clone(weights)
	b[len(b)-1] ^= 1
	return b
}

func TestNextSourceAfterAMissingOne(t *testing.T) {
	h := newHub(t)
	m := tiny(append(h.at("/gone"), h.at("/model.gguf")...), h.at("/liba.v1.so"))
	r := open(t, t.TempDir(), m, Options{})
	if err := r.Pull(t.Context(), "tiny", nil); err != nil {
		t.Fatal(err)
	}
	if h.requests("/gone") != 1 || h.requests("/model.gguf") != 1 {
		t.Errorf("%d and %d requests", h.requests("/gone"), h.requests("/model.gguf"))
	}
}

func TestMirrorIsAskedFirst(t *testing.T) {
	h := newHub(t)
	h.files["/m/"+sum(weights)], h.files["/m/"+sum(library)] = weights, library
	r := open(t, t.TempDir(), tiny(h.at("/model.gguf"), nil), Options{Mirror: h.URL + "/m/"})
	if err := r.Pull(t.Context(), "tiny", nil); err != nil {
		t.Fatal(err)
	}
	if n := h.requests("/model.gguf"); n != 0 {
		t.Errorf("the manifest's source was asked %d times", n)
	}
}

func TestHostThatIsAwayIsAskedOnce(t *testing.T) {
	h := newHub(t)
	h.Close()
	m := tiny(append(h.at("/a"), h.at("/b")...), nil)
	r := open(t, t.TempDir(), m, Options{})
	begin := time.Now()
	err := r.Pull(t.Context(), "tiny", nil)
	if err == nil || !strings.Contains(err.Error(), "can't be reached") {
		t.Errorf("%v", err)
	}
	if took := time.Since(begin); took > 2*time.Second {
		t.Errorf("it took %v to notice", took)
	}
}

func TestRedirectAwayFromTLS(t *testing.T) {
	plain := newHub(t)
	secure := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/good" {
			plain.ServeHTTP(w, r)
			return
		}
		http.Redirect(w, r, plain.URL+"/model.gguf", http.StatusFound)
	}))
	secure.Config.ErrorLog = log.New(io.Discard, "", 0) // it reports clients that refuse its certificate
	secure.StartTLS()
	defer secure.Close()
	plain.files["/good"] = weights
	c := secure.Client()
	c.CheckRedirect = checkRedirect
	for path, want := range map[string]string{"/good": "", "/model.gguf": "redirect away from https"} {
		r := open(t, t.TempDir(), tiny([]Source{{HTTPS: secure.URL + path}}, plain.at("/liba.v1.so")), Options{Client: c})
		err := r.Pull(t.Context(), "tiny", nil)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v; want %q", path, err, want)
		}
	}
	r := open(t, t.TempDir(), tiny([]Source{{HTTPS: secure.URL + "/good"}}, nil), Options{})
	if err := r.Pull(t.Context(), "tiny", nil); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("a server with an unknown certificate: %v", err)
	}
}

func TestPullEndsWithItsContext(t *testing.T) {
	h := newHub(t)
	ctx, cancel := context.WithCancel(t.Context())
	h.ways["/model.gguf"] = func(_ http.ResponseWriter, r *http.Request, _ int) bool {
		cancel()
		<-r.Context().Done()
		return true
	}
	r := open(t, t.TempDir(), tiny(h.at("/model.gguf"), nil), Options{})
	if err := r.Pull(ctx, "tiny", nil); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

const killed = "--killed-pull"

// TestMain lets the test binary be the process that is killed.
func TestMain(m *testing.M) {
	if slices.Contains(os.Args, chooser) {
		choose(os.Args[len(os.Args)-1])
	}
	if slices.Contains(os.Args, killed) {
		var in struct{ Dir, URL string }
		err := json.NewDecoder(os.Stdin).Decode(&in)
		if err == nil {
			var r *Registry
			if r, err = openTiny(in.Dir, tiny([]Source{{HTTPS: in.URL + "/model.gguf"}}, []Source{{HTTPS: in.URL + "/liba.v1.so"}}), Options{}); err == nil {
				err = r.Pull(context.Background(), "tiny", nil)
			}
		}
		fmt.Fprintln(os.Stderr, "not killed:", err)
		os.Exit(1)
	}
	m.Run()
}

// TestKilledPullGoesOn runs a pull in a process of its own, kills that in the middle of a file, and pulls again.
func TestKilledPullGoesOn(t *testing.T) {
	h := newHub(t)
	half := len(weights) / 2
	h.ways["/model.gguf"] = func(w http.ResponseWriter, r *http.Request, n int) bool {
		if n > 1 {
			return false
		}
		w.Header().Set("ETag", h.etag)
		w.Header().Set("Content-Length", strconv.Itoa(len(weights)))
		_, _ = w.Write(weights[:half])
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
		return true
	}
	dir := t.TempDir()
	cmd := exec.CommandContext(t.Context(), os.Args[0], killed)
	cmd.Stdin = strings.NewReader(fmt.Sprintf(`{"Dir":%q,"URL":%q}`, dir, h.URL))
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	r := open(t, dir, tiny(h.at("/model.gguf"), h.at("/liba.v1.so")), Options{})
	waitFor(t, "half of the file", func() bool {
		info, err := os.Stat(r.partial(sum(weights)))
		return err == nil && info.Size() == int64(half)
	})
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err == nil {
		t.Error("the process was to be killed")
	}
	if err := r.Pull(t.Context(), "tiny", nil); err != nil {
		t.Fatal(err)
	}
	if got := h.header("/model.gguf", 2, "Range"); got != fmt.Sprintf("bytes=%d-", half) {
		t.Errorf("after the kill it asked for %q", got)
	}
	if err := r.Verify(t.Context(), "tiny"); err != nil {
		t.Error(err)
	}
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
