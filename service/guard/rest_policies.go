package guard

import (
	"context"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"aran/platform/auth"
	"aran/platform/fault"
	"aran/platform/rpc"
	"aran/service/guard/policy"
)

const (
	policiesPath = "/api/v1/guard/policies"
	policyPath   = policiesPath + "/{name}"
)

type headBody struct {
	Name     string    `json:"name"`
	Active   int64     `json:"active" doc:"version that holds; 0: none"`
	Trial    int64     `json:"dry_run" doc:"version that is evaluated beside it; 0: none"`
	Latest   int64     `json:"latest" doc:"newest version"`
	Revision int64     `json:"revision" doc:"counts changes; also the ETag"`
	Changed  time.Time `json:"changed_at"`
	By       string    `json:"changed_by"`
}

type versionBody struct {
	Version     int64         `json:"version"`
	Policy      policy.Policy `json:"policy"`
	Collections []string      `json:"collections" doc:"whose texts it holds for; the policy default holds for all"`
	Digest      string        `json:"digest,omitempty" doc:"SHA-256 of the document and its collections, hex"`
	Note        string        `json:"note,omitempty"`
	Made        time.Time     `json:"made_at"`
	By          string        `json:"made_by"`
}

type policyBody struct {
	headBody
	versionBody
	Effective policy.Policy `json:"effective" doc:"what the version makes of the operator's policy and floor, for its collections"`
}

func showHead(h Head) headBody {
	return headBody{h.Policy, h.Active, h.Trial, h.Latest, h.Revision, h.Changed, h.By}
}

func showVersion(v Version) versionBody {
	if v.Collections == nil {
		v.Collections = []string{}
	}
	return versionBody{v.Version, v.Document, v.Collections, v.Digest, v.Note, v.Made, v.By}
}

func etag(h Head) string { return `"` + strconv.FormatInt(h.Revision, 10) + `"` }

// revision reads If-Match and If-None-Match: -1 is whichever.
func revision(match, none string) (int64, error) {
	if none != "" {
		if strings.TrimSpace(none) != "*" {
			return 0, fault.New(fault.Invalid, "invalid", "If-None-Match takes * here: store it only when there is none yet.")
		}
		return 0, nil
	}
	if match == "" || strings.TrimSpace(match) == "*" {
		return -1, nil
	}
	n, err := strconv.ParseInt(strings.Trim(strings.TrimPrefix(strings.TrimSpace(match), "W/"), `"`), 10, 64)
	if err != nil || n < 0 {
		return 0, fault.New(fault.Invalid, "invalid", "If-Match %.40q is no ETag of a policy.", match)
	}
	return n, nil
}

func (s *Service) policyRoutes(p *rpc.Public) {
	read, manage := rpc.Access{Scope: auth.ScopeGuard}, rpc.Access{Scope: auth.ScopeGuardManage}
	rpc.Register(p, huma.Operation{OperationID: "listGuardPolicies", Method: http.MethodGet, Path: policiesPath, Summary: "List your tenant's policies, with the operator's"}, read, s.getPolicies)
	rpc.Register(p, huma.Operation{OperationID: "getGuardPolicy", Method: http.MethodGet, Path: policyPath, Summary: "Show a policy and what it makes of the operator's"}, read, s.getPolicy)
	rpc.Register(p, huma.Operation{OperationID: "putGuardPolicy", Method: http.MethodPut, Path: policyPath, Summary: "Store a version of a policy, and put it to use"}, manage, s.putPolicy)
	rpc.Register(p, huma.Operation{OperationID: "listGuardPolicyVersions", Method: http.MethodGet, Path: policyPath + "/versions", Summary: "List a policy's versions, newest first"}, read, s.getVersions)
	rpc.Register(p, huma.Operation{OperationID: "activateGuardPolicy", Method: http.MethodPost, Path: policyPath + "/activate", Summary: "Put a stored version to use, also an older one; version 0 ends the use"}, manage, s.postActivate)
	rpc.Register(p, huma.Operation{OperationID: "getGuardDryRun", Method: http.MethodGet, Path: policyPath + "/dry-run", Summary: "What the version on dry run would have done differently"}, read, s.getDryRun)
	rpc.Register(p, huma.Operation{OperationID: "previewGuardPolicy", Method: http.MethodPost, Path: policyPath + "/preview", Summary: "What a draft would have done differently; nothing is stored"}, manage, s.postPreview)
}

