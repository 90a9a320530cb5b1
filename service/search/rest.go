package search

import (
	"context"
	"net/http"
	"net/url"
	"time"

	"github.com/danielgtaylor/huma/v2"

	searchv1 "aran/api/gen/aran/search/v1"
	"aran/platform/auth"
	"aran/platform/rpc"
)

const (
	collectionsPath = "/api/v1/collections"
	collectionPath  = collectionsPath + "/{name}"
	documentsPath   = collectionPath + "/documents"
	documentPath    = documentsPath + "/{id}"
	searchPath      = collectionPath + "/search"
)

type collectionBody struct {
	Name        string    `json:"name"`
	Description string    `json:"description,omitempty"`
	Public      bool      `json:"public" doc:"every tenant may read it"`
	Personal    bool      `json:"personal" doc:"its text is sealed for its owner"`
	ReadOnly    bool      `json:"read_only,omitempty" doc:"it belongs to the platform"`
	Documents   *int64    `json:"documents,omitempty" doc:"how many of them you may read"`
	Created     time.Time `json:"created_at"`
}

func showCollection(c Collection) collectionBody {
	return collectionBody{Name: c.Name, Description: c.Description, Public: c.Public, ReadOnly: c.ReadOnly, Created: c.Created}
}

type documentBody struct {
	ID          string            `json:"id"`
	Collection  string            `json:"collection"`
	Title       string            `json:"title,omitempty"`
	Status      string            `json:"status" enum:"queued,indexed,quarantined,failed" doc:"of the version that was stored last; until it is indexed, searches find the one before"`
	Reason      string            `json:"reason,omitempty" doc:"why it is quarantined, flagged or failed"`
	Version     int64             `json:"version"`
	ContentType string            `json:"content_type,omitempty"`
	Text        string            `json:"text,omitempty"`
	Metadata    map[string]string `json:"metadata"`
	Access      []string          `json:"access" doc:"who may read it besides its owner; empty: everyone in the tenant"`
	Owner       string            `json:"owner"`
	Source      string            `json:"source,omitempty"`
	Trust       string            `json:"trust" enum:"outside,flagged,builtin"`
	Created     time.Time         `json:"created_at"`
	Updated     time.Time         `json:"updated_at"`
}

func showDocument(collection string, x Document) documentBody {
	b := documentBody{
		ID: x.ID, Collection: collection, Title: x.Title, Status: x.Status, Reason: x.Reason, Version: x.Version, ContentType: x.ContentType, Text: x.Text,
		Metadata: x.Metadata, Access: x.Access, Owner: x.Owner, Source: x.Source, Trust: x.Trust, Created: x.Created, Updated: x.Updated,
	}
	if b.Metadata == nil {
		b.Metadata = map[string]string{}
	}
	if b.Access == nil {
		b.Access = []string{}
	}
	return b
}

type hitBody struct {
	Collection string     `json:"collection"`
	Document   string     `json:"document"`
	Chunk      string     `json:"chunk" doc:"names this passage of this version"`
	Title      string     `json:"title"`
	Text       string     `json:"text" doc:"the document's text from start to end"`
	Start      int64      `json:"start" doc:"first byte in the document's text (UTF-8)"`
	End        int64      `json:"end" doc:"the byte after the last"`
	Score      float64    `json:"score" doc:"to compare within this answer only"`
	Highlights []spanBody `json:"highlights" doc:"words of the query, as bytes of text"`
	Span       spanBody   `json:"span" doc:"the sentence that answers best, as bytes of the document's text"`
	Trust      string     `json:"trust" enum:"outside,flagged,builtin" doc:"how far the document is trusted"`
	Source     string     `json:"source" doc:"where the document comes from"`
}

type spanBody struct {
	Start int64 `json:"start"`
	End   int64 `json:"end"`
}

func showHit(h Hit) hitBody {
	b := hitBody{
		Collection: h.Collection, Document: h.Document, Chunk: h.Chunk, Title: h.Title, Text: h.Text, Start: h.Start, End: h.End, Score: h.Score,
		Highlights: make([]spanBody, len(h.Highlights)), Span: spanBody(h.Sentence), Trust: h.Trust, Source: h.Source,
	}
	for i, s := range h.Highlights {
		b.Highlights[i] = spanBody(s)
	}
	return b
}

type namePath struct {
	Name string `path:"name" maxLength:"63" doc:"the collection's name"`
}

type documentIDPath struct {
	Name string `path:"name" maxLength:"63" doc:"the collection's name"`
	ID   string `path:"id" maxLength:"128" doc:"the document's id"`
}

