package search

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	guardv1 "aran/api/gen/aran/guard/v1"
	inferv1 "aran/api/gen/aran/infer/v1"
	"aran/platform/auth"
	"aran/platform/bus"
	"aran/platform/fault"
	"aran/platform/saga"
	"aran/platform/store"
	"aran/service/search/chunk"
	"aran/service/search/words"
)

// ingestion is the input of the saga: which edition, and which try.
type ingestion struct {
	Edition int64 `json:"edition"`
	Attempt int64 `json:"attempt"`
}

func (in ingestion) id() string {
	return "ingest-" + strconv.FormatInt(in.Edition, 10) + "-" + strconv.FormatInt(in.Attempt, 10)
}

// begin starts the saga for a stored document. Starting twice is starting once.
func (s *Service) begin(ctx context.Context, e bus.Event) (bus.Event, error) {
	var data DocumentEvent
	if err := json.Unmarshal(e.Data, &data); err != nil {
		return e, fault.New(fault.Invalid, "malformed_event", "The event's data can't be read.").Because(err)
	}
	edition, attempt, err := s.db.editionOf(ctx, e.Tenant, data.Collection, data.Document, data.Version)
	if err != nil || edition == 0 {
		return e, err // deleted meanwhile
	}
	in := ingestion{edition, attempt}
	if err := s.ingest.Start(ctx, in.id(), in); err != nil {
		return e, fmt.Errorf("start ingestion: %w", err)
	}
	fault.Point("search.ingestion_started")
	return e, nil
}

// seen has no effect of its own: the inbox row that stands in the same transaction is it.
func seen(context.Context, *store.Tx, bus.Event) error { return nil }

// work is one run of the saga: what it loaded once and keeps.
type work struct {
	*Service
	ingestion

	job      job
	passages []chunk.Passage
}

// end is how a run ends before its time. It is a step's result, so that a resumed run takes the same way.
type end struct {
	How    string `json:"how"`
	Reason string `json:"reason"` // a code
}

const (
	endSuperseded = "superseded" // nobody wants the edition any more
	endRestart    = "restart"    // what was made does not fit together: begin again
	endPark       = "park"       // a part is away: go on later
	endFail       = "fail"
)

// Error makes an end an error inside a run.
func (e *end) Error() string { return e.How + ": " + e.Reason }

// result is what a step leaves: a value, or the end.
type result[T any] struct {
	Value T    `json:"value"`
	End   *end `json:"end,omitempty"`
}

// do is a step that works outside the database.
func do[T any](r *saga.Run, w *work, name string, fn func(ctx context.Context) (T, error)) (T, error) {
	out, err := saga.Do(r, name, func(ctx context.Context) (result[T], error) {
		v, err := fn(ctx)
		if err == nil || ctx.Err() != nil {
			return result[T]{Value: v}, err
		}
		e := w.ending(err)
		level := slog.LevelWarn
		if e.How == endSuperseded {
			level = slog.LevelDebug
		}
		w.log.LogAttrs(ctx, level, "indexing interrupted", slog.String("step", name), slog.Int64("edition", w.Edition), slog.Int64("attempt", w.Attempt), slog.String("how", e.How), slog.String("error", err.Error()))
		return result[T]{End: &e}, nil
	})
	if err != nil {
		return out.Value, err
	}
	if out.End != nil {
		return out.Value, out.End
	}
	return out.Value, nil
}

const (
	internalTries = 4  // what looks like a bug is tried so often before the document fails
	changeTries   = 20 // and so often an encoder may change under the work
)

// ending decides what becomes of a run after an error.
func (w *work) ending(err error) end { return w.judgeError(err, w.Attempt) }

func (*Service) judgeError(err error, attempt int64) end {
	e := end{How: endFail, Reason: fault.KindOf(err).String()}
	if f := fault.From(err); f != nil && f.Code != "" {
		e.Reason = f.Code
	}
	switch fault.KindOf(err) {
	case fault.Unavailable, fault.Deadline, fault.Exhausted, fault.Canceled:
		e.How = endPark
	case fault.Internal:
		if attempt < internalTries { // can't be told apart from a part that is away
			e.How = endPark
		}
	case fault.Conflict:
		switch e.Reason {
		case codeSuperseded:
			e.How = endSuperseded
		case codeChanged:
			if attempt < changeTries {
				e.How = endRestart
			}
		}
	default:
	}
	return e
}

