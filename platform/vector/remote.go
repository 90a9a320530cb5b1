package vector

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"aran/platform/breaker"
	"aran/platform/fault"
	"aran/platform/outward"
	"aran/platform/secret"
)

// Host keeps spaces on another server. What it has is derived from what its owner has: Mark says up to where.
// Qdrant and Pinecone pass the same suite as Memory and Stored. Safe for concurrent use.
//
// Errors are of kind fault.Unavailable while the server is away, busy or refuses the key, fault.Deadline when it is slow,
// fault.Conflict when what is there is of another dimension or metric.
type Host interface {
	// Check asks the server whether it is there and takes the key.
	Check(ctx context.Context) error
	// Space returns a space, which need not be there yet. Its name is of letters, digits and dashes. One that is named
	// without model and dimension knows its mark, and deletes.
	Space(n Name) Kept
	// Spaces lists the names of those that are there.
	Spaces(ctx context.Context) ([]string, error)
	// Drop deletes a space and all that is in it.
	Drop(ctx context.Context, space string) error
}

// Kept is a Space that carries a mark. The number -1 is not an id that an item may have.
type Kept interface {
	Space
	// Mark is what SetMark noted last; -1: nothing.
	Mark(ctx context.Context) (int64, error)
	SetMark(ctx context.Context, mark int64) error
}

// HostOptions say how a server is reached.
type HostOptions struct {
	URL     string        // https://host[:port]; http:// on loopback only
	Key     secret.String // sent with each request, if there is one
	Prefix  string        // before the names of spaces, so that platforms can share a server
	Timeout time.Duration // of one request; 0: five seconds
}

const (
	defaultTimeout = 5 * time.Second
	maxAnswer      = 32 << 20
	remoteRows     = 100    // items of one request
	maxOwners      = 10_000 // owners that one request names
	markID         = -1     // of the item that carries the mark
)

// remote calls one server.
type remote struct {
	name    string // of the vendor, for messages
	base    string
	headers http.Header
	prefix  string
	timeout time.Duration
	http    *http.Client
	breaker *breaker.Breaker
}

func newRemote(name string, o HostOptions, keyHeader string, log *slog.Logger) (*remote, error) {
	u, err := url.Parse(o.URL)
	if err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, fmt.Errorf("the URL of %s must be https://host[:port], without a user, query or fragment", name)
	}
	if u.Scheme == "http" && !outward.Loopback(u.Hostname()) {
		return nil, fmt.Errorf("the URL of %s leads to another machine without TLS: use https://", name)
	}
	if !o.Key.Visible() {
		return nil, fmt.Errorf("the key of %s holds spaces or other characters that no key has; is there a line break at its end?", name)
	}
	if o.Timeout == 0 {
		o.Timeout = defaultTimeout
	}
	connections := outward.Transport(o.Timeout, 16, 64)
	connections.DisableCompression = false // vectors are long, and what is read of an answer is bounded
	r := &remote{
		name: name, base: strings.TrimSuffix(u.String(), "/"), headers: http.Header{"Content-Type": {"application/json"}}, prefix: o.Prefix + "-", timeout: o.Timeout,
		breaker: breaker.New(strings.ToLower(name), breaker.Default(), log),
		http:    &http.Client{Transport: connections, CheckRedirect: outward.Stay},
	}
	if !o.Key.Empty() {
		r.headers.Set(keyHeader, o.Key.Reveal())
	}
	return r, nil
}

// call sends in as JSON, if there is any, and reads the answer into out, if it is wanted. found is false for a 404.
func (r *remote) call(ctx context.Context, method, path string, in, out any) (found bool, err error) {
	err = r.breaker.Do(ctx, func(ctx context.Context) (err error) {
		found, err = r.once(ctx, method, path, in, out)
		return err
	})
	return found, err
}

