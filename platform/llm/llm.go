// Package llm speaks to language models: one neutral request and answer, and the providers that
// understand them (Anthropic Messages, OpenAI-compatible Chat Completions; others implement Provider).
//
// It owns the wire formats, time-outs, retries and the translation of a provider's errors to faults. It
// refuses to judge content, to choose a model and to fall back to another provider: that is its caller's
// business. Everything that a provider sends is bounded and untrusted. A provider's key never leaves this
// package except in the one header that the provider reads it from.
package llm

import (
	"context"
	"encoding/json"
	"iter"
)

// Provider is a source of model answers. All methods are safe for concurrent use. Errors are faults:
// Unavailable (away, overloaded, refuses our credentials), Exhausted (rate limit, with RetryAfter),
// Invalid, Missing, TooLarge (the request itself), Unsupported (a part of the request that this provider
// cannot take), Canceled and Deadline (the caller's context).
type Provider interface {
	// Name is short, stable and from a closed set: it stands in metrics and events.
	Name() string
	// Models lists what may be asked for now, in the provider's order.
	Models(ctx context.Context) ([]Model, error)
	// Stream begins an answer. It returns when the first event is there, so that a caller can still go
	// elsewhere on an error. The answer ends when ctx does; the Stream must be closed.
	Stream(ctx context.Context, r Request) (Stream, error)
}

// Stream is an answer in pieces. It is used by one goroutine.
type Stream interface {
	// Next returns the next piece. The last one has a Finish; after it, io.EOF. Any other error means that
	// the answer is incomplete.
	Next() (Event, error)
	// Close ends the call at the provider too. It may be called at any time, more than once.
	Close() error
}

// Model is one that can be asked for.
type Model struct {
	ID      string
	Owner   string
	Created int64 // Unix seconds; 0 when unknown
	Title   string
}

// Format is the wire format that a request came in.
type Format string

// The formats. A request that was made here has none.
const (
	Neutral   Format = ""
	OpenAI    Format = "openai"
	Anthropic Format = "anthropic"
)

// Role of a message's author.
type Role string

// The roles.
const (
	System    Role = "system"
	User      Role = "user"
	Assistant Role = "assistant"
	Tool      Role = "tool"
)

// Request is what a model is asked, without the words of a vendor. What it has no word for is kept as raw
// JSON (Extra, Raw) and put back for a provider of the same Format; other providers get the rest.
type Request struct {
	Format       Format
	Model        string
	Instructions string // ours; stands after the client's system text (whose cached prefix stays good)
	System       []Part // system text outside the messages (Anthropic)
	Messages     []Message
	Tools        []ToolSpec
	ToolChoice   *ToolChoice
	Stop         []string
	Temperature  *float64
	TopP         *float64
	Seed         *int64
	MaxTokens    int               // 0: the provider's default
	Stream       bool              // what the client asked for; providers always stream
	StreamUsage  bool              // the client wants a last chunk with usage (OpenAI stream_options)
	Headers      map[string]string // vendor headers that belong to the format: anthropic-version, anthropic-beta
	Extra        map[string]json.RawMessage

	maxTokensKey string // the name under which an OpenAI client gave MaxTokens
}

// Message is one turn.
type Message struct {
	Role  Role
	Parts []Part
	Extra map[string]json.RawMessage

	role string // as it was written: developer
}

// Kind of a part.
type Kind int

// The kinds. Opaque is what this package cannot read: images, files, sound, tools that run at the provider.
// Private is what a model gave its future self (signed reasoning): it goes back to its own vendor only.
const (
	Text Kind = iota
	Call
	Result
	Private
	Opaque
)

// Part of a message.
type Part struct {
	Kind  Kind
	Text  string // of Text; the arguments (JSON) of Call
	ID    string // of Call, and in Result the call that it answers
	Name  string // of Call; the type of Opaque
	Parts []Part // of Result
	Extra map[string]json.RawMessage
	Raw   json.RawMessage // of Private and Opaque

	call bool // an Opaque that stood among the tool calls
}

