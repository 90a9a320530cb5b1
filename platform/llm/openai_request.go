package llm

import (
	"encoding/json"
	"strings"

	"aran/platform/fault"
)

// DecodeChat reads the body of OpenAI's POST /v1/chat/completions (API reference, "Create chat completion").
// Fields that are not in Request stay in Extra. Errors are fault.Invalid and name the field.
func DecodeChat(body []byte) (Request, error) {
	o, err := decodeObject(body)
	if err != nil {
		return Request{}, err
	}
	d := &decoder{}
	r := Request{Format: OpenAI, Model: d.text(o, "", "model")}
	if r.Model == "" {
		d.fail("model", "is missing; GET /v1/models lists what there is")
	}
	d.chatMessages(&r, o.take("messages"))
	d.chatTools(&r, o)
	d.chatLimits(&r, o)
	if s := scalar[bool](d, o, "", "stream", "true or false"); s != nil {
		r.Stream = *s
	}
	if raw := o.take("stream_options"); raw != nil {
		so := d.object("stream_options", raw)
		if u := scalar[bool](d, so, "stream_options", "include_usage", "true or false"); u != nil {
			r.StreamUsage = *u
		}
		if len(so) > 0 { // put back beside our own include_usage
			o["stream_options"], err = encode(so)
		}
	}
	d.chatRefused(o)
	r.Extra = o.rest()
	if d.err != nil {
		return Request{}, d.err
	}
	return r, err
}

// chatRefused names what would take text around the checks, or what we do not do.
func (d *decoder) chatRefused(o object) {
	if n := scalar[int](d, o, "", "n", "an integer"); n != nil && *n != 1 {
		d.fail("n", "one answer per request is offered; send the request %d times", *n)
	}
	if l := scalar[bool](d, o, "", "logprobs", "true or false"); l != nil && *l {
		d.fail("logprobs", "is not offered: it would carry the answer around the output check")
	}
	if _, there := o["top_logprobs"]; there && o.take("top_logprobs") != nil {
		d.fail("top_logprobs", "is not offered: it would carry the answer around the output check")
	}
	if raw := o.take("modalities"); raw != nil {
		if string(raw) != `["text"]` {
			d.fail("modalities", `only ["text"] is offered`)
		}
	}
}

func (d *decoder) chatLimits(r *Request, o object) {
	r.Temperature = d.number(o, "temperature", 2)
	r.TopP = d.number(o, "top_p", 1)
	r.Seed = scalar[int64](d, o, "", "seed", "an integer")
	r.Stop = d.stops(o, "stop")
	for _, key := range []string{"max_tokens", "max_completion_tokens"} {
		if n := d.count(o, "", key, 1, 10_000_000); n != nil {
			r.MaxTokens, r.maxTokensKey = *n, key
		}
	}
}

func (d *decoder) chatMessages(r *Request, raw json.RawMessage) {
	list := d.list("messages", orEmpty(raw), maxMessages)
	if d.err == nil && len(list) == 0 {
		d.fail("messages", "at least one message is needed")
	}
	for i, raw := range list {
		path := at("messages", i)
		r.Messages = append(r.Messages, d.chatMessage(path, d.object(path, raw)))
		if d.err != nil {
			return
		}
	}
}

func orEmpty(raw json.RawMessage) json.RawMessage {
	if raw == nil {
		return json.RawMessage("[]")
	}
	return raw
}

func (d *decoder) chatMessage(path string, o object) Message {
	m := Message{role: d.text(o, path, "role")}
	m.Parts = d.chatContent(join(path, "content"), o.take("content"))
	switch m.role {
	case "system", "developer":
		m.Role = System
	case "user":
		m.Role = User
	case "assistant":
		m.Role = Assistant
		if raw := o.take("tool_calls"); raw != nil {
			for i, c := range d.list(join(path, "tool_calls"), raw, maxParts) {
				p := at(join(path, "tool_calls"), i)
				m.Parts = append(m.Parts, d.chatCall(p, c))
			}
		}
		if o.take("function_call") != nil {
			d.fail(join(path, "function_call"), "the old function calls are not offered; use tool_calls")
		}
	case "tool":
		m.Role = Tool
		m.Parts = []Part{{Kind: Result, ID: d.text(o, path, "tool_call_id"), Parts: m.Parts}}
	default:
		d.fail(join(path, "role"), `must be "system", "developer", "user", "assistant" or "tool"`)
	}
	m.Extra = o.rest()
	return m
}

