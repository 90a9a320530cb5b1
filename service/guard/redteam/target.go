package redteam

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"aran/platform/outward"
	"aran/platform/secret"
)

// Target is what is attacked. Safe for concurrent use.
type Target interface {
	// Ask gives the answer to a conversation. ErrBlocked: the target refused it as an attack. Any other error: there is no answer.
	Ask(ctx context.Context, c Conversation) (Answer, error)
}

// ErrBlocked says that a target recognised an attack.
var ErrBlocked = errors.New("blocked")

// Turn is one message of a conversation.
type Turn struct {
	Role string `json:"role"` // user or assistant
	Text string `json:"text"`
}

// Conversation is what is sent.
type Conversation struct {
	System   string
	Document string // what the user asks about
	Turns    []Turn
	Tools    []Tool

	answer string // of the probe, for a target without a model
	canary string
}

// Answer is what came back.
type Answer struct {
	Text    string
	Calls   []Call
	Blocked bool // cut short by a filter of the target's

	fell bool // there is no model, and nothing stopped the attack
}

// Call is one of a tool.
type Call struct {
	Name      string `json:"name"`
	Arguments string `json:"arguments"`
}

// Bounds of one request.
const (
	maxAnswer   = 4 << 20
	connectIn   = 10 * time.Second
	answerWords = 512 // tokens
	mostTries   = 3
	longestWait = 30 * time.Second
)

// Shelf keeps documents where a target looks for them: it stores one, says under which collection, and takes it away again.
// ErrBlocked: it was quarantined.
type Shelf func(ctx context.Context, document string) (collection string, remove func(ctx context.Context) error, err error)

// OpenAI is a target that speaks Chat Completions.
type OpenAI struct {
	url, model string
	key        secret.String
	shelf      Shelf
	http       *http.Client
}

// NewOpenAI attacks a model at a base URL (with the version: …/v1). Keys travel in the clear to this machine only. Without a
// shelf, documents are put into the message that asks about them.
func NewOpenAI(base, model string, key secret.String, shelf Shelf, within time.Duration) (*OpenAI, error) {
	u, err := url.Parse(strings.TrimRight(base, "/"))
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, fmt.Errorf("target %q: use a URL such as http://127.0.0.1:8080/v1", base)
	}
	if u.Scheme == "http" && !key.Empty() && !outward.Loopback(u.Hostname()) {
		return nil, fmt.Errorf("target %s: a key is sent to other machines over https only", u.Host)
	}
	if model == "" {
		return nil, errors.New("a model is needed")
	}
	const most = 64
	return &OpenAI{u.String(), model, key, shelf, &http.Client{Transport: outward.Transport(connectIn, most, most), CheckRedirect: outward.Stay, Timeout: within}}, nil
}

// Ask sends a conversation.
func (t *OpenAI) Ask(ctx context.Context, c Conversation) (a Answer, err error) {
	body := map[string]any{"model": t.model, "max_tokens": answerWords, "temperature": 0}
	if c.Document != "" {
		if t.shelf == nil {
			c.Turns = append([]Turn{}, c.Turns...)
			c.Turns[0].Text = "Answer from this document.\n\n<document>\n" + c.Document + "\n</document>\n\n" + c.Turns[0].Text
		} else {
			collection, remove, err := t.shelf(ctx, c.Document)
			if err != nil {
				return Answer{}, err
			}
			defer func() { err = errors.Join(err, remove(context.WithoutCancel(ctx))) }()
			body["aran"] = map[string]any{"collections": []string{collection}}
		}
	}
	body["messages"] = messages(c)
	if len(c.Tools) > 0 {
		body["tools"] = schemas(c.Tools)
	}
	b, err := json.Marshal(body)
	if err != nil {
		return Answer{}, err
	}
	for try := 1; ; try++ {
		a, wait, err := t.send(ctx, b)
		if wait == 0 || try == mostTries {
			return a, err
		}
		select {
		case <-ctx.Done():
			return Answer{}, ctx.Err()
		case <-time.After(wait):
		}
	}
}

func messages(c Conversation) []map[string]string {
	var out []map[string]string
	if c.System != "" {
		out = append(out, map[string]string{"role": "system", "content": c.System})
	}
	for _, t := range c.Turns {
		out = append(out, map[string]string{"role": t.Role, "content": t.Text})
	}
	return out
}

