package chat

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"hash"
	"io"
	"log/slog"
	"strings"
	"time"

	"github.com/google/uuid"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"aran/platform/auth"
	"aran/platform/fault"
	"aran/platform/llm"
	"aran/platform/store"
)

// Ends of an answer beside those of llm.
const (
	finishCanceled = "canceled" // the client left
	finishError    = "error"    // the model broke off
	finishLost     = "lost"     // this process ended
)

// Question is what a client asks, and as whom.
type Question struct {
	Identity    auth.Identity
	RequestID   string
	Request     llm.Request
	Collections []string // in which to look for passages; empty: none, nil unless asked for
	// Conversation is the client's name for it; empty: this request is one of its own.
	Conversation string
}

// Extension is what the answer says beside the vendor's fields.
type Extension struct {
	RequestID string       `json:"request_id"`
	Rung      Rung         `json:"rung"`
	Model     string       `json:"model"`
	Cached    bool         `json:"cached"`
	Citations []Citation   `json:"citations"`
	Guard     *GuardReport `json:"guard"`
	Audit     string       `json:"audit"`
}

// BlockedError says that policy refused a request before any model saw it.
type BlockedError struct {
	Fault     *fault.Error
	Extension BlockedExtension
}

// BlockedExtension is what a refusal says beside the vendor's fields.
type BlockedExtension struct {
	RequestID string       `json:"request_id"`
	Guard     *GuardReport `json:"guard"`
	Audit     string       `json:"audit"`
}

func (e *BlockedError) Error() string { return e.Fault.Error() }

// Unwrap returns the fault.
func (e *BlockedError) Unwrap() error { return e.Fault }

// call is an answer in the making: what is known before a model is asked, and what is written in the end.
type call struct {
	question Question
	asked    string // last text of the user, as the guard let it pass
	digest   string
	begin    time.Time
	id       string // of its row; empty until that is written
	report   *GuardReport
	grounded bool // passages were asked for
	sources  []source
	template string   // of the model asked last
	private  *private // nil until a provider is to be asked

	unguarded  bool // the guard is away: no model may be asked
	unsearched bool // the search is away: without the documents that were asked for, an answer would be a guess
	events     []store.Event
}

// Answer is an answer on its way to the client. It is used by one goroutine and must be closed.
type Answer struct {
	// Rung, Model and Provider are known from the start.
	Rung     Rung
	Model    string
	Provider string

	s       *Service
	c       *call
	ctx     context.Context //nolint:containedctx // the request's: lives exactly as long as the answer
	cancel  context.CancelFunc
	leave   func()
	attempt *attempt // nil on the lower rungs
	pieces  []Piece  // of the lower rungs
	stopped error    // what comes after the pieces, when it is not the proper end
	sources []source

	text   strings.Builder // as it was shown
	hash   hash.Hash       // of everything that was shown
	first  time.Time
	ended  bool
	Finish llm.Finish // when ended
	Last   llm.Event  // the model's last event, when it came to its end
	Ext    Extension  // complete when ended
}

// Next returns the next piece. io.EOF says that the answer is whole, or was stopped by policy (see Finish), and that
// its event is on disk. Any other error is the end of a broken answer, recorded as such.
func (a *Answer) Next() (Piece, error) {
	if a.ended {
		return Piece{}, io.EOF
	}
	p, err := a.piece()
	if err == nil {
		if a.first.IsZero() {
			a.first = time.Now()
			a.s.telemetry.first.Record(a.ctx, a.first.Sub(a.c.begin).Seconds(), metric.WithAttributes(attribute.String("rung", string(a.Rung))))
		}
		a.text.WriteString(p.Text)
		for _, shown := range []string{p.Text, p.Reasoning, arguments(p.Call)} {
			a.hash.Write([]byte(shown))
		}
		return p, nil
	}
	return Piece{}, a.end(err)
}

func arguments(c *llm.CallDelta) string {
	if c == nil {
		return ""
	}
	return c.Arguments
}

func (a *Answer) piece() (Piece, error) {
	if a.attempt != nil {
		return a.attempt.next()
	}
	if len(a.pieces) == 0 {
		if a.stopped != nil {
			return Piece{}, a.stopped
		}
		return Piece{}, io.EOF
	}
	p := a.pieces[0]
	a.pieces = a.pieces[1:]
	return p, nil
}

// end records how the answer ended and returns what the client is told.
func (a *Answer) end(cause error) error {
	a.ended = true
	finish := string(llm.Stop)
	switch {
	case errors.Is(cause, io.EOF):
		if a.attempt != nil {
			a.Last = a.attempt.last
			finish = string(a.Last.Finish)
		}
		cause = nil
	case errors.Is(cause, errLeak):
		finish = string(llm.ContentFilter)
		where := whereOutput
		if errors.Is(cause, errTool) {
			where = whereTool
		}
		a.c.block(where, source{}, a.c.report.kinds())
		a.s.telemetry.blocked.Add(a.ctx, 1, metric.WithAttributes(attribute.String("where", where)))
	case errors.Is(cause, errGuardAway):
		finish, cause = finishError, guardAway(cause)
	case fault.KindOf(cause) == fault.Canceled:
		finish = finishCanceled
	default:
		finish = finishError
	}
	if a.attempt != nil {
		a.attempt.close(cause)
	}
	a.c.nextIs(a.step())
	a.Finish = llm.Finish(finish)
	if err := a.record(finish); err != nil {
		return err
	}
	if cause == nil || errors.Is(cause, errLeak) {
		return io.EOF
	}
	return cause
}

