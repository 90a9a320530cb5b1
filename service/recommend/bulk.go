package recommend

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"reflect"
	"time"
	"unicode/utf8"

	"github.com/danielgtaylor/huma/v2"

	"aran/platform/fault"
	"aran/platform/rpc"
)

const (
	maxBulk  = 32 << 20 // of lines
	maxJSON  = 4 << 20
	maxLine  = 64 << 10
	maxLines = 10_000
	maxBatch = 1000 // entries of a JSON array
	perWrite = 250  // lines that share a transaction
	lineKind = "application/x-ndjson"
)

// itemIn is an item as clients send it.
type itemIn struct {
	ID        string            `json:"id,omitempty" doc:"letters, digits and . _ : -"`
	Title     string            `json:"title,omitempty"`
	Metadata  map[string]string `json:"metadata,omitempty" doc:"to choose among items by"`
	Editorial *int64            `json:"editorial,omitempty" doc:"rank among the editors' picks, the first is 1"`
	Available *bool             `json:"available,omitempty" doc:"true unless said otherwise; what is not available is not recommended"`
}

func (in itemIn) item() Item {
	x := Item{ID: in.ID, Title: in.Title, Metadata: in.Metadata, Available: in.Available == nil || *in.Available}
	if in.Editorial != nil {
		x.Editorial = *in.Editorial
		if x.Editorial == 0 {
			x.Editorial = -1 // said, and no rank
		}
	}
	return x
}

// interactionIn is an interaction as clients send it.
type interactionIn struct {
	ID     string     `json:"id,omitempty" doc:"your own id of it: the same one of a user counts once"`
	User   string     `json:"user,omitempty" doc:"your id of the user; it is not stored"`
	Item   string     `json:"item,omitempty"`
	Type   string     `json:"type,omitempty" doc:"one of the types in the settings" example:"view"`
	Weight *float64   `json:"weight,omitempty" doc:"in place of the type's"`
	Time   *time.Time `json:"time,omitempty" doc:"RFC 3339; now unless said otherwise"`
}

func (in interactionIn) interaction() Interaction {
	x := Interaction{ID: in.ID, User: in.User, Item: in.Item, Type: in.Type}
	if in.Weight != nil {
		x.Weight = *in.Weight
		if x.Weight == 0 {
			x.Weight = -1 // said, and no weight
		}
	}
	if in.Time != nil {
		x.Time = *in.Time
		if x.Time.IsZero() {
			x.Time = time.Unix(0, 0) // said, and too long ago
		}
	}
	return x
}

// interactionsIn is one interaction, or several.
type interactionsIn struct {
	interactionIn
	Interactions []interactionIn `json:"interactions,omitempty"`
}

type recordedBody struct {
	Recorded int `json:"recorded" doc:"how many count"`
	Repeated int `json:"repeated" doc:"how many were there before, or repeat what the user did with the item on that day"`
	Unlisted int `json:"unlisted,omitempty" doc:"how many are of items that are not in the catalogue; those are recommended once they are"`
}

// operation documents a route that takes one or many.
type operation struct {
	id, summary, description string
	one, out                 reflect.Type
}

// bulkRoute serves a POST with its own decoding: JSON or lines.
func (s *Service) bulkRoute(path string, a rpc.Access, post func(w http.ResponseWriter, r *http.Request, kind string) error, op operation) {
	s.public.Handle(http.MethodPost, path, a, maxBulk, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		kind, err := kindOf(w, r)
		if err == nil {
			err = post(w, r, kind)
		}
		if err != nil {
			if fault.KindOf(err) == fault.Internal {
				s.log.LogAttrs(r.Context(), slog.LevelError, "not stored", slog.String("request_id", rpc.RequestID(r.Context())), slog.String("error", err.Error()))
			}
			rpc.Problem(w, r, err)
		}
	}))
	registry := s.public.OpenAPI().Components.Schemas
	text := &huma.Schema{Type: huma.TypeString}
	s.public.Document(huma.Operation{
		OperationID: op.id, Method: http.MethodPost, Path: path, Summary: op.summary, Description: op.description,
		Parameters: []*huma.Param{{Name: "Idempotency-Key", In: "header", Schema: text, Description: "makes it safe to send this again; of lines, those that were stored before are answered as before"}},
		RequestBody: &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{
			"application/json": {Schema: registry.Schema(op.one, true, "")}, lineKind: {Schema: text},
		}},
		Responses: map[string]*huma.Response{
			"201": {Description: "Stored", Content: map[string]*huma.MediaType{"application/json": {Schema: registry.Schema(op.out, true, "")}}},
			"200": {Description: "Lines: what became of each", Content: map[string]*huma.MediaType{lineKind: {Schema: text}}},
		},
	})
}

