package vectortest

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// Key is what the doubles want to be shown.
const Key = "key-of-the-suite"

// Double is a vector server on loopback that answers as the vendor documents. It is a small working program: it keeps
// what it is sent, refuses fields it does not know, and compares all vectors one by one.
type Double struct {
	URL string

	mu     sync.Mutex
	spaces map[string]*doubled
	status int // answered to everything, when it is not 0
	calls  int
}

// doubled is a collection of Qdrant, or a namespace of Pinecone.
type doubled struct {
	dim    int
	metric string
	points map[string]point
}

type point struct {
	vector []float32
	owner  string // empty: it has none
	mark   string
}

// Fail lets it answer with a status until it is called with 0.
func (d *Double) Fail(status int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.status = status
}

// Calls is how many requests it has answered.
func (d *Double) Calls() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.calls
}

// Wipe loses all, as a server does whose disk was exchanged.
func (d *Double) Wipe() {
	d.mu.Lock()
	defer d.mu.Unlock()
	clear(d.spaces)
}

// Points is how many vectors it has, marks among them.
func (d *Double) Points() (n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, s := range d.spaces {
		n += len(s.points)
	}
	return n
}

// serve starts a double; one request is answered at a time.
func serve(tb testing.TB, refused any, answer func(d *Double, r *http.Request) (status int, body any)) *Double {
	tb.Helper()
	d := &Double{spaces: map[string]*doubled{}}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.calls++
		status, body := http.StatusUnauthorized, refused
		if d.status != 0 {
			status, body = d.status, map[string]string{"message": "as the test wants it"}
		} else if r.Header.Get("Api-Key") == Key {
			status, body = answer(d, r)
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(body)
	}))
	tb.Cleanup(s.Close)
	d.URL = s.URL
	return d
}

func read(r *http.Request, into any) error {
	in := json.NewDecoder(r.Body)
	in.DisallowUnknownFields()
	return in.Decode(into)
}

type scored struct {
	id    string
	score float32
}

// nearest compares all that are let through.
func (s *doubled) nearest(q []float32, k int, allow func(id string, p point) bool) (out []scored) {
	for id, p := range s.points {
		if !allow(id, p) {
			continue
		}
		var dot float64
		for i, f := range p.vector {
			dot += float64(f) * float64(q[i])
		}
		out = append(out, scored{id, float32(dot)})
	}
	slices.SortFunc(out, func(a, b scored) int {
		x, _ := strconv.ParseInt(a.id, 10, 64)
		y, _ := strconv.ParseInt(b.id, 10, 64)
		return cmp.Or(cmp.Compare(b.score, a.score), cmp.Compare(x, y))
	})
	return out[:min(k, len(out))]
}

// Qdrant starts a double of a Qdrant server (https://api.qdrant.tech/api-reference, 1.12).
func Qdrant(tb testing.TB) *Double {
	tb.Helper()
	return serve(tb, "Must provide an API key or an Authorization bearer token", qdrant)
}

type m = map[string]any

func qdrantOK(result any) (int, any) {
	return http.StatusOK, m{"result": result, "status": "ok", "time": 0.000031}
}

func qdrantError(status int, format string, args ...any) (int, any) {
	return status, m{"status": m{"error": fmt.Sprintf(format, args...)}, "time": 0.000031}
}

type qdrantFilter struct {
	Must []struct {
		Key   string `json:"key"`
		Match struct {
			Any []int64 `json:"any"`
		} `json:"match"`
	} `json:"must"`
	MustNot []struct {
		HasID []uint64 `json:"has_id"`
	} `json:"must_not"`
}

func (f qdrantFilter) allows() func(id string, p point) bool {
	owners, not := map[string]bool{}, map[string]bool{}
	for _, c := range f.Must {
		for _, o := range c.Match.Any {
			owners[strconv.FormatInt(o, 10)] = c.Key == "owner"
		}
	}
	for _, c := range f.MustNot {
		for _, id := range c.HasID {
			not[strconv.FormatInt(int64(id), 10)] = true //nolint:gosec // as the client sends it
		}
	}
	return func(id string, p point) bool { return (len(f.Must) == 0 || owners[p.owner]) && !not[id] }
}

