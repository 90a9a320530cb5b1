package guard

import (
	"context"
	"log/slog"
	"net/http"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"aran/platform/auth"
	"aran/platform/fault"
	"aran/platform/rpc"
)

const (
	allowPath    = "/api/v1/guard/allow"
	feedbackPath = "/api/v1/guard/feedback"
	exportPath   = feedbackPath + "/export"
)

type sparedBody struct {
	ID      string    `json:"id"`
	Policy  string    `json:"policy,omitempty" doc:"holds where this policy does; absent: in the whole tenant"`
	Kind    string    `json:"kind" enum:"text,phrase,rule,host,value"`
	Value   string    `json:"value" doc:"of kind value: a keyed hash"`
	Reason  string    `json:"reason"`
	Made    time.Time `json:"made_at"`
	By      string    `json:"made_by"`
	Expires time.Time `json:"expires_at"`
	Expired bool      `json:"expired,omitempty"`
}

func showSpared(x Spared) sparedBody {
	return sparedBody{x.ID, x.Policy, x.Kind, x.Value, x.Reason, x.Made, x.By, x.Expires, !x.Expires.After(time.Now())}
}

type spareBody struct {
	Policy  string    `json:"policy,omitempty" maxLength:"63" doc:"holds where this policy does; absent: in the whole tenant"`
	Kind    string    `json:"kind" enum:"text,phrase,rule,host,value" doc:"text: a text_digest; phrase: a pattern (RE2) that is looked at as if it were not there; rule: a rule's id; host: of links; value: a piece of personal data, kept as a keyed hash"`
	Value   string    `json:"value,omitempty" maxLength:"500"`
	Reason  string    `json:"reason" minLength:"1" maxLength:"500"`
	Expires time.Time `json:"expires_at" doc:"within a year"`
}

func (b spareBody) spared() Spared {
	return Spared{Policy: b.Policy, Kind: b.Kind, Value: b.Value, Reason: b.Reason, Expires: b.Expires}
}

type feedbackBody struct {
	ID         string     `json:"id"`
	Kind       string     `json:"kind" enum:"false_positive,false_negative"`
	Status     string     `json:"status" enum:"open,accepted,rejected"`
	Request    string     `json:"request_id,omitempty"`
	Digest     string     `json:"text_digest"`
	Verdict    string     `json:"verdict,omitempty" doc:"absent when no verdict on that text is kept"`
	Score      float64    `json:"score"`
	Kinds      []string   `json:"kinds" doc:"of what was found"`
	Note       string     `json:"note,omitempty"`
	Text       string     `json:"text,omitempty" doc:"until it is reviewed"`
	Training   bool       `json:"training,omitempty" doc:"the reporter agrees that the text is exported for training once it is accepted"`
	Reporter   string     `json:"reporter,omitempty" doc:"absent: erased"`
	OfReporter int64      `json:"reporter_total" doc:"reports that the reporter has made"`
	Share      float64    `json:"reporter_share" doc:"of all open reports, the part that is the reporter's"`
	Reporters  int64      `json:"reporters" doc:"how many report the same text"`
	Made       time.Time  `json:"made_at"`
	Reviewed   *time.Time `json:"reviewed_at,omitempty"`
	By         string     `json:"reviewed_by,omitempty"`
	Reason     string     `json:"reason,omitempty"`
	Exported   *time.Time `json:"exported_at,omitempty"`
}

func showFeedback(f Feedback) feedbackBody {
	optional := func(t time.Time) *time.Time {
		if t.IsZero() {
			return nil
		}
		return &t
	}
	return feedbackBody{
		ID: f.ID, Kind: f.Kind, Status: f.Status, Request: f.Request, Digest: f.Digest, Verdict: f.Verdict, Score: f.Score, Kinds: f.Kinds, Note: f.Note, Text: f.Text, Training: f.Training,
		Reporter: f.Reporter, OfReporter: f.OfReporter, Share: f.Share, Reporters: f.Reporters, Made: f.Made, Reviewed: optional(f.Reviewed), By: f.By, Reason: f.Reason, Exported: optional(f.Exported),
	}
}

