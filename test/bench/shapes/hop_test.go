package shapes_test

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/protobuf/proto"

	"aran/platform/auth/ca"
	"aran/platform/rpc"
	"aran/test/harness"
)

const (
	domain    = "bench.example"
	hopsCount = 2000
	hopSize   = 1 << 10
)

// transports measures a call that does nothing, in turns: in one process, and over mutual TLS on loopback.
func transports(b *testing.B) (local, far time.Duration) {
	a, err := ca.Open(b.TempDir(), domain)
	if err != nil {
		b.Fatal(err)
	}
	echo := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(w, r.Body)
	})
	log := slog.New(slog.DiscardHandler)
	identity := func(service string) *rpc.Identity {
		dir := b.TempDir()
		if err := a.Issue(dir, service, time.Hour); err != nil {
			b.Fatal(err)
		}
		id, err := rpc.OpenIdentity(b.Context(), dir, service, domain, log)
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { _ = id.Close() })
		return id
	}
	m, err := rpc.NewMesh(domain, log)
	if err != nil {
		b.Fatal(err)
	}
	m.Add(identity("guard"), rpc.KindInternal, []string{"chat"}, echo)
	if err := m.Listen(b.Context(), "127.0.0.1:0"); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(b.Context()), 10*time.Second)
		defer cancel()
		_ = m.Close(ctx)
	})
	f := rpc.Dial(identity("chat"), "guard", rpc.KindInternal, m.Address())
	b.Cleanup(f.Close)
	inProcess := rpc.InProcess("chat", echo)
	var locals, fars []time.Duration
	for i := range hopsCount + 100 {
		l, r := once(b, inProcess), once(b, f)
		if i >= 100 { // warm
			locals, fars = append(locals, l), append(fars, r)
		}
	}
	slices.Sort(locals)
	slices.Sort(fars)
	return locals[len(locals)/2], fars[len(fars)/2]
}

func once(b *testing.B, t http.RoundTripper) time.Duration {
	req, err := http.NewRequestWithContext(b.Context(), http.MethodPost, "http://guard/", bytes.NewReader(make([]byte, hopSize)))
	if err != nil {
		b.Fatal(err)
	}
	begin := time.Now()
	res, err := t.RoundTrip(req)
	if err != nil {
		b.Fatal(err)
	}
	n, err := io.Copy(io.Discard, res.Body)
	_ = res.Body.Close()
	if err != nil || n != hopSize {
		b.Fatalf("%d bytes, %v", n, err)
	}
	return time.Since(begin)
}

// spans is a small OTLP/HTTP receiver that counts internal calls by trace.
type spans struct {
	url      string
	mu       sync.Mutex
	requests map[string]string         // request id to trace
	internal map[string]map[string]int // trace to calls by procedure
	last     time.Time                 // when a span came last
}

func collect(b *testing.B) *spans {
	s := &spans{requests: map[string]string{}, internal: map[string]map[string]int{}}
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		var req collector.ExportTraceServiceRequest
		if err == nil && proto.Unmarshal(body, &req) == nil {
			s.add(&req)
		}
	}))
	b.Cleanup(srv.Close)
	s.url = srv.URL + "/v1/traces"
	return s
}

func (s *spans) add(req *collector.ExportTraceServiceRequest) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last = time.Now()
	for _, rs := range req.GetResourceSpans() {
		for _, ss := range rs.GetScopeSpans() {
			for _, span := range ss.GetSpans() {
				trace := string(span.GetTraceId())
				for _, a := range span.GetAttributes() {
					switch a.GetKey() {
					case "aran.request_id":
						s.requests[a.GetValue().GetStringValue()] = trace
					case "rpc.system":
						if s.internal[trace] == nil {
							s.internal[trace] = map[string]int{}
						}
						s.internal[trace][span.GetName()]++
					}
				}
			}
		}
	}
}

// calls is how many internal calls each of the requests made on average, and which; it waits until all their spans are in.
func (s *spans) calls(b *testing.B, requests []string) (mean float64, which string) {
	harness.Eventually(b, time.Minute, "the spans of all requests arrive", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, r := range requests {
			if s.requests[r] == "" {
				return false
			}
		}
		return time.Since(s.last) > 6*time.Second // exported every five
	})
	s.mu.Lock()
	defer s.mu.Unlock()
	total := 0
	var names []string
	for _, r := range requests {
		for name, n := range s.internal[s.requests[r]] {
			total += n
			name = name[strings.LastIndexByte(name, '.')+1:]
			if !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	slices.Sort(names)
	return float64(total) / float64(len(requests)), strings.Join(names, ", ")
}