type policiesOut struct {
	Body struct {
		Policies []headBody    `json:"policies"`
		Operator policy.Policy `json:"operator" doc:"what holds where a policy says nothing"`
		Floor    policy.Policy `json:"floor" doc:"what no policy may loosen"`
	}
}

func (s *Service) getPolicies(ctx context.Context, _ *struct{}) (*policiesOut, error) {
	list, err := s.Heads(ctx)
	if err != nil {
		return nil, err
	}
	out := &policiesOut{}
	out.Body.Policies, out.Body.Operator, out.Body.Floor = []headBody{}, s.cfg.Policy, s.cfg.Floor
	for _, h := range list {
		out.Body.Policies = append(out.Body.Policies, showHead(h))
	}
	return out, nil
}

type policyOut struct {
	ETag string `header:"ETag"`
	Body policyBody
}

type getPolicyIn struct {
	Name    string `path:"name" maxLength:"63" doc:"default: the tenant's own"`
	Version int64  `query:"version" minimum:"0" doc:"the active one unless said otherwise"`
}

func (s *Service) getPolicy(ctx context.Context, in *getPolicyIn) (*policyOut, error) {
	h, v, effective, err := s.Policy(ctx, in.Name, in.Version)
	if err != nil {
		return nil, err
	}
	return &policyOut{etag(h), policyBody{showHead(h), showVersion(v), effective}}, nil
}

type putPolicyIn struct {
	Name  string `path:"name" maxLength:"63" doc:"default: the tenant's own"`
	Match string `header:"If-Match" maxLength:"64" doc:"the ETag that you read: refuse if it was changed meanwhile"`
	None  string `header:"If-None-Match" maxLength:"64" doc:"*: refuse if there is one"`
	Body  proposalBody
}

type proposalBody struct {
	Policy      policy.Policy `json:"policy" doc:"what it leaves out comes from the operator's"`
	Collections []string      `json:"collections,omitempty" maxItems:"64" doc:"whose texts it holds for; not for the policy default"`
	Note        string        `json:"note,omitempty" maxLength:"500" doc:"for the history"`
	Status      string        `json:"status,omitempty" enum:"active,draft,dry_run" default:"active" doc:"dry_run: evaluated beside the active version, and counted"`
}

func (s *Service) putPolicy(ctx context.Context, in *putPolicyIn) (*policyOut, error) {
	rev, err := revision(in.Match, in.None)
	if err != nil {
		return nil, err
	}
	as := in.Body.Status
	if as == "" {
		as = Active
	}
	_, v, err := s.PutPolicy(ctx, Proposal{Policy: in.Name, Document: in.Body.Policy, Collections: in.Body.Collections, Note: in.Body.Note, As: as, Revision: rev})
	if err != nil {
		return nil, err
	}
	return s.getPolicy(ctx, &getPolicyIn{in.Name, v.Version})
}

type versionsIn struct {
	Name string `path:"name" maxLength:"63" doc:"default: the tenant's own"`
	rpc.Page
}

type versionsOut struct {
	Body struct {
		Versions   []versionBody `json:"versions"`
		NextCursor string        `json:"next_cursor,omitempty" doc:"for the next page; absent on the last"`
	}
}

func (s *Service) getVersions(ctx context.Context, in *versionsIn) (*versionsOut, error) {
	below := int64(math.MaxInt64)
	if in.Cursor != "" {
		var err error
		if below, err = strconv.ParseInt(in.Cursor, 10, 64); err != nil {
			return nil, invalidField("cursor", "it is not from a former page")
		}
	}
	list, err := s.Versions(ctx, in.Name, below, in.Limit+1)
	if err != nil {
		return nil, err
	}
	out := &versionsOut{}
	out.Body.Versions = []versionBody{}
	for i, v := range list {
		if i == in.Limit {
			out.Body.NextCursor = strconv.FormatInt(list[i-1].Version, 10)
			break
		}
		out.Body.Versions = append(out.Body.Versions, showVersion(v))
	}
	return out, nil
}

type activateIn struct {
	Name  string `path:"name" maxLength:"63" doc:"default: the tenant's own"`
	Match string `header:"If-Match" maxLength:"64" doc:"the ETag that you read: refuse if it was changed meanwhile"`
	Body  struct {
		Version int64  `json:"version" minimum:"0" doc:"0 ends the use"`
		Status  string `json:"status,omitempty" enum:"active,dry_run" default:"active"`
	}
}

type headOut struct {
	ETag string `header:"ETag"`
	Body headBody
}

