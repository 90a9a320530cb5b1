package guard

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"reflect"
	"slices"
	"unicode/utf8"

	"github.com/danielgtaylor/huma/v2"

	"aran/platform/auth"
	"aran/platform/fault"
	"aran/platform/rpc"
	"aran/service/guard/detect"
)

// Public serves programs that use guard without the rest.
func (s *Service) Public() *rpc.Public { return s.public }

const (
	maxScanBody  = 8 << 20
	maxLinesBody = 64 << 20
	maxTexts     = 256       // of one request
	maxText      = 1_000_000 // bytes
	maxLine      = 2 << 20
	maxLines     = 10_000
	linesAtOnce  = 64
	maxFindings  = 1_000 // listed of one text

	maxConversationName = 100 // characters, as in the contract
	maxSourceName       = 500
	lineKind            = "application/x-ndjson"
	scanPath            = "/api/v1/guard/scan"
)

type findingBody struct {
	Kind  string  `json:"kind" example:"injection"`
	Rule  string  `json:"rule"`
	Score float64 `json:"score"`
	Start int     `json:"start" doc:"byte offset into the text"`
	End   int     `json:"end"`
	Why   string  `json:"why,omitempty" doc:"one sentence"`
}

type errorBody struct {
	Code   string `json:"code"`
	Detail string `json:"detail"`
}

type resultBody struct {
	Verdict  string             `json:"verdict" enum:"allow,flag,redact,block"`
	Score    float64            `json:"score" doc:"probability of an attack, or the highest score of what policy acts on"`
	Layers   map[string]float64 `json:"layers,omitempty" doc:"scores of the layers that looked for instructions"`
	Policy   string             `json:"policy,omitempty" doc:"what was applied, with versions" example:"default@3+support@7"`
	Why      string             `json:"why,omitempty" doc:"one sentence"`
	Findings []findingBody      `json:"findings" doc:"the first 1,000"`
	More     int                `json:"more,omitempty" doc:"findings that are not listed; the verdict rests on them too"`
	Redacted string             `json:"redacted,omitempty" doc:"the text without what policy removes"`
	Error    *errorBody         `json:"error,omitempty" doc:"the text could not be judged, and must not be used"`
}

// under is what a request says about how it is judged.
type under struct {
	Origin      string   `json:"origin,omitempty" enum:"user,document,tool,output" default:"user" doc:"where it came from"`
	Collection  string   `json:"collection,omitempty" doc:"short for collections with one name"`
	Collections []string `json:"collections,omitempty" doc:"the strictest of their policies and the tenant's holds"`
	Policy      string   `json:"policy,omitempty" doc:"a policy that holds as well" example:"support@7"`
	// Conversation and Source are for texts that a conversation reads.
	Conversation string `json:"conversation,omitempty" doc:"the conversation that reads the texts: what it read limits the tools that it may use"`
	Source       string `json:"source,omitempty" doc:"where the texts come from" example:"outside:mail/7"`
	Dry          bool   `json:"dry,omitempty" doc:"asks what would be: policy stands in the place of its active version, and nothing is recorded"`
}

type scanBody struct {
	Text  string   `json:"text,omitempty" doc:"one text; or texts"`
	Texts []string `json:"texts,omitempty" maxItems:"256"`
	under
}

type scannedBody struct {
	resultBody
	Results []resultBody `json:"results,omitempty" doc:"for texts, in their order"`
}

func (s *Service) routes() *rpc.Public {
	p := rpc.NewPublic(s.server, "Guard")
	p.Handle(http.MethodPost, scanPath, rpc.Access{Scope: auth.ScopeGuard}, maxLinesBody, http.HandlerFunc(s.scan))
	registry, text := p.OpenAPI().Components.Schemas, &huma.Schema{Type: huma.TypeString}
	p.Document(huma.Operation{
		OperationID: "scan", Method: http.MethodPost, Path: scanPath, Summary: "Judge text",
		Description: "One text or up to 256 as JSON, or many as lines of JSON (application/x-ndjson: {\"id\"?, \"text\", and what the JSON body has}), with one line of answer for each. A text that can't be judged has an error and the verdict block.",
		RequestBody: &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{
			"application/json": {Schema: registry.Schema(reflect.TypeFor[scanBody](), true, "")}, lineKind: {Schema: text},
		}},
		Responses: map[string]*huma.Response{"200": {Description: "Judged", Content: map[string]*huma.MediaType{
			"application/json": {Schema: registry.Schema(reflect.TypeFor[scannedBody](), true, "")}, lineKind: {Schema: text},
		}}},
	})
	s.policyRoutes(p)
	s.feedbackRoutes(p)
	rpc.Register(p, huma.Operation{OperationID: "checkTool", Method: http.MethodPost, Path: "/api/v1/guard/tools", Summary: "Say whether a model may use a tool now, after what its conversation has read", MaxBodyBytes: maxScanBody}, rpc.Access{Scope: auth.ScopeGuard}, s.postTool)
	s.anonymizeRoutes(p)
	return p
}

func (s *Service) scan(w http.ResponseWriter, r *http.Request) {
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	switch {
	case err != nil || kind != "application/json" && kind != lineKind:
		err = fault.New(fault.Unsupported, rpc.ContentType, "Content-Type %q is not taken here; send application/json or %s.", r.Header.Get("Content-Type"), lineKind)
	case kind == lineKind:
		err = s.scanLines(w, r)
	default:
		err = s.scanJSON(w, r)
	}
	if err != nil {
		err = rpc.Ended(r.Context(), err)
		if fault.KindOf(err) == fault.Internal {
			s.log.LogAttrs(r.Context(), slog.LevelError, "not judged", slog.String("request_id", rpc.RequestID(r.Context())), slog.String("error", err.Error()))
		}
		rpc.Problem(w, r, err)
	}
}