type created struct {
	Location string `header:"Location"`
	Body     collectionBody
}

func (s *Service) routes() {
	read, write := rpc.Access{Scope: auth.ScopeSearchRead}, rpc.Access{Scope: auth.ScopeSearchWrite}
	rpc.Register(s.public, huma.Operation{OperationID: "createCollection", Method: http.MethodPost, Path: collectionsPath, Summary: "Make a collection", DefaultStatus: http.StatusCreated}, write, s.postCollection)
	rpc.Register(s.public, huma.Operation{OperationID: "listCollections", Method: http.MethodGet, Path: collectionsPath, Summary: "List the collections that you may read"}, read, s.getCollections)
	rpc.Register(s.public, huma.Operation{OperationID: "getCollection", Method: http.MethodGet, Path: collectionPath, Summary: "Show a collection"}, read, s.getCollection)
	rpc.Register(s.public, huma.Operation{OperationID: "deleteCollection", Method: http.MethodDelete, Path: collectionPath, Summary: "Delete a collection and everything in it", DefaultStatus: http.StatusNoContent}, write,
		func(ctx context.Context, in *namePath) (*struct{}, error) {
			return nil, s.DeleteCollection(ctx, in.Name)
		})
	rpc.Register(s.public, huma.Operation{OperationID: "listDocuments", Method: http.MethodGet, Path: documentsPath, Summary: "List the documents that you may read"}, read, s.getDocuments)
	rpc.Register(s.public, huma.Operation{OperationID: "getDocument", Method: http.MethodGet, Path: documentPath, Summary: "Show a document with its text"}, read, s.getDocument)
	rpc.Register(s.public, huma.Operation{OperationID: "deleteDocument", Method: http.MethodDelete, Path: documentPath, Summary: "Delete a document and everything made of it", DefaultStatus: http.StatusNoContent}, write,
		func(ctx context.Context, in *documentIDPath) (*struct{}, error) {
			return nil, s.DeleteDocument(ctx, in.Name, in.ID)
		})
	rpc.Register(s.public, huma.Operation{OperationID: "searchCollection", Method: http.MethodPost, Path: searchPath, Summary: "Find passages"}, read, s.postSearch)
	s.uploadRoute(write)
}

type createCollectionIn struct {
	Key  string `header:"Idempotency-Key" maxLength:"128" doc:"makes it safe to send this again"`
	Body struct {
		Name        string `json:"name" doc:"lower case letters, digits, - and _" example:"docs"`
		Description string `json:"description,omitempty"`
		Public      bool   `json:"public,omitempty" doc:"only collections of the platform can be"`
		Personal    bool   `json:"personal,omitempty" doc:"not offered yet"`
	}
}

func (s *Service) postCollection(ctx context.Context, in *createCollectionIn) (*created, error) {
	m := &searchv1.CreateCollectionRequest{Name: in.Body.Name, Description: in.Body.Description, Public: in.Body.Public, Personal: in.Body.Personal}
	if err := rpc.Validate(m); err != nil {
		return nil, err
	}
	key, err := rpc.CheckIdempotencyKey(in.Key)
	if err != nil {
		return nil, err
	}
	if m.GetPersonal() {
		return nil, errPersonal()
	}
	c, err := s.CreateCollection(ctx, Collection{Name: m.GetName(), Description: m.GetDescription(), Public: m.GetPublic()}, key)
	if err != nil {
		return nil, err
	}
	return &created{collectionsPath + "/" + c.Name, showCollection(c)}, nil
}

type collectionOut struct{ Body collectionBody }

func (s *Service) getCollection(ctx context.Context, in *namePath) (*collectionOut, error) {
	c, err := s.Collection(ctx, in.Name)
	if err != nil {
		return nil, err
	}
	b := showCollection(c)
	b.Documents = &c.Documents
	return &collectionOut{b}, nil
}

type collectionsOut struct {
	Body struct {
		Collections []collectionBody `json:"collections"`
		NextCursor  string           `json:"next_cursor,omitempty" doc:"for the next page; absent on the last"`
	}
}

func (s *Service) getCollections(ctx context.Context, in *rpc.Page) (*collectionsOut, error) {
	list, err := s.Collections(ctx, in.Cursor, in.Limit+1)
	if err != nil {
		return nil, err
	}
	out := &collectionsOut{}
	out.Body.Collections = []collectionBody{}
	for i, c := range list {
		if i == in.Limit {
			out.Body.NextCursor = list[i-1].Name
			break
		}
		out.Body.Collections = append(out.Body.Collections, showCollection(c))
	}
	return out, nil
}

