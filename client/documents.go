package client

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/textproto"
	"net/url"
	"strings"
)

// Stored is what became of one document that was sent.
type Stored struct {
	Line        int    `json:"line"`
	ID          string `json:"id"`
	Status      string `json:"status"` // queued, indexed, …; skipped: a duplicate; empty: an empty line
	DuplicateOf string `json:"duplicate_of"`
	Code        string `json:"code"` // of a refusal
	Detail      string `json:"detail"`
}

// IndexingProgress is how many documents of a collection are in which state.
type IndexingProgress struct {
	Queued      int64 `json:"queued"`
	Indexed     int64 `json:"indexed"`
	Quarantined int64 `json:"quarantined"`
	Failed      int64 `json:"failed"`
}

func documentsPath(collection string) string {
	return "/api/v1/collections/" + url.PathEscape(collection) + "/documents"
}

// MakeCollection makes one, if it is not there.
func (c *Client) MakeCollection(ctx context.Context, name string) error {
	err := c.call(ctx, http.MethodPost, "/api/v1/collections", map[string]string{"name": name}, nil)
	if e, ok := errors.AsType[*Error](err); ok && e.Code == "collection_exists" {
		return nil
	}
	return err
}

// DocumentIDs lists the ids of a collection's documents from a page on; next is where to go on, empty at the end.
func (c *Client) DocumentIDs(ctx context.Context, collection, cursor string) (ids []string, next string, err error) {
	var out struct {
		Documents []struct {
			ID string `json:"id"`
		} `json:"documents"`
		NextCursor string `json:"next_cursor"`
	}
	if err := c.call(ctx, http.MethodGet, documentsPath(collection)+"?limit=500&cursor="+url.QueryEscape(cursor), nil, &out); err != nil {
		return nil, "", err
	}
	for _, d := range out.Documents {
		ids = append(ids, d.ID)
	}
	return ids, out.NextCursor, nil
}

// post sends a body that is no JSON.
func (c *Client) post(ctx context.Context, path, kind string, body []byte) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.base+path, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("POST %s: %w", path, err)
	}
	req.Header.Set("Authorization", "Bearer "+c.key)
	req.Header.Set("Content-Type", kind)
	res, err := c.http.Do(req)
	if err != nil {
		return nil, fmt.Errorf("POST %s: %w", path, err)
	}
	if res.StatusCode/100 == 2 {
		return res, nil
	}
	defer res.Body.Close() //nolint:errcheck // read only
	return nil, refusal(res)
}

// PutDocuments stores many documents, a line of JSON each, and returns what became of each line.
func (c *Client) PutDocuments(ctx context.Context, collection string, lines []byte) (out []Stored, err error) {
	res, err := c.post(ctx, documentsPath(collection), "application/x-ndjson", lines)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close() //nolint:errcheck // read only
	d := json.NewDecoder(io.LimitReader(res.Body, 4*maxBody))
	for {
		var s Stored
		if err := d.Decode(&s); errors.Is(err, io.EOF) {
			return out, nil
		} else if err != nil {
			return out, fmt.Errorf("answer to lines: %w", err)
		}
		out = append(out, s)
	}
}

// PutFile stores a file: plain text, Markdown, HTML, PDF or DOCX.
func (c *Client) PutFile(ctx context.Context, collection, id, name string, file []byte) (out Stored, err error) {
	var b bytes.Buffer
	form := multipart.NewWriter(&b)
	h := textproto.MIMEHeader{}
	h.Set("Content-Disposition", fmt.Sprintf(`form-data; name="file"; filename=%q`, strings.ToValidUTF8(name, "_")))
	part, err := form.CreatePart(h)
	if err == nil {
		_, err = part.Write(file)
	}
	if err == nil && id != "" {
		err = form.WriteField("id", id)
	}
	if err = errors.Join(err, form.Close()); err != nil {
		return out, err
	}
	res, err := c.post(ctx, documentsPath(collection), form.FormDataContentType(), b.Bytes())
	if err != nil {
		return out, err
	}
	defer res.Body.Close() //nolint:errcheck // read only
	if err := json.NewDecoder(io.LimitReader(res.Body, maxBody)).Decode(&out); err != nil {
		return out, fmt.Errorf("answer to a file: %w", err)
	}
	return out, nil
}

// WatchProgress calls yield with a collection's progress whenever it changed, until nothing is in work any more.
func (c *Client) WatchProgress(ctx context.Context, collection string, yield func(IndexingProgress)) error {
	res, err := c.send(ctx, http.MethodGet, "/api/v1/collections/"+url.PathEscape(collection)+"/progress", nil)
	if err != nil {
		return err
	}
	defer res.Body.Close() //nolint:errcheck // read only
	event := ""
	for lines := bufio.NewScanner(res.Body); lines.Scan(); {
		if name, ok := strings.CutPrefix(lines.Text(), "event: "); ok {
			event = name
			continue
		}
		data, ok := strings.CutPrefix(lines.Text(), "data: ")
		if !ok {
			continue
		}
		if event == "error" {
			return fmt.Errorf("progress ended: %s", data)
		}
		var p IndexingProgress
		if err := json.Unmarshal([]byte(data), &p); err != nil {
			return fmt.Errorf("progress: %w", err)
		}
		yield(p)
		if event == "idle" {
			return nil
		}
	}
	return errors.New("progress ended early")
}
