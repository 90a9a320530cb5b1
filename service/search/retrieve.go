package search

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"log/slog"
	"slices"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"golang.org/x/sync/errgroup"

	"aran/platform/auth"
	"aran/platform/fault"
	"aran/platform/rpc"
	"aran/platform/store"
)

// Mode says how to rank.
type Mode string

// The modes.
const (
	Hybrid  Mode = "hybrid"  // words and meaning, fused
	Words   Mode = "words"   // BM25
	Meaning Mode = "meaning" // nearest vectors
)

// Query is a search.
type Query struct {
	Collections []string // empty: every one that the caller may read
	Text        string
	Limit       int // 0 means 10
	Mode        Mode
	Filter      []Condition // of a document's metadata; all must hold
	Weights     *Weights    // of the two lists; nil: the collection's
	Rerank      *bool       // nil: as the settings say
	Distinct    bool        // leave out passages that say what a better one says
	PerDocument int         // most passages of a document; 0: as many as rank
}

// Hit is a passage: Text is the document's text[Start:End], in bytes.
type Hit struct {
	Collection, Document, Chunk, Title, Text string
	Start, End                               int64
	Score                                    float64
	Highlights                               []Span // words of the query, in Text
	Sentence                                 Span   // what answers best, in the document's text
	Trust, Source                            string
}

// Result is what a search found, the best first.
type Result struct {
	Hits     []Hit
	Degraded bool   // meaning could not be used, or not for all
	Reranked bool   // the reranker ordered the hits
	Encoder  string // digest of the encoder; empty when words alone ranked
}

const (
	defaultLimit = 10
	maxTerms     = 64 // of a query
	minDepth     = 100
)

// ranked is a passage in a list; collection is an index into the scopes of the search.
type ranked struct {
	collection int
	id         passageID
	score      float64
}

// Retrieve finds passages that the caller may read. Rights and filter hold before anything is ranked.
func (s *Service) Retrieve(ctx context.Context, q Query) (Result, error) {
	began := time.Now()
	id := auth.From(ctx)
	if err := id.Require(auth.ScopeSearchRead); err != nil {
		return Result{}, err
	}
	if err := checkText("query", q.Text); err != nil {
		return Result{}, err
	}
	if q.Limit <= 0 {
		q.Limit = defaultLimit
	}
	if q.Mode == "" {
		q.Mode = Hybrid
	}
	scopes, err := s.scopes(ctx, viewerOf(id), q)
	if err != nil {
		return Result{}, err
	}
	res, err := s.rank(ctx, scopes, q)
	if err != nil {
		return Result{}, err
	}
	if err := s.record(ctx, id, scopes, q, res); err != nil {
		return Result{}, err
	}
	s.metrics.took.Record(ctx, time.Since(began).Seconds(), metric.WithAttributes(attribute.String("mode", string(q.Mode)), attribute.Bool("degraded", res.Degraded)))
	return res, nil
}

// scopes are the collections that a query means, with the viewer's rights.
func (s *Service) scopes(ctx context.Context, v viewer, q Query) (out []scope, err error) {
	var found []Collection
	if len(q.Collections) == 0 {
		if found, err = s.db.allReadable(ctx, v.tenant, "", 2*s.cfg.Collections); err != nil {
			return nil, err
		}
	}
	names := slices.Clone(q.Collections)
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		c, err := s.db.readable(ctx, v.tenant, name)
		if err != nil {
			return nil, err
		}
		found = append(found, c)
	}
	for _, c := range found {
		out = append(out, scope{viewer: v, Collection: c, filter: q.Filter, weights: c.weights(q)})
	}
	return out, nil
}