type documentsIn struct {
	rpc.Page
	Name string `path:"name" maxLength:"63" doc:"the collection's name"`
}

type documentsOut struct {
	Body struct {
		Documents  []documentBody `json:"documents" doc:"without their text"`
		NextCursor string         `json:"next_cursor,omitempty" doc:"for the next page; absent on the last"`
	}
}

func (s *Service) getDocuments(ctx context.Context, in *documentsIn) (*documentsOut, error) {
	list, err := s.Documents(ctx, in.Name, in.Cursor, in.Limit+1)
	if err != nil {
		return nil, err
	}
	out := &documentsOut{}
	out.Body.Documents = []documentBody{}
	for i, x := range list {
		if i == in.Limit {
			out.Body.NextCursor = list[i-1].ID
			break
		}
		out.Body.Documents = append(out.Body.Documents, showDocument(in.Name, x))
	}
	return out, nil
}

type documentOut struct{ Body documentBody }

func (s *Service) getDocument(ctx context.Context, in *documentIDPath) (*documentOut, error) {
	x, err := s.Document(ctx, in.Name, in.ID)
	if err != nil {
		return nil, err
	}
	return &documentOut{showDocument(in.Name, x)}, nil
}

type searchIn struct {
	Name string `path:"name" maxLength:"63" doc:"the collection's name"`
	Body struct {
		Query   string               `json:"query"`
		Limit   int32                `json:"limit,omitempty" minimum:"0" maximum:"100" doc:"0 means 10"`
		Filter  map[string]matchBody `json:"filter,omitempty" doc:"metadata that a document must have, by name"`
		Mode    string               `json:"mode,omitempty" enum:"hybrid,words,meaning" doc:"hybrid unless said otherwise"`
		Weights *struct {
			Words   float64 `json:"words" minimum:"0" maximum:"100"`
			Meaning float64 `json:"meaning" minimum:"0" maximum:"100"`
		} `json:"weights,omitempty" doc:"how much each list counts in hybrid searches; as the collection says unless said otherwise"`
		Rerank      *bool `json:"rerank,omitempty" doc:"let the reranker look at the best passages once more; as the settings say unless said otherwise"`
		Distinct    bool  `json:"distinct,omitempty" doc:"leave out passages that say what a better one says"`
		PerDocument int32 `json:"per_document,omitempty" minimum:"0" maximum:"100" doc:"most passages of one document; 0: as many as rank"`
	}
}

type searchOut struct {
	Body struct {
		Hits     []hitBody `json:"hits" doc:"the best first"`
		Degraded bool      `json:"degraded" doc:"the encoder was away, or some documents have vectors of another one: words alone ranked those"`
		Encoder  string    `json:"encoder,omitempty" doc:"digest of the encoder that was used"`
		Reranked bool      `json:"reranked" doc:"the reranker ordered the hits; false when none was asked for, or it was away"`
	}
}

func (s *Service) postSearch(ctx context.Context, in *searchIn) (*searchOut, error) {
	m := &searchv1.RetrieveRequest{Collections: []string{in.Name}, Query: in.Body.Query, Limit: in.Body.Limit, Mode: modeOf(in.Body.Mode), Rerank: in.Body.Rerank, Distinct: &in.Body.Distinct, PerDocument: in.Body.PerDocument}
	if w := in.Body.Weights; w != nil {
		m.Weights = &searchv1.Weights{Words: w.Words, Meaning: w.Meaning}
	}
	var err error
	if m.Conditions, err = conditionsOf(in.Body.Filter); err != nil {
		return nil, err
	}
	if err := rpc.Validate(m); err != nil {
		return nil, err
	}
	q, err := queryOf(m)
	if err != nil {
		return nil, err
	}
	res, err := s.Retrieve(ctx, q)
	if err != nil {
		return nil, err
	}
	out := &searchOut{}
	out.Body.Hits, out.Body.Degraded, out.Body.Encoder = make([]hitBody, len(res.Hits)), res.Degraded, res.Encoder
	out.Body.Reranked = res.Reranked
	for i, h := range res.Hits {
		out.Body.Hits[i] = showHit(h)
	}
	return out, nil
}

func modeOf(s string) searchv1.Mode {
	switch Mode(s) {
	case Words:
		return searchv1.Mode_MODE_WORDS
	case Meaning:
		return searchv1.Mode_MODE_MEANING
	case Hybrid:
	}
	return searchv1.Mode_MODE_HYBRID
}

func documentURL(collection, id string) string {
	return collectionsPath + "/" + url.PathEscape(collection) + "/documents/" + url.PathEscape(id)
}
