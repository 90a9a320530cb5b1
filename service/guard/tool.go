package guard

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"reflect"
	"regexp"
	"slices"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	pb "aran/api/gen/aran/guard/v1"
	"aran/platform/auth"
	"aran/platform/fault"
	"aran/platform/rpc"
	"aran/platform/store"
	"aran/service/guard/detect"
	"aran/service/guard/policy"
	"aran/service/guard/taint"
)

// ToolCall is what a model wants to do, and in which conversation.
type ToolCall struct {
	Tool, Arguments, Conversation string
	Collections                   []string
}

// ToolResult is the verdict on a call.
type ToolResult struct {
	Outcome  taint.Outcome
	Level    taint.Level
	Findings []detect.Finding
	Policy   string
}

// toolsOf is what a policy says about tools. Where it says nothing about what comes after untrusted text, tools that only read go
// on, and the rest is asked about.
func toolsOf(t policy.Tools) taint.Policies {
	out := taint.FromLists(taint.Lists(t.Always), taint.Lists(t.AfterUntrusted))
	if reflect.ValueOf(t.AfterUntrusted).IsZero() {
		out[1] = taint.Default()
		out[1].Rules = append(out[1].Rules, taint.Rule{Tools: []string{"*"}, UpTo: taint.Document, Beyond: taint.Ask})
	}
	return out
}

// read notes that a conversation has read texts, and what was found in them. It is kept before anybody is told the verdicts.
func (s *Service) read(ctx context.Context, job Job, book *rulebook, results []Result) error {
	if job.Conversation == "" || job.Origin == detect.Output {
		return nil
	}
	if n := len(job.Sources); n > 1 && n != len(job.Texts) {
		return fault.New(fault.Invalid, "invalid", "There are %d sources for %d texts; give one for each, one for all, or none.", n, len(job.Texts))
	}
	// A remark on what a user wrote is no reason to take their own addresses for somebody else's; on what others wrote it is.
	bar := thresholdOf(book.policy, job.Origin)
	least := bar.Flag
	if job.Origin == detect.User {
		least = bar.Block
	}
	reads := make([]taint.Read, len(job.Texts))
	for i, text := range job.Texts {
		reads[i] = taint.Read{Text: text, Origin: job.Origin, Attack: results[i].Verdict != Allow && results[i].attack >= least}
		if n := len(job.Sources); n > 0 {
			reads[i].Source = job.Sources[min(i, n-1)]
		}
	}
	id := auth.From(ctx)
	return s.markTaint(ctx, talk{id.Tenant, id.Subject, job.Conversation}, toolsOf(book.policy.Tools), reads)
}

// CheckTool says whether a model may use a tool now, after what its conversation has read. A refusal is recorded before it returns.
func (s *Service) CheckTool(ctx context.Context, c ToolCall) (ToolResult, error) {
	id := auth.From(ctx)
	book, err := s.policies.book(ctx, id.Tenant, c.Collections)
	if err != nil {
		return ToolResult{}, err
	}
	t := talk{id.Tenant, id.Subject, c.Conversation}
	state, _, err := s.taintOf(ctx, t)
	if err != nil {
		return ToolResult{}, err
	}
	d := toolsOf(book.policy.Tools).Decide(state, t.key(), taint.Call{Tool: c.Tool, Arguments: c.Arguments})
	out := ToolResult{Outcome: d.Outcome, Level: d.Level, Policy: book.name}
	for _, r := range d.Reasons {
		out.add(r.Outcome, detect.Finding{Kind: r.Kind, Rule: r.Rule, Score: 1, Why: r.Why})
	}
	s.judgeArguments(ctx, &out, c.Arguments, book.policy)
	return out, s.recordTool(ctx, c, state, out)
}

// judgeArguments looks at what a call would carry: orders for whoever reads it next, and secrets.
func (s *Service) judgeArguments(ctx context.Context, out *ToolResult, arguments string, p policy.Policy) {
	tainted := out.Level >= taint.Untrusted
	weight := func(beyond taint.Outcome) taint.Outcome {
		if tainted {
			return beyond
		}
		return taint.Flag
	}
	if seen := s.attack(ctx, arguments, detect.Tool, p); seen.score >= thresholdOf(p, detect.Tool).Block {
		for _, f := range seen.findings {
			out.add(weight(taint.Ask), f)
		}
	}
	for _, f := range s.private(arguments, p) {
		if f.Kind == "secret" {
			out.add(weight(taint.Deny), f)
		}
	}
}

func (r *ToolResult) add(o taint.Outcome, f detect.Finding) {
	order := []taint.Outcome{taint.Allow, taint.Flag, taint.Ask, taint.Deny}
	if slices.Index(order, o) > slices.Index(order, r.Outcome) {
		r.Outcome = o
	}
	r.Findings = append(r.Findings, f)
}