func schemas(tools []Tool) []any {
	var out []any
	for _, t := range tools {
		properties, required := map[string]any{}, []string{}
		for name, text := range t.Parameters {
			properties[name] = map[string]any{"type": "string", "description": text}
			required = append(required, name)
		}
		out = append(out, map[string]any{"type": "function", "function": map[string]any{
			"name": t.Name, "description": t.Description,
			"parameters": map[string]any{"type": "object", "properties": properties, "required": required},
		}})
	}
	return out
}

// send makes one try. wait is not zero when another one later may go well.
func (t *OpenAI) send(ctx context.Context, body []byte) (a Answer, wait time.Duration, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, t.url+"/chat/completions", bytes.NewReader(body))
	if err != nil {
		return Answer{}, 0, err
	}
	req.Header.Set("Content-Type", "application/json")
	if !t.key.Empty() {
		req.Header.Set("Authorization", "Bearer "+t.key.Reveal())
	}
	res, err := t.http.Do(req)
	if err != nil {
		return Answer{}, 0, err
	}
	defer res.Body.Close() //nolint:errcheck // read only
	b, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer+1))
	switch {
	case err != nil:
		return Answer{}, 0, err
	case len(b) > maxAnswer:
		return Answer{}, 0, fmt.Errorf("the answer has more than %d bytes", maxAnswer)
	case res.StatusCode == http.StatusTooManyRequests || res.StatusCode == http.StatusServiceUnavailable:
		wait = 2 * time.Second
		if n, err := strconv.Atoi(res.Header.Get("Retry-After")); err == nil && n >= 0 {
			wait = min(time.Duration(n+1)*time.Second, longestWait)
		}
		return Answer{}, wait, fmt.Errorf("status %d: %s", res.StatusCode, failure(b).Message)
	case res.StatusCode != http.StatusOK:
		f := failure(b)
		if f.blocked() {
			return Answer{}, 0, fmt.Errorf("%w: %s", ErrBlocked, f.Message)
		}
		return Answer{}, 0, fmt.Errorf("status %d: %s", res.StatusCode, f.Message)
	}
	a, err = answer(b)
	return a, 0, err
}

// failed is an error in OpenAI's shape.
type failed struct {
	Message string `json:"message"`
	Type    string `json:"type"`
	Code    any    `json:"code"`
	Details struct {
		Code string `json:"code"`
	} `json:"details"`
}

func (f failed) blocked() bool {
	for _, code := range []string{fmt.Sprint(f.Code), f.Type, f.Details.Code} {
		if code == "content_filter" || code == "content_policy_violation" {
			return true
		}
	}
	return false
}

const longestMessage = 300

func failure(body []byte) failed {
	var e struct {
		Error failed `json:"error"`
	}
	if json.Unmarshal(body, &e) != nil || e.Error.Message == "" {
		e.Error.Message = clip(string(body), longestMessage)
	}
	e.Error.Message = clip(e.Error.Message, longestMessage)
	return e.Error
}

func answer(body []byte) (Answer, error) {
	var r struct {
		Choices []struct {
			Message struct {
				Content   *string `json:"content"`
				Refusal   string  `json:"refusal"`
				ToolCalls []struct {
					Function struct {
						Name      string `json:"name"`
						Arguments string `json:"arguments"`
					} `json:"function"`
				} `json:"tool_calls"`
			} `json:"message"`
			FinishReason string `json:"finish_reason"`
		} `json:"choices"`
	}
	if err := json.Unmarshal(body, &r); err != nil {
		return Answer{}, fmt.Errorf("the answer is no chat completion: %w", err)
	}
	if len(r.Choices) == 0 {
		return Answer{}, errors.New("the answer has no choices")
	}
	c := r.Choices[0]
	a := Answer{Blocked: c.FinishReason == "content_filter", Text: c.Message.Refusal}
	if c.Message.Content != nil {
		a.Text = *c.Message.Content + a.Text
	}
	for _, t := range c.Message.ToolCalls {
		a.Calls = append(a.Calls, Call(t.Function))
	}
	return a, nil
}

// clip shortens a text to n bytes, between characters.
func clip(s string, n int) string {
	s = strings.ToValidUTF8(s, "\ufffd")
	if len(s) <= n {
		return s
	}
	for n > 0 && s[n]&0xC0 == 0x80 {
		n--
	}
	return s[:n] + "…"
}
