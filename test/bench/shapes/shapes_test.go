// Package shapes_test measures the same load on the same services in every shape, side by side: what it costs to take them
// apart.
//
// All shapes run at once and are loaded in turns, in short rounds, so that they see the same noise; who is not loaded rests.
package shapes_test

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"aran/test/harness"
	"aran/test/walk"
)

const (
	rounds  = 5
	workers = 4
	each    = 24 // requests of each kind, in a round on one shape
	warm    = 8  // of each kind, before
)

// kind is one kind of request of the load.
type kind struct {
	name, method, path string
	body               func(n int) any
	status             []int
}

func kinds() []kind {
	ok := []int{http.StatusOK}
	search := func(mode string) func(int) any {
		return func(n int) any {
			return map[string]any{"query": queries[n%len(queries)], "limit": 5, "mode": mode}
		}
	}
	return []kind{
		{"models", http.MethodGet, "/v1/models", func(int) any { return nil }, ok},
		{"search, words", http.MethodPost, "/api/v1/collections/handbook/search", search("words"), ok},
		{"search, hybrid", http.MethodPost, "/api/v1/collections/handbook/search", search("hybrid"), ok},
		{"chat with citations", http.MethodPost, "/v1/chat/completions", func(n int) any {
			return map[string]any{"model": "default", "messages": []map[string]string{{"role": "user", "content": queries[n%len(queries)]}}, "aran": map[string]any{"collections": []string{"handbook"}}}
		}, ok},
		{"add a document", http.MethodPost, "/api/v1/collections/bench/documents", func(n int) any {
			return map[string]string{"id": "d" + strconv.Itoa(n), "title": "Note", "text": fmt.Sprintf("Note %d. The parcel was measured twice, weighs four stone and is kept in the eastern hall.", n)}
		}, []int{http.StatusCreated, http.StatusAccepted}},
	}
}

var queries = []string{"What does the audit log hold?", "Who may call a service?", "How is a key revoked?", "What happens when a model is away?"}

// measured is what one shape did.
type measured struct {
	name     string
	platform *harness.Platform
	roots    []int // its processes, which this one started
	sent     int
	busy     time.Duration // wall clock while it was loaded
	took     map[string][]time.Duration
	aran     time.Duration // CPU time of its aran processes, with what goes on after an answer
	parts    time.Duration // of PostgreSQL, Redis and NATS
	memory   float64       // MB, aran
	shared   float64       // MB, the parts
}

func BenchmarkShapes(b *testing.B) {
	for b.Loop() {
		bench(b)
	}
}

func bench(b *testing.B) {
	var all []*measured
	for _, shape := range harness.Shapes() {
		before := childrenOf("self")
		p := shape.Open(b, walk.Env()...)
		m := &measured{name: shape.Name, platform: p, took: map[string][]time.Duration{}}
		for _, pid := range childrenOf("self") {
			if !slices.Contains(before, pid) {
				m.roots = append(m.roots, pid)
			}
		}
		p.Must(b, http.StatusCreated, http.MethodPost, "/api/v1/collections", p.AdminKey, map[string]string{"name": "bench"})
		all = append(all, m)
	}
	n := 0
	for _, m := range all {
		m.load(b, &n, warm, false)
	}
	for round := range rounds {
		for i := range all { // each goes first once
			m := all[(i+round)%len(all)]
			aran, parts := m.cpu(b)
			m.load(b, &n, each, true)
			m.rest(b)
			aranAfter, partsAfter := m.cpu(b)
			m.aran, m.parts = m.aran+aranAfter-aran, m.parts+partsAfter-parts
		}
	}
	for _, m := range all {
		m.memory, m.shared = m.resident(b)
	}
	report(os.Stdout, all)
	hops(b, os.Stdout)
	b.ReportMetric(0, "ns/op") // the table says it
}

// load sends the same mix from a few workers and waits for all answers.
func (m *measured) load(b *testing.B, n *int, each int, count bool) { //nolint:revive // a warm-up is not counted
	type call struct {
		k kind
		n int
	}
	var calls []call
	for range each {
		for _, k := range kinds() {
			*n++
			calls = append(calls, call{k, *n})
		}
	}
	queue := make(chan call, len(calls))
	for _, c := range calls {
		queue <- c
	}
	close(queue)
	var mu sync.Mutex
	var wg sync.WaitGroup
	begin := time.Now()
	for range workers {
		wg.Go(func() {
			for c := range queue {
				started := time.Now()
				a, err := m.platform.Call(b.Context(), c.k.method, c.k.path, m.platform.AdminKey, c.k.body(c.n))
				took := time.Since(started)
				if err != nil || !slices.Contains(c.k.status, a.Status) {
					b.Errorf("%s, %s: %d %.300s %v", m.name, c.k.name, a.Status, a.Body, err)
					return
				}
				if count {
					mu.Lock()
					m.took[c.k.name] = append(m.took[c.k.name], took)
					m.sent++
					mu.Unlock()
				}
			}
		})
	}
	wg.Wait()
	if count {
		m.busy += time.Since(begin)
	}
	if b.Failed() {
		b.FailNow()
	}
}

