package guard

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/uuid"

	"aran/platform/auth"
	"aran/platform/fault"
	"aran/platform/store"
)

const (
	feedbackColumns = `SELECT f.id, f.kind, f.request, f.digest, f.verdict, f.score, f.kinds, f.reporter, f.training, f.sealed, f.status, f.made_at, f.reviewed_at, f.reviewed_by, f.reason, f.exported_at,
 (SELECT COUNT(*) FROM guard_feedback o WHERE o.tenant = f.tenant AND o.reporter = f.reporter),
 (SELECT COUNT(*) FROM guard_feedback o WHERE o.tenant = f.tenant AND o.reporter = f.reporter AND o.status = 'open'),
 (SELECT COUNT(*) FROM guard_feedback o WHERE o.tenant = f.tenant AND o.status = 'open'),
 (SELECT COUNT(DISTINCT o.reporter) FROM guard_feedback o WHERE o.tenant = f.tenant AND o.digest = f.digest AND o.kind = f.kind)
 FROM guard_feedback f`

	listReports   = feedbackColumns + ` WHERE f.tenant = $1 AND f.status = $2 AND f.id > $3 ORDER BY f.id LIMIT $4`
	reportOf      = feedbackColumns + ` WHERE f.tenant = $1 AND f.id = $2`
	sameReport    = feedbackColumns + ` WHERE f.tenant = $1 AND f.reporter = $2 AND f.digest = $3 AND f.kind = $4 AND f.status = 'open' ORDER BY f.id LIMIT 1`
	exportReports = feedbackColumns + ` WHERE f.tenant = $1 AND f.status = 'accepted' AND f.training = 1 AND f.sealed IS NOT NULL AND f.exported_at = 0 ORDER BY f.id LIMIT $2`

	openReports  = `SELECT COUNT(*) FROM guard_feedback WHERE tenant = $1 AND status = 'open'`
	reportsSince = `SELECT COUNT(*) FROM guard_feedback WHERE tenant = $1 AND reporter = $2 AND made_at >= $3`
	addReport    = `INSERT INTO guard_feedback (id, tenant, reporter, kind, request, digest, verdict, score, kinds, training, sealed, status, made_at, reviewed_at, reviewed_by, reason, exported_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, 0, '', '', 0)`
	reviewReport = `UPDATE guard_feedback SET status = $1, reviewed_at = $2, reviewed_by = $3, reason = $4 WHERE tenant = $5 AND id = $6 AND status = 'open'`
	dropText     = `UPDATE guard_feedback SET sealed = NULL WHERE tenant = $1 AND id = $2`
	markExported = `UPDATE guard_feedback SET exported_at = $1, sealed = NULL WHERE tenant = $2 AND id = $3 AND exported_at = 0`

	forgetReporter = `UPDATE guard_feedback SET reporter = '', sealed = NULL, training = 0 WHERE tenant = $1 AND reporter = $2`
	forgetReviewer = `UPDATE guard_feedback SET reviewed_by = '' WHERE tenant = $1 AND reviewed_by = $2`
	staleTexts     = `UPDATE guard_feedback SET sealed = NULL WHERE sealed IS NOT NULL AND made_at < $1`
	staleReports   = `DELETE FROM guard_feedback WHERE made_at < $1`
)

func newFeedbackID() string { return "fb_" + uuid.Must(uuid.NewV7()).String() }

func scanFeedback(row store.Row) (f Feedback, err error) {
	var training, made, reviewed, exported, open, allOpen int64
	var kinds string
	if err := row.Scan(&f.ID, &f.Kind, &f.Request, &f.Digest, &f.Verdict, &f.Score, &kinds, &f.Reporter, &training, &f.sealed, &f.Status, &made, &reviewed, &f.By, &f.Reason, &exported,
		&f.OfReporter, &open, &allOpen, &f.Reporters); err != nil {
		return Feedback{}, err
	}
	if err := json.Unmarshal([]byte(kinds), &f.Kinds); err != nil {
		return Feedback{}, fmt.Errorf("report %s: %w", f.ID, err)
	}
	f.Training, f.Made = training == 1, time.UnixMicro(made)
	if reviewed > 0 {
		f.Reviewed = time.UnixMicro(reviewed)
	}
	if exported > 0 {
		f.Exported = time.UnixMicro(exported)
	}
	if allOpen > 0 {
		f.Share = float64(open) / float64(allOpen)
	}
	return f, nil
}

func (s *Service) feedbackOf(ctx context.Context, q store.Querier, tenant, id string) (Feedback, error) {
	f, err := scanFeedback(q.QueryRow(ctx, reportOf, tenant, id))
	if store.NoRows(err) {
		return Feedback{}, fault.NotFound("feedback", id)
	}
	return f, err
}

func (s *Service) listFeedback(ctx context.Context, tenant, status, after string, limit int) ([]Feedback, error) {
	return all(ctx, s.db, scanFeedback, listReports, tenant, status, after, int64(limit))
}

func (s *Service) exportable(ctx context.Context, tenant string, limit int) ([]Feedback, error) {
	return all(ctx, s.db, scanFeedback, exportReports, tenant, int64(limit))
}

