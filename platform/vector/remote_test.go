package vector_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"aran/platform/fault"
	"aran/platform/secret"
	"aran/platform/vector"
	"aran/platform/vector/vectortest"
)

// hosts are the clients of other servers, each with a double of its own.
var hosts = map[string]func(t *testing.T, dim int) (vector.Host, *vectortest.Double){
	"qdrant": func(t *testing.T, _ int) (vector.Host, *vectortest.Double) {
		t.Helper()
		d := vectortest.Qdrant(t)
		h, err := vector.NewQdrant(options(d.URL), slog.New(slog.DiscardHandler))
		must(t, err)
		return h, d
	},
	"pinecone": func(t *testing.T, dim int) (vector.Host, *vectortest.Double) {
		t.Helper()
		d := vectortest.Pinecone(t, dim)
		h, err := vector.NewPinecone(options(d.URL), slog.New(slog.DiscardHandler))
		must(t, err)
		return h, d
	},
}

func options(url string) vector.HostOptions {
	return vector.HostOptions{URL: url, Key: secret.New(vectortest.Key), Prefix: "aran"}
}

func eachHost(t *testing.T, dim int, test func(t *testing.T, h vector.Host, d *vectortest.Double)) {
	t.Helper()
	for name, open := range hosts {
		t.Run(name, func(t *testing.T) {
			h, d := open(t, dim)
			test(t, h, d)
		})
	}
}

func TestHosts(t *testing.T) {
	for name, open := range hosts {
		t.Run(name, func(t *testing.T) {
			if few > 1 && name == "pinecone" {
				t.Skip("the race detector has looked at what they share")
			}
			n := 0
			opened := map[int]vector.Host{}
			vectortest.Run(t, func(_ *testing.T, dim int) vector.Space {
				if opened[dim] == nil {
					opened[dim], _ = open(t, dim)
				}
				n++
				return opened[dim].Space(vector.Name{Space: fmt.Sprint(n), Model: vectortest.Model, Dim: dim})
			})
		})
	}
}

func TestHostsKeepMarks(t *testing.T) {
	eachHost(t, 3, func(t *testing.T, h vector.Host, d *vectortest.Double) {
		must(t, h.Check(t.Context()))
		s := h.Space(vector.Name{Space: "7-ab", Model: vectortest.Model, Dim: 3})
		mark := func() int64 {
			t.Helper()
			got, err := s.Mark(t.Context())
			must(t, err)
			return got
		}
		if got := mark(); got != -1 {
			t.Errorf("mark %d before any was set", got)
		}
		must(t, s.Put(t.Context(), vector.Item{ID: 1, Owner: 1, Vector: []float32{0, 1, 0}}))
		must(t, s.SetMark(t.Context(), 1<<60+1)) // more than a float64 tells apart
		if got := mark(); got != 1<<60+1 {
			t.Errorf("mark %d", got)
		}
		if hits := find(t, s, []float32{1, 0, 0}, 5, nil); len(hits) != 1 || hits[0].ID != 1 {
			t.Errorf("found %v: the mark is no vector of ours", hits)
		}
		if n, err := s.Len(t.Context()); n != 1 || err != nil {
			t.Errorf("Len = %d, %v", n, err)
		}
		if names, err := h.Spaces(t.Context()); err != nil || !slices.Equal(names, []string{"7-ab"}) {
			t.Errorf("spaces %v, %v", names, err)
		}
		must(t, h.Drop(t.Context(), "7-ab"))
		if d.Points() != 0 || mark() != -1 {
			t.Errorf("%d vectors and mark %d are left", d.Points(), mark())
		}
		if err := s.Put(t.Context(), vector.Item{ID: -1, Vector: []float32{0, 1, 0}}); fault.KindOf(err) != fault.Invalid {
			t.Errorf("the mark's own id: %v", err)
		}
	})
}