func (s *Service) feedbackRoutes(p *rpc.Public) {
	use, manage := rpc.Access{Scope: auth.ScopeGuard}, rpc.Access{Scope: auth.ScopeGuardManage}
	rpc.Register(p, huma.Operation{OperationID: "listGuardAllow", Method: http.MethodGet, Path: allowPath, Summary: "List the allow-list"}, manage, s.getAllow)
	rpc.Register(p, huma.Operation{OperationID: "addGuardAllow", Method: http.MethodPost, Path: allowPath, Summary: "Let something pass until a day", DefaultStatus: http.StatusCreated}, manage, s.postAllow)
	rpc.Register(p, huma.Operation{OperationID: "removeGuardAllow", Method: http.MethodDelete, Path: allowPath + "/{id}", Summary: "Remove an entry of the allow-list", DefaultStatus: http.StatusNoContent}, manage,
		func(ctx context.Context, in *entryIn) (*struct{}, error) { return nil, s.Unspare(ctx, in.ID) })
	rpc.Register(p, huma.Operation{OperationID: "giveGuardFeedback", Method: http.MethodPost, Path: feedbackPath, Summary: "Report a wrong verdict, for review", DefaultStatus: http.StatusCreated}, use, s.postFeedback)
	rpc.Register(p, huma.Operation{OperationID: "listGuardFeedback", Method: http.MethodGet, Path: feedbackPath, Summary: "List reports, oldest first"}, manage, s.getFeedback)
	rpc.Register(p, huma.Operation{OperationID: "reviewGuardFeedback", Method: http.MethodPost, Path: feedbackPath + "/{id}", Summary: "Accept or reject somebody else's report"}, manage, s.postReview)
	rpc.Register(p, huma.Operation{OperationID: "eraseGuardFeedback", Method: http.MethodDelete, Path: feedbackPath, Summary: "Forget what somebody reported", DefaultStatus: http.StatusNoContent}, manage,
		func(ctx context.Context, in *reporterIn) (*struct{}, error) {
			return nil, s.EraseReports(ctx, auth.From(ctx).Tenant, in.Reporter)
		})
	p.Handle(http.MethodPost, exportPath, manage, 0, http.HandlerFunc(s.postExport))
	p.Document(huma.Operation{
		OperationID: "exportGuardFeedback", Method: http.MethodPost, Path: exportPath, Summary: "Hand out accepted texts whose reporters agreed to training",
		Description: "Lines of JSON as `aran eval guard` reads them. The texts are handed out once and forgotten here; the audit log has the digest of what was handed out. Nothing is trained.",
		Responses:   map[string]*huma.Response{"200": {Description: "The texts", Content: map[string]*huma.MediaType{lineKind: {Schema: &huma.Schema{Type: huma.TypeString}}}}},
	})
}

type entryIn struct {
	ID string `path:"id" maxLength:"64"`
}

type reporterIn struct {
	Reporter string `query:"reporter" required:"true" minLength:"1" maxLength:"256" example:"user:0190…"`
}

type allowsOut struct {
	Body struct {
		Entries    []sparedBody `json:"entries"`
		NextCursor string       `json:"next_cursor,omitempty" doc:"for the next page; absent on the last"`
	}
}

func (s *Service) getAllow(ctx context.Context, in *rpc.Page) (*allowsOut, error) {
	list, err := s.SparedList(ctx, in.Cursor, in.Limit+1)
	if err != nil {
		return nil, err
	}
	out := &allowsOut{}
	out.Body.Entries = []sparedBody{}
	for i, x := range list {
		if i == in.Limit {
			out.Body.NextCursor = list[i-1].ID
			break
		}
		out.Body.Entries = append(out.Body.Entries, showSpared(x))
	}
	return out, nil
}

type allowIn struct{ Body spareBody }

type allowOut struct {
	Location string `header:"Location"`
	Body     sparedBody
}

