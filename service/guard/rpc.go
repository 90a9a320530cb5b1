package guard

import (
	"context"
	"net/http"

	pb "aran/api/gen/aran/guard/v1"
	"aran/api/gen/aran/guard/v1/guardv1connect"
	"aran/service/guard/detect"
)

// Internal serves the services that hold text.
func (s *Service) Internal() http.Handler {
	mux := http.NewServeMux()
	mux.Handle(guardv1connect.NewGuardServiceHandler(handler{s}, s.server.HandlerOptions()...))
	return s.server.Internal(mux)
}

type handler struct{ s *Service }

func (h handler) Scan(ctx context.Context, r *pb.ScanRequest) (*pb.ScanResponse, error) {
	results, err := h.s.Judge(ctx, Job{Texts: r.GetTexts(), Origin: origin(r.GetOrigin()), Collections: r.GetCollections(), Conversation: r.GetConversation(), Sources: r.GetSources()})
	if err != nil {
		return nil, err
	}
	out := &pb.ScanResponse{}
	for _, x := range results {
		out.Results = append(out.Results, &pb.ScanResult{Verdict: verdict(x.Verdict), Score: x.Score, Redacted: x.Redacted, Findings: findings(x.Findings), Policy: x.Policy})
	}
	return out, nil
}

func (h handler) CheckOutput(ctx context.Context, r *pb.CheckOutputRequest) (*pb.CheckOutputResponse, error) {
	c, err := h.s.CheckOutput(ctx, Answer{
		Text: r.GetText(), Final: r.GetFinal(), Before: r.GetBefore(), Canaries: r.GetCanaries(), Instructions: r.GetInstructions(), Prompts: r.GetPrompts(),
		Collections: r.GetCollections(), Conversation: r.GetConversation(), Schema: r.GetSchema(), Part: partOf(r.GetPart()),
	})
	if err != nil {
		return nil, err
	}
	return &pb.CheckOutputResponse{Verdict: verdict(c.Verdict), Release: c.Release, Hold: c.Hold, Findings: findings(c.Findings), Policy: c.Policy}, nil
}

func (h handler) Anonymize(ctx context.Context, r *pb.AnonymizeRequest) (*pb.AnonymizeResponse, error) {
	results, err := h.s.Pseudonymise(ctx, r.GetConversation(), r.GetTexts(), r.GetCollections())
	if err != nil {
		return nil, err
	}
	out := &pb.AnonymizeResponse{}
	for _, x := range results {
		out.Results = append(out.Results, &pb.AnonymizedText{Text: x.Text, Findings: findings(x.Findings)})
	}
	return out, nil
}

func (h handler) Restore(ctx context.Context, r *pb.RestoreRequest) (*pb.RestoreResponse, error) {
	release, hold, err := h.s.Restore(ctx, r.GetConversation(), r.GetText(), r.GetFinal())
	if err != nil {
		return nil, err
	}
	return &pb.RestoreResponse{Release: release, Hold: hold}, nil
}

// partOf: what is not said is text.
func partOf(p pb.AnswerPart) Part {
	switch p {
	case pb.AnswerPart_ANSWER_PART_REASONING:
		return Reasoning
	case pb.AnswerPart_ANSWER_PART_CALL:
		return Call
	default:
		return Text
	}
}

// origin: what is not said is a user's.
func origin(o pb.Origin) detect.Origin {
	switch o {
	case pb.Origin_ORIGIN_DOCUMENT:
		return detect.Document
	case pb.Origin_ORIGIN_TOOL:
		return detect.Tool
	case pb.Origin_ORIGIN_OUTPUT:
		return detect.Output
	default:
		return detect.User
	}
}

func verdict(v string) pb.Verdict {
	return map[string]pb.Verdict{Allow: pb.Verdict_VERDICT_ALLOW, Flag: pb.Verdict_VERDICT_FLAG, Redact: pb.Verdict_VERDICT_REDACT, Block: pb.Verdict_VERDICT_BLOCK}[v]
}

func findings(fs []detect.Finding) (out []*pb.Finding) {
	for _, f := range fs {
		out = append(out, &pb.Finding{Kind: f.Kind, Rule: f.Rule, Score: f.Score, Start: int32(f.Start), End: int32(f.End), Why: explain(f)}) //nolint:gosec // texts are at most a million bytes
	}
	return out
}
