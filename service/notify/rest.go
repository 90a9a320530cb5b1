package notify

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"aran/platform/auth"
	"aran/platform/fault"
	"aran/platform/rpc"
)

const (
	webhooksPath   = "/api/v1/webhooks"
	webhookPath    = webhooksPath + "/{id}"
	deliveriesPath = webhookPath + "/deliveries"
	deliveryPath   = deliveriesPath + "/{delivery}"
)

type webhookBody struct {
	ID             string     `json:"id"`
	URL            string     `json:"url"`
	Description    string     `json:"description,omitempty"`
	Events         []string   `json:"events" doc:"kinds of events that it is told of"`
	Enabled        bool       `json:"enabled"`
	Reason         string     `json:"disabled_reason,omitempty" enum:"gone,failing,backlog" doc:"why it was disabled, when not by you: it answered 410, it only failed for days, or too much waited for it"`
	FailingSince   *time.Time `json:"failing_since,omitempty" doc:"absent when the last delivery arrived"`
	Secret         string     `json:"secret,omitempty" doc:"verifies the signatures (whsec_…); in this answer only"`
	OldSecretUntil *time.Time `json:"old_secret_until,omitempty" doc:"until then deliveries are signed with the secret before this one, too"`
	Created        time.Time  `json:"created_at"`
	Updated        time.Time  `json:"updated_at"`
}

func showWebhook(e Endpoint, secret string) webhookBody {
	return webhookBody{
		ID: e.ID, URL: e.URL, Description: e.Description, Events: e.Kinds, Enabled: e.Enabled, Reason: e.Reason, Secret: secret,
		FailingSince: optional(e.FailingSince), OldSecretUntil: optional(e.OldSecretUntil), Created: e.Created, Updated: e.Updated,
	}
}

