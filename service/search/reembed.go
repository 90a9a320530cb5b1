package search

import (
	"context"
	"errors"
	"log/slog"
	"strconv"
	"time"

	"github.com/google/uuid"

	inferv1 "aran/api/gen/aran/infer/v1"
	"aran/platform/auth"
	"aran/platform/bus"
	"aran/platform/fault"
	"aran/platform/saga"
	"aran/platform/store"
	"aran/service/search/chunk"
)

// States of a re-embedding.
const (
	ReembeddingRunning   = "running"
	ReembeddingDone      = "done"
	ReembeddingCancelled = "cancelled"
	ReembeddingFailed    = "failed"
)

// Reembedding is the work of a collection going over to another encoder. Vectors of the new one are made beside those
// that searches go by; when none is lacking, one transaction switches.
type Reembedding struct {
	ID               string
	Model            string // that it goes over to; empty: the default encoder
	From, To         string // digests
	State            string
	Reason           string // why it failed or waits: a code
	Total, Done      int64  // parts: up to search.embed_batch passages of one document
	Created, Updated time.Time

	collection, attempt, retryAt int64
	tenant, subject              string
	scopes                       []string
}

// reembedding is the input of the saga: which job, and which try.
type reembedding struct {
	Job     string `json:"job"`
	Attempt int64  `json:"attempt"`
}

func (in reembedding) id() string {
	return "reembed-" + in.Job + "-" + strconv.FormatInt(in.Attempt, 10)
}

func newID() string { return uuid.Must(uuid.NewV7()).String() }

const (
	stepsOfRun  = 64 // then the work goes on in a new run, so that none grows without end
	beginAtOnce = 16
	// In pauses of search.retry_after: so often the encoders of collections are compared with those that serve, and so long
	// the vectors of before are kept after a switch, for searches that began before it.
	keepPauses, gracePauses = 30, 5
)

// active is the digest of the version of a model that serves calls which name none. During a roll-out that is the one
// before.
func (s *Service) active(ctx context.Context, model string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, activeTimeout)
	defer cancel()
	name := model
	if name == "" {
		name = defaultModel
	}
	r, err := s.infer.ListModels(ctx, &inferv1.ListModelsRequest{})
	if err != nil {
		return "", err
	}
	var first *inferv1.Model
	for _, m := range r.GetModels() {
		if m.GetKind() != embedKind {
			continue
		}
		if m.GetName() == name {
			if m.GetStatus() != readyModel {
				return "", fault.New(fault.Unavailable, "model_not_ready", "The model %q is %s.", name, m.GetStatus())
			}
			return m.GetDigest(), nil
		}
		if first == nil && m.GetStatus() == readyModel {
			first = m
		}
	}
	if name != defaultModel || first == nil {
		f := invalid("model", "names no model that embeds; GET /api/v1/models lists them")
		return "", f
	}
	e, err := s.embedAs(ctx, encoderOf{}, inferv1.InputType_INPUT_TYPE_DOCUMENT, []string{"a"}, activeTimeout) // who `default` is, infer knows
	if err != nil {
		return "", err
	}
	for _, m := range r.GetModels() { // a version on trial may have answered
		if m.GetName() == e.model && m.GetDigest() != "" {
			return m.GetDigest(), nil
		}
	}
	return e.digest, nil
}

const (
	activeTimeout = 10 * time.Second
	defaultModel  = "default"
	embedKind     = "embed"
	readyModel    = "ready"
)

// Reembedding returns the last one of a collection of the caller's tenant.
func (s *Service) Reembedding(ctx context.Context, name string) (Reembedding, error) {
	c, err := s.db.own(ctx, s.db, auth.From(ctx).Tenant, name)
	if err != nil {
		return Reembedding{}, err
	}
	j, err := s.db.lastReembedding(ctx, s.db, c.id)
	if err == nil && j.ID == "" {
		return j, fault.New(fault.Missing, "no_reembedding", "The collection %q was never embedded anew.", name)
	}
	return j, err
}