func TestManyOwnersAreAskedForInParts(t *testing.T) {
	eachHost(t, 3, func(t *testing.T, h vector.Host, d *vectortest.Double) {
		s := h.Space(vector.Name{Space: "s", Model: vectortest.Model, Dim: 3})
		var owners []int64
		for o := int64(25_000); o >= 0; o-- {
			owners = append(owners, o)
		}
		must(t, s.Put(t.Context(), vector.Item{ID: 1, Owner: 4, Vector: []float32{1, 0, 0}}, vector.Item{ID: 2, Owner: 24_000, Vector: []float32{0, 1, 0}}))
		before := d.Calls()
		if hits := find(t, s, []float32{0, 1, 0}, 2, owners); len(hits) != 2 || hits[0].ID != 2 || hits[1].ID != 1 {
			t.Errorf("found %v", hits)
		}
		if n := d.Calls() - before; n != 3 {
			t.Errorf("%d requests, want 3", n)
		}
	})
}

func TestFaultsOfHosts(t *testing.T) {
	eachHost(t, 3, func(t *testing.T, h vector.Host, d *vectortest.Double) {
		s := h.Space(vector.Name{Space: "s", Model: vectortest.Model, Dim: 3})
		must(t, s.Put(t.Context(), vector.Item{ID: 1, Vector: []float32{1, 0, 0}}))
		ask := func(ctx context.Context) *fault.Error {
			_, err := s.Search(ctx, vector.Query{Model: vectortest.Model, Vector: []float32{1, 0, 0}}, 1, nil)
			return fault.From(err)
		}
		for status, want := range map[int]string{401: "vectors_credentials", 429: "vectors_busy", 503: "vectors_busy"} {
			d.Fail(status)
			if f := ask(t.Context()); f == nil || f.Kind != fault.Unavailable || f.Code != want {
				t.Errorf("status %d: %v", status, f)
			}
		}
		d.Fail(400)
		if f := ask(t.Context()); f == nil || f.Code != "vectors_refused" {
			t.Errorf("status 400: %v", f)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if f := ask(ctx); f == nil || f.Kind != fault.Canceled {
			t.Errorf("a caller that went away: %v", f)
		}
		d.Fail(500)
		for range 10 {
			_ = ask(t.Context())
		}
		before := d.Calls()
		if f := ask(t.Context()); f == nil || f.Kind != fault.Unavailable || d.Calls() != before {
			t.Errorf("with the breaker open: %v after %d calls", f, d.Calls()-before)
		}
		d.Fail(0)
		fresh := hostAt(t, h, d.URL).Space(vector.Name{Space: "s", Model: vectortest.Model, Dim: 4})
		if err := fresh.Put(t.Context(), vector.Item{ID: 1, Vector: []float32{1, 0, 0, 0}}); fault.KindOf(err) != fault.Conflict {
			t.Errorf("another dimension: %v", err)
		}
	})
}

// hostAt is one more client of the same kind: its breaker is closed.
func hostAt(t *testing.T, like vector.Host, url string) vector.Host {
	t.Helper()
	var h vector.Host
	var err error
	if _, ok := like.(*vector.Qdrant); ok {
		h, err = vector.NewQdrant(options(url), slog.New(slog.DiscardHandler))
	} else {
		h, err = vector.NewPinecone(options(url), slog.New(slog.DiscardHandler))
	}
	must(t, err)
	return h
}

func TestSlowHostsAreGivenUp(t *testing.T) {
	hang := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-hang:
		case <-r.Context().Done():
		}
	}))
	defer server.Close()
	defer close(hang)
	o := options(server.URL)
	o.Timeout = 20 * time.Millisecond
	h, err := vector.NewQdrant(o, slog.New(slog.DiscardHandler))
	must(t, err)
	if err := h.Check(t.Context()); fault.KindOf(err) != fault.Deadline {
		t.Errorf("error %v", err)
	}
}

