// Package client calls a running Aran over its public API.
//
// It is for programs of others as much as for our own command line: it imports nothing of the
// platform. For model calls the official OpenAI and Anthropic SDKs work as well.
package client

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Client is safe for concurrent use.
type Client struct {
	base string
	key  string
	http *http.Client
}

// New calls the instance at base (as http://127.0.0.1:8080) with an API key. A nil transport is the default one.
func New(base, key string, transport http.RoundTripper) *Client {
	return &Client{strings.TrimRight(base, "/"), key, &http.Client{Transport: transport}}
}

// Error is a refusal by the server (RFC 9457, or the vendors' shape on /v1).
type Error struct {
	Status     int
	Code       string
	Detail     string
	RetryAfter string
	RequestID  string
}

// Error names what the server said.
func (e *Error) Error() string {
	return fmt.Sprintf("%d %s: %s", e.Status, e.Code, e.Detail)
}

const (
	maxBody    = 16 << 20
	callWithin = 30 * time.Second
)

// call sends in as JSON and decodes the answer into out; either may be nil.
func (c *Client) call(ctx context.Context, method, path string, in, out any) error {
	ctx, cancel := context.WithTimeout(ctx, callWithin)
	defer cancel()
	res, err := c.send(ctx, method, path, in)
	if err != nil {
		return err
	}
	defer res.Body.Close() //nolint:errcheck // read only
	if out == nil {
		return nil
	}
	if err := json.NewDecoder(io.LimitReader(res.Body, maxBody)).Decode(out); err != nil {
		return fmt.Errorf("%s %s: answer: %w", method, path, err)
	}
	return nil
}

// send returns an answer of status 2xx with its body open.
func (c *Client) send(ctx context.Context, method, path string, in any) (*http.Response, error) {
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return nil, fmt.Errorf("%s %s: %w", method, path, err)
		}
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, body)
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", method, path, err)
	}
	req.Header.Set("Authorization", "Bearer "+c.key)
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	res, err := c.http.Do(req)
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", method, path, err)
	}
	if res.StatusCode/100 == 2 {
		return res, nil
	}
	defer res.Body.Close() //nolint:errcheck // read only
	return nil, refusal(res)
}

func refusal(res *http.Response) error {
	e := &Error{Status: res.StatusCode, RetryAfter: res.Header.Get("Retry-After"), RequestID: res.Header.Get("Aran-Request-Id")}
	var body struct {
		Code   string `json:"code"`
		Title  string `json:"title"`
		Detail string `json:"detail"`
		Error  struct {
			Message string `json:"message"`
			Type    string `json:"type"`
			Code    string `json:"code"`
		} `json:"error"`
	}
	if err := json.NewDecoder(io.LimitReader(res.Body, 1<<20)).Decode(&body); err != nil {
		e.Detail = res.Status
		return e
	}
	e.Code, e.Detail = body.Code, body.Detail
	if e.Detail == "" {
		e.Detail = body.Title
	}
	if body.Error.Message != "" {
		e.Detail, e.Code = body.Error.Message, body.Error.Code
		if e.Code == "" {
			e.Code = body.Error.Type
		}
	}
	return e
}

// Key is an API key. Secret is set only in the answer to CreateKey and RotateKey.
type Key struct {
	ID        string   `json:"id"`
	Secret    string   `json:"key,omitempty"`
	Name      string   `json:"name"`
	Prefix    string   `json:"prefix"`
	Scopes    []string `json:"scopes"`
	CreatedAt string   `json:"created_at,omitempty"`
	ExpiresAt string   `json:"expires_at,omitempty"`
	RevokedAt string   `json:"revoked_at,omitempty"`
}

// CreateKey makes a key; expiresIn 0 means that it does not end by itself.
func (c *Client) CreateKey(ctx context.Context, name string, scopes []string, expiresIn time.Duration) (k Key, err error) {
	in := map[string]any{"name": name, "scopes": scopes}
	if expiresIn > 0 {
		in["expires_in"] = int64(expiresIn.Seconds())
	}
	return k, c.call(ctx, http.MethodPost, "/api/v1/keys", in, &k)
}

// Keys lists the keys of the caller's tenant.
func (c *Client) Keys(ctx context.Context) ([]Key, error) {
	var out []Key
	cursor := ""
	for {
		var page struct {
			Keys       []Key  `json:"keys"`
			NextCursor string `json:"next_cursor"`
		}
		if err := c.call(ctx, http.MethodGet, "/api/v1/keys?limit=100&cursor="+url.QueryEscape(cursor), nil, &page); err != nil {
			return nil, err
		}
		out = append(out, page.Keys...)
		if cursor = page.NextCursor; cursor == "" {
			return out, nil
		}
	}
}

// RotateKey replaces a key by a new one with the same rights.
func (c *Client) RotateKey(ctx context.Context, id string) (k Key, err error) {
	return k, c.call(ctx, http.MethodPost, "/api/v1/keys/"+url.PathEscape(id)+"/rotate", nil, &k)
}

// RevokeKey ends a key at once.
func (c *Client) RevokeKey(ctx context.Context, id string) error {
	return c.call(ctx, http.MethodDelete, "/api/v1/keys/"+url.PathEscape(id), nil, nil)
}