// Reembed begins one when the collection's model has another digest by now, or some documents lack its vectors. Where
// nothing is to be done it returns the last one.
func (s *Service) Reembed(ctx context.Context, name string) (Reembedding, error) {
	v := viewerOf(auth.From(ctx))
	c, err := s.db.own(ctx, s.db, v.tenant, name)
	if err != nil {
		return Reembedding{}, err
	}
	encoder, err := s.active(ctx, c.Model)
	if err != nil {
		return Reembedding{}, err
	}
	j, err := s.db.beginReembedding(ctx, v, c, c.Model, encoder)
	if err != nil {
		return j, err
	}
	s.nudge()
	if j.ID == "" {
		return j, fault.New(fault.Conflict, "nothing_to_do", "All of %q has vectors of the encoder that serves its model.", name)
	}
	return j, nil
}

// CancelReembedding ends the one in work. Searches go on as before; what was made is deleted.
func (s *Service) CancelReembedding(ctx context.Context, name string) (Reembedding, error) {
	v := viewerOf(auth.From(ctx))
	c, err := s.db.own(ctx, s.db, v.tenant, name)
	if err != nil {
		return Reembedding{}, err
	}
	err = s.db.Tx(ctx, func(tx *store.Tx) error {
		j, err := s.db.running(ctx, tx, c.id)
		if err == nil && j.ID == "" {
			return fault.New(fault.Conflict, "not_running", "No re-embedding of %q is in work.", name)
		}
		if err != nil {
			return err
		}
		return s.db.endReembedding(ctx, tx, c.Name, j, ReembeddingCancelled, "", v.subject)
	})
	if err != nil {
		return Reembedding{}, err
	}
	s.nudge()
	return s.db.lastReembedding(ctx, s.db, c.id)
}

// made is what a step of the saga leaves.
type made struct {
	After   place `json:"after"`
	Done    bool  `json:"done"` // nothing lacked vectors after the place
	Missing int64 `json:"missing,omitempty"`
	End     *end  `json:"end,omitempty"`
}

// reembed is the saga: vectors for batch after batch of what lacks them, then the switch. A run takes a bounded number
// of steps; the next one goes on where it ended.
func (s *Service) reembed(r *saga.Run, in reembedding) error {
	var at place
	for range stepsOfRun {
		m, err := saga.Do(r, "vectors", func(ctx context.Context) (made, error) { return s.makeVectors(ctx, in, at) })
		if err != nil {
			return err
		}
		fault.Point("search.vectors_made")
		if m.End != nil {
			return s.endRun(r, in, *m.End)
		}
		if at = m.After; m.Done {
			return s.endRun(r, in, end{How: StatusIndexed})
		}
	}
	return s.endRun(r, in, end{How: endRestart})
}

// endRun is the last step of a run.
func (s *Service) endRun(r *saga.Run, in reembedding, e end) error {
	err := r.Tx("end", func(ctx context.Context, tx *store.Tx) error {
		at := now()
		switch e.How {
		case endSuperseded:
			return nil
		case StatusIndexed:
			missing, err := s.db.switchOver(ctx, tx, in.Job)
			if isCode(err, codeSuperseded) {
				return nil
			}
			if err != nil || missing == 0 {
				return err
			}
			return s.db.parkReembedding(ctx, tx, in.Job, at.UnixMicro(), "") // documents came meanwhile
		case endPark:
			return s.db.parkReembedding(ctx, tx, in.Job, at.Add(s.pause(in.Attempt)).UnixMicro(), e.Reason)
		case endRestart:
			return s.db.parkReembedding(ctx, tx, in.Job, at.UnixMicro(), "")
		}
		j, c, err := s.db.reembedding(ctx, tx, in.Job)
		if isCode(err, codeSuperseded) {
			return nil
		}
		if err != nil {
			return err
		}
		return s.db.endReembedding(ctx, tx, c.Name, j, ReembeddingFailed, e.Reason, j.subject)
	})
	fault.Point("search.reembedding_ended")
	s.nudge()
	return err
}

