package chat

import (
	"context"
	"crypto/sha256"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"golang.org/x/sync/errgroup"

	guardv1 "aran/api/gen/aran/guard/v1"
	searchv1 "aran/api/gen/aran/search/v1"
	"aran/platform/fault"
)

// Ask answers a question: it judges what was said, finds passages, and goes down the ladder until a rung answers.
// The answer's first piece is there when it returns. Errors are faults (and BlockedError); every rung, apology
// too, is an answer.
func (s *Service) Ask(ctx context.Context, q Question) (*Answer, error) {
	leave, ok := s.enter()
	if !ok {
		return nil, fault.New(fault.Unavailable, "overload", "Too many answers are in the making; try again.").After(time.Second)
	}
	a, err := s.ask(ctx, q, leave)
	if err != nil {
		leave()
		return nil, err
	}
	return a, nil
}

func (s *Service) ask(ctx context.Context, q Question, leave func()) (*Answer, error) {
	if names := q.Request.Unread(); len(names) > 0 && !s.cfg.InsecureUnscannedData {
		return nil, fault.New(fault.Unsupported, "unscanned_content",
			"The guard cannot read %s, so no model is given it; an operator can allow it with chat.insecure_unscanned_data.", strings.Join(names, ", "))
	}
	targets, err := s.models.resolve(ctx, q.Identity, q.Request.Model)
	if err != nil {
		return nil, err
	}
	c := &call{question: q, begin: time.Now(), report: newReport(), grounded: len(q.Collections) > 0}
	c.digest = digest(question(&q.Request))
	if err := s.admit(ctx, c); err != nil {
		return nil, err
	}
	a := &Answer{s: s, c: c, ctx: ctx, leave: leave, hash: sha256.New()}
	if err := s.prepare(ctx, c); err != nil {
		return nil, err
	}
	if err := s.descend(a, targets); err != nil {
		defer a.cancel()
		return nil, a.end(err) // recorded, for a model may have seen the question
	}
	return a, nil
}

// admit has the request judged. While the guard is away no model may see it, but the caller's own documents
// can still be quoted.
func (s *Service) admit(ctx context.Context, c *call) error {
	err := s.scanRequest(ctx, c)
	if err == nil {
		err = s.usable(ctx, c)
	}
	c.asked = question(&c.question.Request)
	switch {
	case err == nil:
	case slices.Contains([]fault.Kind{fault.Invalid, fault.TooLarge, fault.Canceled}, fault.KindOf(err)):
		return err
	default:
		s.unguarded(ctx, c, err)
		return nil
	}
	if c.report.Verdict != verdictBlock {
		return nil
	}
	id := c.block("input", source{}, c.report.kinds())
	if err := s.closeCall(ctx, "", c.events); err != nil {
		return err
	}
	fault.Point("chat.block.recorded")
	s.telemetry.blocked.Add(ctx, 1, metric.WithAttributes(attribute.String("where", "input")))
	return &BlockedError{
		Fault:     fault.New(fault.Blocked, "content_filter", "The request was blocked by policy (%s).", strings.Join(c.report.kinds(), ", ")),
		Extension: BlockedExtension{RequestID: c.question.RequestID, Guard: c.report, Audit: id},
	}
}

// usable asks the guard whether it can check an answer by the schema that the client wants, before a model works for it.
func (s *Service) usable(ctx context.Context, c *call) error {
	schema := schemaOf(&c.question.Request)
	if schema == "" || c.question.Request.Stream {
		return nil
	}
	inner, cancel := context.WithTimeout(ctx, s.cfg.GuardTimeout)
	defer cancel()
	_, err := s.d.Guard.CheckOutput(inner, &guardv1.CheckOutputRequest{Schema: schema, Collections: c.question.Collections})
	return err
}

// unguarded notes that the guard is away.
func (s *Service) unguarded(ctx context.Context, c *call, err error) {
	s.d.Log.LogAttrs(ctx, slog.LevelWarn, "the guard is away: no model is asked", slog.String("request_id", c.question.RequestID), slog.String("error", err.Error()))
	c.unguarded = true
	c.fellBack("guard", err)
	c.report.add(verdictFlag, Finding{Kind: kindUnavailable, Score: 1, Where: whereGuard})
}

// prepare notes the call durably and finds passages, at the same time.
func (s *Service) prepare(ctx context.Context, c *call) error {
	row := c.row()
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error { return s.openCall(gctx, row) })
	var found error
	g.Go(func() error {
		if c.grounded {
			found = s.retrieve(gctx, c, c.question.Collections)
		}
		return nil
	})
	if err := g.Wait(); err != nil {
		return err
	}
	c.id = row.id
	fault.Point("chat.call.opened")
	switch kind := fault.KindOf(found); {
	case found == nil:
		return nil
	case kind == fault.Missing || kind == fault.Denied || kind == fault.Invalid || kind == fault.Canceled:
		// The caller's own: nothing was asked of a model, so the call is forgotten.
		if err := s.closeCall(context.WithoutCancel(ctx), c.id, nil); err != nil {
			return err
		}
		if f := fault.From(found); kind == fault.Missing && f != nil {
			return fault.New(fault.Invalid, "collection_not_found", "aran.collections: %s", f.Detail).Because(found)
		}
		return found
	default:
		s.d.Log.LogAttrs(ctx, slog.LevelWarn, "the search is away: no model is asked", slog.String("request_id", c.question.RequestID), slog.String("error", found.Error()))
		c.fellBack("search", found)
		c.unsearched = true
		return nil
	}
}

// queryBytes of a question are searched for: its beginning and its end, where long ones say what they want.
const queryBytes = 2000