// run is the saga: scan, cut, encode and store part by part, publish. Its steps return ids, counts and codes.
func (s *Service) run(r *saga.Run, in ingestion) error {
	w := &work{Service: s, ingestion: in}
	err := w.steps(r)
	var e *end
	if !errors.As(err, &e) {
		return err
	}
	switch e.How {
	case endRestart:
		return w.last(r, endRestart, func(ctx context.Context, tx *store.Tx) error {
			return s.db.restart(ctx, tx, in.Edition, now().UnixMicro())
		})
	case endPark:
		return w.last(r, endPark, func(ctx context.Context, tx *store.Tx) error {
			return s.db.park(ctx, tx, in.Edition, now().Add(s.pause(in.Attempt)).UnixMicro())
		})
	case endFail:
		return w.fail(r, e.Reason)
	}
	s.nudge() // superseded: what was made is in the trash already
	return nil
}

func (w *work) steps(r *saga.Run) error {
	verdict, err := do(r, w, "scan", w.scan)
	if err != nil {
		return err
	}
	fault.Point("search.scanned")
	if verdict.Blocked {
		return w.quarantine(r, verdict)
	}
	encoder := ""
	for first := 0; first < verdict.Cut.Passages; first += verdict.Cut.Batch {
		if encoder, err = do(r, w, "index", func(ctx context.Context) (string, error) { return w.part(ctx, verdict.Cut, first) }); err != nil {
			return err
		}
		fault.Point("search.part_indexed")
	}
	return w.publish(r, verdict, encoder)
}

// load reads the edition and cuts it, once in a run.
func (w *work) load(ctx context.Context) error {
	if w.passages != nil {
		return nil
	}
	j, err := w.db.job(ctx, w.Edition)
	if err != nil {
		return err
	}
	w.job, w.passages = j, w.Service.passages(j.title, j.contentType, j.text)
	return nil
}

// as makes the calls of ctx act for who stored the document, with their rights of now.
func (w *work) as(ctx context.Context) context.Context {
	return auth.WithGrant(ctx, auth.Grant{Tenant: w.job.tenant, Subject: w.job.subject, Scopes: w.job.scopes})
}

// scanned is the outcome of a scan, and how the text was cut.
type scanned struct {
	Blocked bool     `json:"blocked"`
	Flagged bool     `json:"flagged"`
	Kinds   []string `json:"kinds,omitempty"` // of what was found
	// Released: the guard refuses it, and a person let it out.
	Released bool      `json:"released,omitempty"`
	Suspects []Suspect `json:"suspects,omitempty"`
	Cut      cutting   `json:"cut"`
}

func (v *scanned) reason() string {
	if len(v.Kinds) == 0 {
		return ""
	}
	return "scan: " + strings.Join(v.Kinds, ", ")
}

const (
	scanPiece   = 32 << 10 // bytes of one text that the guard sees
	scanOverlap = 512      // bytes before a passage, so that nothing hides at a cut
	scanTexts   = 64       // texts in one call
	maxKinds    = 16
	scanTimeout = time.Minute
)

// scan asks the guard about the title and each passage with what stands around it. Without its answer nothing goes on.
func (w *work) scan(ctx context.Context) (out scanned, err error) {
	if err := w.load(ctx); err != nil {
		return out, err
	}
	list := chunk.Windows(w.job.text, w.passages, scanPiece, scanOverlap)
	if w.job.title != "" {
		list = append(list, chunk.Window{Passage: -1})
	}
	for batch := range slices.Chunk(list, scanTexts) {
		if err := w.scanBatch(ctx, batch, &out); err != nil {
			return out, err
		}
	}
	for _, kind := range w.job.findings {
		out.Flagged = true
		if !slices.Contains(out.Kinds, kind) {
			out.Kinds = append(out.Kinds, kind)
		}
	}
	slices.Sort(out.Kinds)
	if out.Blocked && w.job.released != "" {
		out.Blocked, out.Released = false, true
	}
	out.Cut = cuttingOf(w.passages, w.cfg.EmbedBatch)
	return out, nil
}

func (w *work) scanBatch(ctx context.Context, batch []chunk.Window, out *scanned) error {
	texts, sources := make([]string, len(batch)), make([]string, len(batch))
	for i, at := range batch {
		texts[i], sources[i] = w.job.text[at.Start:at.End], TrustOutside+":"+w.job.name+"/"+w.job.document
		if at.Passage < 0 {
			texts[i] = w.job.title
		}
	}
	ctx, cancel := context.WithTimeout(w.as(ctx), scanTimeout)
	defer cancel()
	res, err := w.guard.Scan(ctx, &guardv1.ScanRequest{Texts: texts, Origin: guardv1.Origin_ORIGIN_DOCUMENT, Collections: []string{w.job.name}, Sources: sources})
	if err != nil {
		return err
	}
	if len(res.GetResults()) != len(texts) {
		return fault.New(fault.Internal, "bad_scan", "The guard gave %d verdicts on %d texts.", len(res.GetResults()), len(texts))
	}
	for i, v := range res.GetResults() {
		at := Suspect{Title: true}
		if p := batch[i].Passage; p >= 0 && p < len(w.passages) {
			at = Suspect{Start: w.passages[p].Start, End: w.passages[p].End}
		}
		switch v.GetVerdict() {
		case guardv1.Verdict_VERDICT_ALLOW:
			continue
		case guardv1.Verdict_VERDICT_FLAG, guardv1.Verdict_VERDICT_REDACT: // the text stays as it is; what leaves the platform is checked then
			out.Flagged = true
		default: // block, and what we do not know
			out.Blocked, at.Blocked = true, true
		}
		for _, f := range v.GetFindings() {
			if !slices.Contains(at.Kinds, f.GetKind()) && len(at.Kinds) < maxKinds {
				at.Kinds = append(at.Kinds, f.GetKind())
			}
			if !slices.Contains(out.Kinds, f.GetKind()) && len(out.Kinds) < maxKinds {
				out.Kinds = append(out.Kinds, f.GetKind())
			}
		}
		out.suspect(at)
	}
	return nil
}

