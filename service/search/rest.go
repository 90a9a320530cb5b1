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
	reembeddingPath = collectionPath + "/reembedding"
	versionsPath    = documentPath + "/versions"
)

type fieldBody struct {
	Name     string `json:"name"`
	Type     string `json:"type" enum:"text,keyword,number,boolean,time"`
	Required bool   `json:"required,omitempty" doc:"documents without it are refused"`
}

type weightsBody struct {
	Words   *float64 `json:"words,omitempty" minimum:"0" maximum:"100"`
	Meaning *float64 `json:"meaning,omitempty" minimum:"0" maximum:"100"`
}

type collectionBody struct {
	Name        string           `json:"name"`
	Description string           `json:"description,omitempty"`
	Fields      []fieldBody      `json:"fields" doc:"metadata whose values have a type; other names take any string"`
	Language    string           `json:"language" doc:"of its texts: an ISO 639 code, or auto"`
	Model       string           `json:"model" doc:"what embeds its texts"`
	Encoder     string           `json:"encoder,omitempty" doc:"digest of the model that its searches go by; absent until the first document is indexed"`
	Weights     weightsBody      `json:"weights" doc:"how much words and meaning count where they are fused"`
	Duplicates  string           `json:"duplicates" enum:"keep,skip,refuse" doc:"what becomes of a text that is there already under another id"`
	Versions    int              `json:"versions" doc:"of a document that stay readable, the latest among them"`
	Reembedding *reembeddingBody `json:"reembedding,omitempty" doc:"the last one"`
	Public      bool             `json:"public" doc:"every tenant may read it"`
	Personal    bool             `json:"personal" doc:"its text is sealed for its owner"`
	ReadOnly    bool             `json:"read_only,omitempty" doc:"it belongs to the platform"`
	Documents   *int64           `json:"documents,omitempty" doc:"how many of them you may read"`
	Created     time.Time        `json:"created_at"`
}

func showCollection(c Collection) collectionBody {
	b := collectionBody{
		Name: c.Name, Description: c.Description, Public: c.Public, ReadOnly: c.ReadOnly, Created: c.Created, Fields: []fieldBody{}, Language: c.Language,
		Model: shownModel(c.Model), Encoder: c.Encoder, Weights: weightsBody{&c.Weights.Words, &c.Weights.Meaning}, Duplicates: c.Duplicates, Versions: c.Versions,
	}
	for _, f := range c.Fields {
		b.Fields = append(b.Fields, fieldBody(f))
	}
	if c.Reembedding != nil {
		b.Reembedding = new(showReembedding(*c.Reembedding))
	}
	return b
}

func shownModel(name string) string {
	if name == "" {
		return defaultModel
	}
	return name
}

type reembeddingBody struct {
	ID      string    `json:"id"`
	State   string    `json:"state" enum:"running,done,cancelled,failed"`
	Reason  string    `json:"reason,omitempty" doc:"why it failed, or waits"`
	Model   string    `json:"model" doc:"what it goes over to"`
	From    string    `json:"from,omitempty" doc:"digest that searches went by before"`
	To      string    `json:"to" doc:"digest that searches go by when it is done"`
	Total   int64     `json:"total" doc:"parts: some passages of one document each"`
	Done    int64     `json:"done" doc:"parts that have their new vectors"`
	Created time.Time `json:"created_at"`
	Updated time.Time `json:"updated_at"`
}

func showReembedding(j Reembedding) reembeddingBody {
	return reembeddingBody{j.ID, j.State, j.Reason, shownModel(j.Model), j.From, j.To, j.Total, min(j.Done, j.Total), j.Created, j.Updated}
}

