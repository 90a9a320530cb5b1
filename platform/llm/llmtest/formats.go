package llmtest

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"

	"aran/platform/llm"
)

type object = map[string]any

func (s *Server) chat(w http.ResponseWriter, r *http.Request) {
	script, q, err := s.begin(w, r, llm.DecodeChat)
	if err != nil {
		return
	}
	usage := object{
		"prompt_tokens": script.Usage.Input, "completion_tokens": script.Usage.Output,
		"total_tokens": script.Usage.Input + script.Usage.Output,
	}
	if !q.Stream {
		message := object{"role": "assistant", "content": strings.Join(script.Pieces, "")}
		if calls := chatCalls(script.Calls); calls != nil {
			message["tool_calls"] = calls
		}
		write(w, http.StatusOK, object{
			"id": "chatcmpl-test", "object": "chat.completion", "created": 1767225600, "model": q.Model, "usage": usage,
			"choices": []any{object{"index": 0, "message": message, "finish_reason": script.finish()}},
		})
		return
	}
	out := newStream(w)
	chunk := func(delta object, finish any) {
		out.send("", object{
			"id": "chatcmpl-test", "object": "chat.completion.chunk", "created": 1767225600, "model": q.Model,
			"choices": []any{object{"index": 0, "delta": delta, "finish_reason": finish}},
		})
	}
	chunk(object{"role": "assistant", "content": ""}, nil)
	for _, p := range script.Reasoning {
		chunk(object{"reasoning_content": p}, nil)
	}
	for _, p := range script.Pieces {
		chunk(object{"content": p}, nil)
	}
	for i, c := range chatCalls(script.Calls) {
		call := c.(object)
		call["index"] = i
		chunk(object{"tool_calls": []any{call}}, nil)
	}
	if !out.finish(r, script.End, openAIError(Script{ErrorType: "server_error", Message: "scripted failure"})) {
		return
	}
	chunk(object{}, script.finish())
	if q.StreamUsage {
		out.send("", object{
			"id": "chatcmpl-test", "object": "chat.completion.chunk", "created": 1767225600, "model": q.Model,
			"choices": []any{}, "usage": usage,
		})
	}
	_, _ = io.WriteString(w, "data: [DONE]\n\n")
}

func chatCalls(calls []Call) []any {
	var out []any
	for _, c := range calls {
		out = append(out, object{"id": c.ID, "type": "function", "function": object{"name": c.Name, "arguments": c.Arguments}})
	}
	return out
}

func (s *Server) messages(w http.ResponseWriter, r *http.Request) {
	script, q, err := s.begin(w, r, llm.DecodeMessages)
	if err != nil {
		return
	}
	reason := map[llm.Finish]string{llm.Stop: "end_turn", llm.Length: "max_tokens", llm.ToolCalls: "tool_use", llm.ContentFilter: "refusal"}[script.finish()]
	usage := object{"input_tokens": script.Usage.Input, "output_tokens": script.Usage.Output}
	message := object{
		"id": "msg_test", "type": "message", "role": "assistant", "model": q.Model, "content": []any{},
		"stop_reason": nil, "stop_sequence": nil, "usage": usage,
	}
	blocks := messageBlocks(script)
	if !q.Stream {
		message["content"], message["stop_reason"] = blocks, reason
		write(w, http.StatusOK, message)
		return
	}
	out := newStream(w)
	out.send("message_start", object{"type": "message_start", "message": message})
	out.send("ping", object{"type": "ping"})
	for i, b := range blocks {
		empty, deltas := deltasOf(b.(object), script)
		out.send("content_block_start", object{"type": "content_block_start", "index": i, "content_block": empty})
		for _, d := range deltas {
			out.send("content_block_delta", object{"type": "content_block_delta", "index": i, "delta": d})
		}
		if i == len(blocks)-1 && !out.finish(r, script.End, anthropicError(Script{ErrorType: "overloaded_error", Message: "scripted failure"})) {
			return
		}
		out.send("content_block_stop", object{"type": "content_block_stop", "index": i})
	}
	if len(blocks) == 0 && !out.finish(r, script.End, anthropicError(Script{ErrorType: "overloaded_error", Message: "scripted failure"})) {
		return
	}
	out.send("message_delta", object{"type": "message_delta", "delta": object{"stop_reason": reason, "stop_sequence": nil}, "usage": object{"output_tokens": script.Usage.Output}})
	out.send("message_stop", object{"type": "message_stop"})
}

func messageBlocks(s Script) []any {
	var out []any
	if len(s.Reasoning) > 0 {
		out = append(out, object{"type": "thinking", "thinking": strings.Join(s.Reasoning, ""), "signature": "signed"})
	}
	if len(s.Pieces) > 0 {
		out = append(out, object{"type": "text", "text": strings.Join(s.Pieces, "")})
	}
	for _, c := range s.Calls {
		out = append(out, object{"type": "tool_use", "id": c.ID, "name": c.Name, "input": json.RawMessage(c.Arguments)})
	}
	return out
}

// deltasOf takes a block apart: how it starts, and what follows.
func deltasOf(block object, s Script) (object, []any) {
	var deltas []any
	switch block["type"] {
	case "thinking":
		for _, p := range s.Reasoning {
			deltas = append(deltas, object{"type": "thinking_delta", "thinking": p})
		}
		deltas = append(deltas, object{"type": "signature_delta", "signature": "signed"})
		return object{"type": "thinking", "thinking": "", "signature": ""}, deltas
	case "text":
		for _, p := range s.Pieces {
			deltas = append(deltas, object{"type": "text_delta", "text": p})
		}
		return object{"type": "text", "text": ""}, deltas
	default:
		args := string(block["input"].(json.RawMessage))
		half := len(args) / 2
		deltas = append(deltas,
			object{"type": "input_json_delta", "partial_json": args[:half]},
			object{"type": "input_json_delta", "partial_json": args[half:]})
		return object{"type": "tool_use", "id": block["id"], "name": block["name"], "input": object{}}, deltas
	}
}