// cutting says how the text was cut: a resumed run must cut it the same way.
type cutting struct {
	Passages int    `json:"passages"`
	Batch    int    `json:"batch"` // passages of a part
	Digest   string `json:"digest"`
}

func cuttingOf(ps []chunk.Passage, batch int) cutting {
	var sb strings.Builder
	fmt.Fprintf(&sb, "%d: ", batch)
	for _, p := range ps {
		fmt.Fprintf(&sb, "%d-%d ", p.Start, p.End)
	}
	return cutting{len(ps), batch, digest(sb.String())}
}

// part encodes and stores the passages from first on; a part that is there already is left as it is.
func (w *work) part(ctx context.Context, cut cutting, first int) (encoder string, err error) {
	if err := w.load(ctx); err != nil {
		return "", err
	}
	if cuttingOf(w.passages, cut.Batch) != cut || w.job.encoder != "" && w.job.cut != cut.Digest {
		return "", fault.New(fault.Conflict, codeChanged, "The rules for cutting changed while the document was indexed.")
	}
	ps := w.passages[first:min(first+cut.Batch, len(w.passages))]
	there, err := w.db.hasPart(ctx, w.Edition, first, len(ps))
	if err != nil || there {
		return w.job.encoder, err
	}
	e, beside, err := w.encode(ctx, w.contexts(w.job.title, w.job.text, ps))
	if err != nil {
		return "", err
	}
	c := Collection{tenant: w.job.tenant, Name: w.job.name, Settings: Settings{Language: w.job.language}}
	p := makePart(c, c.language(w.job.text), w.job.title, w.job.text, first, ps, e.vectors)
	fault.Point("search.part_encoded")
	more := part{edition: w.Edition, first: first, passages: len(ps), encoder: beside.digest}
	for _, v := range beside.vectors {
		more.packed = pack(more.packed, v)
	}
	err = w.db.Tx(ctx, func(tx *store.Tx) error { return w.db.index(ctx, tx, w.Edition, e.digest, cut.Digest, p, more) })
	w.job.encoder, w.job.cut = e.digest, cut.Digest
	return e.digest, err
}

// encode embeds with the encoder that the collection goes by, and with the one that it goes over to, if it does. When
// nobody serves the first any more, the second alone has to do: until the switch, the document is found by its words.
func (w *work) encode(ctx context.Context, texts []string) (own, beside embedded, err error) {
	pin, err := w.db.pin(ctx, w.job.tenant, w.job.name)
	if err != nil {
		return own, beside, err
	}
	as := w.as(ctx)
	own, err = w.embedAs(as, encoderOf{pin.collection.Model, pin.collection.Encoder}, inferv1.InputType_INPUT_TYPE_DOCUMENT, texts, indexTimeout)
	away := isCode(err, codeNotServed)
	if err != nil && !away || !away && pin.job.ID == "" {
		return own, beside, err
	}
	if pin.job.ID == "" {
		digest, err := w.active(as, pin.collection.Model)
		if err != nil {
			return own, beside, err
		}
		who := viewer{tenant: w.job.tenant, subject: w.job.subject, scopes: w.job.scopes}
		if pin.job, err = w.db.beginReembedding(ctx, who, pin.collection, pin.collection.Model, digest); err != nil {
			return own, beside, err
		}
		w.nudge()
	}
	other, err := w.embedAs(as, encoderOf{pin.job.Model, pin.job.To}, inferv1.InputType_INPUT_TYPE_DOCUMENT, texts, indexTimeout)
	if away {
		return other, embedded{}, err
	}
	if err != nil { // the job will come by here again
		w.log.LogAttrs(ctx, slog.LevelWarn, "vectors of the next encoder not made", slog.Int64("edition", w.Edition), slog.String("error", err.Error()))
		return own, embedded{}, nil
	}
	return own, other, nil
}

