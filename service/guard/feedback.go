package guard

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"
	"unicode/utf8"

	"aran/platform/auth"
	"aran/platform/fault"
	"aran/platform/seal"
)

// Kinds of reports.
const (
	FalsePositive = "false_positive" // a harmless text was stopped
	FalseNegative = "false_negative" // an attack passed
)

// States of a report.
const (
	Open     = "open"
	Accepted = "accepted"
	Rejected = "rejected"
)

const (
	maxReported  = 100_000             // bytes of a text
	maxNote      = 1000                // bytes
	keptTraining = 90 * 24 * time.Hour // an accepted text waits for an export as long
	keptReports  = 365 * 24 * time.Hour
	maxExport    = 5000 // texts at once
)

// Feedback is a report that a verdict was wrong. It waits for somebody else to review it, and changes nothing by itself.
type Feedback struct {
	ID       string
	Kind     string
	Request  string
	Digest   string // SHA-256 of the text, hex
	Verdict  string // as it is kept; empty: no verdict on that text is
	Score    float64
	Kinds    []string // of what was found
	Reporter string   // empty: erased
	Note     string   // of the reporter
	Text     string   // when the reporter sent it, until it is reviewed
	Training bool     // the reporter agrees that an accepted text is exported for training
	Status   string
	Made     time.Time
	Reviewed time.Time
	By       string // who reviewed it
	Reason   string // why
	Exported time.Time

	OfReporter int64   // how many reports the reporter has made
	Share      float64 // of all open ones, the part that is the reporter's
	Reporters  int64   // how many report the same text
	sealed     []byte
}

// Report is what somebody says about a verdict.
type Report struct {
	Kind     string
	Request  string // the request whose text it is about; or
	Digest   string // the text's digest; or
	Text     string // the text itself, which is then kept, sealed, until the report is reviewed
	Training bool
	Note     string
}

// contents are sealed under the reporter's key.
type contents struct {
	Note string `json:"note,omitempty"`
	Text string `json:"text,omitempty"`
}

func reporterKey(tenant, reporter string) string { return "feedback\x00" + tenant + "\x00" + reporter }

func place(tenant, id string) []byte { return []byte("guard/feedback/" + tenant + "/" + id) }

// Report puts a report into the review queue of the caller's tenant. The same text reported again by the same person is the same report.
func (s *Service) Report(ctx context.Context, r Report) (Feedback, error) {
	id := auth.From(ctx)
	switch {
	case r.Kind != FalsePositive && r.Kind != FalseNegative:
		return Feedback{}, fault.New(fault.Invalid, "invalid", "The kind of a report is false_positive or false_negative.")
	case r.Request == "" && r.Digest == "" && r.Text == "":
		return Feedback{}, fault.New(fault.Invalid, "invalid", "Name request_id or text_digest, or send the text.")
	case len(r.Text) > maxReported || len(r.Note) > maxNote || !utf8.ValidString(r.Text):
		return Feedback{}, fault.New(fault.Invalid, "invalid", "A text has at most %d bytes of UTF-8, a note %d.", maxReported, maxNote)
	case r.Training && r.Text == "":
		return Feedback{}, fault.New(fault.Invalid, "invalid", "Only a text that is sent can be exported for training.")
	}
	if err := s.history.flush(ctx); err != nil {
		return Feedback{}, err
	}
	f := Feedback{Kind: r.Kind, Request: r.Request, Digest: r.Digest, Reporter: id.Subject, Training: r.Training, Status: Open, Made: time.Now().Truncate(time.Microsecond), Kinds: []string{}}
	if r.Text != "" {
		sum := sha256.Sum256([]byte(r.Text))
		digest := hex.EncodeToString(sum[:])
		if f.Digest != "" && f.Digest != digest {
			return Feedback{}, fault.New(fault.Invalid, "invalid", "The text does not have that text_digest.")
		}
		f.Digest = digest
	}
	known, err := s.recorded(ctx, id.Tenant, f.Request, f.Digest)
	switch {
	case err == nil:
		f.Request, f.Digest, f.Verdict, f.Score = known.Request, known.Digest, known.Verdict, known.Score
		for _, x := range known.Found {
			f.Kinds = append(f.Kinds, x.Kind)
		}
	case fault.KindOf(err) != fault.Missing || r.Text == "":
		return Feedback{}, err // without the text or a verdict there is nothing to review
	}
	if r.Text != "" || r.Note != "" {
		if s.box == nil {
			return Feedback{}, fault.New(fault.Unavailable, codeNoKeys, "Texts and notes can't be kept: the key database is not there.")
		}
		f.ID = newFeedbackID()
		b, err := json.Marshal(contents{r.Note, r.Text})
		if err != nil {
			return Feedback{}, fmt.Errorf("write report: %w", err)
		}
		if f.sealed, err = s.box.Seal(ctx, reporterKey(id.Tenant, id.Subject), b, place(id.Tenant, f.ID)); err != nil {
			return Feedback{}, err
		}
	}
	return s.addFeedback(ctx, id, f)
}

