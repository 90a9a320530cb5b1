package search

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"mime"
	"mime/multipart"
	"net/http"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/danielgtaylor/huma/v2"
	"golang.org/x/sync/errgroup"

	searchv1 "aran/api/gen/aran/search/v1"
	"aran/platform/fault"
	"aran/platform/rpc"
	"aran/service/search/extract"
)

const (
	maxBody      = 6 << 20  // of one document
	maxFile      = 32 << 20 // of one file
	maxBulk      = 32 << 20 // of many, as lines
	maxLines     = 10_000
	bulkAtOnce   = 32 // lines that share commits
	maxFormField = 64 << 10
)

// documentIn is a document as clients send it.
type documentIn struct {
	ID          string     `json:"id,omitempty" doc:"letters, digits and . _ : -; one is made when it is missing"`
	Title       string     `json:"title,omitempty"`
	Text        string     `json:"text,omitempty" doc:"plain text"`
	Content     string     `json:"content,omitempty" doc:"in place of text, with content_type"`
	ContentType string     `json:"content_type,omitempty" enum:"text/plain,text/markdown,text/html"`
	Metadata    metadataIn `json:"metadata,omitempty" doc:"to filter searches by"`
	Access      []string   `json:"access,omitempty" doc:"user:… and role:… who may read it besides you; empty: everyone in the tenant"`

	isFile bool // content is a file as it was sent; its type may be wrong or missing
	titled bool // the title is not the file's name
}

// metadataIn takes numbers and booleans besides strings.
type metadataIn map[string]string

// UnmarshalJSON keeps numbers as they are written.
func (m *metadataIn) UnmarshalJSON(b []byte) error {
	var raw map[string]any
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	if err := d.Decode(&raw); err != nil {
		return &json.UnmarshalTypeError{Value: "value that is no object", Field: "metadata", Type: reflect.TypeFor[map[string]string]()}
	}
	*m = make(metadataIn, len(raw))
	for k, v := range raw {
		switch v := v.(type) {
		case string:
			(*m)[k] = v
		case json.Number:
			(*m)[k] = v.String()
		case bool:
			(*m)[k] = strconv.FormatBool(v)
		default:
			return &json.UnmarshalTypeError{Value: "list, object or null", Field: "metadata." + k, Type: reflect.TypeFor[string]()}
		}
	}
	return nil
}

// Schema implements huma.SchemaProvider.
func (metadataIn) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{Type: huma.TypeObject, AdditionalProperties: &huma.Schema{OneOf: []*huma.Schema{{Type: huma.TypeString}, {Type: huma.TypeNumber}, {Type: huma.TypeBoolean}}}}
}

// read takes the text out of what was sent, where it is no text itself.
func (in *documentIn) read(ctx context.Context, r *extract.Reader) (o Origin, err error) {
	if !in.isFile && in.ContentType != extract.HTML {
		return o, nil
	}
	if in.Text != "" && in.Content == "" {
		in.Content, in.Text = in.Text, ""
	}
	out, kind, err := r.Read(ctx, in.ContentType, []byte(in.Content))
	if err != nil {
		return o, err
	}
	if kind != out.ContentType {
		o = Origin{Digest: digest(in.Content), Type: kind, Pages: out.Pages, Findings: out.Findings}
		if out.Title != "" && !in.titled {
			in.Title = cutTitle(out.Title)
		}
	}
	in.Content, in.ContentType = out.Text, out.ContentType
	return o, nil
}

// cutTitle keeps what fits: the file's author did not know our rules.
func cutTitle(s string) string {
	if r := []rune(s); len(r) > maxTitle {
		return string(r[:maxTitle])
	}
	return s
}

const maxTitle = 500 // characters

