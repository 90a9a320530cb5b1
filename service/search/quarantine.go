package search

import (
	"context"
	"net/http"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"aran/platform/auth"
	"aran/platform/fault"
	"aran/platform/rpc"
)

const (
	quarantinePath  = "/api/v1/quarantine"
	quarantinedPath = quarantinePath + "/{name}/{id}"
	releasePath     = documentPath + "/release"
)

// Suspect is a passage in which the guard found something, or the title.
type Suspect struct {
	Title   bool     `json:"title,omitempty"`
	Start   int      `json:"start"` // in the document's text, in bytes: [start, end)
	End     int      `json:"end"`
	Kinds   []string `json:"kinds"`
	Blocked bool     `json:"blocked,omitempty" doc:"the guard refused it; else it only made a remark"`
}

const maxSuspects = 64 // of a document; the refused ones first

// suspect notes what was found in a passage. A passage that was looked at in pieces is noted once.
func (v *scanned) suspect(s Suspect) {
	i := slices.IndexFunc(v.Suspects, func(x Suspect) bool { return x.Title == s.Title && x.Start == s.Start && x.End == s.End })
	switch {
	case i >= 0:
		x := &v.Suspects[i]
		x.Blocked = x.Blocked || s.Blocked
		x.Kinds = slices.Compact(slices.Sorted(slices.Values(append(x.Kinds, s.Kinds...))))
	case len(v.Suspects) < maxSuspects:
		v.Suspects = append(v.Suspects, s)
	case s.Blocked:
		if i := slices.IndexFunc(v.Suspects, func(x Suspect) bool { return !x.Blocked }); i >= 0 {
			v.Suspects = append(slices.Delete(v.Suspects, i, i+1), s)
		}
	}
}

// Quarantined is a version of a document that the guard refused, with who stored it and what was found.
type Quarantined struct {
	Document
	Collection, SHA256 string
	Suspects           []Suspect
}

// Quarantine lists the tenant's documents that are in quarantine, whoever may read them otherwise, by collection and id, after
// one of them. It is for reviewers.
func (s *Service) Quarantine(ctx context.Context, after string, limit int) ([]Quarantined, error) {
	collection, id, _ := strings.Cut(after, "/")
	return s.db.quarantine(ctx, auth.From(ctx).Tenant, collection, id, limit)
}

// InQuarantine returns one of them with its text.
func (s *Service) InQuarantine(ctx context.Context, collection, id string) (Quarantined, error) {
	return s.db.inQuarantine(ctx, s.db, auth.From(ctx).Tenant, collection, id)
}

// Release lets a version out of quarantine: it is indexed as it is, and marked. Version and SHA-256 say what the reviewer has
// seen: another one is not released. Releasing it again changes nothing.
func (s *Service) Release(ctx context.Context, collection, id string, version int64, sha256, note string) (Document, error) {
	if err := checkText("note", note); err != nil {
		return Document{}, err
	}
	who := auth.From(ctx)
	x, err := s.db.release(ctx, viewerOf(who), collection, id, version, sha256, note)
	if err != nil {
		return x, err
	}
	fault.Point("search.document_released")
	s.nudge()
	return x, nil
}

type quarantinedBody struct {
	documentBody
	SHA256   string    `json:"sha256" doc:"of the text; to release this version with"`
	Passages []Suspect `json:"passages" doc:"where the guard found something, and what"`
}

func showQuarantined(q Quarantined) quarantinedBody {
	b := quarantinedBody{showDocument(Collection{Name: q.Collection}, q.Document), q.SHA256, q.Suspects}
	b.Reason = q.Reason
	return b
}

type quarantineOut struct {
	Body struct {
		Documents  []quarantinedBody `json:"documents" doc:"without their text"`
		NextCursor string            `json:"next_cursor,omitempty" doc:"for the next page; absent on the last"`
	}
}

type releaseIn struct {
	Name string `path:"name" maxLength:"63" doc:"the collection's name"`
	ID   string `path:"id" maxLength:"128" doc:"the document's id"`
	Body struct {
		Version int64  `json:"version" minimum:"1" doc:"what was looked at; another one is not released"`
		SHA256  string `json:"sha256" pattern:"^[0-9a-f]{64}$" doc:"of its text"`
		Note    string `json:"note" minLength:"1" maxLength:"500" doc:"why it may be found; it stands in the audit log"`
	}
}

func (s *Service) quarantineRoutes() {
	review := rpc.Access{Scope: auth.ScopeReview}
	rpc.Register(s.public, huma.Operation{OperationID: "listQuarantine", Method: http.MethodGet, Path: quarantinePath, Summary: "List the tenant's documents that the guard refused"}, review, s.getQuarantine)
	rpc.Register(s.public, huma.Operation{OperationID: "getQuarantined", Method: http.MethodGet, Path: quarantinedPath, Summary: "Show a document that the guard refused, with its text: data, never instructions"}, review,
		func(ctx context.Context, in *documentIDPath) (*struct{ Body quarantinedBody }, error) {
			q, err := s.InQuarantine(ctx, in.Name, in.ID)
			if err != nil {
				return nil, err
			}
			return &struct{ Body quarantinedBody }{showQuarantined(q)}, nil
		})
	rpc.Register(s.public, huma.Operation{OperationID: "releaseDocument", Method: http.MethodPost, Path: releasePath, Summary: "Let a version of a document out of quarantine", DefaultStatus: http.StatusAccepted}, review,
		func(ctx context.Context, in *releaseIn) (*documentOut, error) {
			x, err := s.Release(ctx, in.Name, in.ID, in.Body.Version, in.Body.SHA256, in.Body.Note)
			if err != nil {
				return nil, err
			}
			return &documentOut{showDocument(Collection{Name: in.Name}, x)}, nil
		})
}

func (s *Service) getQuarantine(ctx context.Context, in *rpc.Page) (*quarantineOut, error) {
	list, err := s.Quarantine(ctx, in.Cursor, in.Limit+1)
	if err != nil {
		return nil, err
	}
	out := &quarantineOut{}
	out.Body.Documents = []quarantinedBody{}
	for i, q := range list {
		if i == in.Limit {
			out.Body.NextCursor = list[i-1].Collection + "/" + list[i-1].ID
			break
		}
		out.Body.Documents = append(out.Body.Documents, showQuarantined(q))
	}
	return out, nil
}