// makeVectors makes those of one batch of parts after a place.
func (s *Service) makeVectors(ctx context.Context, in reembedding, at place) (made, error) {
	m, err := s.makeBatch(ctx, in, at)
	if err == nil || ctx.Err() != nil {
		return m, err
	}
	e := s.judgeError(err, in.Attempt)
	if e.How != endSuperseded {
		s.log.LogAttrs(ctx, slog.LevelWarn, "re-embedding interrupted", slog.String("job", in.Job), slog.Int64("attempt", in.Attempt), slog.String("how", e.How), slog.String("error", err.Error()))
	}
	return made{After: at, End: &e}, nil
}

// texts of a batch, and whose they are.
type texts struct {
	parts []part
	texts []string
}

func (s *Service) makeBatch(ctx context.Context, in reembedding, at place) (made, error) {
	j, _, err := s.db.reembedding(ctx, s.db, in.Job)
	if err != nil {
		return made{}, err
	}
	pieces, err := s.db.lackingParts(ctx, j, at, s.cfg.EmbedBatch)
	if err != nil || len(pieces) == 0 {
		return made{After: at, Done: true}, err
	}
	var batch texts
	out := made{After: at}
	for _, p := range pieces {
		if len(batch.parts) > 0 && len(batch.texts)+p.passages > s.cfg.EmbedBatch {
			break
		}
		list, err := s.textsOf(ctx, p)
		if err != nil {
			return made{}, err
		}
		out.After = place{p.edition, int64(p.first)}
		if len(list) != p.passages {
			continue // deleted meanwhile
		}
		batch.parts = append(batch.parts, part{collection: j.collection, edition: p.edition, first: p.first, passages: p.passages, encoder: j.To})
		batch.texts = append(batch.texts, list...)
	}
	if len(batch.parts) == 0 {
		return out, nil
	}
	as := auth.WithGrant(ctx, auth.Grant{Tenant: j.tenant, Subject: j.subject, Scopes: j.scopes})
	e, err := s.embedAs(as, encoderOf{j.Model, j.To}, inferv1.InputType_INPUT_TYPE_DOCUMENT, batch.texts, indexTimeout)
	if err != nil {
		return made{}, err
	}
	fault.Point("search.vectors_encoded")
	return out, s.db.Tx(ctx, func(tx *store.Tx) error { return s.storeVectors(ctx, tx, j, batch.parts, e.vectors) })
}

func (s *Service) storeVectors(ctx context.Context, tx *store.Tx, j Reembedding, parts []part, vectors [][]float32) error {
	n := 0
	for _, p := range parts {
		mine := vectors[:p.passages]
		vectors = vectors[p.passages:]
		found, err := s.db.isFound(ctx, tx, p.edition)
		if err != nil {
			return err
		}
		if !found {
			continue // replaced meanwhile
		}
		p.packed = nil
		for _, v := range mine {
			p.packed = pack(p.packed, v)
		}
		if err := s.db.putBeside(ctx, tx, p); err != nil {
			return err
		}
		n++
	}
	return s.db.progress(ctx, tx, j.ID, n)
}

// textsOf are the texts of a part as the encoder is to see them: with their headings, unless the rules for cutting
// changed since it was indexed.
func (s *Service) textsOf(ctx context.Context, p piece) ([]string, error) {
	title, contentType, text, gone, err := s.db.source(ctx, p.edition)
	if err != nil || gone {
		return nil, err
	}
	spans, err := s.db.spans(ctx, p)
	if err != nil {
		return nil, err
	}
	headings := map[[2]int][]string{}
	for _, q := range s.passages(title, contentType, text) {
		headings[[2]int{q.Start, q.End}] = q.Headings
	}
	ps := make([]chunk.Passage, len(spans))
	for i, at := range spans {
		if at[0] < 0 || at[1] > len(text) || at[0] > at[1] {
			return nil, fault.New(fault.Internal, "bad_passage", "A passage of edition %d stands outside its text.", p.edition)
		}
		ps[i] = chunk.Passage{Start: at[0], End: at[1], Headings: headings[at]}
	}
	return s.contexts(title, text, ps), nil
}

