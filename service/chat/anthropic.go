package chat

import (
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"aran/platform/auth"
	"aran/platform/fault"
	"aran/platform/llm"
	"aran/platform/rpc"
)

func identity(r *http.Request) auth.Identity { return auth.From(r.Context()) }

// messageVoice writes Anthropic's Messages format.
type messageVoice struct {
	sink
	blocks []object // of a whole answer
	open   channel  // of the block that is being written
	index  int      // of that block
	args   string   // of a tool call in a whole answer
	any    bool     // a block was opened
}

func (v *messageVoice) message(content []object, reason any) object {
	return object{
		"id": "msg_" + v.id, "type": "message", "role": "assistant", "model": v.a.Model, "content": content,
		"stop_reason": reason, "stop_sequence": nil, "stop_details": nil, "usage": object{"input_tokens": 0, "output_tokens": 0},
	}
}

func (v *messageVoice) begin() error {
	return v.send("message_start", object{"type": "message_start", "message": v.message([]object{}, nil)})
}

func (v *messageVoice) piece(p Piece) error {
	if p.empty() {
		return nil
	}
	at, _ := channelOf(llm.Event{Text: p.Text, Reasoning: p.Reasoning, Signature: p.Signature, Call: p.Call})
	if !v.any || at != v.open {
		if err := v.turn(at, p); err != nil {
			return err
		}
	}
	var delta object
	switch {
	case p.Text != "":
		delta = object{"type": "text_delta", "text": p.Text}
	case p.Reasoning != "":
		delta = object{"type": "thinking_delta", "thinking": p.Reasoning}
	case p.Signature != "":
		delta = object{"type": "signature_delta", "signature": p.Signature}
	default:
		if p.Call.Arguments == "" {
			return nil
		}
		delta = object{"type": "input_json_delta", "partial_json": p.Call.Arguments}
	}
	if v.out == nil {
		v.keep(p)
		return nil
	}
	return v.send("content_block_delta", object{"type": "content_block_delta", "index": v.index, "delta": delta})
}

// turn closes the block in hand and opens the next.
func (v *messageVoice) turn(at channel, p Piece) error {
	if err := v.shut(); err != nil {
		return err
	}
	if v.any {
		v.index++
	}
	v.any, v.open = true, at
	block := object{"type": "text", "text": ""}
	switch at.kind {
	case "reasoning":
		block = object{"type": "thinking", "thinking": "", "signature": ""}
	case "call":
		block = object{"type": "tool_use", "id": p.Call.ID, "name": p.Call.Name, "input": object{}}
	}
	if v.out == nil {
		v.blocks = append(v.blocks, block)
		return nil
	}
	return v.send("content_block_start", object{"type": "content_block_start", "index": v.index, "content_block": block})
}

func (v *messageVoice) shut() error {
	switch {
	case !v.any:
		return nil
	case v.out != nil:
		return v.send("content_block_stop", object{"type": "content_block_stop", "index": v.index})
	case v.open.kind == "call":
		if json.Valid([]byte(v.args)) {
			v.blocks[len(v.blocks)-1]["input"] = json.RawMessage(v.args)
		}
		v.args = ""
	}
	return nil
}

func (v *messageVoice) keep(p Piece) {
	b := v.blocks[len(v.blocks)-1]
	switch {
	case p.Text != "":
		b["text"] = b["text"].(string) + p.Text
	case p.Reasoning != "":
		b["thinking"] = b["thinking"].(string) + p.Reasoning
	case p.Signature != "":
		b["signature"] = p.Signature
	case p.Call != nil:
		v.args += p.Call.Arguments
	}
}

func (v *messageVoice) end() error {
	if err := v.shut(); err != nil {
		return err
	}
	reason, sequence := v.stop()
	err := v.send("message_delta", object{
		"type": "message_delta", "delta": object{"stop_reason": reason, "stop_sequence": sequence, "stop_details": v.details()},
		"usage": v.usage(), "aran": v.a.Ext,
	})
	if err != nil {
		return err
	}
	return v.send("message_stop", object{"type": "message_stop"})
}

// broke ends a stream whose answer is not whole.
func (v *messageVoice) broke(err error) error {
	e := anthropicError(shown(err), v.id)
	e["aran"] = v.a.Ext
	return v.send("error", e)
}

func (v *messageVoice) whole() any {
	_ = v.shut()
	if v.blocks == nil {
		v.blocks = []object{}
	}
	reason, sequence := v.stop()
	out := v.message(v.blocks, reason)
	out["stop_sequence"], out["stop_details"], out["usage"], out["aran"] = sequence, v.details(), v.usage(), v.a.Ext
	return out
}

