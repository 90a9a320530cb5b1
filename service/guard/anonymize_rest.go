package guard

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"

	pb "aran/api/gen/aran/guard/v1"
	"aran/platform/auth"
	"aran/platform/fault"
	"aran/platform/rpc"
)

type anonymizeIn struct {
	Body struct {
		Text         *string  `json:"text,omitempty" nullable:"false" doc:"one text; or texts"`
		Texts        []string `json:"texts,omitempty" nullable:"false" maxItems:"256"`
		Conversation string   `json:"conversation,omitempty" maxLength:"100" doc:"the same value has the same pseudonym in one conversation; absent: a new one"`
	}
}

type anonymizedBody struct {
	Text     string        `json:"text" doc:"with pseudonyms in the place of personal data"`
	Findings []findingBody `json:"findings" doc:"what was replaced, the first 1,000; positions are into the text that was sent"`
	More     int           `json:"more,omitempty" doc:"of what was replaced, not listed"`
}

type anonymizeOut struct {
	Body struct {
		Text         string           `json:"text,omitempty" doc:"for text"`
		Findings     []findingBody    `json:"findings,omitempty" doc:"for text: what was replaced; positions are into the text that was sent"`
		More         int              `json:"more,omitempty" doc:"for text: of what was replaced, not listed"`
		Results      []anonymizedBody `json:"results,omitempty" doc:"for texts, in their order"`
		Conversation string           `json:"conversation" doc:"restores them"`
	}
}

type restoreIn struct {
	Body struct {
		Text         string `json:"text" doc:"what a model made of it; in a stream: what was held back, with what came since"`
		Conversation string `json:"conversation" minLength:"1" maxLength:"100"`
		Final        *bool  `json:"final,omitempty" default:"true" doc:"false: more follows, and the end in which a pseudonym may have begun is held back"`
	}
}

type restoreOut struct {
	Body struct {
		Text string `json:"text" doc:"with what was replaced put back"`
		Hold string `json:"hold,omitempty" doc:"send this again, with what comes next"`
	}
}

// anonymizeRoutes are for programs that call a model themselves.
func (s *Service) anonymizeRoutes(p *rpc.Public) {
	guard := rpc.Access{Scope: auth.ScopeGuard}
	rpc.Register(p, huma.Operation{
		OperationID: "anonymize", Method: http.MethodPost, Path: "/api/v1/guard/anonymize", Summary: "Replace personal data by pseudonyms", MaxBodyBytes: maxScanBody,
		Description: "The same value has the same pseudonym throughout a conversation, and another one in another. Only who sent it can have it restored.",
	}, guard, s.postAnonymize)
	rpc.Register(p, huma.Operation{
		OperationID: "restore", Method: http.MethodPost, Path: "/api/v1/guard/restore", Summary: "Put back what pseudonyms stand for", MaxBodyBytes: maxScanBody,
		Description: "Pseudonyms of a conversation that is not known, has expired, or belongs to somebody who was erased stay as they are.",
	}, guard, s.postRestore)
}

func (s *Service) postAnonymize(ctx context.Context, in *anonymizeIn) (*anonymizeOut, error) {
	single := in.Body.Texts == nil
	texts := in.Body.Texts
	switch {
	case single && in.Body.Text == nil:
		return nil, invalidField("text", "it is missing: send text or texts")
	case single:
		texts = []string{*in.Body.Text}
	case in.Body.Text != nil && *in.Body.Text != "":
		return nil, fault.New(fault.Invalid, "invalid", "Send text or texts, not both.")
	}
	name := in.Body.Conversation
	if name == "" {
		name = uuid.Must(uuid.NewV7()).String()
	}
	if err := rpc.Validate(&pb.AnonymizeRequest{Texts: texts, Conversation: name}); err != nil {
		return nil, err
	}
	results, err := s.Anonymize(ctx, name, texts)
	if err != nil {
		return nil, err
	}
	out := &anonymizeOut{}
	out.Body.Conversation = name
	for _, r := range results {
		shown := show(Result{Findings: r.Findings})
		b := anonymizedBody{Text: r.Text, Findings: shown.Findings, More: shown.More}
		if single {
			out.Body.Text, out.Body.Findings, out.Body.More = b.Text, b.Findings, b.More
			break
		}
		out.Body.Results = append(out.Body.Results, b)
	}
	return out, nil
}

func (s *Service) postRestore(ctx context.Context, in *restoreIn) (*restoreOut, error) {
	if err := rpc.Validate(&pb.RestoreRequest{Text: in.Body.Text, Conversation: in.Body.Conversation}); err != nil {
		return nil, err
	}
	release, hold, err := s.Restore(ctx, in.Body.Conversation, in.Body.Text, in.Body.Final == nil || *in.Body.Final)
	if err != nil {
		return nil, err
	}
	out := &restoreOut{}
	out.Body.Text, out.Body.Hold = release, hold
	return out, nil
}
