package recommend

import (
	"context"
	"net/http"
	"reflect"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"aran/platform/auth"
	"aran/platform/rpc"
)

const (
	itemsPath        = "/api/v1/items"
	itemPath         = itemsPath + "/{id}"
	interactionsPath = "/api/v1/interactions"
	rankPath         = "/api/v1/recommendations"
)

type itemBody struct {
	ID        string            `json:"id"`
	Title     string            `json:"title,omitempty"`
	Metadata  map[string]string `json:"metadata"`
	Editorial int64             `json:"editorial,omitempty" doc:"rank among the editors' picks, the first is 1"`
	Available bool              `json:"available" doc:"what is not available is not recommended"`
	Created   time.Time         `json:"created_at"`
	Updated   time.Time         `json:"updated_at"`
}

func showItem(x Item) itemBody {
	b := itemBody(x)
	if b.Metadata == nil {
		b.Metadata = map[string]string{}
	}
	return b
}

type rankedBody struct {
	Item   string  `json:"item"`
	Score  float64 `json:"score" doc:"0 to 1, to compare within this answer only"`
	Reason string  `json:"reason" doc:"popular, popular among <key>:<value>, editorial (picked) or new"`
}

type itemIDPath struct {
	ID string `path:"id" maxLength:"128" doc:"the item's id"`
}

func (s *Service) routes() {
	read, write, interact := rpc.Access{Scope: auth.ScopeRecommend}, rpc.Access{Scope: auth.ScopeItems}, rpc.Access{Scope: auth.ScopeInteract}
	rpc.Register(s.public, huma.Operation{OperationID: "listItems", Method: http.MethodGet, Path: itemsPath, Summary: "List items"}, read, s.getItems)
	rpc.Register(s.public, huma.Operation{OperationID: "getItem", Method: http.MethodGet, Path: itemPath, Summary: "Show an item"}, read,
		func(ctx context.Context, in *itemIDPath) (*itemOut, error) {
			x, err := s.Item(ctx, in.ID)
			return &itemOut{showItem(x)}, err
		})
	rpc.Register(s.public, huma.Operation{OperationID: "putItem", Method: http.MethodPut, Path: itemPath, Summary: "Add or replace an item"}, write, s.putItem)
	rpc.Register(s.public, huma.Operation{OperationID: "deleteItem", Method: http.MethodDelete, Path: itemPath, Summary: "Delete an item; it is not recommended any more", DefaultStatus: http.StatusNoContent}, write,
		func(ctx context.Context, in *itemIDPath) (*struct{}, error) {
			return nil, s.DeleteItem(ctx, in.ID)
		})
	rpc.Register(s.public, huma.Operation{OperationID: "eraseInteractions", Method: http.MethodDelete, Path: interactionsPath, Summary: "Forget a user: their interactions leave the counts", DefaultStatus: http.StatusNoContent}, interact,
		func(ctx context.Context, in *eraseIn) (*struct{}, error) {
			return nil, s.Erase(ctx, in.User)
		})
	rpc.Register(s.public, huma.Operation{OperationID: "recommend", Method: http.MethodGet, Path: rankPath, Summary: "Rank items for a user"}, read, s.getRanking)
	s.bulkRoute(itemsPath, write, s.postItems, operation{
		id: "putItems", summary: "Add or replace items", one: reflect.TypeFor[itemIn](), out: reflect.TypeFor[itemsBody](),
		description: "One as JSON, up to 1000 as a JSON array (all or none), or many as lines of JSON (application/x-ndjson, with one line of answer for each).",
	})
	s.bulkRoute(interactionsPath, interact, s.postInteractions, operation{
		id: "recordInteractions", summary: "Record what users did", one: reflect.TypeFor[interactionsIn](), out: reflect.TypeFor[recordedBody](),
		description: "One as JSON, up to 1000 as {\"interactions\": […]} (all or none), or many as lines of JSON (application/x-ndjson, with one line of answer for each). They count when this answers. One user adds to an item once for each type and day.",
	})
}

type itemOut struct{ Body itemBody }

type putItemIn struct {
	ID   string `path:"id" maxLength:"128" doc:"the item's id"`
	Body itemIn
}

func (s *Service) putItem(ctx context.Context, in *putItemIn) (*itemOut, error) {
	if in.Body.ID != "" && in.Body.ID != in.ID {
		return nil, invalid("id", "is not the one in the path; leave it out")
	}
	in.Body.ID = in.ID
	list, err := s.PutItems(ctx, []Item{in.Body.item()}, "")
	if err != nil {
		return nil, err
	}
	return &itemOut{showItem(list[0])}, nil
}

type itemsBody struct {
	Items      []itemBody `json:"items"`
	NextCursor string     `json:"next_cursor,omitempty" doc:"for the next page; absent on the last"`
}

type itemsOut struct{ Body itemsBody }

func (s *Service) getItems(ctx context.Context, in *rpc.Page) (*itemsOut, error) {
	list, err := s.Items(ctx, in.Cursor, in.Limit+1)
	if err != nil {
		return nil, err
	}
	out := &itemsOut{itemsBody{Items: []itemBody{}}}
	for i, x := range list {
		if i == in.Limit {
			out.Body.NextCursor = list[i-1].ID
			break
		}
		out.Body.Items = append(out.Body.Items, showItem(x))
	}
	return out, nil
}

type eraseIn struct {
	User string `query:"user" required:"true" minLength:"1" maxLength:"256" doc:"your id of the user"`
}

type rankIn struct {
	User    string `query:"user" maxLength:"256" doc:"your id of the user; without it: for nobody in particular"`
	Limit   int    `query:"limit" minimum:"1" maximum:"100" default:"20" doc:"how many at most"`
	Context string `query:"context" maxLength:"400" doc:"the id of an item that is shown already and is left out, or metadata.<key>:<value> for items that have this in their metadata"`
}

type rankOut struct {
	Body struct {
		Items []rankedBody `json:"items" doc:"the best first"`
		Model string       `json:"model" doc:"what ranked, with a digest of its settings"`
		Rung  string       `json:"rung" enum:"model,previous,popularity,editorial" doc:"editorial: nothing popular was there to choose from"`
	}
}

func (s *Service) getRanking(ctx context.Context, in *rankIn) (*rankOut, error) {
	r, err := s.Rank(ctx, Query{in.User, in.Limit, in.Context})
	if err != nil {
		return nil, err
	}
	out := &rankOut{}
	out.Body.Items, out.Body.Model, out.Body.Rung = make([]rankedBody, len(r.Items)), r.Model, r.Rung
	for i, x := range r.Items {
		out.Body.Items[i] = rankedBody(x)
	}
	return out, nil
}
