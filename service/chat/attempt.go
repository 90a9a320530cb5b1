package chat

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"strings"

	"aran/platform/fault"
	"aran/platform/llm"
)

// ahead is how many pieces of an answer wait at most for the guard and the client.
const ahead = 64

// attempt is one model answering one question. It is used by one goroutine.
type attempt struct {
	target  target
	ctx     context.Context //nolint:containedctx // lives exactly as long as the call
	cancel  context.CancelFunc
	stream  llm.Stream
	said    chan said
	pumped  chan struct{}
	back    *said // taken from said too early
	check   *checker
	report  func(last llm.Event, err error) // to breaker and span, once
	whole   bool                            // the answer is not streamed: all of it is waited for
	ready   []Piece
	last    llm.Event // of a whole answer
	sources []source  // that the model was given
	ended   bool
}

// said is what the model said, or why it stopped.
type said struct {
	event llm.Event
	err   error
}

// try asks a model. It returns when the first piece may be shown, or the whole answer is there; until then, an
// error leaves the way to the next model open.
func (s *Service) try(ctx context.Context, c *call, t target) (*attempt, error) {
	done, err := t.provider.breaker.Allow()
	if err != nil {
		return nil, err
	}
	if t.model == "" {
		if t.model, err = t.provider.byDefault(ctx); err != nil {
			done(err)
			return nil, err
		}
	}
	given, err := s.compose(ctx, c, t)
	if err != nil {
		done(nil) // the provider was not asked
		return nil, err
	}
	r := given.request
	ctx, span := s.telemetry.call(ctx, t, &r)
	a := &attempt{
		target: t, sources: given.sources, whole: !c.question.Request.Stream, said: make(chan said, ahead), pumped: make(chan struct{}),
		check: given.checker(s, c),
	}
	a.report = func(last llm.Event, err error) {
		span.end(ctx, last, err)
		if errors.Is(err, errLeak) || errors.Is(err, errGuardAway) {
			err = nil // the model did answer
		}
		done(err)
	}
	a.ctx, a.cancel = context.WithCancel(ctx)
	if a.stream, err = t.provider.Stream(a.ctx, r); err != nil {
		a.cancel()
		a.report(llm.Event{}, err)
		return nil, err
	}
	go a.pump()
	if err := a.prefetch(); err != nil {
		a.close(err)
		return nil, err
	}
	return a, nil
}

// close ends the model's work and waits for it; err is how the answer ended.
func (a *attempt) close(err error) {
	a.cancel()
	_ = a.stream.Close()
	<-a.pumped
	a.report(a.last, err)
}

// given is what a model is asked, and what the check of its answer needs to know about it.
type given struct {
	request      llm.Request
	sources      []source // as they are, also when the model sees pseudonyms
	canaries     []string
	instructions []string // ours
	prompts      []string // the client's own
	marks        *marks   // that it may repeat; nil: none
	restore      bool     // pseudonyms may stand in its answer
	schema       string   // that a whole answer must meet
}

// compose makes the request for a model: small ones get a short prompt of their own, providers outside pseudonyms.
func (s *Service) compose(ctx context.Context, c *call, t target) (given, error) {
	m := newMarks()
	c.template = ""
	if t.rung == Local {
		maxTokens := c.question.Request.MaxTokens
		if maxTokens == 0 || maxTokens > smallContext/2 {
			maxTokens = s.cfg.LocalTokens
		}
		if c.grounded {
			c.template = templateSmall
			if s.cfg.LocalSpotlight != spotOff {
				c.template = templateSmallest + "+" + s.cfg.LocalSpotlight
			}
		}
		r, used := small(&c.question.Request, c.sources, c.asked, maxTokens, m, s.cfg.LocalSpotlight)
		r.Model = t.model
		out := given{request: r, sources: c.sources[:used]}
		if used > 0 && s.cfg.LocalSpotlight != spotOff {
			out.marks = &m
		}
		return out, nil
	}
	p, err := s.hide(ctx, c)
	if err != nil {
		if ctx.Err() != nil || fault.KindOf(err) == fault.TooLarge {
			return given{}, err
		}
		return given{}, errors.Join(errGuardAway, err)
	}
	r := p.request.Clone()
	r.Model = t.model
	out := given{restore: p.changed || c.question.Conversation != "", schema: schemaOf(&r)}
	way := s.cfg.Spotlight
	if s.cfg.Template != templateSpotlit {
		way = spotOff
	}
	if c.grounded {
		c.template = s.cfg.Template
		if way != spotOff {
			c.template += "+" + way
		}
		used := grounded(&r, p.sources, m, s.cfg.PassageBytes, s.cfg.Template, way)
		out.sources, out.canaries = c.sources[:used], []string{m.canary, m.fence}
	}
	if m.results(&r, way) || c.grounded && way != spotOff {
		out.marks = &m
	}
	if system := clientsInstructions(&r); system != "" {
		if r.Instructions == "" {
			r.Instructions, out.canaries = strings.TrimSpace(secrecy(m)), []string{m.canary}
		}
		if len(strings.Fields(system)) >= fewestSecret {
			out.prompts = []string{clip(system, maxSchema)}
		}
	}
	if r.Instructions != "" {
		out.instructions = []string{r.Instructions}
	}
	out.request = r
	return out, nil
}

