package redteam

import (
	"context"
	"fmt"

	"aran/service/guard/detect"
	"aran/service/guard/injection"
	"aran/service/guard/outgoing"
	"aran/service/guard/pii"
)

// Offline is a target without a model: guard judges what would be sent, and then the answer of a model that falls for
// everything. What passes both has succeeded.
type Offline struct {
	detector       *injection.Detector
	user, document float64
}

// NewOffline judges with the detector that comes with the program, at the thresholds of a user's text and a document's.
func NewOffline(user, document float64) (*Offline, error) {
	d, err := injection.Builtin()
	if err != nil {
		return nil, err
	}
	return &Offline{d, user, document}, nil
}

// Ask judges a conversation.
func (o *Offline) Ask(_ context.Context, c Conversation) (Answer, error) {
	if c.Document != "" {
		if j := o.detector.Judge(c.Document, detect.Document); j.Score >= o.document {
			return Answer{}, fmt.Errorf("%w: the document scores %.2f", ErrBlocked, j.Score)
		}
	}
	for _, t := range c.Turns {
		if t.Role != "user" {
			continue
		}
		if j := o.detector.Judge(t.Text, detect.User); j.Score >= o.user {
			return Answer{}, fmt.Errorf("%w: the text scores %.2f", ErrBlocked, j.Score)
		}
	}
	if c.answer != "" {
		if len(outgoing.Canaries(c.answer, []string{c.canary})) > 0 {
			return Answer{}, fmt.Errorf("%w: a canary in the answer", ErrBlocked)
		}
		for _, f := range append(outgoing.Links(c.answer, nil), pii.Find(c.answer)...) {
			return Answer{}, fmt.Errorf("%w: %s in the answer", ErrBlocked, f.Kind)
		}
	}
	return Answer{Text: c.answer, fell: true}, nil
}