func (s *Service) scanJSON(w http.ResponseWriter, r *http.Request) error {
	if r.ContentLength > maxScanBody {
		return fault.New(fault.TooLarge, "body_too_large", "The body has %d bytes; at most %d are taken as JSON, more as %s.", r.ContentLength, maxScanBody, lineKind)
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxScanBody)
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return err
	}
	var in scanBody
	if err := decode(body, &in, "text", "texts"); err != nil {
		return err
	}
	single := in.Texts == nil
	texts := in.Texts
	switch {
	case single:
		texts = []string{in.Text}
	case in.Text != "":
		return fault.New(fault.Invalid, "invalid", "Send text or texts, not both.")
	case len(texts) == 0 || len(texts) > maxTexts:
		return invalidField("texts", fmt.Sprintf("there are %d; send 1 to %d, or more as %s", len(texts), maxTexts, lineKind))
	}
	job, err := in.job()
	if err != nil {
		return err
	}
	if single {
		if err := judgeable(texts[0]); err != nil {
			return invalidField("text", fault.From(err).Detail)
		}
	}
	results, err := s.judgeEach(r.Context(), job, texts)
	if err != nil {
		return err
	}
	var out scannedBody
	if single {
		out.resultBody = results[0]
	} else {
		out.resultBody, out.Results = worst(results), results
	}
	w.Header().Set("Content-Type", "application/json")
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(out) // the client may be gone
	return nil
}

// judgeEach judges texts; one that can't be judged has an error in its place, and stops no other.
func (s *Service) judgeEach(ctx context.Context, job Job, texts []string) ([]resultBody, error) {
	out := make([]resultBody, len(texts))
	var where []int
	for i, t := range texts {
		if err := judgeable(t); err != nil {
			out[i] = failed(err)
			continue
		}
		job.Texts, where = append(job.Texts, t), append(where, i)
	}
	if len(where) == 0 {
		return out, nil
	}
	results, err := s.Judge(ctx, job)
	if err != nil {
		return nil, err
	}
	for n, i := range where {
		out[i] = show(results[n])
	}
	return out, nil
}

func judgeable(text string) error {
	switch {
	case len(text) > maxText:
		return fault.New(fault.TooLarge, "text_too_long", "The text has %d bytes; at most %d are judged at once.", len(text), maxText)
	case !utf8.ValidString(text):
		return fault.New(fault.Invalid, "not_utf8", "The text is not UTF-8.")
	}
	return nil
}

// failed stands for a text that could not be judged: nobody should use it.
func failed(err error) resultBody {
	b := resultBody{Verdict: Block, Findings: []findingBody{}, Error: &errorBody{"internal", "Something broke here; send it again."}}
	if f := fault.From(err); f != nil && f.Kind != fault.Internal {
		b.Error = &errorBody{f.Code, f.Detail}
		if len(f.Fields) > 0 && f.Code == "invalid" {
			b.Error.Detail = f.Fields[0].Path + ": " + f.Fields[0].Message + "."
		}
	}
	return b
}

func worst(results []resultBody) resultBody {
	out := resultBody{Verdict: Allow, Findings: []findingBody{}}
	for _, r := range results {
		if rank(r.Verdict) > rank(out.Verdict) {
			out.Verdict, out.Why = r.Verdict, r.Why
		}
		if r.Policy != "" {
			out.Policy = r.Policy
		}
		out.Score = max(out.Score, r.Score)
	}
	return out
}

func (u under) job() (Job, error) {
	o, ok := map[string]detect.Origin{"": detect.User, "user": detect.User, "document": detect.Document, "tool": detect.Tool, "output": detect.Output}[u.Origin]
	if !ok {
		return Job{}, invalidField("origin", "use user, document, tool or output")
	}
	collections := u.Collections
	if u.Collection != "" {
		collections = append([]string{u.Collection}, collections...)
	}
	if len(collections) > maxCollections {
		return Job{}, invalidField("collections", fmt.Sprintf("at most %d", maxCollections))
	}
	for _, c := range collections {
		if c == "" || len(c) > 100 {
			return Job{}, invalidField("collections", "a name has 1 to 100 bytes")
		}
	}
	job := Job{Origin: o, Collections: collections, Policy: u.Policy, Conversation: u.Conversation, Dry: u.Dry}
	if utf8.RuneCountInString(u.Conversation) > maxConversationName {
		return Job{}, invalidField("conversation", fmt.Sprintf("at most %d characters", maxConversationName))
	}
	if utf8.RuneCountInString(u.Source) > maxSourceName {
		return Job{}, invalidField("source", fmt.Sprintf("at most %d characters", maxSourceName))
	}
	if u.Source != "" {
		job.Sources = []string{u.Source}
	}
	return job, nil
}

func invalidField(field, message string) error {
	f := fault.New(fault.Invalid, "invalid", "Validation failed.")
	f.Fields = []fault.Field{{Path: field, Message: message}}
	return f
}

// listed are the findings that an answer shows.
func listed(all []detect.Finding) []detect.Finding {
	all = detect.Apart(slices.Clone(all))
	return all[:min(len(all), maxFindings)]
}

// show lists the first maxFindings; the verdict rests on all.
func show(r Result) resultBody {
	b := resultBody{Verdict: r.Verdict, Score: r.Score, Layers: r.Layers, Policy: r.Policy, Why: r.Why, Findings: []findingBody{}, Redacted: r.Redacted}
	all := detect.Apart(slices.Clone(r.Findings))
	b.More = max(0, len(all)-maxFindings)
	for _, f := range all[:len(all)-b.More] {
		b.Findings = append(b.Findings, findingBody{f.Kind, f.Rule, f.Score, f.Start, f.End, explain(f)})
	}
	return b
}