// rest waits until the documents of the round are indexed: that work belongs to the requests.
func (m *measured) rest(b *testing.B) {
	harness.Eventually(b, time.Minute, "all documents are indexed", func() bool {
		return m.waiting(b) == 0
	})
}

func (m *measured) waiting(b *testing.B) (open int) {
	cursor := ""
	for {
		var page struct {
			Documents  []struct{ Status string }
			NextCursor string `json:"next_cursor"`
		}
		m.platform.Must(b, http.StatusOK, http.MethodGet, "/api/v1/collections/bench/documents?limit=100&cursor="+cursor, m.platform.AdminKey, nil).JSON(b, &page)
		for _, d := range page.Documents {
			if d.Status != "indexed" {
				open++
			}
		}
		if cursor = page.NextCursor; cursor == "" {
			return open
		}
	}
}

func report(w io.Writer, all []*measured) {
	base := all[0]
	row := func(what string, of func(m *measured) string) {
		say(w, "%-34s", what)
		for _, m := range all {
			say(w, "%24s", of(m))
		}
		say(w, "\n")
	}
	against := func(format string, of func(m *measured) float64) func(*measured) string {
		return func(m *measured) string {
			if m == base || of(base) == 0 {
				return fmt.Sprintf(format, of(m))
			}
			return fmt.Sprintf(format+" (×%.2f)", of(m), of(m)/of(base))
		}
	}
	per := func(d func(*measured) time.Duration) func(*measured) float64 {
		return func(m *measured) float64 { return 1000 * d(m).Seconds() / float64(m.sent) }
	}
	say(w, "\n%d rounds of %d requests on each shape, %d at once\n", rounds, each*len(kinds()), workers)
	row("", func(m *measured) string { return m.name })
	row("requests/s", against("%.0f", func(m *measured) float64 { return float64(m.sent) / m.busy.Seconds() }))
	for _, k := range kinds() {
		for _, q := range []float64{.5, .99} {
			row(fmt.Sprintf("%s: p%.0f ms", k.name, 100*q), against("%.1f", func(m *measured) float64 { return 1000 * quantile(m.took[k.name], q).Seconds() }))
		}
	}
	row("CPU ms a request: aran", against("%.1f", per(func(m *measured) time.Duration { return m.aran })))
	row("CPU ms a request: shared servers", against("%.1f", per(func(m *measured) time.Duration { return m.parts })))
	row("memory MB: aran", against("%.0f", func(m *measured) float64 { return m.memory }))
	row("memory MB: shared servers", against("%.0f", func(m *measured) float64 { return m.shared }))
}

func say(w io.Writer, format string, args ...any) { _, _ = fmt.Fprintf(w, format, args...) }

func quantile(d []time.Duration, q float64) time.Duration {
	if len(d) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(d))
	return s[int(q*float64(len(s)-1))]
}

// hops prints what a call costs on each transport, and how many calls a public request makes.
func hops(b *testing.B, w io.Writer) {
	local, far := transports(b)
	say(w, "\none call of 1 KB, p50: %s in one process, %s over mutual TLS: a hop costs %s more\n",
		local.Round(time.Microsecond), far.Round(time.Microsecond), (far - local).Round(time.Microsecond))
	spans := collect(b)
	p := harness.One(b, append(walk.Env(), "ARAN_WATCH_OTLP_ENDPOINT="+spans.url)...)
	p.Must(b, http.StatusCreated, http.MethodPost, "/api/v1/collections", p.AdminKey, map[string]string{"name": "bench"})
	say(w, "\n%-34s%s\n", "calls between services a request", "gateway to service + inside")
	for _, k := range kinds() {
		const times = 5
		var requests []string
		for n := range times {
			a := p.Must(b, k.status[len(k.status)-1], k.method, k.path, p.AdminKey, k.body(1_000_000+n))
			requests = append(requests, a.Header.Get("Aran-Request-Id"))
		}
		inside, which := spans.calls(b, requests)
		say(w, "%-34s1 + %.1f  %s\n", k.name, inside, which)
	}
}