type documentBody struct {
	ID          string         `json:"id"`
	Collection  string         `json:"collection"`
	Title       string         `json:"title,omitempty"`
	Status      string         `json:"status" enum:"queued,indexed,quarantined,failed" doc:"of the version that was stored last; until it is indexed, searches find the one before"`
	Reason      string         `json:"reason,omitempty" doc:"why it is quarantined, flagged or failed"`
	Version     int64          `json:"version"`
	ContentType string         `json:"content_type,omitempty"`
	Text        string         `json:"text,omitempty"`
	Metadata    map[string]any `json:"metadata"`
	DuplicateOf string         `json:"duplicate_of,omitempty" doc:"another document of the collection has the same text"`
	Original    *originalBody  `json:"original,omitempty" doc:"the file that the text was taken from"`
	Pages       []int          `json:"pages,omitempty" doc:"where each page begins in the text (bytes)"`
	Access      []string       `json:"access" doc:"who may read it besides its owner; empty: everyone in the tenant"`
	Owner       string         `json:"owner"`
	Source      string         `json:"source,omitempty"`
	Trust       string         `json:"trust" enum:"outside,flagged,released,builtin"`
	Created     time.Time      `json:"created_at"`
	Updated     time.Time      `json:"updated_at"`
}

type originalBody struct {
	ContentType string   `json:"content_type"`
	SHA256      string   `json:"sha256"`
	Findings    []string `json:"findings,omitempty" doc:"what was suspicious in it, as hidden_text"`
}