// addFeedback writes a report within the bounds of its reporter and tenant, with its event.
func (s *Service) addFeedback(ctx context.Context, id auth.Identity, f Feedback) (Feedback, error) {
	if f.ID == "" {
		f.ID = newFeedbackID()
	}
	err := s.db.Tx(ctx, func(tx *store.Tx) error {
		same, err := scanFeedback(tx.QueryRow(ctx, sameReport, id.Tenant, f.Reporter, f.Digest, f.Kind))
		if err == nil {
			f = same
			return nil
		}
		if !store.NoRows(err) {
			return err
		}
		var open, mine int
		if err := tx.QueryRow(ctx, openReports, id.Tenant).Scan(&open); err != nil {
			return err
		}
		if err := tx.QueryRow(ctx, reportsSince, id.Tenant, f.Reporter, f.Made.Add(-24*time.Hour).UnixMicro()).Scan(&mine); err != nil {
			return err
		}
		switch {
		case mine >= s.cfg.FeedbackPerDay:
			return fault.New(fault.Exhausted, "too_many_reports", "You made %d reports within a day, which is the most.", mine).After(time.Hour)
		case open >= s.cfg.FeedbackOpen:
			return fault.New(fault.Exhausted, "queue_full", "%d reports wait for review, which is the most.", open).After(time.Hour)
		}
		kinds, err := encode(f.Kinds)
		if err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, addReport, f.ID, id.Tenant, f.Reporter, f.Kind, f.Request, f.Digest, f.Verdict, f.Score, kinds, number(f.Training), f.sealed, f.Status, f.Made.UnixMicro()); err != nil {
			return err
		}
		if f, err = s.feedbackOf(ctx, tx, id.Tenant, f.ID); err != nil {
			return err
		}
		return tx.Emit(ctx, store.Event{Type: TypeFeedbackGiven, Tenant: id.Tenant, Actor: id.Subject, Subject: f.ID, Data: FeedbackEvent{f.ID, f.Kind, f.Digest, f.Status}})
	})
	return f, err
}

func number(yes bool) int64 { //nolint:revive // how the database keeps it
	if yes {
		return 1
	}
	return 0
}

func (s *Service) decideFeedback(ctx context.Context, id auth.Identity, feedback, status, reason string, entry *Spared) (f Feedback, err error) {
	err = s.db.Tx(ctx, func(tx *store.Tx) error {
		if f, err = s.feedbackOf(ctx, tx, id.Tenant, feedback); err != nil {
			return err
		}
		if f.Status != Open {
			return fault.New(fault.Conflict, "reviewed", "The report was %s before.", f.Status)
		}
		f.Status, f.Reviewed, f.By, f.Reason = status, time.Now().Truncate(time.Microsecond), id.Subject, reason
		if err := tx.ExecOne(ctx, reviewReport, status, f.Reviewed.UnixMicro(), f.By, reason, id.Tenant, feedback); err != nil {
			return err
		}
		if status != Accepted || !f.Training {
			f.sealed = nil
			if _, err := tx.Exec(ctx, dropText, id.Tenant, feedback); err != nil {
				return err
			}
		}
		if entry != nil {
			if err := s.insertSpared(ctx, tx, id, entry); err != nil {
				return err
			}
		}
		return tx.Emit(ctx, store.Event{Type: TypeFeedbackReviewed, Tenant: id.Tenant, Actor: id.Subject, Subject: f.ID, Data: FeedbackEvent{f.ID, f.Kind, f.Digest, f.Status}})
	})
	return f, err
}

// exported notes that texts were handed out, forgets them here, and says so in an event.
func (s *Service) exported(ctx context.Context, id auth.Identity, ids []string, digest string) error {
	return s.db.Tx(ctx, func(tx *store.Tx) error {
		now := time.Now().UnixMicro()
		for _, x := range ids {
			if err := tx.ExecOne(ctx, markExported, now, id.Tenant, x); err != nil {
				return err
			}
		}
		return tx.Emit(ctx, store.Event{Type: TypeFeedbackExported, Tenant: id.Tenant, Actor: id.Subject, Subject: digest, Data: ExportEvent{len(ids), digest}})
	})
}

func (s *Service) eraseFeedback(ctx context.Context, tenant, actor, reporter string) error {
	return s.db.Tx(ctx, func(tx *store.Tx) error {
		n, err := tx.Exec(ctx, forgetReporter, tenant, reporter)
		if err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, forgetReviewer, tenant, reporter); err != nil {
			return err
		}
		if n == 0 {
			return nil
		}
		return tx.Emit(ctx, store.Event{Type: TypeFeedbackErased, Tenant: tenant, Actor: actor, Data: ErasedEvent{n}})
	})
}

// tidyFeedback forgets texts that nobody came for, old reports, and allow-list entries that expired a month ago.
func (s *Service) tidyFeedback(ctx context.Context, tx *store.Tx, now time.Time) error {
	if _, err := tx.Exec(ctx, staleTexts, now.Add(-keptTraining).UnixMicro()); err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, staleReports, now.Add(-keptReports).UnixMicro()); err != nil {
		return err
	}
	_, err := tx.Exec(ctx, dropExpired, now.AddDate(0, -1, 0).UnixMicro())
	return err
}