func optional(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

type attemptBody struct {
	Time     time.Time `json:"time"`
	Status   int       `json:"status_code,omitempty" doc:"absent when there was no answer"`
	Error    string    `json:"error,omitempty" enum:"timeout,dns,connect,tls,target_refused,redirect,throttled,gone,refused,server_error,bad_answer,erased,internal" doc:"absent when it arrived"`
	Duration int64     `json:"duration_ms"`
}

type deliveryBody struct {
	ID       string        `json:"id" doc:"the header webhook-id: the same at every attempt"`
	Event    string        `json:"event" doc:"id of the event, as in the audit log"`
	Type     string        `json:"type" example:"document.indexed"`
	Status   string        `json:"status" enum:"pending,delivered,dead"`
	Attempts []attemptBody `json:"attempts" doc:"the last 50, oldest first"`
	Tried    int64         `json:"attempt_count" doc:"all of them"`
	Next     *time.Time    `json:"next_attempt_at,omitempty" doc:"not before then; of a pending one"`
	Created  time.Time     `json:"created_at"`
	Updated  time.Time     `json:"updated_at"`
}

func showDelivery(d Delivery) deliveryBody {
	b := deliveryBody{ID: d.ID, Event: d.Event, Type: d.Kind, Status: d.Status, Tried: d.Attempted, Created: d.Created, Updated: d.Updated, Attempts: make([]attemptBody, len(d.Attempts))}
	for i, a := range d.Attempts {
		b.Attempts[i] = attemptBody{a.At, a.Status, a.Error, a.Took.Milliseconds()}
	}
	if d.Status == Pending {
		b.Next = optional(d.Due)
	}
	return b
}

type webhookIDPath struct {
	ID string `path:"id" maxLength:"64" doc:"the webhook's id"`
}

type deliveryIDPath struct {
	ID       string `path:"id" maxLength:"64" doc:"the webhook's id"`
	Delivery string `path:"delivery" maxLength:"64" doc:"the delivery's id"`
}

func (s *Service) routes() {
	a := rpc.Access{Scope: auth.ScopeWebhooks}
	rpc.Register(s.public, huma.Operation{OperationID: "createWebhook", Method: http.MethodPost, Path: webhooksPath, Summary: "Make a webhook; its secret is shown once", DefaultStatus: http.StatusCreated}, a, s.postWebhook)
	rpc.Register(s.public, huma.Operation{OperationID: "listWebhooks", Method: http.MethodGet, Path: webhooksPath, Summary: "List the webhooks of your tenant, newest first"}, a, s.getWebhooks)
	rpc.Register(s.public, huma.Operation{OperationID: "getWebhook", Method: http.MethodGet, Path: webhookPath, Summary: "Show a webhook"}, a, s.getWebhook)
	rpc.Register(s.public, huma.Operation{OperationID: "changeWebhook", Method: http.MethodPatch, Path: webhookPath, Summary: "Change a webhook; to enable it sends what waits"}, a, s.patchWebhook)
	rpc.Register(s.public, huma.Operation{OperationID: "deleteWebhook", Method: http.MethodDelete, Path: webhookPath, Summary: "Delete a webhook and its deliveries", DefaultStatus: http.StatusNoContent}, a,
		func(ctx context.Context, in *webhookIDPath) (*struct{}, error) {
			return nil, s.DeleteEndpoint(ctx, auth.From(ctx), in.ID)
		})
	rpc.Register(s.public, huma.Operation{OperationID: "rotateWebhookSecret", Method: http.MethodPost, Path: webhookPath + "/secret", Summary: "Make a new secret, shown once; the old one signs too for a day"}, a, s.postSecret)
	rpc.Register(s.public, huma.Operation{OperationID: "testWebhook", Method: http.MethodPost, Path: webhookPath + "/test", Summary: "Send a webhook.test", DefaultStatus: http.StatusAccepted}, a, s.postTest)
	rpc.Register(s.public, huma.Operation{OperationID: "listDeliveries", Method: http.MethodGet, Path: deliveriesPath, Summary: "List deliveries with their attempts, newest first"}, a, s.getDeliveries)
	rpc.Register(s.public, huma.Operation{OperationID: "getDelivery", Method: http.MethodGet, Path: deliveryPath, Summary: "Show a delivery with its attempts"}, a, s.getDelivery)
	rpc.Register(s.public, huma.Operation{OperationID: "replayDelivery", Method: http.MethodPost, Path: deliveryPath + "/replay", Summary: "Deliver again, under the same id", DefaultStatus: http.StatusAccepted}, a, s.postReplay)
}

type createWebhookIn struct {
	Key  string `header:"Idempotency-Key" maxLength:"128" doc:"makes it safe to send this again"`
	Body struct {
		URL         string   `json:"url" doc:"https, a public host" example:"https://example.com/hooks/aran"`
		Events      []string `json:"events" minItems:"1" maxItems:"64" doc:"kinds of events" example:"[\"document.indexed\",\"guard.blocked\"]"`
		Description string   `json:"description,omitempty" maxLength:"500"`
		Enabled     *bool    `json:"enabled,omitempty" doc:"true unless said otherwise"`
	}
}

type webhookOut struct {
	Location string `header:"Location"`
	Cache    string `header:"Cache-Control"`
	Body     webhookBody
}

func showSecret(e Endpoint, secret string) *webhookOut {
	return &webhookOut{webhooksPath + "/" + e.ID, "no-store", showWebhook(e, secret)}
}

func (s *Service) postWebhook(ctx context.Context, in *createWebhookIn) (*webhookOut, error) {
	key, err := rpc.CheckIdempotencyKey(in.Key)
	if err != nil {
		return nil, err
	}
	e := Endpoint{URL: in.Body.URL, Description: in.Body.Description, Kinds: in.Body.Events, Enabled: in.Body.Enabled == nil || *in.Body.Enabled}
	e, secret, err := s.CreateEndpoint(ctx, auth.From(ctx), e, key)
	if err != nil {
		return nil, err
	}
	return showSecret(e, secret), nil
}

type webhooksOut struct {
	Body struct {
		Webhooks   []webhookBody `json:"webhooks"`
		NextCursor string        `json:"next_cursor,omitempty" doc:"for the next page; absent on the last"`
	}
}

func (s *Service) getWebhooks(ctx context.Context, in *rpc.Page) (*webhooksOut, error) {
	found, err := s.Endpoints(ctx, auth.From(ctx).Tenant, in.Cursor, in.Limit+1)
	if err != nil {
		return nil, err
	}
	out := &webhooksOut{}
	out.Body.Webhooks = []webhookBody{}
	for i, e := range found {
		if i == in.Limit {
			out.Body.NextCursor = found[i-1].ID
			break
		}
		out.Body.Webhooks = append(out.Body.Webhooks, showWebhook(e, ""))
	}
	return out, nil
}

type oneWebhookOut struct{ Body webhookBody }

func (s *Service) getWebhook(ctx context.Context, in *webhookIDPath) (*oneWebhookOut, error) {
	e, err := s.Endpoint(ctx, auth.From(ctx).Tenant, in.ID)
	if err != nil {
		return nil, err
	}
	return &oneWebhookOut{showWebhook(e, "")}, nil
}

type patchWebhookIn struct {
	ID   string `path:"id" maxLength:"64" doc:"the webhook's id"`
	Body struct {
		URL         *string  `json:"url,omitempty"`
		Events      []string `json:"events,omitempty" maxItems:"64"`
		Description *string  `json:"description,omitempty" maxLength:"500"`
		Enabled     *bool    `json:"enabled,omitempty"`
	}
}

func (s *Service) patchWebhook(ctx context.Context, in *patchWebhookIn) (*oneWebhookOut, error) {
	e, err := s.ChangeEndpoint(ctx, auth.From(ctx), in.ID, Change{URL: in.Body.URL, Description: in.Body.Description, Kinds: in.Body.Events, Enabled: in.Body.Enabled})
	if err != nil {
		return nil, err
	}
	return &oneWebhookOut{showWebhook(e, "")}, nil
}

type webhookPostIn struct {
	ID  string `path:"id" maxLength:"64" doc:"the webhook's id"`
	Key string `header:"Idempotency-Key" maxLength:"128" doc:"makes it safe to send this again"`
}

func (s *Service) postSecret(ctx context.Context, in *webhookPostIn) (*webhookOut, error) {
	key, err := rpc.CheckIdempotencyKey(in.Key)
	if err != nil {
		return nil, err
	}
	e, secret, err := s.RotateSecret(ctx, auth.From(ctx), in.ID, key)
	if err != nil {
		return nil, err
	}
	return showSecret(e, secret), nil
}

type deliveryOut struct{ Body deliveryBody }

func (s *Service) postTest(ctx context.Context, in *webhookPostIn) (*deliveryOut, error) {
	key, err := rpc.CheckIdempotencyKey(in.Key)
	if err != nil {
		return nil, err
	}
	d, err := s.Test(ctx, auth.From(ctx), in.ID, key)
	if err != nil {
		return nil, err
	}
	return &deliveryOut{showDelivery(d)}, nil
}

type deliveriesIn struct {
	rpc.Page
	ID     string `path:"id" maxLength:"64" doc:"the webhook's id"`
	Status string `query:"status" enum:"pending,delivered,dead" doc:"only these"`
}

type deliveriesOut struct {
	Body struct {
		Deliveries []deliveryBody `json:"deliveries"`
		NextCursor string         `json:"next_cursor,omitempty" doc:"for the next page; absent on the last"`
	}
}

func (s *Service) getDeliveries(ctx context.Context, in *deliveriesIn) (*deliveriesOut, error) {
	before, err := parseCursor(in.Cursor)
	if err != nil {
		return nil, err
	}
	found, err := s.Deliveries(ctx, auth.From(ctx).Tenant, in.ID, in.Status, before, in.Limit+1)
	if err != nil {
		return nil, err
	}
	out := &deliveriesOut{}
	out.Body.Deliveries = []deliveryBody{}
	for i, d := range found {
		if i == in.Limit {
			out.Body.NextCursor = strconv.FormatInt(found[i-1].Seq, 10)
			break
		}
		out.Body.Deliveries = append(out.Body.Deliveries, showDelivery(d))
	}
	return out, nil
}

// parseCursor reads the number of the last delivery of the page before.
func parseCursor(s string) (int64, error) {
	if s == "" {
		return 0, nil
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n <= 0 {
		f := fault.New(fault.Invalid, "bad_cursor", "The cursor is not one that this API gave out.")
		f.Fields = []fault.Field{{Path: "cursor", Rule: "cursor", Message: "is not a cursor"}}
		return 0, f
	}
	return n, nil
}

func (s *Service) getDelivery(ctx context.Context, in *deliveryIDPath) (*deliveryOut, error) {
	d, err := s.Delivery(ctx, auth.From(ctx).Tenant, in.ID, in.Delivery)
	if err != nil {
		return nil, err
	}
	return &deliveryOut{showDelivery(d)}, nil
}

func (s *Service) postReplay(ctx context.Context, in *deliveryIDPath) (*deliveryOut, error) {
	d, err := s.Replay(ctx, auth.From(ctx), in.ID, in.Delivery)
	if err != nil {
		return nil, err
	}
	return &deliveryOut{showDelivery(d)}, nil
}
