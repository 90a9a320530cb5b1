package infer

import (
	"context"
	"net/http"

	"connectrpc.com/connect"

	inferv1 "aran/api/gen/aran/infer/v1"
	"aran/api/gen/aran/infer/v1/inferv1connect"
)

// Internal is the handler of aran.infer.v1.
func (s *Service) Internal() http.Handler {
	mux := http.NewServeMux()
	mux.Handle(inferv1connect.NewInferServiceHandler(handler{s}, s.d.Server.HandlerOptions()...))
	return s.d.Server.Internal(mux)
}

// handler translates; requests were checked against their rules before.
type handler struct{ s *Service }

func (h handler) Embed(ctx context.Context, r *inferv1.EmbedRequest) (*inferv1.EmbedResponse, error) {
	e, err := h.s.Embed(ctx, EmbedCall{Model: r.GetModel(), Digest: r.GetDigest(), Texts: r.GetTexts(), Query: r.GetInputType() == inferv1.InputType_INPUT_TYPE_QUERY})
	if err != nil {
		return nil, err
	}
	out := &inferv1.EmbedResponse{Model: e.Model, Version: e.Version, Digest: e.Digest, Dim: int32(e.Dim), Vectors: make([]*inferv1.Vector, len(e.Vectors))} //nolint:gosec // hundreds
	for i, v := range e.Vectors {
		out.Vectors[i] = &inferv1.Vector{Values: v.Vector, Tokens: int32(v.Tokens), Truncated: v.Truncated} //nolint:gosec // hundreds
	}
	return out, nil
}

func (h handler) Rerank(ctx context.Context, r *inferv1.RerankRequest) (*inferv1.RerankResponse, error) {
	out, err := h.s.Rerank(ctx, r.GetModel(), r.GetQuery(), r.GetDocuments())
	if err != nil {
		return nil, err
	}
	return &inferv1.RerankResponse{Scores: out.Scores, Model: out.Model, Digest: out.Digest, EncoderDigest: out.Encoder}, nil
}

func (h handler) Classify(ctx context.Context, r *inferv1.ClassifyRequest) (*inferv1.ClassifyResponse, error) {
	c, err := h.s.Classify(ctx, r.GetModel(), r.GetTexts())
	if err != nil {
		return nil, err
	}
	out := &inferv1.ClassifyResponse{Model: c.Model, Digest: c.Digest, EncoderDigest: c.Encoder, Results: make([]*inferv1.Classification, len(c.Texts))}
	for i, t := range c.Texts {
		one := &inferv1.Classification{Truncated: t.Truncated}
		for _, l := range t.Labels {
			one.Labels = append(one.Labels, &inferv1.Label{Name: l.Name, Score: l.Score})
		}
		out.Results[i] = one
	}
	return out, nil
}

func (h handler) Generate(ctx context.Context, r *inferv1.GenerateRequest, out *connect.ServerStream[inferv1.GenerateResponse]) error {
	p := Prompt{Model: r.GetModel(), MaxTokens: int(r.GetMaxTokens()), Temperature: r.Temperature, TopP: r.TopP, Stop: r.GetStop(), Seed: r.Seed}
	for _, m := range r.GetMessages() {
		p.Messages = append(p.Messages, Message{Role: m.GetRole(), Content: m.GetContent()})
	}
	f, err := h.s.Generate(ctx, p, func(text string) error { return out.Send(&inferv1.GenerateResponse{Text: text}) })
	if err != nil {
		return err
	}
	return out.Send(&inferv1.GenerateResponse{
		FinishReason: f.Reason, PromptTokens: int32(f.Prompt), CompletionTokens: int32(f.Completion), Version: f.Version, Digest: f.Digest, //nolint:gosec // thousands
	})
}

func (h handler) ListModels(ctx context.Context, _ *inferv1.ListModelsRequest) (*inferv1.ListModelsResponse, error) {
	list, err := h.s.Models(ctx)
	if err != nil {
		return nil, err
	}
	out := &inferv1.ListModelsResponse{Models: make([]*inferv1.Model, len(list))}
	for i, m := range list {
		out.Models[i] = &inferv1.Model{
			Name: m.Name, Version: m.Version, Kind: m.Kind, Digest: m.Digest, Licence: m.Licence, Status: m.Status,
			Dim: int32(m.Dim), Context: int32(m.Context), Rollout: m.Phase, //nolint:gosec // bounded by the manifest
		}
		for _, v := range m.Versions {
			if v.Status == Missing && !v.Active {
				continue
			}
			out.Models[i].Versions = append(out.Models[i].Versions, &inferv1.ModelVersion{
				Version: v.Version, Digest: v.Digest, Dim: int32(v.Dim), Status: v.Status, Active: v.Active, Percent: int32(v.Percent), //nolint:gosec // bounded by the manifest
			})
		}
	}
	return out, nil
}