// kindOf is what the body claims to be.
func kindOf(w http.ResponseWriter, r *http.Request) (string, error) {
	said := r.Header.Get("Content-Type")
	kind, _, err := mime.ParseMediaType(said)
	if err != nil || kind != "application/json" && kind != lineKind {
		return "", fault.New(fault.Unsupported, rpc.ContentType, "Content-Type %q is not taken here; send application/json or %s.", said, lineKind)
	}
	if kind != lineKind {
		if r.ContentLength > maxJSON {
			return "", fault.New(fault.TooLarge, "body_too_large", "The body has %d bytes; at most %d are taken as JSON, more as %s.", r.ContentLength, maxJSON, lineKind)
		}
		r.Body = http.MaxBytesReader(w, r.Body, maxJSON)
	}
	return kind, nil
}

// decode reads JSON strictly. encoding/json would put marks in place of bytes that are no UTF-8; we refuse them.
func decode(b []byte, v any) error {
	if !utf8.Valid(b) {
		return fault.New(fault.Invalid, "not_utf8", "The body is not UTF-8; convert it first.")
	}
	return rpc.DecodeJSON(&http.Request{Body: io.NopCloser(bytes.NewReader(b))}, v)
}

func tooMany(n int) error {
	return fault.New(fault.TooLarge, "too_many_entries", "There are %d entries; at most %d are taken at once as JSON, more as %s.", n, maxBatch, lineKind)
}

func answer(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusCreated)
	_ = json.NewEncoder(w).Encode(v) // the client may be gone
}

func (s *Service) postItems(w http.ResponseWriter, r *http.Request, kind string) error {
	key, err := rpc.IdempotencyKey(r.Header)
	if err != nil {
		return err
	}
	if kind == lineKind {
		return lines(w, r, key, parseItem, func(list []Item, key string) ([]lineResult, error) {
			stored, err := s.PutItems(r.Context(), list, key)
			out := make([]lineResult, len(stored))
			for i, x := range stored {
				out[i] = lineResult{ID: x.ID, Status: "stored"}
			}
			return out, err
		})
	}
	b, err := io.ReadAll(r.Body)
	if err != nil {
		return err
	}
	list, err := parseItems(b)
	if err != nil {
		return err
	}
	stored, err := s.PutItems(r.Context(), list, key)
	if err != nil {
		return err
	}
	out := itemsBody{Items: make([]itemBody, len(stored))}
	for i, x := range stored {
		out.Items[i] = showItem(x)
	}
	answer(w, out)
	return nil
}

// parseItems reads an array, or one.
func parseItems(b []byte) ([]Item, error) {
	if trimmed := bytes.TrimLeft(b, " \t\r\n"); len(trimmed) == 0 || trimmed[0] != '[' {
		x, err := parseItem(b)
		return []Item{x}, err
	}
	var in []itemIn
	if err := decode(b, &in); err != nil {
		return nil, err
	}
	if len(in) == 0 {
		return nil, fault.New(fault.Invalid, "invalid", "The list is empty.")
	}
	if len(in) > maxBatch {
		return nil, tooMany(len(in))
	}
	out, seen := make([]Item, len(in)), map[string]bool{}
	for i, x := range in {
		if seen[x.ID] {
			return nil, at(invalid("id", "is there twice"), i, len(in))
		}
		seen[x.ID] = true
		out[i] = x.item()
	}
	return out, nil
}

func parseItem(b []byte) (Item, error) {
	var in itemIn
	if err := decode(b, &in); err != nil {
		return Item{}, err
	}
	return in.item(), checkItem(in.item())
}

func (s *Service) postInteractions(w http.ResponseWriter, r *http.Request, kind string) error {
	key, err := rpc.IdempotencyKey(r.Header)
	if err != nil {
		return err
	}
	if kind == lineKind {
		return lines(w, r, key, s.parseInteraction, func(list []Interaction, key string) ([]lineResult, error) {
			done, err := s.Record(r.Context(), list, key)
			out := make([]lineResult, len(done))
			for i, o := range done {
				out[i] = lineResult{ID: list[i].ID, Status: o.Status, Unlisted: o.Unlisted}
			}
			return out, err
		})
	}
	b, err := io.ReadAll(r.Body)
	if err != nil {
		return err
	}
	list, err := parseInteractions(b)
	if err != nil {
		return err
	}
	done, err := s.Record(r.Context(), list, key)
	if err != nil {
		return err
	}
	var out recordedBody
	for _, o := range done {
		if o.Status == Recorded {
			out.Recorded++
		} else {
			out.Repeated++
		}
		if o.Unlisted {
			out.Unlisted++
		}
	}
	answer(w, out)
	return nil
}