// stop is the reason in Anthropic's words: its own where the answer came from there.
func (v *messageVoice) stop() (reason string, sequence any) {
	last := v.a.Last
	if last.Usage.Format == llm.Anthropic && last.FinishRaw != "" && v.a.Finish == last.Finish {
		if last.StopSequence != "" {
			sequence = last.StopSequence
		}
		return last.FinishRaw, sequence
	}
	switch v.a.Finish {
	case llm.Length:
		return "max_tokens", nil
	case llm.ToolCalls:
		return "tool_use", nil
	case llm.ContentFilter:
		return "refusal", nil
	default:
		return "end_turn", nil
	}
}

// details says more about a refusal.
func (v *messageVoice) details() any {
	if v.a.Finish != llm.ContentFilter {
		return nil
	}
	return object{"type": "refusal", "category": nil, "explanation": "The answer was stopped by policy."}
}

func (v *messageVoice) usage() any {
	u := v.a.Last.Usage
	if u.Format == llm.Anthropic && json.Valid(u.Raw) {
		return u.Raw
	}
	return object{"input_tokens": u.Input, "output_tokens": u.Output}
}

// anthropicError is Anthropic's form of an error; error_code is what its SDKs offer to branch on.
func anthropicError(f *fault.Error, id string) object {
	kind := "invalid_request_error"
	switch f.Kind {
	case fault.Unauthenticated:
		kind = "authentication_error"
	case fault.Denied:
		kind = "permission_error"
	case fault.Missing:
		kind = "not_found_error"
	case fault.TooLarge:
		kind = "request_too_large"
	case fault.Exhausted:
		kind = "rate_limit_error"
	case fault.Unavailable:
		kind = "overloaded_error"
	case fault.Deadline:
		kind = "timeout_error"
	case fault.Internal:
		kind = "api_error"
	default:
	}
	e := object{"type": kind, "message": f.Detail}
	if f.Code != "" {
		e["details"] = object{"error_code": f.Code}
	}
	return object{"type": "error", "error": e, "request_id": id}
}

func anthropicModel(m llm.Model) object {
	title := m.Title
	if title == "" {
		title = m.ID
	}
	return object{
		"type": "model", "id": m.ID, "display_name": title, "lifecycle": "active",
		"created_at": time.Unix(m.Created, 0).UTC().Format(time.RFC3339),
	}
}

const (
	pageDefault = 20
	pageMax     = 1000
)

// anthropicPage is one page of Anthropic's list (query: limit, after_id, before_id).
func anthropicPage(models []llm.Model, q url.Values) (object, error) {
	limit := pageDefault
	if l := q.Get("limit"); l != "" {
		n, err := strconv.Atoi(l)
		if err != nil || n < 1 || n > pageMax {
			return nil, invalid("limit", "must be between 1 and "+strconv.Itoa(pageMax))
		}
		limit = n
	}
	index := func(id string) int {
		return slices.IndexFunc(models, func(m llm.Model) bool { return m.ID == id })
	}
	more := false
	switch {
	case q.Get("after_id") != "":
		models = models[index(q.Get("after_id"))+1:]
		more = len(models) > limit
		models = models[:min(limit, len(models))]
	case q.Get("before_id") != "":
		models = models[:max(index(q.Get("before_id")), 0)]
		more = len(models) > limit
		models = models[max(0, len(models)-limit):]
	default:
		more = len(models) > limit
		models = models[:min(limit, len(models))]
	}
	out := object{"data": []object{}, "has_more": more, "first_id": nil, "last_id": nil}
	data := make([]object, 0, len(models))
	for _, m := range models {
		data = append(data, anthropicModel(m))
	}
	if len(data) > 0 {
		out["data"], out["first_id"], out["last_id"] = data, models[0].ID, models[len(models)-1].ID
	}
	return out, nil
}

// countTokens estimates: no tokenizer of the model is here, and asking its provider would send it the text.
func (s *Service) countTokens(w http.ResponseWriter, r *http.Request) {
	b, err := body(r)
	var q llm.Request
	if err == nil {
		q, err = llm.DecodeCount(b)
	}
	if err != nil {
		s.fail(w, r, err)
		return
	}
	s.name(w, rpc.RequestID(r.Context()))
	writeJSON(w, http.StatusOK, object{"input_tokens": estimate(&q), "aran": object{"estimate": true}})
}

// Rules of thumb: an English token has about four bytes, a character of a script with longer encodings is about
// one token, and a message costs a few beside its text.
func estimate(q *llm.Request) int {
	n := countText(textOf(q.System))
	for _, m := range q.Messages {
		n += 4
		for _, p := range m.Parts {
			n += countText(p.Text) + countText(textOf(p.Parts)) + len(p.Raw)/100
		}
	}
	for _, t := range q.Tools {
		n += 8 + countText(t.Name+t.Description) + len(t.Schema)/3
	}
	return n + 3
}

func countText(s string) int {
	narrow, wide := 0, 0
	for _, c := range s {
		if c < 0x250 {
			narrow++
		} else {
			wide++
		}
	}
	return (narrow+3)/4 + wide
}
