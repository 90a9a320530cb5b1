package client

import (
	"context"
	"net/http"
	"net/url"
)

// Search is a question to a collection. Zero values mean the server's defaults.
type Search struct {
	Query       string         `json:"query"`
	Limit       int            `json:"limit,omitempty"`        // at most 100
	Mode        string         `json:"mode,omitempty"`         // hybrid, words or meaning
	Filter      map[string]any `json:"filter,omitempty"`       // metadata: a value, or conditions as {"gte": 2020}
	PerDocument int            `json:"per_document,omitempty"` // most passages of one document
	Rerank      *bool          `json:"rerank,omitempty"`
	Distinct    *bool          `json:"distinct,omitempty"`
}

// Span is a part of a text, in bytes: [Start, End).
type Span struct {
	Start int64 `json:"start"`
	End   int64 `json:"end"`
}

// Hit is a passage that was found: Text is the document's text[Start:End], in bytes.
type Hit struct {
	Collection string  `json:"collection"`
	Document   string  `json:"document"`
	Chunk      string  `json:"chunk"`
	Title      string  `json:"title"`
	Text       string  `json:"text"`
	Start      int64   `json:"start"`
	End        int64   `json:"end"`
	Score      float64 `json:"score"`
	Highlights []Span  `json:"highlights"` // words of the query, in Text
	Sentence   Span    `json:"span"`       // what answers best, in the document's text
	Trust      string  `json:"trust"`
	Source     string  `json:"source"`
}

// Found is an answer to a search, the best hit first.
type Found struct {
	Hits     []Hit  `json:"hits"`
	Degraded bool   `json:"degraded"`
	Reranked bool   `json:"reranked"`
	Encoder  string `json:"encoder"`
}

// Search finds passages in a collection.
func (c *Client) Search(ctx context.Context, collection string, q Search) (out Found, err error) {
	return out, c.call(ctx, http.MethodPost, collectionPath(collection)+"/search", q, &out)
}

// CreateCollection makes a collection. One that is there already is a refusal with status 409.
func (c *Client) CreateCollection(ctx context.Context, name string) error {
	return c.call(ctx, http.MethodPost, "/api/v1/collections", map[string]any{"name": name}, nil)
}

// DeleteCollection deletes a collection and everything in it.
func (c *Client) DeleteCollection(ctx context.Context, name string) error {
	return c.call(ctx, http.MethodDelete, collectionPath(name), nil, nil)
}

// DocumentState says how far the work on a document is: queued, indexed, quarantined or failed.
type DocumentState struct {
	ID     string `json:"id"`
	Status string `json:"status"`
	Reason string `json:"reason"`
}

// DocumentStates lists a page of a collection's documents; next is the cursor of the page after it, empty on the last.
func (c *Client) DocumentStates(ctx context.Context, collection, cursor string) (list []DocumentState, next string, err error) {
	var out struct {
		Documents  []DocumentState `json:"documents"`
		NextCursor string          `json:"next_cursor"`
	}
	q := url.Values{"limit": {"100"}}
	if cursor != "" {
		q.Set("cursor", cursor)
	}
	err = c.call(ctx, http.MethodGet, collectionPath(collection)+"/documents?"+q.Encode(), nil, &out)
	return out.Documents, out.NextCursor, err
}

func collectionPath(name string) string { return "/api/v1/collections/" + url.PathEscape(name) }