func (d *decoder) chatContent(path string, raw json.RawMessage) []Part {
	if raw == nil {
		return nil
	}
	var s string
	if json.Unmarshal(raw, &s) == nil {
		return []Part{{Kind: Text, Text: s}}
	}
	var parts []Part
	for i, p := range d.list(path, raw, maxParts) {
		o := d.object(at(path, i), p)
		kind := d.text(o, at(path, i), "type")
		if kind == "text" {
			parts = append(parts, Part{Kind: Text, Text: d.text(o, at(path, i), "text"), Extra: o.rest()})
			continue
		}
		as := Opaque
		if kind == "refusal" { // a model's own words, sent back to it
			as = Private
		}
		parts = append(parts, Part{Kind: as, Name: kind, Raw: p})
	}
	return parts
}

func (d *decoder) chatCall(path string, raw json.RawMessage) Part {
	o := d.object(path, raw)
	if kind := d.text(o, path, "type"); kind != "function" {
		return Part{Kind: Opaque, Name: kind, Raw: raw, call: true}
	}
	f := d.object(join(path, "function"), o.take("function"))
	return Part{
		Kind: Call, ID: d.text(o, path, "id"),
		Name: d.text(f, path, "name"), Text: d.text(f, path, "arguments"), Extra: o.rest(),
	}
}

func (d *decoder) chatTools(r *Request, o object) {
	if raw := o.take("tools"); raw != nil {
		for i, t := range d.list("tools", raw, maxTools) {
			path := at("tools", i)
			to := d.object(path, t)
			if kind := d.text(to, path, "type"); kind != "function" {
				r.Tools = append(r.Tools, ToolSpec{Opaque: kind, Raw: t})
				continue
			}
			f := d.object(join(path, "function"), to.take("function"))
			r.Tools = append(r.Tools, ToolSpec{
				Name: d.text(f, path, "name"), Description: d.text(f, path, "description"),
				Schema: f.take("parameters"), Extra: f.rest(),
			})
		}
	}
	raw := o.take("tool_choice")
	if raw == nil {
		return
	}
	r.ToolChoice = &ToolChoice{Raw: raw}
	var word string
	if json.Unmarshal(raw, &word) == nil {
		r.ToolChoice.Mode = word
		return
	}
	var named struct {
		Type     string `json:"type"`
		Function struct {
			Name string `json:"name"`
		} `json:"function"`
	}
	if json.Unmarshal(raw, &named) != nil {
		d.fail("tool_choice", "must be a string or an object")
	}
	if named.Type == "function" {
		r.ToolChoice.Mode, r.ToolChoice.Name = "tool", named.Function.Name
	}
}

// chatStyle is what OpenAI-compatible servers disagree about.
type chatStyle struct {
	maxTokensKey string // for requests that did not come in this format
	sampling     bool   // takes temperature and top_p from other formats
}

// encodeChat writes the body for a Chat Completions server; always a streaming one with usage.
func encodeChat(r *Request, style chatStyle) ([]byte, error) {
	same := r.Format == OpenAI
	if err := r.fits(OpenAI); err != nil {
		return nil, err
	}
	m := fields(r.own(OpenAI, r.Extra))
	m["model"] = r.Model
	m["stream"] = true
	options := map[string]any{}
	if raw, ok := r.Extra["stream_options"]; ok && same {
		if err := json.Unmarshal(raw, &options); err != nil {
			return nil, fault.New(fault.Invalid, "invalid_value", "stream_options: must be an object").Because(err)
		}
	}
	options["include_usage"] = true
	m["stream_options"] = options
	m["messages"] = r.chatMessages()
	if same || style.sampling || r.Format == Neutral {
		put(m, "temperature", r.Temperature)
		put(m, "top_p", r.TopP)
	}
	put(m, "seed", r.Seed)
	if len(r.Stop) > 0 {
		m["stop"] = r.Stop
	}
	if r.MaxTokens > 0 {
		key := r.maxTokensKey
		if key == "" {
			key = style.maxTokensKey
		}
		m[key] = r.MaxTokens
	}
	if len(r.Tools) > 0 {
		m["tools"] = r.chatTools()
	}
	if c := r.ToolChoice; c != nil {
		switch {
		case same:
			m["tool_choice"] = c.Raw
		case c.Mode == "tool":
			m["tool_choice"] = map[string]any{"type": "function", "function": map[string]string{"name": c.Name}}
		case c.Mode != "":
			m["tool_choice"] = c.Mode
		}
	}
	return encode(m)
}