func (r *remote) once(ctx context.Context, method, path string, in, out any) (found bool, err error) {
	var body io.Reader
	if in != nil {
		raw, err := json.Marshal(in)
		if err != nil {
			return false, err
		}
		body = bytes.NewReader(raw)
	}
	caller := ctx
	ctx, cancel := context.WithTimeout(ctx, r.timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, r.base+path, body)
	if err != nil {
		return false, err
	}
	req.Header = r.headers.Clone()
	res, err := r.http.Do(req)
	if err != nil {
		return false, r.failed(caller, err)
	}
	defer res.Body.Close() //nolint:errcheck // read only
	raw, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer+1))
	if err != nil {
		return false, r.failed(caller, err)
	}
	if len(raw) > maxAnswer {
		return false, fault.New(fault.Unavailable, "vectors_answer", "The answer of %s is too long.", r.name)
	}
	switch {
	case res.StatusCode == http.StatusNotFound:
		return false, nil
	case res.StatusCode >= 200 && res.StatusCode < 300:
		if out == nil {
			return true, nil
		}
		if err := json.Unmarshal(raw, out); err != nil {
			return false, fault.New(fault.Unavailable, "vectors_answer", "The answer of %s can't be read.", r.name).Because(err)
		}
		return true, nil
	}
	return false, r.refused(res, raw)
}

// failed is for what never got an answer.
func (r *remote) failed(caller context.Context, err error) error {
	switch {
	case errors.Is(caller.Err(), context.Canceled):
		return fault.New(fault.Canceled, "", "The caller went away.").Because(err)
	case errors.Is(err, context.DeadlineExceeded):
		return fault.New(fault.Deadline, "vectors_timeout", "%s took too long.", r.name).Because(err)
	}
	return fault.New(fault.Unavailable, "vectors_unreachable", "%s can't be reached.", r.name).Because(err)
}

// refused is for answers that are no success.
func (r *remote) refused(res *http.Response, raw []byte) error {
	cause := fmt.Errorf("status %d: %.300s", res.StatusCode, raw)
	switch {
	case res.StatusCode == http.StatusUnauthorized || res.StatusCode == http.StatusForbidden:
		return fault.New(fault.Unavailable, "vectors_credentials", "%s does not take the key.", r.name).Because(cause)
	case res.StatusCode == http.StatusTooManyRequests || res.StatusCode >= 500:
		f := fault.New(fault.Unavailable, "vectors_busy", "%s is busy or broken.", r.name).Because(cause)
		if s, err := strconv.Atoi(res.Header.Get("Retry-After")); err == nil && s > 0 && s < 3600 {
			f = f.After(time.Duration(s) * time.Second)
		}
		return f
	}
	return fault.New(fault.Internal, "vectors_refused", "%s refuses the request.", r.name).Because(cause)
}

// checkAll refuses items before any is sent.
func checkAll(items []Item, dim int) error {
	for _, i := range items {
		if err := check(i.Vector, dim); err != nil {
			return err
		}
		if i.ID == markID {
			return fault.New(fault.Invalid, "vector_id", "The id %d is taken.", markID)
		}
	}
	return nil
}

// marker is the vector of the item that carries the mark.
func marker(dim int) []float32 {
	v := make([]float32, dim)
	v[0] = 1
	return v
}

// eachPart searches for part of the owners after part (nil: for all at once), and keeps the k best.
func eachPart(owners []int64, k int, search func(owners []int64) ([]Hit, error)) ([]Hit, error) {
	if owners == nil {
		return search(nil)
	}
	best := newTop(k)
	owners = slices.Clone(owners)
	slices.Sort(owners)
	for part := range slices.Chunk(slices.Compact(owners), maxOwners) {
		hits, err := search(part)
		if err != nil {
			return nil, err
		}
		for _, h := range hits {
			best.offer([]int64{h.ID}, []float32{h.Score})
		}
	}
	return best.sorted(), nil
}

// wants checks a search; ok is false when there is nothing to be found.
func wants(n Name, q Query, k int, owners []int64) (ok bool, err error) {
	if err := checkModel(n.Model, q.Model); err != nil {
		return false, err
	}
	if err := check(q.Vector, n.Dim); err != nil {
		return false, err
	}
	return k > 0 && (owners == nil || len(owners) > 0), nil
}