func qdrant(d *Double, r *http.Request) (int, any) {
	path := strings.Split(strings.TrimPrefix(r.URL.Path, "/"), "/")
	if path[0] != "collections" {
		return http.StatusNotFound, ""
	}
	if len(path) == 1 {
		var list []m
		for n := range d.spaces {
			list = append(list, m{"name": n})
		}
		return qdrantOK(m{"collections": list})
	}
	name, rest := path[1], r.Method+" "+strings.Join(path[2:], "/")
	s := d.spaces[name]
	switch rest {
	case "PUT ":
		var in struct {
			Vectors struct {
				Size     int    `json:"size"`
				Distance string `json:"distance"`
			} `json:"vectors"`
		}
		if err := read(r, &in); err != nil || in.Vectors.Size < 1 || in.Vectors.Distance != "Dot" && in.Vectors.Distance != "Cosine" {
			return qdrantError(http.StatusBadRequest, "Format error in JSON body: %v", err)
		}
		if s != nil {
			return qdrantError(http.StatusConflict, "Wrong input: Collection `%s` already exists!", name)
		}
		d.spaces[name] = &doubled{in.Vectors.Size, in.Vectors.Distance, map[string]point{}}
		return qdrantOK(true)
	case "DELETE ":
		delete(d.spaces, name)
		return qdrantOK(s != nil)
	}
	if s == nil {
		return qdrantError(http.StatusNotFound, "Not found: Collection `%s` doesn't exist!", name)
	}
	return s.qdrant(rest, r)
}

func (s *doubled) qdrant(call string, r *http.Request) (int, any) {
	done := m{"operation_id": 0, "status": "completed"}
	switch call {
	case "GET ":
		return qdrantOK(m{"status": "green", "points_count": len(s.points), "config": m{"params": m{"vectors": m{"size": s.dim, "distance": s.metric}, "shard_number": 1}}})
	case "PUT index":
		return qdrantOK(done)
	case "PUT points":
		var in struct {
			Points []struct {
				ID      uint64    `json:"id"`
				Vector  []float32 `json:"vector"`
				Payload struct {
					Owner json.Number `json:"owner"`
					Mark  json.Number `json:"mark"`
				} `json:"payload"`
			} `json:"points"`
		}
		if err := read(r, &in); err != nil {
			return qdrantError(http.StatusBadRequest, "Format error in JSON body: %v", err)
		}
		for _, p := range in.Points {
			if len(p.Vector) != s.dim {
				return qdrantError(http.StatusBadRequest, "Wrong input: Vector dimension error: expected dim: %d, got %d", s.dim, len(p.Vector))
			}
		}
		for _, p := range in.Points {
			s.points[strconv.FormatInt(int64(p.ID), 10)] = point{p.Vector, p.Payload.Owner.String(), p.Payload.Mark.String()} //nolint:gosec // as the client sends it
		}
		return qdrantOK(done)
	case "POST points/delete":
		var in struct {
			Filter qdrantFilter `json:"filter"`
		}
		if err := read(r, &in); err != nil || len(in.Filter.Must) == 0 {
			return qdrantError(http.StatusBadRequest, "Format error in JSON body: %v", err)
		}
		maps.DeleteFunc(s.points, in.Filter.allows())
		return qdrantOK(done)
	case "POST points/query":
		var in struct {
			Query  []float32    `json:"query"`
			Limit  int          `json:"limit"`
			Filter qdrantFilter `json:"filter"`
		}
		if err := read(r, &in); err != nil || len(in.Query) != s.dim || in.Limit < 1 {
			return qdrantError(http.StatusBadRequest, "Wrong input: Vector dimension error: expected dim: %d, got %d", s.dim, len(in.Query))
		}
		points := []m{}
		for _, h := range s.nearest(in.Query, in.Limit, in.Filter.allows()) {
			id, _ := strconv.ParseInt(h.id, 10, 64)
			points = append(points, m{"id": uint64(id), "version": 3, "score": h.score}) //nolint:gosec // as the client sends it
		}
		return qdrantOK(m{"points": points})
	case "POST points/count":
		var in struct {
			Filter qdrantFilter `json:"filter"`
			Exact  bool         `json:"exact"`
		}
		if err := read(r, &in); err != nil {
			return qdrantError(http.StatusBadRequest, "Format error in JSON body: %v", err)
		}
		n, allows := 0, in.Filter.allows()
		for id, p := range s.points {
			if allows(id, p) {
				n++
			}
		}
		return qdrantOK(m{"count": n})
	}
	if id, ok := strings.CutPrefix(call, "GET points/"); ok {
		n, err := strconv.ParseUint(id, 10, 64)
		p, there := s.points[strconv.FormatInt(int64(n), 10)] //nolint:gosec // as the client sends it
		if err != nil || !there {
			return qdrantError(http.StatusNotFound, "Not found: Point with id %s does not exists!", id)
		}
		return qdrantOK(m{"id": n, "payload": m{"mark": json.Number(p.mark)}, "vector": p.vector})
	}
	return http.StatusNotFound, ""
}

// Pinecone starts a double of an index of Pinecone's (https://docs.pinecone.io/reference/api, data plane, 2025-10).
func Pinecone(tb testing.TB, dim int) *Double {
	tb.Helper()
	return serve(tb, "Unauthorized", func(d *Double, r *http.Request) (int, any) { return d.pinecone(dim, r) })
}

