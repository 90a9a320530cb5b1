package guard

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	pb "aran/api/gen/aran/guard/v1"
	"aran/platform/auth"
	"aran/platform/fault"
	"aran/platform/rpc"
	"aran/service/guard/detect"
)

// Public serves programs that use guard without the rest.
func (s *Service) Public() *rpc.Public { return s.public }

const maxScanBody = 8 << 20

type findingBody struct {
	Kind  string  `json:"kind" example:"injection"`
	Rule  string  `json:"rule"`
	Score float64 `json:"score"`
	Start int     `json:"start" doc:"byte offset into the text"`
	End   int     `json:"end"`
	Why   string  `json:"why,omitempty" doc:"one sentence"`
}

type resultBody struct {
	Verdict  string        `json:"verdict" enum:"allow,flag,redact,block"`
	Score    float64       `json:"score"`
	Findings []findingBody `json:"findings"`
	Redacted string        `json:"redacted,omitempty" doc:"the text without what policy removes"`
}

type scanIn struct {
	Body struct {
		Text   string   `json:"text,omitempty" doc:"one text; or texts"`
		Texts  []string `json:"texts,omitempty" maxItems:"256"`
		Origin string   `json:"origin,omitempty" enum:"user,document,tool,output" default:"user" doc:"where it came from"`
	}
}

type scanOut struct {
	Body struct {
		resultBody
		Results []resultBody `json:"results,omitempty" doc:"for texts, in their order"`
	}
}

func (s *Service) routes() *rpc.Public {
	p := rpc.NewPublic(s.server, "Guard")
	rpc.Register(p, huma.Operation{OperationID: "scan", Method: http.MethodPost, Path: "/api/v1/guard/scan", Summary: "Judge text", MaxBodyBytes: maxScanBody}, rpc.Access{Scope: auth.ScopeGuard}, s.scan)
	rpc.Register(p, huma.Operation{OperationID: "checkTool", Method: http.MethodPost, Path: "/api/v1/guard/tools", Summary: "Say whether a model may use a tool now, after what its conversation has read", MaxBodyBytes: maxScanBody}, rpc.Access{Scope: auth.ScopeGuard}, s.postTool)
	s.anonymizeRoutes(p)
	return p
}

func (s *Service) scan(ctx context.Context, in *scanIn) (*scanOut, error) {
	single := in.Body.Texts == nil
	texts := in.Body.Texts
	if single {
		texts = []string{in.Body.Text}
	} else if in.Body.Text != "" {
		return nil, fault.New(fault.Invalid, "invalid", "Send text or texts, not both.")
	}
	o := map[string]pb.Origin{"": pb.Origin_ORIGIN_USER, "user": pb.Origin_ORIGIN_USER, "document": pb.Origin_ORIGIN_DOCUMENT, "tool": pb.Origin_ORIGIN_TOOL, "output": pb.Origin_ORIGIN_OUTPUT}[in.Body.Origin]
	if err := rpc.Validate(&pb.ScanRequest{Texts: texts, Origin: o}); err != nil {
		return nil, err
	}
	results, err := s.Scan(ctx, texts, origin(o))
	if err != nil {
		return nil, err
	}
	out := &scanOut{}
	if single {
		out.Body.resultBody = show(results[0])
		return out, nil
	}
	worst := Result{Verdict: Allow}
	for _, r := range results {
		out.Body.Results = append(out.Body.Results, show(r))
		if rank(r.Verdict) > rank(worst.Verdict) {
			worst.Verdict = r.Verdict
		}
		worst.Score = max(worst.Score, r.Score)
	}
	out.Body.resultBody = show(worst)
	return out, nil
}

func show(r Result) resultBody {
	b := resultBody{Verdict: r.Verdict, Score: r.Score, Findings: []findingBody{}, Redacted: r.Redacted}
	for _, f := range detect.Apart(append([]detect.Finding{}, r.Findings...)) {
		b.Findings = append(b.Findings, findingBody{f.Kind, f.Rule, f.Score, f.Start, f.End, f.Why})
	}
	return b
}
