package chat

import (
	"encoding/json"
	"net/http"

	"aran/platform/fault"
	"aran/platform/llm"
	"aran/platform/rpc"
)

type object = map[string]any

// chatVoice writes OpenAI's Chat Completions format.
type chatVoice struct {
	sink
	text      string
	reasoning string
	calls     []object
}

func (v *chatVoice) chunk(delta object, finish any) object {
	return object{
		"id": "chatcmpl-" + v.id, "object": "chat.completion.chunk", "created": v.now, "model": v.a.Model,
		"choices": []object{{"index": 0, "delta": delta, "logprobs": nil, "finish_reason": finish}},
	}
}

func (v *chatVoice) begin() error {
	return v.send("", v.chunk(object{"role": "assistant", "content": "", "refusal": nil}, nil))
}

func (v *chatVoice) piece(p Piece) error {
	if v.out == nil {
		v.keep(p)
		return nil
	}
	var delta object
	switch {
	case p.Text != "":
		delta = object{"content": p.Text}
	case p.Reasoning != "":
		delta = object{"reasoning_content": p.Reasoning}
	case p.Call != nil:
		call := object{"index": p.Call.Index, "function": object{"arguments": p.Call.Arguments}}
		if p.Call.ID != "" || p.Call.Name != "" {
			call = object{"index": p.Call.Index, "id": p.Call.ID, "type": "function", "function": object{"name": p.Call.Name, "arguments": p.Call.Arguments}}
		}
		delta = object{"tool_calls": []object{call}}
	default:
		return nil // a signature is for its own vendor
	}
	return v.send("", v.chunk(delta, nil))
}

func (v *chatVoice) keep(p Piece) {
	v.text += p.Text
	v.reasoning += p.Reasoning
	if p.Call == nil {
		return
	}
	for len(v.calls) <= p.Call.Index {
		v.calls = append(v.calls, object{"id": "", "type": "function", "function": object{"name": "", "arguments": ""}})
	}
	c := v.calls[p.Call.Index]
	f, _ := c["function"].(object)
	c["id"] = c["id"].(string) + p.Call.ID
	f["name"] = f["name"].(string) + p.Call.Name
	f["arguments"] = f["arguments"].(string) + p.Call.Arguments
}

func (v *chatVoice) end() error {
	last := v.chunk(object{}, v.a.Finish)
	if v.q.StreamUsage {
		last["usage"] = nil
		if err := v.send("", last); err != nil {
			return err
		}
		last = v.chunk(object{}, nil)
		last["choices"], last["usage"] = []object{}, v.usage()
	}
	last["aran"] = v.a.Ext
	v.extra(last)
	if err := v.send("", last); err != nil {
		return err
	}
	return v.out.Send("", []byte("[DONE]"))
}

// broke ends a stream whose answer is not whole, in the form that the SDKs raise as an error.
func (v *chatVoice) broke(err error) error {
	e := openAIError(shown(err), v.id)
	e["aran"] = v.a.Ext
	return v.send("", e)
}

func (v *chatVoice) whole() any {
	message := object{"role": "assistant", "content": v.text, "refusal": nil}
	if v.reasoning != "" {
		message["reasoning_content"] = v.reasoning
	}
	if len(v.calls) > 0 {
		message["tool_calls"] = v.calls
		if v.text == "" {
			message["content"] = nil
		}
	}
	out := object{
		"id": "chatcmpl-" + v.id, "object": "chat.completion", "created": v.now, "model": v.a.Model, "usage": v.usage(), "aran": v.a.Ext,
		"choices": []object{{"index": 0, "message": message, "logprobs": nil, "finish_reason": v.a.Finish}},
	}
	v.extra(out)
	return out
}

// extra puts back what the provider said about the answer as a whole.
func (v *chatVoice) extra(out object) {
	if v.a.Last.Usage.Format == llm.OpenAI {
		for k, raw := range v.a.Last.Extra {
			out[k] = raw
		}
	}
}

func (v *chatVoice) usage() any {
	u := v.a.Last.Usage
	if u.Format == llm.OpenAI && json.Valid(u.Raw) {
		return u.Raw
	}
	return object{"prompt_tokens": u.Input, "completion_tokens": u.Output, "total_tokens": u.Input + u.Output}
}

// shown is an error as a client may read it.
func shown(err error) *fault.Error {
	if f := fault.From(err); f != nil && f.Kind != fault.Internal {
		return f
	}
	return fault.New(fault.Internal, "internal", "Something broke here; the log has the details under this request id.")
}

// openAIError is OpenAI's form of an error.
func openAIError(f *fault.Error, _ string) object {
	kind := "invalid_request_error"
	switch f.Kind {
	case fault.Exhausted:
		kind = "rate_limit_exceeded"
	case fault.Unavailable, fault.Deadline, fault.Internal:
		kind = "server_error"
	case fault.Denied:
		kind = "permission_error"
	default:
	}
	e := object{"message": f.Detail, "type": kind, "param": nil, "code": f.Code}
	if f.Code == "" {
		e["code"] = f.Kind.String()
	}
	if len(f.Fields) > 0 {
		e["param"] = f.Fields[0].Path
	}
	return object{"error": e}
}

func (s *Service) listModels(w http.ResponseWriter, r *http.Request) {
	models := s.models.all(r.Context(), identity(r))
	s.name(w, rpc.RequestID(r.Context()))
	if anthropicClient(r) {
		out, err := anthropicPage(models, r.URL.Query())
		if err != nil {
			s.fail(w, r, err)
			return
		}
		writeJSON(w, http.StatusOK, out)
		return
	}
	data := make([]object, 0, len(models))
	for _, m := range models {
		data = append(data, openAIModel(m))
	}
	writeJSON(w, http.StatusOK, object{"object": "list", "data": data})
}

func (s *Service) getModel(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("id")
	id := identity(r)
	for _, m := range s.models.all(r.Context(), id) {
		if m.ID == name {
			s.name(w, rpc.RequestID(r.Context()))
			if anthropicClient(r) {
				writeJSON(w, http.StatusOK, anthropicModel(m))
				return
			}
			writeJSON(w, http.StatusOK, openAIModel(m))
			return
		}
	}
	s.fail(w, r, s.models.unknown(r.Context(), id, name))
}

func openAIModel(m llm.Model) object {
	owner := m.Owner
	if owner == "" {
		owner = "unknown"
	}
	return object{"id": m.ID, "object": "model", "created": m.Created, "owned_by": owner}
}