// Reports lists reports of the caller's tenant in a state, oldest first, with what was sent with them.
func (s *Service) Reports(ctx context.Context, status, after string, limit int) ([]Feedback, error) {
	tenant := auth.From(ctx).Tenant
	list, err := s.listFeedback(ctx, tenant, status, after, limit)
	if err != nil {
		return nil, err
	}
	for i := range list {
		if err := s.unseal(ctx, tenant, &list[i]); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// unseal opens note and text; those of an erased reporter are gone.
func (s *Service) unseal(ctx context.Context, tenant string, f *Feedback) error {
	if len(f.sealed) == 0 || s.box == nil {
		return nil
	}
	b, err := s.box.Open(ctx, reporterKey(tenant, f.Reporter), f.sealed, place(tenant, f.ID))
	if x := fault.From(err); x != nil && x.Code == seal.CodeErased {
		return nil
	}
	if err != nil {
		return fmt.Errorf("open report %s: %w", f.ID, err)
	}
	var c contents
	if err := json.Unmarshal(b, &c); err != nil {
		return fmt.Errorf("open report %s: %w", f.ID, err)
	}
	f.Note, f.Text = c.Note, c.Text
	return nil
}

// Review decides on a report of somebody else. An accepted report of a false positive may come with an entry for the allow-list,
// which is made in the same transaction. Of the text nothing is kept, unless it was accepted and its reporter agreed to training.
func (s *Service) Review(ctx context.Context, feedback, status, reason string, spare *Spared) (Feedback, error) {
	id := auth.From(ctx)
	if status != Accepted && status != Rejected {
		return Feedback{}, fault.New(fault.Invalid, "invalid", "A report is accepted or rejected.")
	}
	f, err := s.feedbackOf(ctx, s.db, id.Tenant, feedback)
	if err != nil {
		return Feedback{}, err
	}
	if f.Reporter == id.Subject {
		return Feedback{}, fault.New(fault.Denied, "own_report", "Somebody else must review a report of yours.")
	}
	var entry *Spared
	if spare != nil {
		if status != Accepted || f.Kind != FalsePositive {
			return Feedback{}, fault.New(fault.Invalid, "invalid", "Only an accepted false positive comes with an entry for the allow-list.")
		}
		if spare.Kind == SpareText && spare.Value == "" {
			spare.Value = f.Digest
		}
		x, err := s.prepare(ctx, id, *spare)
		if err != nil {
			return Feedback{}, err
		}
		entry = &x
	}
	if f, err = s.decideFeedback(ctx, id, feedback, status, reason, entry); err != nil {
		return Feedback{}, err
	}
	if entry != nil {
		s.policies.forget(id.Tenant)
	}
	return f, nil
}

// line is a text for training, as aran eval guard reads it.
type line struct {
	Text   string `json:"text"`
	Label  int    `json:"label"` // 1: an attack
	Source string `json:"source"`
	Digest string `json:"text_digest"`
}

// Export hands out accepted texts whose reporters agreed to training, as lines of JSON, with an event. It trains nothing.
func (s *Service) Export(ctx context.Context) ([]byte, int, error) {
	id := auth.From(ctx)
	list, err := s.exportable(ctx, id.Tenant, maxExport)
	if err != nil {
		return nil, 0, err
	}
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	var gone []string
	for i := range list {
		if err := s.unseal(ctx, id.Tenant, &list[i]); err != nil {
			return nil, 0, err
		}
		if list[i].Text == "" {
			continue
		}
		label := 0
		if list[i].Kind == FalseNegative {
			label = 1
		}
		if err := enc.Encode(line{list[i].Text, label, "feedback", list[i].Digest}); err != nil {
			return nil, 0, fmt.Errorf("write export: %w", err)
		}
		gone = append(gone, list[i].ID)
	}
	sum := sha256.Sum256(out.Bytes())
	return out.Bytes(), len(gone), s.exported(ctx, id, gone, hex.EncodeToString(sum[:]))
}

// EraseReports forgets what somebody of a tenant reported: their notes, their texts and their name on them and on reviews. What
// they changed as managers of policies stays recorded. Somebody who never reported anything is no error.
func (s *Service) EraseReports(ctx context.Context, tenant, reporter string) error {
	if reporter == "" || len(reporter) > 256 {
		return fault.New(fault.Invalid, "invalid", "Say whose reports are to be forgotten.")
	}
	if err := s.eraseFeedback(ctx, tenant, auth.From(ctx).Subject, reporter); err != nil {
		return err
	}
	if s.box == nil {
		return nil
	}
	known, err := s.box.Known(ctx, reporterKey(tenant, reporter))
	if x := fault.From(err); x == nil && (err != nil || known == "") || x != nil && x.Code != seal.CodeErased {
		return err
	}
	return s.box.Erase(ctx, reporterKey(tenant, reporter)) // again, too: whoever repeats an erasure wants its traces gone
}