func showDocument(c Collection, x Document) documentBody {
	b := documentBody{
		ID: x.ID, Collection: c.Name, Title: x.Title, Status: x.Status, Reason: x.Reason, Version: x.Version, ContentType: x.ContentType, Text: x.Text,
		Metadata: shown(c.Fields, x.Metadata), DuplicateOf: x.DuplicateOf, Pages: x.Origin.Pages, Access: x.Access, Owner: x.Owner, Source: x.Source, Trust: x.Trust, Created: x.Created, Updated: x.Updated,
	}
	if x.Origin.Digest != "" {
		b.Original = &originalBody{x.Origin.Type, x.Origin.Digest, x.Origin.Findings}
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
	Trust      string     `json:"trust" enum:"outside,flagged,released,builtin" doc:"how far the document is trusted"`
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
	rpc.Register(s.public, huma.Operation{OperationID: "changeCollection", Method: http.MethodPatch, Path: collectionPath, Summary: "Change a collection's settings; another model begins a re-embedding"}, write, s.patchCollection)
	rpc.Register(s.public, huma.Operation{OperationID: "getReembedding", Method: http.MethodGet, Path: reembeddingPath, Summary: "Show how far a collection's last re-embedding is"}, read, s.getReembedding)
	rpc.Register(s.public, huma.Operation{OperationID: "startReembedding", Method: http.MethodPost, Path: reembeddingPath, Summary: "Embed anew what lacks vectors of the version that serves the collection's model", DefaultStatus: http.StatusAccepted}, write, s.postReembedding)
	rpc.Register(s.public, huma.Operation{OperationID: "cancelReembedding", Method: http.MethodDelete, Path: reembeddingPath, Summary: "End the re-embedding in work; searches go on as before"}, write, s.deleteReembedding)
	rpc.Register(s.public, huma.Operation{OperationID: "listVersions", Method: http.MethodGet, Path: versionsPath, Summary: "List the versions of a document that can be read"}, read, s.getVersions)
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
	s.quarantineRoutes()
	s.progressRoute(read)
	s.uploadRoute(write)
}

type createCollectionIn struct {
	Key  string `header:"Idempotency-Key" maxLength:"128" doc:"makes it safe to send this again"`
	Body struct {
		Name        string      `json:"name" doc:"lower case letters, digits, - and _" example:"docs"`
		Description string      `json:"description,omitempty"`
		Public      bool        `json:"public,omitempty" doc:"only collections of the platform can be"`
		Personal    bool        `json:"personal,omitempty" doc:"not offered yet"`
		Fields      []fieldBody `json:"fields,omitempty" maxItems:"64" doc:"metadata whose values have a type"`
		Language    string      `json:"language,omitempty" doc:"of its texts: an ISO 639 code, or auto" example:"en"`
		Model       string      `json:"model,omitempty" doc:"what embeds its texts; the default encoder unless said otherwise"`
		Weights     weightsBody `json:"weights,omitzero" doc:"how much words and meaning count where they are fused; 1 unless said otherwise"`
		Duplicates  string      `json:"duplicates,omitempty" enum:"keep,skip,refuse" doc:"what becomes of a text that is there already under another id; keep unless said otherwise"`
		Versions    *int32      `json:"versions,omitempty" minimum:"1" maximum:"100" doc:"of a document that stay readable, the latest among them; 10 unless said otherwise"`
	}
}

func (s *Service) postCollection(ctx context.Context, in *createCollectionIn) (*created, error) {
	m := &searchv1.CreateCollectionRequest{
		Name: in.Body.Name, Description: in.Body.Description, Public: in.Body.Public, Personal: in.Body.Personal, Fields: fieldsIn(in.Body.Fields), Language: in.Body.Language,
		Model: in.Body.Model, Words: in.Body.Weights.Words, Meaning: in.Body.Weights.Meaning, Duplicates: in.Body.Duplicates, Versions: in.Body.Versions,
	}
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
	c, err := s.CreateCollection(ctx, Collection{Name: m.GetName(), Settings: settingsOf(m), Public: m.GetPublic()}, key)
	if err != nil {
		return nil, err
	}
	return &created{collectionsPath + "/" + c.Name, showCollection(c)}, nil
}

func fieldsIn(list []fieldBody) (out []*searchv1.Field) {
	for _, f := range list {
		out = append(out, &searchv1.Field{Name: f.Name, Type: f.Type, Required: f.Required})
	}
	return out
}

func fieldsOf(list []*searchv1.Field) []Field {
	out := make([]Field, len(list))
	for i, f := range list {
		out[i] = Field{f.GetName(), f.GetType(), f.GetRequired()}
	}
	return out
}

func settingsOf(m *searchv1.CreateCollectionRequest) Settings {
	s := DefaultSettings()
	s.Description, s.Model, s.Fields = m.GetDescription(), modelName(m.GetModel()), fieldsOf(m.GetFields())
	if m.GetLanguage() != "" {
		s.Language = m.GetLanguage()
	}
	if m.GetDuplicates() != "" {
		s.Duplicates = m.GetDuplicates()
	}
	set(&s.Weights.Words, m.Words)
	set(&s.Weights.Meaning, m.Meaning)
	if m.Versions != nil {
		s.Versions = int(m.GetVersions())
	}
	return s
}

// modelName is how a model stands in the database: the default one has no name.
func modelName(name string) string {
	if name == defaultModel {
		return ""
	}
	return name
}

type changeCollectionIn struct {
	Name string `path:"name" maxLength:"63" doc:"the collection's name"`
	Body struct {
		Description *string      `json:"description,omitempty"`
		Fields      *[]fieldBody `json:"fields,omitempty" maxItems:"64" doc:"the whole list; it holds for documents from now on, and what is there must fit it"`
		Language    *string      `json:"language,omitempty" doc:"only while there are no documents"`
		Model       *string      `json:"model,omitempty" doc:"another one begins a re-embedding; the one it has ends one that is in work"`
		Weights     weightsBody  `json:"weights,omitzero"`
		Duplicates  *string      `json:"duplicates,omitempty" enum:"keep,skip,refuse"`
		Versions    *int32       `json:"versions,omitempty" minimum:"1" maximum:"100"`
	}
}

func (s *Service) patchCollection(ctx context.Context, in *changeCollectionIn) (*collectionOut, error) {
	b := in.Body
	m := &searchv1.ChangeCollectionRequest{
		Name: in.Name, Description: b.Description, Language: b.Language, Model: b.Model, Words: b.Weights.Words, Meaning: b.Weights.Meaning, Duplicates: b.Duplicates, Versions: b.Versions,
	}
	if b.Fields != nil {
		m.Fields = &searchv1.Fields{Fields: fieldsIn(*b.Fields)}
	}
	if err := rpc.Validate(m); err != nil {
		return nil, err
	}
	ch := Change{Description: m.Description, Language: m.Language, Duplicates: m.Duplicates, Words: m.Words, Meaning: m.Meaning}
	if m.Model != nil {
		ch.Model = new(modelName(m.GetModel()))
	}
	if m.Versions != nil {
		ch.Versions = new(int(m.GetVersions()))
	}
	if m.GetFields() != nil {
		ch.Fields = new(fieldsOf(m.GetFields().GetFields()))
	}
	c, err := s.ChangeCollection(ctx, m.GetName(), ch)
	if err != nil {
		return nil, err
	}
	out := showCollection(c)
	out.Documents = &c.Documents
	return &collectionOut{out}, nil
}

type reembeddingOut struct{ Body reembeddingBody }

func (s *Service) getReembedding(ctx context.Context, in *namePath) (*reembeddingOut, error) {
	return reembeddingAnswer(s.Reembedding(ctx, in.Name))
}

func (s *Service) postReembedding(ctx context.Context, in *namePath) (*reembeddingOut, error) {
	return reembeddingAnswer(s.Reembed(ctx, in.Name))
}

func (s *Service) deleteReembedding(ctx context.Context, in *namePath) (*reembeddingOut, error) {
	return reembeddingAnswer(s.CancelReembedding(ctx, in.Name))
}

func reembeddingAnswer(j Reembedding, err error) (*reembeddingOut, error) {
	if err != nil {
		return nil, err
	}
	return &reembeddingOut{showReembedding(j)}, nil
}

type versionBody struct {
	Version     int64      `json:"version"`
	Title       string     `json:"title,omitempty"`
	SHA256      string     `json:"sha256" doc:"of the text"`
	Current     bool       `json:"current" doc:"searches find it"`
	ContentType string     `json:"original_content_type,omitempty" doc:"of the file that the text was taken from"`
	Stored      time.Time  `json:"stored_at"`
	Replaced    *time.Time `json:"replaced_at,omitempty"`
}

type versionsOut struct {
	Body struct {
		Versions []versionBody `json:"versions" doc:"the newest first"`
	}
}

func (s *Service) getVersions(ctx context.Context, in *documentIDPath) (*versionsOut, error) {
	list, err := s.Versions(ctx, in.Name, in.ID)
	if err != nil {
		return nil, err
	}
	out := &versionsOut{}
	out.Body.Versions = []versionBody{}
	for _, v := range list {
		b := versionBody{Version: v.Number, Title: v.Title, SHA256: v.Digest, Current: v.Current, ContentType: v.OriginalType, Stored: v.Stored}
		if !v.Replaced.IsZero() {
			b.Replaced = &v.Replaced
		}
		out.Body.Versions = append(out.Body.Versions, b)
	}
	return out, nil
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
	Name   string `path:"name" maxLength:"63" doc:"the collection's name"`
	Status string `query:"status" enum:"queued,indexed,quarantined,failed" doc:"only those of this status"`
}

type documentsOut struct {
	Body struct {
		Documents  []documentBody `json:"documents" doc:"without their text"`
		NextCursor string         `json:"next_cursor,omitempty" doc:"for the next page; absent on the last"`
	}
}

func (s *Service) getDocuments(ctx context.Context, in *documentsIn) (*documentsOut, error) {
	c, list, err := s.Documents(ctx, in.Name, in.Status, in.Cursor, in.Limit+1)
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
		out.Body.Documents = append(out.Body.Documents, showDocument(c, x))
	}
	return out, nil
}

type documentOut struct{ Body documentBody }

type getDocumentIn struct {
	Name    string `path:"name" maxLength:"63" doc:"the collection's name"`
	ID      string `path:"id" maxLength:"128" doc:"the document's id"`
	Version int64  `query:"version" minimum:"0" doc:"one that a citation names; the one that was stored last unless said otherwise"`
}

func (s *Service) getDocument(ctx context.Context, in *getDocumentIn) (*documentOut, error) {
	c, x, err := s.Document(ctx, in.Name, in.ID, in.Version)
	if err != nil {
		return nil, err
	}
	return &documentOut{showDocument(c, x)}, nil
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
		} `json:"weights,omitzero" doc:"how much each list counts in hybrid searches; as the collection says unless said otherwise"`
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
