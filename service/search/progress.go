package search

import (
	"context"
	"encoding/json"
	"net/http"
	"reflect"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"aran/platform/auth"
	"aran/platform/fault"
	"aran/platform/rpc"
)

const (
	progressPath  = collectionPath + "/progress"
	progressEvery = time.Second // at least; a count may take a twentieth of the time
	progressShare = 20
	aliveEvery    = 15 * time.Second
	longestWatch  = time.Hour
	maxWatchers   = 128
)

// Progress is how far the indexing of a collection is: documents that the caller may read, by status.
type Progress struct {
	Queued, Indexed, Quarantined, Failed int64
	Reembedding                          *Reembedding // in work
}

// Idle says that nothing is in work.
func (p Progress) Idle() bool { return p.Queued == 0 && p.Reembedding == nil }

// Progress counts. The collection may be a public one of the platform.
func (s *Service) Progress(ctx context.Context, name string) (p Progress, err error) {
	v := viewerOf(auth.From(ctx))
	c, err := s.db.readable(ctx, v.tenant, name)
	if err != nil {
		return p, err
	}
	counts, err := s.db.countByStatus(ctx, v, c)
	if err != nil {
		return p, err
	}
	p = Progress{Queued: counts[StatusQueued], Indexed: counts[StatusIndexed], Quarantined: counts[StatusQuarantined], Failed: counts[StatusFailed]}
	if c.tenant != v.tenant {
		return p, nil
	}
	j, err := s.db.running(ctx, s.db, c.id)
	if err == nil && j.ID != "" {
		p.Reembedding = &j
	}
	return p, err
}

type progressBody struct {
	Queued      int64            `json:"queued" doc:"stored, and not indexed yet"`
	Indexed     int64            `json:"indexed"`
	Quarantined int64            `json:"quarantined" doc:"kept from searches by the guard"`
	Failed      int64            `json:"failed"`
	Reembedding *reembeddingBody `json:"reembedding,omitempty" doc:"in work"`
}

func showProgress(p Progress) progressBody {
	b := progressBody{p.Queued, p.Indexed, p.Quarantined, p.Failed, nil}
	if p.Reembedding != nil {
		b.Reembedding = new(showReembedding(*p.Reembedding))
	}
	return b
}

func (s *Service) progressRoute(a rpc.Access) {
	s.public.Handle(http.MethodGet, progressPath, a, 0, http.HandlerFunc(s.streamProgress))
	body := s.public.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[progressBody](), true, "")
	s.public.Document(huma.Operation{
		OperationID: "watchProgress", Method: http.MethodGet, Path: progressPath, Summary: "Watch how far the indexing of a collection is",
		Description: "Server-sent events: `progress` with counts whenever they changed, and `idle` with the last ones when nothing is in work any more; then the stream ends. Comments between them show that it lives.",
		Responses:   map[string]*huma.Response{"200": {Description: "The data of each event", Content: map[string]*huma.MediaType{"text/event-stream": {Schema: body}}}},
	})
}

// streamProgress sends counts until there is nothing to do, or the client leaves.
func (s *Service) streamProgress(w http.ResponseWriter, r *http.Request) {
	if s.watchers.Add(1) > maxWatchers {
		s.watchers.Add(-1)
		rpc.Problem(w, r, fault.New(fault.Unavailable, "too_many_watchers", "Many watch already; ask for the collection's documents instead, or come back later."))
		return
	}
	defer s.watchers.Add(-1)
	ctx, cancel := context.WithTimeout(r.Context(), longestWatch)
	defer cancel()
	name := r.PathValue("name")
	began := time.Now()
	p, err := s.Progress(ctx, name)
	if err != nil {
		rpc.Problem(w, r, err)
		return
	}
	stream, err := rpc.NewSSE(w)
	if err != nil {
		return // the client is gone
	}
	defer stream.Heartbeat(aliveEvery)()
	var last []byte
	for {
		data, err := json.Marshal(showProgress(p))
		if err != nil {
			return
		}
		event := "progress"
		if p.Idle() {
			event = "idle"
		}
		if string(data) != string(last) || p.Idle() {
			if stream.Send(event, data) != nil || p.Idle() {
				return
			}
		}
		last = data
		timer := time.NewTimer(max(progressEvery, progressShare*time.Since(began)))
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
		began = time.Now()
		if p, err = s.Progress(ctx, name); err != nil {
			problem, _ := json.Marshal(map[string]string{"code": codeOf(err)})
			_ = stream.Send("error", problem) // the client may be gone
			return
		}
	}
}

func codeOf(err error) string {
	if f := fault.From(err); f != nil && f.Code != "" {
		return f.Code
	}
	return "internal"
}