// check makes the message of a document and holds it against its rules.
func (in *documentIn) check(collection string) (Document, error) {
	text := in.Text
	switch {
	case in.Text != "" && in.Content != "":
		return Document{}, invalid("content", "and text are both there; send one of them")
	case in.Content != "":
		text = in.Content
	}
	m := &searchv1.PutDocumentRequest{Collection: collection, Id: in.ID, Title: in.Title, Text: text, ContentType: in.ContentType, Metadata: in.Metadata, Access: in.Access}
	for field, s := range map[string]string{"text": m.GetText(), "title": m.GetTitle()} {
		if err := checkText(field, s); err != nil {
			return Document{}, err
		}
	}
	if err := rpc.Validate(m); err != nil {
		return Document{}, err
	}
	return Document{ID: m.GetId(), Title: m.GetTitle(), Text: m.GetText(), ContentType: m.GetContentType(), Metadata: m.GetMetadata(), Access: m.GetAccess()}, nil
}

func (s *Service) uploadRoute(a rpc.Access) {
	s.public.Handle(http.MethodPost, documentsPath, a, maxBulk, http.HandlerFunc(s.postDocuments))
	registry := s.public.OpenAPI().Components.Schemas
	document, stored := registry.Schema(reflect.TypeFor[documentIn](), true, ""), registry.Schema(reflect.TypeFor[documentBody](), true, "")
	text := &huma.Schema{Type: huma.TypeString}
	s.public.Document(huma.Operation{
		OperationID: "putDocument", Method: http.MethodPost, Path: documentsPath, Summary: "Add or replace a document",
		Description: "As JSON, as a file (multipart/form-data: plain text, Markdown, HTML, PDF or DOCX, whose text is taken out), or many as lines of JSON (application/x-ndjson, with one line of answer for each). It is durable when this answers; its status tells when searches find it.",
		Parameters: []*huma.Param{
			{Name: "name", In: "path", Required: true, Schema: text, Description: "the collection's name"},
			{Name: "Idempotency-Key", In: "header", Schema: text, Description: "makes it safe to send this again; not for lines"},
		},
		RequestBody: &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{
			"application/json":     {Schema: document},
			"application/x-ndjson": {Schema: text},
			"multipart/form-data": {Schema: &huma.Schema{Type: huma.TypeObject, Required: []string{"file"}, Properties: map[string]*huma.Schema{
				"file": {Type: huma.TypeString, Format: "binary"}, "id": text, "title": text, "metadata": text, "access": text,
			}}},
		}},
		Responses: map[string]*huma.Response{
			"202": {Description: "Stored; indexing follows", Content: map[string]*huma.MediaType{"application/json": {Schema: stored}}},
			"200": {Description: "Lines: what became of each", Content: map[string]*huma.MediaType{"application/x-ndjson": {Schema: text}}},
		},
	})
}