// verdict of a call: a call that a person has to be asked about may not be made without.
func (r *ToolResult) verdict() string {
	return map[taint.Outcome]string{taint.Allow: Allow, taint.Flag: Flag, taint.Ask: Block, taint.Deny: Block}[r.Outcome]
}

// toolName is what a tool may be called in an event; anything else was made up by the model.
var toolName = regexp.MustCompile(`^[A-Za-z0-9_.:/-]{1,128}$`)

// recordTool counts a call, and keeps a refusal as an event.
func (s *Service) recordTool(ctx context.Context, c ToolCall, state taint.State, r ToolResult) error {
	const where = "tool_call"
	s.verdicts.Add(ctx, 1, metric.WithAttributes(attribute.String("origin", where), attribute.String("verdict", r.verdict())))
	if r.verdict() != Block {
		return nil
	}
	conversation, arguments := sha256.Sum256([]byte(c.Conversation)), sha256.Sum256([]byte(c.Arguments))
	data := ToolEvent{
		RequestID: rpc.RequestID(ctx), Conversation: hex.EncodeToString(conversation[:]), Outcome: string(r.Outcome), Level: r.Level.String(),
		Kinds: []string{}, Rules: []string{}, Sources: append([]taint.Source{}, state.Sources...), ArgumentsDigest: hex.EncodeToString(arguments[:]), Policy: r.Policy,
	}
	if toolName.MatchString(c.Tool) {
		data.Tool = c.Tool
	}
	for _, f := range r.Findings {
		if !slices.Contains(data.Kinds, f.Kind) {
			data.Kinds = append(data.Kinds, f.Kind)
		}
		if !slices.Contains(data.Rules, f.Rule) {
			data.Rules = append(data.Rules, f.Rule)
		}
	}
	id := auth.From(ctx)
	return s.keepRefusal(ctx, where, store.Event{Type: TypeToolRefused, Tenant: id.Tenant, Actor: id.Subject, Subject: data.ArgumentsDigest, Data: data})
}

// CheckTool answers other services. A call that a person must be asked about is BLOCK with a finding of kind tool.ask.
func (h handler) CheckTool(ctx context.Context, r *pb.CheckToolRequest) (*pb.CheckToolResponse, error) {
	res, err := h.s.CheckTool(ctx, ToolCall{r.GetTool(), r.GetArguments(), r.GetConversation(), r.GetCollections()})
	if err != nil {
		return nil, err
	}
	found := res.Findings
	if res.Outcome == taint.Ask {
		found = append(found, detect.Finding{Kind: kindAsk, Rule: string(taint.Ask), Score: 1, Why: "A person who has seen the arguments may allow this call."})
	}
	return &pb.CheckToolResponse{Verdict: verdict(res.verdict()), Findings: findings(found), Policy: res.Policy}, nil
}

const kindAsk = "tool.ask"

type toolIn struct {
	Body struct {
		Conversation string          `json:"conversation" minLength:"1" maxLength:"100" doc:"the one whose texts were scanned with this name"`
		Tool         string          `json:"tool" minLength:"1" maxLength:"200"`
		Arguments    json.RawMessage `json:"arguments,omitempty" doc:"as the model gave them: an object, or a string that holds one"`
		Collections  []string        `json:"collections,omitempty" maxItems:"64" doc:"the strictest of their policies holds"`
	}
}

type toolOut struct {
	Body struct {
		Verdict  string        `json:"verdict" enum:"allow,flag,ask,block" doc:"ask: not without a person who has seen the arguments"`
		Level    string        `json:"level" enum:"clean,user,document,untrusted,flagged" doc:"what the conversation has read"`
		Findings []findingBody `json:"findings"`
		Why      string        `json:"why,omitempty" doc:"one sentence"`
		Policy   string        `json:"policy"`
	}
}

func (s *Service) postTool(ctx context.Context, in *toolIn) (*toolOut, error) {
	arguments := string(in.Body.Arguments)
	var text string
	if json.Unmarshal(in.Body.Arguments, &text) == nil {
		arguments = text
	}
	m := &pb.CheckToolRequest{Tool: in.Body.Tool, Arguments: arguments, Conversation: in.Body.Conversation, Collections: in.Body.Collections}
	if err := rpc.Validate(m); err != nil {
		return nil, err
	}
	r, err := s.CheckTool(ctx, ToolCall{m.GetTool(), m.GetArguments(), m.GetConversation(), m.GetCollections()})
	if err != nil {
		return nil, err
	}
	out := &toolOut{}
	out.Body.Verdict, out.Body.Level, out.Body.Policy, out.Body.Findings = r.verdict(), r.Level.String(), r.Policy, []findingBody{}
	if r.Outcome == taint.Ask {
		out.Body.Verdict = string(taint.Ask)
	}
	for _, f := range r.Findings {
		if out.Body.Why == "" {
			out.Body.Why = f.Why
		}
		out.Body.Findings = append(out.Body.Findings, findingBody{f.Kind, f.Rule, f.Score, f.Start, f.End, f.Why})
	}
	return out, nil
}
