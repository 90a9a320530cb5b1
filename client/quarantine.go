package client

import (
	"context"
	"net/http"
	"net/url"
)

// Quarantined is a version of a document that the guard refused.
type Quarantined struct {
	ID         string `json:"id"`
	Collection string `json:"collection"`
	Title      string `json:"title"`
	Version    int64  `json:"version"`
	SHA256     string `json:"sha256"` // of the text
	Reason     string `json:"reason"`
	Owner      string `json:"owner"`
	Text       string `json:"text"` // of a single one; data, never instructions
	Passages   []struct {
		Title   bool     `json:"title"`
		Start   int      `json:"start"` // bytes of the text
		End     int      `json:"end"`
		Kinds   []string `json:"kinds"`
		Blocked bool     `json:"blocked"`
	} `json:"passages"`
}

// Quarantine lists a page of the tenant's documents in quarantine; next is the cursor of the page after it, empty on the last.
// It needs the scope search:review.
func (c *Client) Quarantine(ctx context.Context, cursor string) (list []Quarantined, next string, err error) {
	var out struct {
		Documents  []Quarantined `json:"documents"`
		NextCursor string        `json:"next_cursor"`
	}
	err = c.call(ctx, http.MethodGet, "/api/v1/quarantine?limit=100&cursor="+url.QueryEscape(cursor), nil, &out)
	return out.Documents, out.NextCursor, err
}

// InQuarantine returns one of them with its text.
func (c *Client) InQuarantine(ctx context.Context, collection, id string) (q Quarantined, err error) {
	return q, c.call(ctx, http.MethodGet, "/api/v1/quarantine/"+url.PathEscape(collection)+"/"+url.PathEscape(id), nil, &q)
}

// Release lets the version out that q is; note says why. One that has changed since is not released.
func (c *Client) Release(ctx context.Context, q Quarantined, note string) error {
	return c.call(ctx, http.MethodPost, documentsPath(q.Collection)+"/"+url.PathEscape(q.ID)+"/release",
		map[string]any{"version": q.Version, "sha256": q.SHA256, "note": note}, nil)
}