// keepEncoders begins re-embeddings of collections whose model is served in another version by now, for whoever owns them.
func (s *Service) keepEncoders(ctx context.Context) error {
	models, err := s.db.modelsInUse(ctx)
	if err != nil {
		return err
	}
	var all []error
	for model, c := range models {
		encoder, err := s.active(s.asOwner(ctx, c), model)
		if err != nil {
			all = append(all, err)
			continue
		}
		list, err := s.db.outOfDate(ctx, model, encoder, beginAtOnce)
		if err != nil {
			return err
		}
		for _, c := range list {
			s.log.LogAttrs(ctx, slog.LevelInfo, "collection goes over to another encoder", slog.String("collection", c.Name), slog.String("model", model), slog.String("from", c.Encoder), slog.String("to", encoder))
			if _, err := s.db.beginReembedding(ctx, viewer{tenant: c.tenant, subject: c.Owner, scopes: ownersScopes()}, c, model, encoder); err != nil {
				return err
			}
		}
	}
	return errors.Join(all...)
}

// ownersScopes is the ceiling of work that a collection's owner did not ask for; their rights of now hold besides.
func ownersScopes() []string { return []string{auth.ScopeSearchRead, auth.ScopeSearchWrite} }

func (*Service) asOwner(ctx context.Context, c Collection) context.Context {
	return auth.WithGrant(ctx, auth.Grant{Tenant: c.tenant, Subject: c.Owner, Scopes: ownersScopes()})
}

// dueJobs takes re-embeddings back into work, and returns when the next one wants to be.
func (s *Service) dueJobs(ctx context.Context, at time.Time) (next int64, err error) {
	if err := s.db.rescueReembeddings(ctx, at.UnixMicro(), at.Add(-stuckAfter).UnixMicro()); err != nil {
		return 0, err
	}
	due, err := s.db.dueReembedding(ctx, at.UnixMicro(), dueAtOnce)
	if err != nil {
		return 0, err
	}
	for _, in := range due {
		if err := s.reembeds.Start(ctx, in.id(), in); err != nil {
			return 0, err
		}
		fault.Point("search.reembedding_started")
		if err := s.db.startedReembedding(ctx, in); err != nil {
			return 0, err
		}
	}
	return s.db.nextReembedding(ctx)
}

// settle takes up the vectors of collections that went over, and deletes those that nobody goes by any more. It returns
// whether some have to wait.
func (s *Service) settle(ctx context.Context) (waiting bool, err error) {
	for {
		done, err := s.db.settle(ctx, now().Add(-s.grace()).UnixMicro())
		if err != nil {
			return true, err
		}
		if done {
			return s.db.anyBeside(ctx)
		}
		fault.Point("search.vectors_settled")
	}
}

func (s *Service) grace() time.Duration { return gracePauses * s.cfg.RetryAfter }

// watchEncoders looks again and again whether collections are to go over to another version of their model, until ctx ends.
func (s *Service) watchEncoders(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		if err := s.keepEncoders(ctx); err != nil && ctx.Err() == nil {
			s.log.LogAttrs(ctx, slog.LevelWarn, "encoders not compared; it is tried again", slog.String("error", err.Error()))
		}
		s.nudge()
		timer.Reset(keepPauses * s.cfg.RetryAfter)
	}
}

// wentOver drops indexes of encoders that their collection no longer goes by.
func (s *Service) wentOver(ctx context.Context, e bus.Event) {
	pinned, err := s.db.pinned(ctx)
	if err != nil {
		s.log.LogAttrs(ctx, slog.LevelWarn, "index not dropped", slog.String("event", e.ID), slog.String("error", err.Error()))
		return
	}
	s.indexes.keepOnly(pinned)
}

// keepOnly drops the indexes of collections that go by another encoder.
func (x *indexes) keepOnly(pinned map[int64]string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for k := range x.byKey {
		if p, ok := pinned[k.collection]; ok && p != k.encoder {
			delete(x.byKey, k)
		}
	}
}