// Close ends the answer; one that was not read to its end is recorded as canceled.
func (a *Answer) Close() {
	if !a.ended {
		_ = a.end(fault.New(fault.Canceled, "canceled", "The client left."))
	}
	a.cancel()
	a.leave()
}

const recordTimeout = 10 * time.Second

// record writes the answer's event, and those of what happened on the way, in one transaction. The client may be
// gone: that does not unmake what happened.
func (a *Answer) record(finish string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(a.ctx), recordTimeout)
	defer cancel()
	c := a.c
	a.Ext = Extension{
		RequestID: c.question.RequestID, Rung: a.Rung, Model: a.Model, Citations: cite(a.text.String(), a.sources),
		Guard: c.report, Audit: store.NewEventID(),
	}
	var cited []CitedIDs
	for _, s := range a.Ext.Citations {
		cited = append(cited, CitedIDs{s.Document, s.Chunk})
	}
	c.emit(a.Ext.Audit, TypeAnswered, AnsweredEvent{
		RequestID: c.question.RequestID, Model: a.Model, Provider: a.Provider, Rung: a.Rung, RequestedModel: short(c.question.Request.Model, 200),
		Stream: c.question.Request.Stream, Collections: c.question.Collections, Citations: cited,
		PromptTokens: a.Last.Usage.Input, CompletionTokens: a.Last.Usage.Output,
		QuestionDigest: c.digest, AnswerDigest: hex.EncodeToString(a.hash.Sum(nil)), Guard: c.report.judged(),
		Template: a.template(), Finish: finish, LatencyMS: time.Since(c.begin).Milliseconds(),
	})
	if err := a.s.closeCall(ctx, c.id, c.events); err != nil {
		a.s.d.Log.LogAttrs(ctx, slog.LevelError, "an answer was not recorded", slog.String("request_id", c.question.RequestID), slog.String("error", err.Error()))
		return fault.New(fault.Unavailable, "not_recorded", "The answer could not be recorded, so it is not given.").Because(err)
	}
	fault.Point("chat.answer.recorded")
	a.s.telemetry.answers.Add(ctx, 1, metric.WithAttributes(attribute.String("rung", string(a.Rung)), attribute.String("finish", finish)))
	return nil
}

// step names the rung that answered.
func (a *Answer) step() string { return string(a.Rung) + ":" + a.Provider }

func (a *Answer) template() string {
	if a.attempt == nil {
		return ""
	}
	return a.c.template
}

// emit adds an event to those that are written at the end.
func (c *call) emit(id, kind string, data any) {
	c.events = append(c.events, store.Event{
		ID: id, Type: kind, Tenant: c.question.Identity.Tenant, Actor: c.question.Identity.Subject, Subject: c.question.RequestID, Data: data,
	})
}

func (c *call) block(where string, s source, kinds []string) string {
	id := store.NewEventID()
	c.emit(id, TypeBlocked, BlockedEvent{
		RequestID: c.question.RequestID, RequestedModel: short(c.question.Request.Model, 200), Where: where, Kinds: kinds,
		QuestionDigest: c.digest, Document: s.document, Chunk: s.chunk,
	})
	return id
}

// fellBack notes that a step did not answer. Where to is known when the next one is tried.
func (c *call) fellBack(from string, err error) {
	reason := fault.KindOf(err).String()
	if f := fault.From(err); f != nil && f.Code != "" {
		reason = f.Code
	}
	switch {
	case errors.Is(err, errGuardAway):
		reason = kindUnavailable
	case errors.Is(err, errLeak):
		reason = verdictBlock
	}
	c.emit("", TypeFellBack, FellBackEvent{RequestID: c.question.RequestID, From: from, Reason: short(reason, 64)})
}

// nextIs says in the events of steps that did not answer which one came after them.
func (c *call) nextIs(to string) {
	for i := range c.events {
		if e, ok := c.events[i].Data.(FellBackEvent); ok && e.To == "" {
			e.To = to
			c.events[i].Data = e
		}
	}
}

func (c *call) row() callRow {
	return callRow{
		id: uuid.Must(uuid.NewV7()).String(), request: c.question.RequestID, tenant: c.question.Identity.Tenant, actor: c.question.Identity.Subject,
		model: short(c.question.Request.Model, 200), question: c.digest, opened: c.begin,
	}
}

func digest(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])
}