// checker makes the check of the answer.
func (g given) checker(s *Service, c *call) *checker {
	out := &checker{s: s, canaries: g.canaries, report: c.report, collections: c.question.Collections, instructions: g.instructions, prompts: g.prompts}
	if g.restore {
		out.conversation = c.question.scope()
	}
	if g.marks != nil {
		out.marks = newUnmarker(*g.marks)
	}
	if !c.question.Request.Stream {
		out.schema = g.schema
	}
	if out.tainted = c.question.tainted(); out.tainted != "" && len(c.question.Request.Tools) > 0 {
		out.calls = &calls{}
	}
	return out
}

// clientsInstructions is the text that a client gave as instructions, in either vendor's form.
func clientsInstructions(r *llm.Request) string {
	texts := []string{textOf(r.System)}
	for i := range r.Messages {
		if r.Messages[i].Role == llm.System {
			texts = append(texts, textOf(r.Messages[i].Parts))
		}
	}
	return strings.TrimSpace(strings.Join(texts, "\n"))
}

// schemaOf is the JSON schema that the client wants the answer to meet; empty: none.
func schemaOf(r *llm.Request) string {
	var f struct {
		Type       string          `json:"type"`
		Schema     json.RawMessage `json:"schema"` // Anthropic's output_format
		JSONSchema struct {
			Schema json.RawMessage `json:"schema"`
		} `json:"json_schema"`
	}
	for _, key := range [...]string{"response_format", "output_format"} {
		if raw, there := r.Extra[key]; there && json.Unmarshal(raw, &f) == nil && f.Type == "json_schema" {
			if len(f.Schema) == 0 {
				f.Schema = f.JSONSchema.Schema
			}
			if len(f.Schema) <= maxSchema {
				return string(f.Schema)
			}
		}
	}
	return ""
}

const (
	maxSchema    = 100_000 // bytes, as in guard.CheckOutputRequest
	fewestSecret = 30      // words of a client's instructions, of which an answer may not repeat the most
)

// pump reads the model's pieces as they come; it ends with the answer, an error, or the attempt.
func (a *attempt) pump() {
	defer close(a.pumped)
	for {
		e, err := a.stream.Next()
		select {
		case a.said <- said{e, err}:
		case <-a.ctx.Done():
			return
		}
		if err != nil {
			return
		}
	}
}

// prefetch waits for the first piece that may be shown; of an answer that is not streamed, for all of it.
func (a *attempt) prefetch() error {
	for !a.ended && (a.whole || len(a.ready) == 0) {
		if err := a.more(); err != nil {
			return err
		}
	}
	return nil
}

// next returns the next piece; io.EOF behind the last.
func (a *attempt) next() (Piece, error) {
	for len(a.ready) == 0 {
		if a.ended {
			return Piece{}, io.EOF
		}
		if err := a.more(); err != nil {
			return Piece{}, err
		}
	}
	p := a.ready[0]
	a.ready = a.ready[1:]
	return p, nil
}

// more waits for what the model says next and has it checked.
func (a *attempt) more() error {
	e, err := a.listen()
	if errors.Is(err, io.EOF) {
		rest, err := a.check.end(a.ctx)
		if err != nil {
			return err
		}
		a.ready, a.ended = append(a.ready, rest...), true
		return nil
	}
	if err != nil {
		return err
	}
	if e.Finish != "" {
		a.last = e
	}
	pieces, err := a.check.push(a.ctx, e)
	if err != nil {
		return err
	}
	a.ready = append(a.ready, pieces...)
	return nil
}

// listen takes one event, with the text of those that are there already: a fast model costs fewer checks.
func (a *attempt) listen() (llm.Event, error) {
	first := a.take()
	if first.err != nil || first.event.Text == "" || first.event.Finish != "" {
		return first.event, first.err
	}
	var text strings.Builder
	text.WriteString(first.event.Text)
	for {
		select {
		case s := <-a.said:
			if s.err == nil && s.event.Text != "" && s.event.Finish == "" {
				text.WriteString(s.event.Text)
				continue
			}
			a.back = &s
		default:
		}
		first.event.Text = text.String()
		return first.event, nil
	}
}

func (a *attempt) take() said {
	if s := a.back; s != nil {
		a.back = nil
		return *s
	}
	select {
	case s := <-a.said:
		return s
	case <-a.ctx.Done():
		return said{err: asFault(a.ctx, a.ctx.Err())}
	}
}