func (s *Service) postDocuments(w http.ResponseWriter, r *http.Request) {
	kind, params, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil && r.Header.Get("Content-Type") != "" {
		kind = ""
	}
	if kind != "application/x-ndjson" && kind != "multipart/form-data" {
		if r.ContentLength > maxBody {
			rpc.Problem(w, r, fault.New(fault.TooLarge, "body_too_large", "The body has %d bytes; a document may have %d.", r.ContentLength, maxBody))
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
	}
	switch kind {
	case "application/json":
		var in documentIn
		if err = decode(r.Body, &in); err == nil {
			in.titled = in.Title != ""
			err = s.putOne(w, r, in)
		}
	case "multipart/form-data":
		var in documentIn
		if in, err = form(multipart.NewReader(r.Body, params["boundary"])); err == nil {
			err = s.putOne(w, r, in)
		}
	case "application/x-ndjson":
		err = s.putLines(w, r)
	default:
		err = fault.New(fault.Unsupported, rpc.ContentType, "Content-Type %q is not taken here; send application/json, multipart/form-data or application/x-ndjson.", r.Header.Get("Content-Type"))
	}
	if err != nil {
		if fault.KindOf(err) == fault.Internal {
			s.log.LogAttrs(r.Context(), slog.LevelError, "document not stored", slog.String("request_id", rpc.RequestID(r.Context())), slog.String("error", err.Error()))
		}
		rpc.Problem(w, r, err)
	}
}

// decode reads a document strictly. encoding/json would put marks in place of bytes that are no UTF-8; we refuse them.
func decode(body io.Reader, in *documentIn) error {
	b, err := io.ReadAll(body)
	if err != nil {
		return err
	}
	if !utf8.Valid(b) {
		return fault.New(fault.Invalid, "not_utf8", "The body is not UTF-8; convert it first.")
	}
	return rpc.DecodeJSON(&http.Request{Body: io.NopCloser(bytes.NewReader(b))}, in)
}

func (s *Service) putOne(w http.ResponseWriter, r *http.Request, in documentIn) error {
	key, err := rpc.IdempotencyKey(r.Header)
	if err != nil {
		return err
	}
	collection := r.PathValue("name")
	if _, err := s.Collection(r.Context(), collection); err != nil {
		return err // before the work of reading a file
	}
	origin, err := in.read(r.Context(), s.reader)
	if err != nil {
		return err
	}
	fault.Point("search.text_extracted")
	x, err := in.check(collection)
	if err != nil {
		return err
	}
	x.Origin = origin
	c, x, err := s.Put(r.Context(), collection, x, key)
	if err != nil {
		return err
	}
	x.Text = ""
	w.Header().Set("Location", documentURL(collection, x.ID))
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusAccepted)
	_ = json.NewEncoder(w).Encode(showDocument(c, x)) // the client may be gone
	return nil
}

// form reads a file and what is said about it.
func form(mr *multipart.Reader) (in documentIn, err error) {
	for {
		part, err := mr.NextPart()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return in, formFault(err)
		}
		if part.FormName() == "file" {
			if in.Content != "" {
				return in, invalid("file", "is there twice; send one file at a time")
			}
			if err := in.file(part); err != nil {
				return in, err
			}
			continue
		}
		if err := in.field(part); err != nil {
			return in, err
		}
	}
	if in.Content == "" {
		return in, invalid("file", "is missing or empty")
	}
	return in, nil
}

func formFault(err error) error {
	if _, large := errors.AsType[*http.MaxBytesError](err); large {
		return err
	}
	return fault.New(fault.Invalid, "malformed_form", "The form can't be read.").Because(err)
}

func (in *documentIn) file(part *multipart.Part) error {
	b, err := io.ReadAll(part)
	if err != nil {
		return formFault(err)
	}
	in.Content, in.isFile = string(b), true
	name := filepath.Base(part.FileName())
	if in.ContentType, _, err = mime.ParseMediaType(part.Header.Get("Content-Type")); err != nil {
		in.ContentType = ""
	}
	if kind, ok := byExtension[strings.ToLower(filepath.Ext(name))]; ok && (in.ContentType == "" || in.ContentType == "application/octet-stream" || in.ContentType == plainText) {
		in.ContentType = kind
	}
	if in.Title == "" && name != "." && name != string(filepath.Separator) {
		in.Title = cutTitle(name)
	}
	return nil
}

// byExtension says what a file is called to be, where its sender says nothing better.
var byExtension = map[string]string{ //nolint:gochecknoglobals // a table
	".md": markdown, ".markdown": markdown, ".txt": plainText, ".text": plainText, ".html": extract.HTML, ".htm": extract.HTML, ".xhtml": extract.HTML,
	".pdf": extract.PDF, ".docx": extract.DOCX,
}

