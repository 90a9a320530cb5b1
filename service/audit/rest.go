package audit

import (
	"context"
	"encoding/json"
	"net/http"
	"strconv"

	"github.com/danielgtaylor/huma/v2"
	"golang.org/x/mod/sumdb/tlog"

	auditv1 "aran/api/gen/aran/audit/v1"
	"aran/platform/auth"
	"aran/platform/fault"
	"aran/platform/rpc"
)

func (s *Service) routes() {
	access := rpc.Access{Scope: auth.ScopeAudit}
	rpc.Register(s.public, huma.Operation{
		OperationID: "listAuditEvents", Method: http.MethodGet, Path: "/api/v1/audit/events", Summary: "List entries of the audit log, newest first",
	}, access, s.getEvents)
	rpc.Register(s.public, huma.Operation{
		OperationID: "getAuditCheckpoint", Method: http.MethodGet, Path: "/api/v1/audit/checkpoint", Summary: "The signed state of the log (C2SP tlog-checkpoint)",
	}, access, s.getCheckpoint)
	rpc.Register(s.public, huma.Operation{
		OperationID: "getAuditProof", Method: http.MethodGet, Path: "/api/v1/audit/proof/{event}", Summary: "Proof that an event is in the log",
		Description: "Waits a little for an event that is on its way. `aran audit proof` prints the same, and anyone can check it offline.",
	}, access, s.getProof)
}

type eventsIn struct {
	rpc.Page
	Type string `query:"type" maxLength:"100" doc:"an event type, or a prefix of one that ends in a dot"`
}

type eventsOut struct {
	Body struct {
		Events     []eventBody `json:"events"`
		NextCursor string      `json:"next_cursor,omitempty" doc:"for the next page; absent on the last"`
	}
}

type eventBody struct {
	ID      string          `json:"id" doc:"of the event"`
	Index   int64           `json:"index" doc:"number of the entry in the log, from 0"`
	Type    string          `json:"type"`
	Time    string          `json:"time" format:"date-time"`
	Tenant  string          `json:"tenant"`
	Actor   string          `json:"actor,omitempty" doc:"who caused it"`
	Subject string          `json:"subject,omitempty" doc:"the thing it is about"`
	Source  string          `json:"source,omitempty"`
	Data    json.RawMessage `json:"data,omitempty" doc:"ids, digests and counts, by event type"`
	Erased  bool            `json:"erased,omitempty" doc:"the keys of the actor were erased: who and what cannot be read any more"`
}

func (s *Service) getEvents(ctx context.Context, in *eventsIn) (*eventsOut, error) {
	m := &auditv1.ListEventsRequest{Limit: int32(in.Limit), Cursor: in.Cursor, Type: in.Type} //nolint:gosec // at most 500
	if err := rpc.Validate(m); err != nil {
		return nil, err
	}
	before, err := parseCursor(m.GetCursor())
	if err != nil {
		return nil, err
	}
	limit := int(m.GetLimit())
	if limit == 0 {
		limit = 50
	}
	entries, err := s.List(ctx, auth.From(ctx).Tenant, m.GetType(), before, limit)
	if err != nil {
		return nil, err
	}
	out := &eventsOut{}
	out.Body.Events = make([]eventBody, len(entries))
	for i, e := range entries {
		out.Body.Events[i] = eventBody{
			ID: e.Leaf.ID, Index: e.Index, Type: e.Leaf.Type, Time: e.Leaf.Time, Tenant: e.Leaf.Tenant,
			Actor: e.Actor, Subject: e.Subject, Source: e.Source, Data: e.Data, Erased: e.Erased,
		}
	}
	if n := len(entries); n == limit && entries[n-1].Index > 0 {
		out.Body.NextCursor = strconv.FormatInt(entries[n-1].Index, 10)
	}
	return out, nil
}

// parseCursor reads the index of the last entry of the page before.
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

type checkpointOut struct {
	ContentType string `header:"Content-Type"`
	Key         string `header:"Aran-Audit-Key" doc:"the key that verifies it (C2SP signed-note verifier key)"`
	Cache       string `header:"Cache-Control"`
	Body        []byte
}

func (s *Service) getCheckpoint(ctx context.Context, _ *struct{}) (*checkpointOut, error) {
	signed, key, err := s.Checkpoint(ctx)
	if err != nil {
		return nil, err
	}
	return &checkpointOut{ContentType: "text/plain; charset=utf-8", Key: key, Cache: "no-store", Body: signed}, nil
}

type proofIn struct {
	Event string `path:"event" maxLength:"128" doc:"id of the event, as an answer's aran.audit says it"`
}

type proofOut struct {
	Body struct {
		Event      string   `json:"event"`
		Index      int64    `json:"index" doc:"number of the entry, from 0"`
		Size       int64    `json:"size" doc:"entries under the checkpoint"`
		Leaf       string   `json:"leaf" doc:"the entry; its hash is SHA-256(0x00 || leaf)"`
		Hashes     []string `json:"hashes" doc:"inclusion proof (RFC 6962 2.1.1) in base64, from the leaf upward"`
		Checkpoint string   `json:"checkpoint" doc:"signed note"`
		Key        string   `json:"key" doc:"verifier key; compare it with a copy that you kept"`
	}
}

func (s *Service) getProof(ctx context.Context, in *proofIn) (*proofOut, error) {
	m := &auditv1.ProofRequest{Event: in.Event}
	if err := rpc.Validate(m); err != nil {
		return nil, err
	}
	b, err := s.Proof(ctx, auth.From(ctx).Tenant, m.GetEvent())
	if err != nil {
		return nil, err
	}
	out := &proofOut{}
	out.Body.Event, out.Body.Index, out.Body.Size, out.Body.Leaf = b.Event, b.Index, b.Size, b.Leaf
	out.Body.Checkpoint, out.Body.Key, out.Body.Hashes = b.Checkpoint, b.Key, base64Hashes(b.Hashes)
	return out, nil
}

func base64Hashes(hashes []tlog.Hash) []string {
	out := make([]string, len(hashes))
	for i, h := range hashes {
		out[i] = h.String()
	}
	return out
}
