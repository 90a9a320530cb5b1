package harness

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
)

// Client calls a platform's public address.
type Client struct{ URL, AdminKey string }

// Answer is a response read whole.
type Answer struct {
	Status int
	Header http.Header
	Body   []byte
}

// JSON decodes the body.
func (a Answer) JSON(tb testing.TB, into any) {
	tb.Helper()
	if err := json.Unmarshal(a.Body, into); err != nil {
		tb.Fatalf("answer %d %.500s: %v", a.Status, a.Body, err)
	}
}

// Call sends a request as key (empty: without a credential) and returns the answer, or the transport's error. A string
// or []byte body goes out as it is, anything else as JSON.
func (c *Client) Call(ctx context.Context, method, path, key string, body any, header ...string) (Answer, error) {
	var r io.Reader
	switch b := body.(type) {
	case nil:
	case string:
		r = strings.NewReader(b)
	case []byte:
		r = bytes.NewReader(b)
	default:
		j, err := json.Marshal(b)
		if err != nil {
			return Answer{}, err
		}
		r = bytes.NewReader(j)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.URL+path, r)
	if err != nil {
		return Answer{}, err
	}
	if key != "" {
		req.Header.Set("Authorization", "Bearer "+key)
	}
	if r != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	res, err := (&http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}).Do(req)
	if err != nil {
		return Answer{}, err
	}
	defer res.Body.Close() //nolint:errcheck // read whole below
	b, err := io.ReadAll(io.LimitReader(res.Body, 64<<20))
	return Answer{res.StatusCode, res.Header, b}, err
}

// Must is Call that expects a status.
func (c *Client) Must(tb testing.TB, status int, method, path, key string, body any, header ...string) Answer {
	tb.Helper()
	a, err := c.Call(tb.Context(), method, path, key, body, header...)
	if err != nil {
		tb.Fatalf("%s %s: %v", method, path, err)
	}
	if a.Status != status {
		tb.Fatalf("%s %s answered %d, want %d: %.1000s", method, path, a.Status, status, a.Body)
	}
	return a
}