func (s *Service) postActivate(ctx context.Context, in *activateIn) (*headOut, error) {
	rev, err := revision(in.Match, "")
	if err != nil {
		return nil, err
	}
	as := in.Body.Status
	if as == "" {
		as = Active
	}
	h, err := s.Activate(ctx, in.Name, in.Body.Version, as, rev)
	if err != nil {
		return nil, err
	}
	return &headOut{etag(h), showHead(h)}, nil
}

type changeBody struct {
	Origin string `json:"origin"`
	From   string `json:"from"`
	To     string `json:"to"`
	N      int64  `json:"n"`
}

type foundBody struct {
	Kind  string  `json:"kind"`
	Rule  string  `json:"rule"`
	Score float64 `json:"score"`
	N     int     `json:"n"`
}

type exampleBody struct {
	Time     time.Time   `json:"time"`
	Request  string      `json:"request_id,omitempty"`
	Digest   string      `json:"text_digest"`
	Event    string      `json:"event,omitempty" doc:"the verdict in the audit log; absent when it was allowed"`
	Origin   string      `json:"origin"`
	From     string      `json:"from"`
	To       string      `json:"to"`
	Score    float64     `json:"score" doc:"probability of an attack"`
	Findings []foundBody `json:"findings"`
}

type differenceBody struct {
	Policy   string           `json:"policy"`
	Since    time.Time        `json:"since"`
	Judged   int64            `json:"judged" doc:"texts judged since the start of that day"`
	Compared int64            `json:"compared" doc:"verdicts that were kept and compared"`
	Stricter int64            `json:"stricter"`
	Milder   int64            `json:"milder"`
	Changes  []changeBody     `json:"changes"`
	Rules    map[string]int64 `json:"rules" doc:"of those that changed"`
	Days     map[string]int64 `json:"days" doc:"of those that changed, UTC"`
	Examples []exampleBody    `json:"examples" doc:"the newest 50"`
	Floor    float64          `json:"kept_from_score" doc:"texts that were allowed below this score, with nothing found, are judged the same and not compared"`
}

type differenceOut struct{ Body differenceBody }

func showDifference(d *Difference) *differenceOut {
	b := differenceBody{
		Policy: d.Policy, Since: d.Since, Judged: d.Judged, Compared: d.Compared, Stricter: d.Stricter, Milder: d.Milder,
		Changes: []changeBody{}, Rules: d.Rules, Days: d.Days, Examples: []exampleBody{}, Floor: d.Floor,
	}
	for _, c := range d.Changes {
		b.Changes = append(b.Changes, changeBody(c))
	}
	for _, e := range d.Examples {
		x := exampleBody{Time: e.At, Request: e.Req, Digest: e.Digest, Event: e.Record, Origin: e.Origin, From: e.From, To: e.To, Score: e.Score, Findings: []foundBody{}}
		if e.From == Allow {
			x.Event = ""
		}
		for _, f := range e.Found {
			x.Findings = append(x.Findings, foundBody(f))
		}
		b.Examples = append(b.Examples, x)
	}
	return &differenceOut{b}
}

type sinceIn struct {
	Name  string    `path:"name" maxLength:"63" doc:"default: the tenant's own"`
	Since time.Time `query:"since" doc:"RFC 3339; a week ago unless said otherwise"`
}

// from is a week ago unless a time is said.
func from(since time.Time) time.Time {
	if since.IsZero() {
		return time.Now().AddDate(0, 0, -7)
	}
	return since
}

func (s *Service) getDryRun(ctx context.Context, in *sinceIn) (*differenceOut, error) {
	d, err := s.DryRun(ctx, in.Name, from(in.Since))
	if err != nil {
		return nil, err
	}
	return showDifference(d), nil
}

type previewIn struct {
	Name  string    `path:"name" maxLength:"63" doc:"default: the tenant's own"`
	Since time.Time `query:"since" doc:"RFC 3339; a week ago unless said otherwise"`
	Body  struct {
		Policy      policy.Policy `json:"policy"`
		Collections []string      `json:"collections,omitempty" maxItems:"64"`
	}
}

func (s *Service) postPreview(ctx context.Context, in *previewIn) (*differenceOut, error) {
	d, err := s.Preview(ctx, Proposal{Policy: in.Name, Document: in.Body.Policy, Collections: in.Body.Collections}, from(in.Since))
	if err != nil {
		return nil, err
	}
	return showDifference(d), nil
}