func (in *documentIn) field(part *multipart.Part) error {
	b, err := io.ReadAll(io.LimitReader(part, maxFormField+1))
	if err != nil {
		return formFault(err)
	}
	if len(b) > maxFormField {
		return fault.New(fault.TooLarge, "field_too_large", "The field %q is larger than %d bytes.", part.FormName(), maxFormField)
	}
	switch name := part.FormName(); name {
	case "id":
		in.ID = string(b)
	case "title":
		in.Title, in.titled = string(b), len(b) > 0
	case "metadata":
		if err := json.Unmarshal(b, &in.Metadata); err != nil {
			return invalid(name, "is not a JSON object of strings, numbers and booleans")
		}
	case "access":
		if err := json.Unmarshal(b, &in.Access); err != nil {
			return invalid(name, "is not a JSON array of strings")
		}
	default:
		return fault.New(fault.Invalid, "unknown_field", "There is no field %q.", name)
	}
	return nil
}

// lineResult is the answer to one line.
type lineResult struct {
	Line        int    `json:"line"`
	ID          string `json:"id,omitempty"`
	Status      string `json:"status,omitempty"` // of the document; "empty" for an empty line, "skipped" for a duplicate that is not stored
	DuplicateOf string `json:"duplicate_of,omitempty"`
	Code        string `json:"code,omitempty"`
	Detail      string `json:"detail,omitempty"`
}

// putLines stores many documents. A bad line does not stop the others.
func (s *Service) putLines(w http.ResponseWriter, r *http.Request) error {
	collection := r.PathValue("name")
	if _, err := s.Collection(r.Context(), collection); err != nil {
		return err
	}
	var results []lineResult
	lines := bufio.NewScanner(r.Body)
	lines.Buffer(make([]byte, 64<<10), maxBody)
	n := 0
	for more := true; more; {
		var texts [][]byte
		for len(texts) < bulkAtOnce {
			if more = lines.Scan(); !more {
				break
			}
			texts = append(texts, bytes.Clone(lines.Bytes()))
		}
		if n += len(texts); n > maxLines {
			return fault.New(fault.TooLarge, "too_many_lines", "A request takes %d lines; the first %d are stored.", maxLines, len(results))
		}
		results = append(results, s.putBatch(r.Context(), collection, len(results), texts)...)
	}
	if err := lines.Err(); errors.Is(err, bufio.ErrTooLong) {
		results = append(results, lineResult{Line: n + 1, Code: "body_too_large", Detail: "The line is too long; it and what follows is not stored."})
	} else if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	enc := json.NewEncoder(w)
	for _, res := range results {
		if err := enc.Encode(res); err != nil {
			return nil //nolint:nilerr // the client is gone
		}
	}
	return nil
}

func (s *Service) putBatch(ctx context.Context, collection string, before int, texts [][]byte) []lineResult {
	out := make([]lineResult, len(texts))
	g, ctx := errgroup.WithContext(ctx)
	for i, text := range texts {
		g.Go(func() error {
			out[i] = s.putLine(ctx, collection, text)
			out[i].Line = before + i + 1
			return nil
		})
	}
	_ = g.Wait() // each line has its own outcome
	return out
}

func (s *Service) putLine(ctx context.Context, collection string, text []byte) lineResult {
	if len(bytes.TrimSpace(text)) == 0 {
		return lineResult{Status: "empty"}
	}
	var in documentIn
	err := decode(bytes.NewReader(text), &in)
	var x Document
	var origin Origin
	if err == nil {
		in.titled = in.Title != ""
		origin, err = in.read(ctx, s.reader)
	}
	if err == nil {
		x, err = in.check(collection)
	}
	if err == nil {
		x.Origin = origin
		_, x, err = s.Put(ctx, collection, x, "")
	}
	if err == nil {
		res := lineResult{ID: x.ID, Status: x.Status, DuplicateOf: x.DuplicateOf}
		if x.Skipped {
			res.Status = "skipped"
		}
		return res
	}
	res := lineResult{ID: in.ID, Code: "internal", Detail: "Something broke here; send the line again."}
	if f := fault.From(err); f != nil && f.Kind != fault.Internal {
		res.Code, res.Detail = f.Code, f.Detail
		for _, field := range f.Fields {
			res.Detail += " " + field.Path + ": " + field.Message + "."
		}
	}
	return res
}