// ToolSpec is a function that the model may ask its caller to run.
type ToolSpec struct {
	Name        string
	Description string
	Schema      json.RawMessage // JSON Schema of the arguments; may be empty
	Extra       map[string]json.RawMessage
	Opaque      string          // the type of a tool that this package cannot read; then only Raw counts
	Raw         json.RawMessage // of an opaque tool
}

// ToolChoice says whether the model must use a tool.
type ToolChoice struct {
	Mode string // "auto", "none", "required", "tool"; empty: only Raw knows
	Name string // of Mode "tool"
	Raw  json.RawMessage
}

// Finish says why an answer ended.
type Finish string

// The reasons.
const (
	Stop          Finish = "stop"
	Length        Finish = "length"
	ToolCalls     Finish = "tool_calls"
	ContentFilter Finish = "content_filter"
)

// Event is a piece of an answer. At most one of Text, Reasoning, Signature and Call is set.
type Event struct {
	Text         string
	Reasoning    string
	Signature    string // ends a piece of reasoning and proves it to its vendor
	Call         *CallDelta
	Finish       Finish // only the last event has one; then Usage and Model are final
	FinishRaw    string // the vendor's word
	StopSequence string
	Model        string // as the provider names what answered
	Usage        Usage
	Extra        map[string]json.RawMessage // of the last event: fields of the answer as a whole
}

// CallDelta is a piece of a tool call. ID and Name come with the first piece of an Index.
type CallDelta struct {
	Index     int
	ID        string
	Name      string
	Arguments string // a fragment of JSON text
}

// Usage counts tokens.
type Usage struct {
	Input  int // all of the prompt, cached or not
	Output int
	Format Format // of Raw
	Raw    json.RawMessage
}

// Texts goes over every text that the model will read as content, with the role of its message (Tool for a
// tool's result, wherever it stands) and the message's index. The pointers may be written through. System
// texts outside the messages are not among them.
func (r *Request) Texts() iter.Seq2[Place, *string] {
	return func(yield func(Place, *string) bool) {
		for i := range r.Messages {
			m := &r.Messages[i]
			for j := range m.Parts {
				if !texts(&m.Parts[j], Place{Message: i, Role: m.Role}, yield) {
					return
				}
			}
		}
	}
}

// Place is where a text stands.
type Place struct {
	Message int
	Role    Role
}

func texts(p *Part, at Place, yield func(Place, *string) bool) bool {
	switch p.Kind {
	case Text:
		return yield(at, &p.Text)
	case Result:
		at.Role = Tool
		for i := range p.Parts {
			if !texts(&p.Parts[i], at, yield) {
				return false
			}
		}
	default:
	}
	return true
}

// Unread names the parts, tools and fields whose content this package cannot show to a scanner.
func (r *Request) Unread() []string {
	var names []string
	var walk func(ps []Part)
	walk = func(ps []Part) {
		for _, p := range ps {
			if p.Kind == Opaque {
				names = append(names, p.Name)
			}
			walk(p.Parts)
		}
	}
	walk(r.System)
	for _, m := range r.Messages {
		walk(m.Parts)
	}
	for _, t := range r.Tools {
		if t.Opaque != "" {
			names = append(names, t.Opaque)
		}
	}
	// Tools and content under names of their own: they run at the provider, or bring text of their own.
	for _, key := range [...]string{"audio", "container", "function_call", "functions", "mcp_servers", "prediction", "web_search_options"} {
		if v, there := r.Extra[key]; there && string(v) != "null" {
			names = append(names, key)
		}
	}
	return names
}

// Clone copies a request so deep that texts and messages of the copy can be changed.
func (r *Request) Clone() Request {
	c := *r
	c.System = cloneParts(r.System)
	c.Messages = make([]Message, len(r.Messages))
	for i, m := range r.Messages {
		m.Parts = cloneParts(m.Parts)
		c.Messages[i] = m
	}
	return c
}

func cloneParts(ps []Part) []Part {
	if ps == nil {
		return nil
	}
	out := make([]Part, len(ps))
	for i, p := range ps {
		p.Parts = cloneParts(p.Parts)
		out[i] = p
	}
	return out
}
