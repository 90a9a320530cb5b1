package chat

import "github.com/danielgtaylor/huma/v2"

// The vendors' formats are documented by the vendors; here stands what is needed to call, and what is ours.

func text(about string) *huma.Schema {
	return &huma.Schema{Type: huma.TypeString, Description: about}
}

func list(of *huma.Schema, about string) *huma.Schema {
	return &huma.Schema{Type: huma.TypeArray, Items: of, Description: about}
}

// record is an object; further fields are the vendor's.
func record(about string, fields map[string]*huma.Schema, required ...string) *huma.Schema {
	return &huma.Schema{Type: huma.TypeObject, Description: about, Properties: fields, Required: required, AdditionalProperties: true}
}

// closed is an object of ours.
func closed(about string, fields map[string]*huma.Schema) *huma.Schema {
	return &huma.Schema{Type: huma.TypeObject, Description: about, Properties: fields, AdditionalProperties: false}
}

// takes is the body of an operation, by its id; nil when it has none.
func takes(id string) *huma.RequestBody {
	body := map[string]*huma.Schema{"model": text("a name from GET /v1/models; `default` always exists")}
	switch id {
	case "create-embeddings":
		body["input"] = &huma.Schema{Description: "a text, or up to 2048 of them", OneOf: []*huma.Schema{text(""), list(text(""), "")}}
		return content(record("OpenAI's Embeddings API.", body, "model", "input"))
	case "create-chat-completion", "create-message", "count-tokens":
		body["messages"] = list(record("", map[string]*huma.Schema{"role": text("user, assistant, …"), "content": {Description: "a text, or parts in the vendor's format"}}, "role", "content"), "the conversation")
		body["max_tokens"] = &huma.Schema{Type: huma.TypeInteger, Description: "tokens of the answer at most; Anthropic's format needs it"}
		body["stream"] = &huma.Schema{Type: huma.TypeBoolean, Description: "server-sent events, as the model writes"}
		body["aran"] = closed("Our extension of the request.", map[string]*huma.Schema{"collections": list(text(""), "collections to answer from; the answer cites their passages")})
		required := []string{"model", "messages"}
		if id == "create-message" {
			required = append(required, "max_tokens")
		}
		return content(record("The vendor's format; fields that are not listed here are passed on.", body, required...))
	}
	return nil
}

func content(s *huma.Schema) *huma.RequestBody {
	return &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{"application/json": {Schema: s}}}
}

// gives is the answer of an operation, by its id.
func gives(id string) map[string]*huma.Response {
	good := &huma.Response{Description: "The vendor's format."}
	if id == "create-chat-completion" || id == "create-message" {
		number := &huma.Schema{Type: huma.TypeInteger}
		score := &huma.Schema{Type: huma.TypeNumber}
		extension := closed("Our extension of the answer; when streaming it stands in the last event.", map[string]*huma.Schema{
			"request_id": text("as in the header Aran-Request-Id"),
			"rung":       {Type: huma.TypeString, Description: "who answered", Enum: []any{Primary, Alternate, Local, Cached, Extractive, Apology}},
			"model":      text("the model that answered"),
			"cached":     {Type: huma.TypeBoolean},
			"citations": list(closed("a passage that the answer rests on", map[string]*huma.Schema{
				"number": number, "document": text(""), "chunk": text(""), "title": text(""), "start": number, "end": number, "score": score,
				"span":  closed("the sentence that answers best", map[string]*huma.Schema{"start": number, "end": number}),
				"trust": text("how far the document is trusted: outside, flagged or builtin"), "source": text("where the document comes from"),
			}), "start and end, those of span too, are bytes of the document's text"),
			"guard": closed("", map[string]*huma.Schema{
				"verdict":  {Type: huma.TypeString, Enum: []any{"allow", "flag", "redact", "block"}},
				"findings": list(closed("", map[string]*huma.Schema{"kind": text(""), "score": score, "where": text("")}), ""),
			}),
			"audit": text("id of the entry in the audit log"),
		})
		s := record("The vendor's format.", map[string]*huma.Schema{"aran": extension})
		good.Content = map[string]*huma.MediaType{"application/json": {Schema: s}, "text/event-stream": {Schema: text("events in the vendor's format")}}
	}
	return map[string]*huma.Response{"200": good, "default": {Description: "An error in the vendor's format; a block by policy is 400 with `aran.guard`."}}
}