func TestHostsAreReachedSafely(t *testing.T) {
	for _, c := range []struct{ url, key, fails string }{
		{"http://qdrant.example:6333", "k", "without TLS"},
		{"https://user:pass@qdrant.example", "k", "without a user"},
		{"ftp://qdrant.example", "k", "must be https"},
		{"", "k", "must be https"},
		{"https://qdrant.example", "k\n", "spaces"},
		{"https://qdrant.example:6333", "k", ""},
		{"http://127.0.0.1:6333", "", ""},
	} {
		_, q := vector.NewQdrant(vector.HostOptions{URL: c.url, Key: secret.New(c.key)}, slog.New(slog.DiscardHandler))
		_, p := vector.NewPinecone(vector.HostOptions{URL: c.url, Key: secret.New(c.key)}, slog.New(slog.DiscardHandler))
		for _, err := range []error{q, p} {
			if (err == nil) != (c.fails == "") || err != nil && (!strings.Contains(err.Error(), c.fails) || strings.Contains(err.Error(), "pass")) {
				t.Errorf("%q: %v, want %q", c.url, err, c.fails)
			}
		}
	}
}

// Answers as the vendors print them in their documentation, marked with the page they are on.
func TestDocumentedAnswers(t *testing.T) {
	for _, c := range []struct {
		page string
		host func(url string) (vector.Host, error)
		dim  int
		say  map[string]string // path → answer
		want []vector.Hit
	}{
		{
			page: "https://api.qdrant.tech/api-reference/search/query-points and /collections/get-collection",
			host: func(u string) (vector.Host, error) {
				return vector.NewQdrant(options(u), slog.New(slog.DiscardHandler))
			},
			dim: 4,
			say: map[string]string{
				"/collections/aran-s":              `{"time":0.002,"status":"ok","result":{"status":"green","optimizer_status":"ok","segments_count":1,"config":{"params":{"vectors":{"size":4,"distance":"Dot"},"shard_number":1,"replication_factor":1,"write_consistency_factor":1,"on_disk_payload":true},"hnsw_config":{"m":16,"ef_construct":100,"full_scan_threshold":10000},"optimizer_config":{"deleted_threshold":0.2,"vacuum_min_vector_number":1000,"default_segment_number":0,"flush_interval_sec":5}},"payload_schema":{}}}`,
				"/collections/aran-s/points/query": `{"usage":{"cpu":1,"payload_io_read":1},"time":0.002,"status":"ok","result":{"points":[{"id":42,"version":3,"score":0.75,"payload":{"city":"London","color":"green"},"shard_key":"region_1","order_value":42}]}}`,
			},
			want: []vector.Hit{{ID: 42, Score: 0.75}},
		},
		{
			page: "https://docs.pinecone.io/reference/api/2025-10/data-plane/query",
			host: func(u string) (vector.Host, error) {
				return vector.NewPinecone(options(u), slog.New(slog.DiscardHandler))
			},
			dim: 4,
			say: map[string]string{
				"/describe_index_stats": `{"namespaces":{"example-namespace":{"vectorCount":10000}},"indexFullness":0,"totalVectorCount":10000,"dimension":4,"metric":"cosine","vectorType":"dense","memoryFullness":0,"storageFullness":0}`,
				"/query":                `{"matches":[{"id":"3","score":0.0741,"values":[]},{"id":"2","score":0.0703,"values":[]}],"namespace":"example-namespace","usage":{"readUnits":6}}`,
			},
			want: []vector.Hit{{ID: 3, Score: 0.0741}, {ID: 2, Score: 0.0703}},
		},
	} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = w.Write([]byte(c.say[r.URL.Path])) }))
		h, err := c.host(server.URL)
		must(t, err)
		got, err := h.Space(vector.Name{Space: "s", Model: vectortest.Model, Dim: c.dim}).Search(t.Context(), vector.Query{Model: vectortest.Model, Vector: []float32{1, 0, 0, 0}}, 5, nil)
		if err != nil || !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, %v", c.page, got, err)
		}
		server.Close()
	}
}