// retrieve finds passages with the caller's rights and leaves out those that the guard refuses. While the guard is
// away they are kept for quoting only (see admit).
func (s *Service) retrieve(ctx context.Context, c *call, collections []string) error {
	query := strings.TrimSpace(c.asked)
	if query == "" {
		return nil
	}
	if len(query) > queryBytes {
		query = clip(query, queryBytes/2) + "\n" + strings.ToValidUTF8(query[len(query)-queryBytes/2:], "")
	}
	inner, cancel := context.WithTimeout(ctx, s.cfg.SearchTimeout)
	defer cancel()
	res, err := s.d.Search.Retrieve(inner, &searchv1.RetrieveRequest{Collections: collections, Query: query, Limit: int32(s.cfg.Passages), Distinct: new(true)}) //nolint:gosec // bounded by Check
	if err != nil {
		return asFault(ctx, err)
	}
	var hits []source
	for _, h := range res.GetHits() {
		hits = append(hits, source{
			collection: h.GetCollection(), document: h.GetDocument(), chunk: h.GetChunk(), title: h.GetTitle(), text: h.GetText(),
			start: h.GetStart(), end: h.GetEnd(), score: h.GetScore(),
			sentence: span{h.GetSpan().GetStart(), h.GetSpan().GetEnd()}, trust: h.GetTrust(), origin: h.GetSource(),
		})
	}
	hits = hits[:min(len(hits), s.cfg.Passages)]
	if len(hits) == 0 {
		return nil
	}
	if c.unguarded {
		c.sources = hits
		return nil
	}
	good, bad, err := s.scanHits(ctx, c, hits)
	if err != nil {
		if fault.KindOf(err) == fault.Canceled {
			return err
		}
		s.unguarded(ctx, c, err)
		c.sources = hits
		return nil
	}
	for _, h := range bad {
		c.block(whereDocument, h, nil)
		s.telemetry.blocked.Add(ctx, 1, metric.WithAttributes(attribute.String("where", whereDocument)))
	}
	c.sources = good
	return nil
}

// descend goes down the ladder until a step has something to show.
func (s *Service) descend(a *Answer, targets []target) error {
	c := a.c
	ctx, cancel := context.WithTimeout(a.ctx, s.cfg.Timeout)
	a.cancel = cancel
	for i, t := range targets {
		if c.unguarded || c.unsearched || ctx.Err() != nil {
			break
		}
		if t.rung == Local && c.grounded && len(c.sources) == 0 {
			continue // a small model would make something up
		}
		c.nextIs(t.String())
		at, err := s.try(ctx, c, t)
		a.Rung, a.Model, a.Provider = t.rung, t.model, t.provider.Name()
		switch {
		case err == nil:
			a.attempt, a.sources, a.Model = at, at.sources, at.target.model
			return nil
		case errors.Is(err, errLeak):
			a.stopped = err
			return nil
		case a.ctx.Err() != nil, s.callers(c, i, err):
			return err
		}
		c.fellBack(t.String(), err)
		s.telemetry.fallbacks.Add(ctx, 1, metric.WithAttributes(attribute.String("from", t.provider.Name()), attribute.String("reason", fault.KindOf(err).String())))
		s.d.Log.LogAttrs(ctx, slog.LevelWarn, "a model did not answer", slog.String("request_id", c.question.RequestID), slog.String("from", t.String()), slog.String("error", err.Error()))
		if errors.Is(err, errGuardAway) {
			s.unguarded(ctx, c, err)
		}
	}
	return s.quote(a)
}

// callers reports whether a model's error is the caller's to know, instead of a reason to ask the next one.
func (s *Service) callers(c *call, step int, err error) bool {
	if step > 0 || c.question.Request.Model == defaultName && fault.KindOf(err) == fault.Missing {
		return false
	}
	switch fault.KindOf(err) {
	case fault.Invalid, fault.TooLarge:
		return !c.grounded // with passages of ours in it, the request is not only the caller's
	case fault.Missing:
		return true
	default:
		return false
	}
}

// quote answers from the documents, or says honestly that there is no answer.
func (s *Service) quote(a *Answer) error {
	c := a.c
	if !c.grounded && strings.TrimSpace(c.asked) != "" {
		err := s.retrieve(a.ctx, c, nil)
		if a.ctx.Err() != nil {
			return asFault(a.ctx, err)
		}
		if err != nil {
			s.d.Log.LogAttrs(a.ctx, slog.LevelWarn, "no passages to quote from", slog.String("request_id", c.question.RequestID), slog.String("error", err.Error()))
		}
	}
	a.Rung, a.Model, a.Provider = Extractive, "aran/extractive", "aran"
	text := extract(c.asked, c.sources)
	switch {
	case text != "":
		a.sources = c.sources
		text, a.stopped = s.checkQuote(a.ctx, c, text)
	case c.unsearched:
		a.Rung, a.Model, text = Apology, "aran/apology", apologySearch
	case c.grounded:
		text = nothingFound
	default:
		a.Rung, a.Model, text = Apology, "aran/apology", apologyText
	}
	for piece := range strings.SplitAfterSeq(text, "\n") {
		if piece != "" {
			a.pieces = append(a.pieces, Piece{Text: piece})
		}
	}
	return nil
}

// checkQuote has an extract judged like any answer. While the guard is away the caller's own documents are shown as
// they are: the report says so.
func (s *Service) checkQuote(ctx context.Context, c *call, text string) (string, error) {
	if c.unguarded {
		return text, nil
	}
	check := &checker{s: s, report: c.report, collections: c.question.Collections}
	shown, err := check.check(ctx, text, true)
	if err != nil && !errors.Is(err, errGuardAway) { // a leak, or a check that was refused
		return "", err
	}
	if err != nil {
		s.unguarded(ctx, c, err)
		return text, nil
	}
	return shown, nil
}
