package llm

import (
	"encoding/json"
	"regexp"
	"strings"

	"aran/platform/fault"
)

// DecodeMessages reads the body of Anthropic's POST /v1/messages (API versions 2023-06-01 and 2026-10-21).
// Fields that are not in Request stay in Extra. Errors are fault.Invalid and name the field.
func DecodeMessages(body []byte) (Request, error) { return decodeMessages(body, 1) }

// DecodeCount reads the body of Anthropic's POST /v1/messages/count_tokens: the same without max_tokens.
func DecodeCount(body []byte) (Request, error) { return decodeMessages(body, 0) }

func decodeMessages(body []byte, minTokens int) (Request, error) {
	o, err := decodeObject(body)
	if err != nil {
		return Request{}, err
	}
	d := &decoder{}
	r := Request{Format: Anthropic, Model: d.text(o, "", "model")}
	if r.Model == "" {
		d.fail("model", "is missing; GET /v1/models lists what there is")
	}
	if n := d.count(o, "", "max_tokens", 1, 10_000_000); n != nil {
		r.MaxTokens = *n
	} else if minTokens > 0 {
		d.fail("max_tokens", "is missing")
	}
	r.System = d.blocks("system", o.take("system"))
	list := d.list("messages", orEmpty(o.take("messages")), maxMessages)
	if d.err == nil && len(list) == 0 {
		d.fail("messages", "at least one message is needed")
	}
	for i, raw := range list {
		path := at("messages", i)
		mo := d.object(path, raw)
		m := Message{Role: Role(d.text(mo, path, "role"))}
		if m.Role != User && m.Role != Assistant && m.Role != System {
			d.fail(join(path, "role"), `must be "user", "assistant" or "system"`)
		}
		m.Parts = d.blocks(join(path, "content"), mo.take("content"))
		m.Extra = mo.rest()
		r.Messages = append(r.Messages, m)
		if d.err != nil {
			return Request{}, d.err
		}
	}
	d.messageTools(&r, o)
	r.Temperature = d.number(o, "temperature", 1)
	r.TopP = d.number(o, "top_p", 1)
	r.Stop = d.stops(o, "stop_sequences")
	if s := scalar[bool](d, o, "", "stream", "true or false"); s != nil {
		r.Stream = *s
	}
	r.Extra = o.rest()
	if d.err != nil {
		return Request{}, d.err
	}
	return r, nil
}

// blocks reads content: a string, or an array of content blocks.
func (d *decoder) blocks(path string, raw json.RawMessage) []Part {
	if raw == nil {
		return nil
	}
	var s string
	if json.Unmarshal(raw, &s) == nil {
		return []Part{{Kind: Text, Text: s}}
	}
	var parts []Part
	for i, b := range d.list(path, raw, maxParts) {
		parts = append(parts, d.block(at(path, i), b))
	}
	return parts
}

func (d *decoder) block(path string, raw json.RawMessage) Part {
	o := d.object(path, raw)
	switch kind := d.text(o, path, "type"); kind {
	case "text":
		return Part{Kind: Text, Text: d.text(o, path, "text"), Extra: o.rest()}
	case "tool_use":
		p := Part{Kind: Call, ID: d.text(o, path, "id"), Name: d.text(o, path, "name"), Text: string(o.take("input"))}
		p.Extra = o.rest()
		return p
	case "tool_result":
		p := Part{Kind: Result, ID: d.text(o, path, "tool_use_id"), Parts: d.blocks(join(path, "content"), o.take("content"))}
		p.Extra = o.rest()
		return p
	case "thinking", "redacted_thinking":
		return Part{Kind: Private, Name: kind, Raw: raw}
	default:
		return Part{Kind: Opaque, Name: kind, Raw: raw}
	}
}

func (d *decoder) messageTools(r *Request, o object) {
	if raw := o.take("tools"); raw != nil {
		for i, t := range d.list("tools", raw, maxTools) {
			path := at("tools", i)
			to := d.object(path, t)
			if kind := d.text(to, path, "type"); kind != "" && kind != "custom" {
				r.Tools = append(r.Tools, ToolSpec{Opaque: kind, Raw: t})
				continue
			}
			r.Tools = append(r.Tools, ToolSpec{
				Name: d.text(to, path, "name"), Description: d.text(to, path, "description"),
				Schema: to.take("input_schema"), Extra: to.rest(),
			})
		}
	}
	if raw := o.take("tool_choice"); raw != nil {
		c := d.object("tool_choice", raw)
		r.ToolChoice = &ToolChoice{Mode: d.text(c, "tool_choice", "type"), Name: d.text(c, "tool_choice", "name"), Raw: raw}
		if r.ToolChoice.Mode == "any" {
			r.ToolChoice.Mode = "required"
		}
	}
}

// AnthropicVersion is the API version that requests of ours are written for.
const AnthropicVersion = "2026-10-21"

// anthropicBearer is the first API version whose documentation sends keys as bearer tokens.
const anthropicBearer = "2026-10-21"

// AnthropicHeaders picks the client's headers that change what a request's fields mean. Others, and values
// of another form, are left out.
func AnthropicHeaders(get func(name string) string) map[string]string {
	h := map[string]string{}
	if v := get("anthropic-version"); versionForm.MatchString(v) {
		h["anthropic-version"] = v
	}
	if v := get("anthropic-beta"); betaForm.MatchString(v) {
		h["anthropic-beta"] = v
	}
	return h
}