// rank looks by words and by meaning at once, fuses both lists, and picks the hits.
func (s *Service) rank(ctx context.Context, scopes []scope, q Query) (Result, error) {
	var res Result
	if len(scopes) == 0 {
		return res, nil
	}
	depth := max(4*q.Limit, minDepth)
	var byWords, byMeaning []ranked
	var sights []sight
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() (err error) {
		if q.Mode != Meaning {
			byWords, sights, err = s.byWords(gctx, scopes, q.Text, depth)
		}
		return err
	})
	g.Go(func() (err error) {
		if q.Mode != Words {
			byMeaning, err = s.byMeaning(gctx, scopes, q, depth, &res)
		}
		return err
	})
	if err := g.Wait(); err != nil {
		return Result{}, err
	}
	if q.Mode == Meaning && res.Encoder == "" {
		var err error
		if byWords, sights, err = s.byWords(ctx, scopes, q.Text, depth); err != nil {
			return Result{}, err
		}
	}
	if q.PerDocument == 1 {
		byWords, byMeaning = perDocument(byWords, 1), perDocument(byMeaning, 1)
	}
	best := s.fuse(scopes, q.PerDocument == 1, byWords, byMeaning)
	if q.PerDocument > 1 {
		best = perDocument(best, q.PerDocument)
	}
	return s.pick(ctx, scopes, sights, q, best, res)
}

// byWords ranks by BM25, with the statistics of each collection as far as the viewer may read it.
func (s *Service) byWords(ctx context.Context, scopes []scope, text string, depth int) (out []ranked, sights []sight, err error) {
	for i, sc := range scopes {
		l, err := s.lexicons.search(ctx, sc, text, depth)
		if err != nil {
			return nil, nil, err
		}
		for _, f := range l.found {
			out = append(out, ranked{i, passageID(f.ID), f.Score})
		}
		sights = append(sights, sight{l.languages, l.weights})
	}
	return top(out, depth), sights, nil
}

// byMeaning ranks by the cosine with the query's vector. When there is no vector, it says so in res and returns nothing.
func (s *Service) byMeaning(ctx context.Context, scopes []scope, q Query, depth int, res *Result) (out []ranked, err error) {
	vectors := map[encoderOf]embedded{} // of the query, for each encoder that a collection goes by
	for i, sc := range scopes {
		if sc.Encoder == "" {
			continue // nothing was encoded yet
		}
		who := encoderOf{sc.Model, sc.Encoder}
		if q.Mode == Hybrid && !who.reads(q.Text) {
			continue // it would rank at random
		}
		e, known := vectors[who]
		if !known {
			if e, err = s.embedQuery(ctx, who, q.Text); err != nil {
				if ctx.Err() != nil {
					return nil, err
				}
				s.log.LogAttrs(ctx, slog.LevelWarn, "search goes by words alone", slog.String("kind", fault.KindOf(err).String()), slog.String("error", err.Error()))
			}
			vectors[who] = e
		}
		if e.digest == "" {
			res.Degraded = true
			continue
		}
		res.Encoder = e.digest
		near, err := s.near(ctx, sc, e, depth)
		if err != nil {
			return nil, err
		}
		res.Degraded = res.Degraded || near.foreign
		for _, h := range near.hits {
			out = append(out, ranked{i, passageID(h.ID), float64(h.Score)})
		}
	}
	return top(out, depth), nil
}

// top sorts by score, and by place where scores are equal.
func top(list []ranked, n int) []ranked {
	slices.SortFunc(list, func(a, b ranked) int {
		return cmp.Or(cmp.Compare(b.score, a.score), cmp.Compare(a.collection, b.collection), cmp.Compare(a.id, b.id))
	})
	return list[:min(len(list), n)]
}

// record puts the retrieval into the log of decisions before its result leaves.
func (s *Service) record(ctx context.Context, id auth.Identity, scopes []scope, q Query, res Result) error {
	e := RetrievedEvent{
		RequestID: rpc.RequestID(ctx), Mode: string(q.Mode), QueryDigest: digest(q.Text), Degraded: res.Degraded, Encoder: res.Encoder,
		Collections: []string{}, Hits: []string{},
	}
	for _, sc := range scopes {
		e.Collections = append(e.Collections, sc.Name)
	}
	for _, h := range res.Hits {
		e.Hits = append(e.Hits, h.Chunk)
	}
	return s.db.Tx(ctx, func(tx *store.Tx) error {
		return tx.Emit(ctx, store.Event{Type: Retrieved, Tenant: id.Tenant, Actor: id.Subject, Subject: e.RequestID, Data: e})
	})
}

func digest(s string) string {
	h := sha256.Sum256([]byte(s))
	return hex.EncodeToString(h[:])
}