// contexts are the texts that the encoder sees: each passage after its title and headings.
func (s *Service) contexts(title, text string, ps []chunk.Passage) []string {
	out := make([]string, len(ps))
	for i, p := range ps {
		out[i] = text[p.Start:p.End]
		if line := chunk.Context(title, p.Headings, s.cfg.PassageTokens, s.count); line != "" {
			out[i] = line + "\n" + out[i]
		}
	}
	return out
}

// makePart makes the rows of consecutive passages.
func makePart(c Collection, language, title, text string, first int, ps []chunk.Passage, vectors [][]float32) indexed {
	f, stored := termsOf(c, language, title, text, first, ps)
	out := indexed{first: first, stored: stored}
	type list struct {
		last, passages int
		packed         []byte
	}
	lists := make([]list, len(f.IDs))
	for i := range lists {
		lists[i].last = -1
	}
	for i, o := range f.Passages {
		for _, t := range o.Terms {
			l := &lists[t.Term]
			l.packed = words.Append(l.packed, l.last, words.Posting{Passage: i, Count: t.Count, Length: o.Length})
			l.last = i
			l.passages++
		}
		out.terms += int64(o.Length)
		p := ps[i] //nolint:gosec // a forward list has an entry for each
		out.passages = append(out.passages, passage{p.Start, p.End, text[p.Start:p.End]})
		out.vectors = pack(out.vectors, vectors[i]) //nolint:gosec // one for each
	}
	for i, l := range lists {
		out.postings = append(out.postings, termPostings{f.IDs[i], l.passages, l.packed})
	}
	return out
}

func (w *work) publish(r *saga.Run, v scanned, encoder string) error {
	trust := TrustOutside
	switch {
	case v.Released:
		trust = TrustReleased
	case v.Flagged:
		trust = TrustFlagged
	}
	return w.last(r, StatusIndexed, func(ctx context.Context, tx *store.Tx) error {
		q, n, err := w.db.publish(ctx, tx, w.Edition, v.reason(), trust, now().UnixMicro())
		if isCode(err, codeChanged) {
			return w.db.restart(ctx, tx, w.Edition, now().UnixMicro())
		}
		if err != nil {
			return err
		}
		if err := w.db.keepSuspects(ctx, tx, w.Edition, v.Suspects); err != nil {
			return err
		}
		return emit(ctx, tx, DocumentIndexed, q, DocumentEvent{Digest: q.digest, Chunks: n, Encoder: encoder, Trust: trust, Reason: v.reason()})
	})
}

func (w *work) quarantine(r *saga.Run, v scanned) error {
	reason := v.reason()
	return w.last(r, StatusQuarantined, func(ctx context.Context, tx *store.Tx) error {
		q, err := w.db.end(ctx, tx, w.Edition, StatusQuarantined, reason, now().UnixMicro())
		if err != nil {
			return err
		}
		if err := w.db.keepSuspects(ctx, tx, w.Edition, v.Suspects); err != nil {
			return err
		}
		return emit(ctx, tx, DocumentQuarantined, q, DocumentEvent{Digest: q.digest, Reason: reason})
	})
}

// fail gives up: what was made is thrown away, the version before stays in place.
func (w *work) fail(r *saga.Run, reason string) error {
	return w.last(r, StatusFailed, func(ctx context.Context, tx *store.Tx) error {
		q, err := w.db.end(ctx, tx, w.Edition, StatusFailed, reason, now().UnixMicro())
		if err != nil {
			return err
		}
		return emit(ctx, tx, DocumentFailed, q, DocumentEvent{Digest: q.digest, Reason: reason})
	})
}

// last is the step that ends a run. For a document that was replaced or deleted meanwhile it does nothing: its
// transaction looks at that first.
func (w *work) last(r *saga.Run, outcome string, fn func(ctx context.Context, tx *store.Tx) error) error {
	err := r.Tx(outcome, func(ctx context.Context, tx *store.Tx) error {
		err := fn(ctx, tx)
		if isCode(err, codeSuperseded) {
			return nil
		}
		if err == nil {
			w.metrics.documents.Add(ctx, 1, metric.WithAttributes(attribute.String("outcome", outcome)))
		}
		return err
	})
	fault.Point("search.ingestion_ended")
	w.nudge() // there may be something to throw away, or to take up again later
	return err
}

func emit(ctx context.Context, tx *store.Tx, kind string, q queued, data DocumentEvent) error {
	data.Document, data.Collection, data.Version = q.document, q.name, q.version
	return tx.Emit(ctx, store.Event{Type: kind, Tenant: q.tenant, Actor: q.subject, Subject: q.document, Data: data})
}

const longestPause = 10 * time.Minute

func (s *Service) pause(attempt int64) time.Duration {
	return min(longestPause, s.cfg.RetryAfter<<min(attempt, 12))
}

func isCode(err error, code string) bool {
	f := fault.From(err)
	return f != nil && f.Code == code
}