// parseInteractions reads several, or one.
func parseInteractions(b []byte) ([]Interaction, error) {
	var in interactionsIn
	if err := decode(b, &in); err != nil {
		return nil, err
	}
	if in.Interactions == nil {
		return []Interaction{in.interaction()}, nil
	}
	if in.interactionIn != (interactionIn{}) {
		return nil, invalid("interactions", "and the fields of a single one are both there; send one of them")
	}
	if len(in.Interactions) == 0 {
		return nil, invalid("interactions", "is empty")
	}
	if len(in.Interactions) > maxBatch {
		return nil, tooMany(len(in.Interactions))
	}
	out := make([]Interaction, len(in.Interactions))
	for i, x := range in.Interactions {
		out[i] = x.interaction()
	}
	return out, nil
}

func (s *Service) parseInteraction(b []byte) (Interaction, error) {
	var in interactionIn
	if err := decode(b, &in); err != nil {
		return Interaction{}, err
	}
	x := in.interaction()
	_, err := s.check(x, time.Now())
	return x, err
}

// lineResult is the answer to one line.
type lineResult struct {
	Line     int    `json:"line"`
	ID       string `json:"id,omitempty"`
	Status   string `json:"status,omitempty"`
	Unlisted bool   `json:"unlisted,omitempty"`
	Code     string `json:"code,omitempty"`
	Detail   string `json:"detail,omitempty"`
}

// lines stores many. A bad line does not stop the others. Good lines are stored some hundred at a time; with a key, those
// that an earlier request stored are answered as they were then.
func lines[T any](w http.ResponseWriter, r *http.Request, key string, parse func([]byte) (T, error), save func(list []T, key string) ([]lineResult, error)) error {
	var results []lineResult
	scan := bufio.NewScanner(r.Body)
	scan.Buffer(make([]byte, 4<<10), maxLine)
	for more := true; more; {
		var batch [][]byte
		for len(batch) < perWrite {
			if more = scan.Scan(); !more {
				break
			}
			batch = append(batch, bytes.Clone(scan.Bytes()))
		}
		if len(results)+len(batch) > maxLines {
			return fault.New(fault.TooLarge, "too_many_lines", "A request takes %d lines; the good ones of the first %d are stored.", maxLines, len(results))
		}
		part := key
		if key != "" {
			part = fmt.Sprintf("%s/lines/%d", key, len(results))
		}
		results = append(results, storeLines(batch, len(results), part, parse, save)...)
	}
	if err := scan.Err(); errors.Is(err, bufio.ErrTooLong) {
		results = append(results, lineResult{Line: len(results) + 1, Code: "line_too_long", Detail: fmt.Sprintf("The line is longer than %d bytes; it and what follows is not stored.", maxLine)})
	} else if err != nil {
		return err
	}
	w.Header().Set("Content-Type", lineKind)
	enc := json.NewEncoder(w)
	for _, res := range results {
		if err := enc.Encode(res); err != nil {
			return nil //nolint:nilerr // the client is gone
		}
	}
	return nil
}

// storeLines stores the good ones of some lines, and says what became of each.
func storeLines[T any](batch [][]byte, before int, key string, parse func([]byte) (T, error), save func(list []T, key string) ([]lineResult, error)) []lineResult {
	out := make([]lineResult, len(batch))
	var good []T
	var where []int
	for i, text := range batch {
		out[i].Line = before + i + 1
		if len(bytes.TrimSpace(text)) == 0 {
			out[i].Status = "empty"
			continue
		}
		x, err := parse(text)
		if err != nil {
			out[i].fail(err)
			continue
		}
		good, where = append(good, x), append(where, i)
	}
	if len(good) == 0 {
		return out
	}
	done, err := save(good, key)
	for j, i := range where {
		if err != nil {
			out[i].fail(err)
			continue
		}
		done[j].Line = out[i].Line
		out[i] = done[j]
	}
	return out
}

func (res *lineResult) fail(err error) {
	res.Code, res.Detail = "internal", "Something broke here; send the line again."
	if f := fault.From(err); f != nil && f.Kind != fault.Internal {
		res.Code, res.Detail = f.Code, f.Detail
	}
}