func pineconeError(format string, args ...any) (int, any) {
	return http.StatusBadRequest, m{"code": 3, "message": fmt.Sprintf(format, args...), "details": []m{}}
}

type pineconeFilter struct {
	Owner struct {
		In     []string `json:"$in"`
		Exists *bool    `json:"$exists"`
	} `json:"owner"`
}

func (f pineconeFilter) allows() func(id string, p point) bool {
	if f.Owner.Exists != nil {
		return func(_ string, p point) bool { return *f.Owner.Exists == (p.owner != "") }
	}
	owners := map[string]bool{}
	for _, o := range f.Owner.In {
		owners[o] = true
	}
	return func(_ string, p point) bool { return owners[p.owner] }
}

func (d *Double) pinecone(dim int, r *http.Request) (int, any) {
	if r.Header.Get("X-Pinecone-Api-Version") == "" {
		return pineconeError("no version")
	}
	space := func(name string) *doubled {
		if d.spaces[name] == nil {
			d.spaces[name] = &doubled{dim, "cosine", map[string]point{}}
		}
		return d.spaces[name]
	}
	switch r.Method + " " + r.URL.Path {
	case "POST /describe_index_stats":
		names, total := m{}, 0
		for n, s := range d.spaces {
			if len(s.points) > 0 {
				names[n] = m{"vectorCount": len(s.points)}
				total += len(s.points)
			}
		}
		return http.StatusOK, m{"namespaces": names, "indexFullness": 0, "totalVectorCount": total, "dimension": dim, "metric": "cosine", "vectorType": "dense"}
	case "POST /vectors/upsert":
		var in struct {
			Vectors []struct {
				ID       string    `json:"id"`
				Values   []float32 `json:"values"`
				Metadata struct {
					Owner string `json:"owner"`
					Mark  string `json:"mark"`
				} `json:"metadata"`
			} `json:"vectors"`
			Namespace string `json:"namespace"`
		}
		if err := read(r, &in); err != nil || len(in.Vectors) > 1000 {
			return pineconeError("%v", err)
		}
		for _, v := range in.Vectors {
			if len(v.Values) != dim {
				return pineconeError("Vector dimension %d does not match the dimension of the index %d", len(v.Values), dim)
			}
		}
		for _, v := range in.Vectors {
			space(in.Namespace).points[v.ID] = point{v.Values, v.Metadata.Owner, v.Metadata.Mark}
		}
		return http.StatusOK, m{"upsertedCount": len(in.Vectors)}
	case "POST /vectors/delete":
		var in struct {
			Namespace string          `json:"namespace"`
			DeleteAll bool            `json:"deleteAll"`
			Filter    *pineconeFilter `json:"filter"`
		}
		if err := read(r, &in); err != nil || in.DeleteAll == (in.Filter != nil) {
			return pineconeError("%v", err)
		}
		s := d.spaces[in.Namespace]
		if s == nil {
			return http.StatusNotFound, m{"code": 5, "message": "Namespace not found", "details": []m{}}
		}
		if in.DeleteAll {
			clear(s.points)
		} else {
			maps.DeleteFunc(s.points, in.Filter.allows())
		}
		return http.StatusOK, m{}
	case "POST /query":
		var in struct {
			Vector          []float32      `json:"vector"`
			TopK            int            `json:"topK"`
			Namespace       string         `json:"namespace"`
			Filter          pineconeFilter `json:"filter"`
			IncludeValues   bool           `json:"includeValues"`
			IncludeMetadata bool           `json:"includeMetadata"`
		}
		if err := read(r, &in); err != nil || len(in.Vector) != dim || in.TopK < 1 || in.TopK > 10_000 || len(in.Filter.Owner.In) > 10_000 {
			return pineconeError("%v", err)
		}
		matches := []m{}
		for _, h := range space(in.Namespace).nearest(in.Vector, in.TopK, in.Filter.allows()) {
			matches = append(matches, m{"id": h.id, "score": h.score, "values": []float32{}})
		}
		return http.StatusOK, m{"matches": matches, "namespace": in.Namespace, "usage": m{"readUnits": 6}}
	case "GET /vectors/fetch":
		q := r.URL.Query()
		vectors := m{}
		for _, id := range q["ids"] {
			if p, ok := space(q.Get("namespace")).points[id]; ok {
				vectors[id] = m{"id": id, "values": p.vector, "metadata": m{"mark": p.mark}}
			}
		}
		return http.StatusOK, m{"vectors": vectors, "namespace": q.Get("namespace"), "usage": m{"readUnits": 1}}
	}
	return http.StatusNotFound, m{"code": 5, "message": "Not Found"}
}