func put[T any](m map[string]any, key string, v *T) {
	if v != nil {
		m[key] = *v
	}
}

// own returns extra fields when they belong to the format.
func (r *Request) own(f Format, extra map[string]json.RawMessage) map[string]json.RawMessage {
	if r.Format != f {
		return nil
	}
	return extra
}

// fits says whether a server of the format can be given all of the request's content.
func (r *Request) fits(f Format) error {
	if r.Format == f {
		return nil
	}
	if names := r.opaque(); len(names) > 0 {
		return fault.New(fault.Unsupported, "unsupported_content", "This model takes texts and functions only; the request also holds %s.", quoted(names))
	}
	return nil
}

// opaque names parts and tools that cannot be translated.
func (r *Request) opaque() []string {
	c := *r
	c.Extra = nil // fields of another format are left out, not refused
	return c.Unread()
}

func (r *Request) chatTools() []any {
	var tools []any
	for _, t := range r.Tools {
		if t.Opaque != "" {
			tools = append(tools, t.Raw)
			continue
		}
		f := fields(r.own(OpenAI, t.Extra))
		f["name"] = t.Name
		if t.Description != "" {
			f["description"] = t.Description
		}
		if t.Schema != nil {
			f["parameters"] = t.Schema
		}
		tools = append(tools, map[string]any{"type": "function", "function": f})
	}
	return tools
}

func (r *Request) chatMessages() []any {
	var out []any
	if text := plain(r.System); text != "" {
		out = append(out, map[string]any{"role": "system", "content": text})
	}
	ours := r.Instructions == ""
	for i := range r.Messages {
		if !ours && r.Messages[i].Role != System {
			out = append(out, map[string]any{"role": "system", "content": r.Instructions})
			ours = true
		}
		out = append(out, r.chatMessage(&r.Messages[i])...)
	}
	if !ours {
		out = append(out, map[string]any{"role": "system", "content": r.Instructions})
	}
	return out
}

// chatMessage writes a message; one of Anthropic's with several tool results becomes several.
func (r *Request) chatMessage(m *Message) []any {
	var out []any
	var rest []Part
	var calls []any
	for _, p := range m.Parts {
		switch p.Kind {
		case Result:
			f := fields(r.own(OpenAI, m.Extra))
			f["role"], f["tool_call_id"], f["content"] = "tool", p.ID, r.chatParts(p.Parts)
			out = append(out, f)
		case Call:
			c := fields(r.own(OpenAI, p.Extra))
			c["id"], c["type"], c["function"] = p.ID, "function", map[string]string{"name": p.Name, "arguments": p.Text}
			calls = append(calls, c)
		case Private:
			if r.Format == OpenAI {
				rest = append(rest, p)
			}
		case Opaque:
			if p.call {
				calls = append(calls, p.Raw)
				continue
			}
			rest = append(rest, p)
		default:
			rest = append(rest, p)
		}
	}
	if m.Role == Tool || (len(out) > 0 && len(rest) == 0 && len(calls) == 0) {
		return out
	}
	f := fields(r.own(OpenAI, m.Extra))
	f["role"] = string(m.Role)
	if m.role != "" && r.Format == OpenAI {
		f["role"] = m.role
	}
	f["content"] = r.chatParts(rest)
	if len(calls) > 0 {
		f["tool_calls"] = calls
		if len(rest) == 0 {
			f["content"] = nil
		}
	}
	return append(out, f)
}

func (r *Request) chatParts(ps []Part) any {
	simple := true
	for _, p := range ps {
		if p.Kind != Text || (len(p.Extra) > 0 && r.Format == OpenAI) {
			simple = false
		}
	}
	if simple && (len(ps) <= 1 || r.Format != OpenAI) {
		return plain(ps)
	}
	var out []any
	for _, p := range ps {
		if p.Raw != nil {
			out = append(out, p.Raw)
			continue
		}
		f := fields(r.own(OpenAI, p.Extra))
		f["type"], f["text"] = "text", p.Text
		out = append(out, f)
	}
	return out
}

// plain is the text of parts, paragraphs apart.
func plain(ps []Part) string {
	var texts []string
	for _, p := range ps {
		if p.Kind == Text && p.Text != "" {
			texts = append(texts, p.Text)
		}
	}
	return strings.Join(texts, "\n\n")
}
