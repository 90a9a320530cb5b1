package client

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
)

// Question is what to ask, of which model, with which collections as evidence.
type Question struct {
	Text        string
	Model       string // empty: "default"
	Collections []string
}

// Citation is a passage that an answer rests on. Start and End are byte offsets into the document's text.
type Citation struct {
	Document string  `json:"document"`
	Chunk    string  `json:"chunk"`
	Title    string  `json:"title"`
	Start    int64   `json:"start"`
	End      int64   `json:"end"`
	Score    float64 `json:"score"`
}

// Outcome is how an answer came about.
type Outcome struct {
	RequestID string     `json:"request_id"`
	Rung      string     `json:"rung"` // primary, alternate, local, cached, extractive, apology
	Model     string     `json:"model"`
	Citations []Citation `json:"citations"`
	Audit     string     `json:"audit"` // event id in the audit log
	Guard     struct {
		Verdict string `json:"verdict"`
	} `json:"guard"`
}

// Ask streams an answer: piece is called for each part of the text, in order.
func (c *Client) Ask(ctx context.Context, q Question, piece func(text string) error) (Outcome, error) {
	if q.Model == "" {
		q.Model = "default"
	}
	in := map[string]any{
		"model": q.Model, "stream": true,
		"messages": []map[string]string{{"role": "user", "content": q.Text}},
	}
	if len(q.Collections) > 0 {
		in["aran"] = map[string]any{"collections": q.Collections}
	}
	res, err := c.send(ctx, http.MethodPost, "/v1/chat/completions", in)
	if err != nil {
		return Outcome{}, err
	}
	defer res.Body.Close() //nolint:errcheck // read only
	lines := bufio.NewScanner(res.Body)
	lines.Buffer(nil, maxBody)
	var out Outcome
	for lines.Scan() {
		data, ok := bytes.CutPrefix(lines.Bytes(), []byte("data: "))
		if !ok {
			continue
		}
		if string(data) == "[DONE]" {
			return out, nil
		}
		if err := chunk(data, &out, piece); err != nil {
			return out, err
		}
	}
	if err := lines.Err(); err != nil {
		return out, fmt.Errorf("stream: %w", err)
	}
	return out, errors.New("the stream ended early")
}

func chunk(data []byte, out *Outcome, piece func(string) error) error {
	var c struct {
		Choices []struct {
			Delta struct {
				Content string `json:"content"`
			} `json:"delta"`
		} `json:"choices"`
		Aran  *Outcome `json:"aran"`
		Error *struct {
			Message string `json:"message"`
			Code    string `json:"code"`
		} `json:"error"`
	}
	if err := json.Unmarshal(data, &c); err != nil {
		return fmt.Errorf("stream: %w", err)
	}
	if c.Error != nil {
		return &Error{Status: http.StatusOK, Code: c.Error.Code, Detail: c.Error.Message}
	}
	if c.Aran != nil {
		*out = *c.Aran
	}
	for _, ch := range c.Choices {
		if ch.Delta.Content != "" {
			if err := piece(ch.Delta.Content); err != nil {
				return err
			}
		}
	}
	return nil
}