func (s *Service) postAllow(ctx context.Context, in *allowIn) (*allowOut, error) {
	x, err := s.Spare(ctx, in.Body.spared())
	if err != nil {
		return nil, err
	}
	return &allowOut{allowPath + "/" + x.ID, showSpared(x)}, nil
}

type reportIn struct {
	Body struct {
		Kind     string `json:"kind" enum:"false_positive,false_negative"`
		Request  string `json:"request_id,omitempty" maxLength:"128" doc:"the request that brought the text; or"`
		Digest   string `json:"text_digest,omitempty" maxLength:"64" doc:"SHA-256 of the text, hex; or"`
		Text     string `json:"text,omitempty" maxLength:"100000" doc:"the text itself: by sending it you agree that it is kept, sealed, until the report is reviewed"`
		Training bool   `json:"training,omitempty" doc:"you agree that the text is exported for training once the report is accepted"`
		Note     string `json:"note,omitempty" maxLength:"1000"`
	}
}

type feedbackOut struct {
	Body feedbackBody
}

func (s *Service) postFeedback(ctx context.Context, in *reportIn) (*feedbackOut, error) {
	b := in.Body
	f, err := s.Report(ctx, Report{Kind: b.Kind, Request: b.Request, Digest: b.Digest, Text: b.Text, Training: b.Training, Note: b.Note})
	if err != nil {
		return nil, err
	}
	f.Note, f.Text = b.Note, ""
	return &feedbackOut{showFeedback(f)}, nil
}

type feedbackIn struct {
	rpc.Page
	Status string `query:"status" enum:"open,accepted,rejected" default:"open"`
}

type feedbacksOut struct {
	Cache string `header:"Cache-Control"`
	Body  struct {
		Feedback   []feedbackBody `json:"feedback"`
		NextCursor string         `json:"next_cursor,omitempty" doc:"for the next page; absent on the last"`
	}
}

func (s *Service) getFeedback(ctx context.Context, in *feedbackIn) (*feedbacksOut, error) {
	list, err := s.Reports(ctx, in.Status, in.Cursor, in.Limit+1)
	if err != nil {
		return nil, err
	}
	out := &feedbacksOut{Cache: "no-store"}
	out.Body.Feedback = []feedbackBody{}
	for i, f := range list {
		if i == in.Limit {
			out.Body.NextCursor = list[i-1].ID
			break
		}
		out.Body.Feedback = append(out.Body.Feedback, showFeedback(f))
	}
	return out, nil
}

type reviewIn struct {
	ID   string `path:"id" maxLength:"64"`
	Body struct {
		Status string     `json:"status" enum:"accepted,rejected"`
		Reason string     `json:"reason,omitempty" maxLength:"500"`
		Allow  *spareBody `json:"allow,omitempty" doc:"an entry for the allow-list, with an accepted false positive; of kind text the value is the reported text"`
	}
}

func (s *Service) postReview(ctx context.Context, in *reviewIn) (*feedbackOut, error) {
	var spare *Spared
	if in.Body.Allow != nil {
		x := in.Body.Allow.spared()
		spare = &x
	}
	f, err := s.Review(ctx, in.ID, in.Body.Status, in.Body.Reason, spare)
	if err != nil {
		return nil, err
	}
	return &feedbackOut{showFeedback(f)}, nil
}

func (s *Service) postExport(w http.ResponseWriter, r *http.Request) {
	b, n, err := s.Export(r.Context())
	if err != nil {
		err = rpc.Ended(r.Context(), err)
		if fault.KindOf(err) == fault.Internal {
			s.log.LogAttrs(r.Context(), slog.LevelError, "not exported", slog.String("request_id", rpc.RequestID(r.Context())), slog.String("error", err.Error()))
		}
		rpc.Problem(w, r, err)
		return
	}
	w.Header().Set("Content-Type", lineKind)
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Aran-Reports", strconv.Itoa(n))
	_, _ = w.Write(b) // they are in the audit log as handed out
}