var (
	versionForm = regexp.MustCompile(`^[0-9]{4}-[0-9]{2}-[0-9]{2}$`)
	betaForm    = regexp.MustCompile(`^[a-z0-9][a-z0-9.,\- ]{0,500}$`)
)

// encodeMessages writes the body for Anthropic's Messages API; always a streaming one. maxTokens stands for
// a limit that the client did not give: this API wants one.
func encodeMessages(r *Request, maxTokens int) ([]byte, error) {
	same := r.Format == Anthropic
	if err := r.fits(Anthropic); err != nil {
		return nil, err
	}
	m := fields(r.own(Anthropic, r.Extra))
	m["model"], m["stream"], m["max_tokens"] = r.Model, true, maxTokens
	if r.MaxTokens > 0 {
		m["max_tokens"] = r.MaxTokens
	}
	if same { // from other formats they are left out: since 2026-10-21 they are an error
		put(m, "temperature", r.Temperature)
		put(m, "top_p", r.TopP)
	}
	if stops := nonBlank(r.Stop); len(stops) > 0 {
		m["stop_sequences"] = stops
	}
	system, messages := r.anthropicMessages()
	if len(system) > 0 {
		m["system"] = system
	}
	m["messages"] = messages
	if len(r.Tools) > 0 {
		m["tools"] = r.anthropicTools()
	}
	if c := r.ToolChoice; c != nil {
		switch {
		case same:
			m["tool_choice"] = c.Raw
		case c.Mode == "tool":
			m["tool_choice"] = map[string]string{"type": "tool", "name": c.Name}
		case c.Mode == "required":
			m["tool_choice"] = map[string]string{"type": "any"}
		case c.Mode == "auto", c.Mode == "none":
			m["tool_choice"] = map[string]string{"type": c.Mode}
		}
	}
	return encode(m)
}

// nonBlank leaves out stop sequences of white space only, which this API refuses.
func nonBlank(stops []string) []string {
	var out []string
	for _, s := range stops {
		if strings.TrimSpace(s) != "" {
			out = append(out, s)
		}
	}
	return out
}

func (r *Request) anthropicTools() []any {
	var tools []any
	for _, t := range r.Tools {
		if t.Opaque != "" {
			tools = append(tools, t.Raw)
			continue
		}
		f := fields(r.own(Anthropic, t.Extra))
		f["name"] = t.Name
		if t.Description != "" {
			f["description"] = t.Description
		}
		f["input_schema"] = t.Schema
		if t.Schema == nil {
			f["input_schema"] = map[string]string{"type": "object"}
		}
		tools = append(tools, f)
	}
	return tools
}

type anthropicMessage struct {
	fields map[string]any
	role   Role
	blocks []any
}

// anthropicMessages gives the system blocks and the turns. Of requests in other formats, system messages
// move to the system text, and neighbours of one role become one turn.
func (r *Request) anthropicMessages() (system []any, messages []any) {
	same := r.Format == Anthropic
	system = r.anthropicBlocks(r.System)
	var turns []anthropicMessage
	for i := range r.Messages {
		m := &r.Messages[i]
		if m.Role == System && !same {
			system = append(system, r.anthropicBlocks(m.Parts)...)
			continue
		}
		blocks := r.anthropicBlocks(m.Parts)
		role := m.Role
		if role == Tool {
			role = User
		}
		if n := len(turns); !same && n > 0 && turns[n-1].role == role {
			turns[n-1].blocks = append(turns[n-1].blocks, blocks...)
			continue
		}
		turns = append(turns, anthropicMessage{fields: fields(r.own(Anthropic, m.Extra)), role: role, blocks: blocks})
	}
	if r.Instructions != "" {
		system = append(system, textBlock(r.Instructions))
	}
	for _, t := range turns {
		if len(t.blocks) == 0 && !same {
			continue
		}
		t.fields["role"], t.fields["content"] = t.role, t.blocks
		if t.blocks == nil {
			t.fields["content"] = ""
		}
		messages = append(messages, t.fields)
	}
	return system, messages
}

func textBlock(s string) map[string]any { return map[string]any{"type": "text", "text": s} }

func (r *Request) anthropicBlocks(ps []Part) []any {
	var out []any
	for _, p := range ps {
		f := fields(r.own(Anthropic, p.Extra))
		switch p.Kind {
		case Text:
			if p.Text == "" && r.Format != Anthropic {
				continue // refused there, common elsewhere
			}
			f["type"], f["text"] = "text", p.Text
		case Call:
			f["type"], f["id"], f["name"] = "tool_use", p.ID, p.Name
			f["input"] = argumentsOf(p.Text)
		case Result:
			f["type"], f["tool_use_id"] = "tool_result", p.ID
			if blocks := r.anthropicBlocks(p.Parts); blocks != nil {
				f["content"] = blocks
			}
		default:
			if r.Format == Anthropic {
				out = append(out, p.Raw)
			}
			continue
		}
		out = append(out, f)
	}
	return out
}

// argumentsOf gives a tool call's arguments as the object that this API wants.
func argumentsOf(text string) any {
	var o map[string]json.RawMessage
	if json.Unmarshal([]byte(text), &o) != nil || o == nil {
		if strings.TrimSpace(text) == "" {
			return map[string]any{}
		}
		return map[string]any{"arguments": text} // a model wrote no object: its words are kept
	}
	return json.RawMessage(text)
}

// unsupportedAnswer is for a provider that answers in a way we do not know.
func unsupportedAnswer(provider, what string) error {
	return fault.New(fault.Unavailable, "provider_answer", "The model provider %q answered in a way that is not understood.", provider).
		Because(fault.New(fault.Internal, "", "%s", what))
}
