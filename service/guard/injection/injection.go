// Package injection judges whether a text tries to give instructions where it may not: it combines the layers that
// look for that into one score.
//
// The score is a probability, calibrated on sources that the classifiers had not seen, at the base rate that the model
// card names. A layer that was asked for and is not there is named in the judgement, never passed over in silence.
package injection

import (
	"context"
	"fmt"
	"io/fs"
	"math"
	"strings"
	"unicode/utf8"

	"aran/service/guard/canon"
	"aran/service/guard/classify"
	"aran/service/guard/detect"
)

// Layers. Rules always look.
const (
	Rules      = classify.Rules
	Compact    = classify.Compact
	Embeddings = classify.Embeddings
)

// Scores from which a text is taken for an attack unless a policy says otherwise. The model is calibrated so that they
// stand for the false-alarm rates in its card.
const (
	UserThreshold     = 0.7
	DocumentThreshold = 0.85 // of documents and tool results
)

// Threshold is the default one of an origin.
func Threshold(origin detect.Origin) float64 {
	if origin == detect.User {
		return UserThreshold
	}
	return DocumentThreshold
}

// Degraded is the kind of the finding that says that a layer was away. Its score is 0.
const Degraded = "degraded"

// Head is the classifier on embeddings: for each text the probability, 0 to 1, that it is an attack.
type Head func(ctx context.Context, texts []string) ([]float64, error)

// Detector holds what is needed to judge. Safe for concurrent use.
type Detector struct {
	rules *detect.Rules
	model *classify.Model
	head  Head
}

// Builtin is the detector that comes with the program: rules and the compact classifier.
func Builtin() (*Detector, error) { return New(nil, nil) }

// New is Builtin with a classifier on embeddings, and with the *.yaml files of a folder as rules besides its own; nil is none.
func New(head Head, folder fs.FS) (*Detector, error) {
	rules, err := detect.With(folder)
	if err != nil {
		return nil, err
	}
	model, err := classify.Builtin()
	if err != nil {
		return nil, err
	}
	return &Detector{rules, model, head}, nil
}

// Model is the compact classifier.
func (d *Detector) Model() *classify.Model { return d.model }

// Judgement is what was found in one text.
type Judgement struct {
	Score    float64            // probability of an attack, 0 to 1
	Layers   map[string]float64 // what each layer that looked says alone, 0 to 1; 0 of rules that found nothing
	Findings []detect.Finding
	Missing  []string // layers that were asked for and could not answer; a finding of the kind Degraded says why
}

// Judge looks at a text of an origin with the rules and the compact classifier.
func (d *Detector) Judge(text string, origin detect.Origin) Judgement {
	l := look{d: d, layers: canon.Layers(text), origin: origin}
	l.rules()
	l.compact()
	return l.judge(Rules, Compact)
}

// JudgeBy looks with the layers that are named, out of Rules, Compact and Embeddings; Rules always look, and Embeddings
// come with Compact. An error of a layer is no error: the others judge, and the judgement says which one is missing.
func (d *Detector) JudgeBy(ctx context.Context, text string, origin detect.Origin, layers []string) Judgement {
	l := look{d: d, layers: canon.Layers(text), origin: origin}
	l.rules()
	compact, embeddings := false, false
	for _, name := range layers {
		compact = compact || name == Compact || name == Embeddings
		embeddings = embeddings || name == Embeddings
	}
	if !compact {
		return l.judge(Rules)
	}
	l.compact()
	if !embeddings {
		return l.judge(Rules, Compact)
	}
	if err := l.embeddings(ctx); err != nil {
		j := l.judge(Rules, Compact)
		j.Missing = append(j.Missing, Embeddings)
		j.Findings = append(j.Findings, detect.Finding{
			Kind: Degraded, Rule: Embeddings,
			Why: "the classifier on embeddings could not be asked; rules and the compact classifier judged alone",
		})
		return j
	}
	return l.judge(Rules, Compact, Embeddings)
}

// look is one text being looked at.
type look struct {
	d        *Detector
	layers   []canon.Layer
	origin   detect.Origin
	found    []detect.Finding
	evidence classify.Evidence
	best     classify.Result // the highest of the layers
	at       int             // which of them
}

func (l *look) rules() {
	l.found = l.d.rules.ScanLayers(l.layers, l.origin)
	l.evidence.Rules = classify.RulesEvidence(detect.Combine(l.found))
}

// compact scores each reading of the text: what is hidden in a code counts like the text itself.
func (l *look) compact() {
	windows := 0
	l.best.Logit = math.Inf(-1)
	for i, layer := range l.layers {
		r := l.d.model.Score(layer.Plain)
		windows += r.Windows
		if r.Logit > l.best.Logit {
			l.best, l.at = r, i
		}
	}
	l.evidence.Compact, l.evidence.Windows = l.best.Logit, math.Log(float64(windows))
}

const (
	discount   = 0.5 // of the logit: what stands around it may say more
	mostPlaces = 3   // findings of rules that are looked at by themselves
	around     = 200 // bytes before and after one, at most: to the ends of its sentence
)

// places judges what the rules point at by itself, without what stands around it: however much harmless text an attack is put
// into, it stays what it is.
func (l *look) places(c *classify.Combiner) (highest float64) {
	text := l.layers[0].Raw
	for i, f := range l.found {
		if i == mostPlaces {
			break
		}
		start, end := sentence(text, f.Start, f.End)
		if end-start > len(text)*3/4 {
			continue
		}
		e := l.evidence
		e.Compact, e.Windows = l.d.model.Score(canon.Plain(text[start:end]).Plain).Logit-discount, 0
		highest = max(highest, c.Probability(e))
	}
	return highest
}

// sentence widens a stretch to the ends of its sentence.
func sentence(text string, start, end int) (from, to int) {
	const ends = ".!?\n"
	from = max(0, start-around)
	if i := strings.LastIndexAny(text[from:start], ends); i >= 0 {
		from += i + 1
	}
	to = min(len(text), end+around)
	if i := strings.IndexAny(text[end:to], ends); i >= 0 {
		to = end + i + 1
	}
	for from > 0 && !utf8.RuneStart(text[from]) {
		from--
	}
	for to < len(text) && !utf8.RuneStart(text[to]) {
		to++
	}
	return from, to
}

// Told is the score from which the compact classifier says what it found.
const Told = 0.4

// A text of one or two short words says too little for a classifier of wording: "okay" or "cancel" is what people answer. Only
// rules may find more in it.
const (
	thinWords = 3  // from so many on, or
	thinBytes = 16 // from so many bytes of plain form on, a text is judged by its wording
	thinScore = 0.2
)

func (l *look) thin() bool {
	plain := l.layers[0].Plain
	return len(l.layers) == 1 && len(plain) < thinBytes && len(strings.Fields(plain)) < thinWords
}

// judge combines the evidence of layers.
func (l *look) judge(layers ...string) Judgement {
	c := l.d.model.Combiner(layers...)
	if c == nil { // a model without embeddings
		c = l.d.model.Combiner(Rules, Compact)
	}
	rules := 0.0
	if l.evidence.Rules > 0 {
		rules = l.d.model.Combiner(Rules).Probability(classify.Evidence{Rules: l.evidence.Rules})
	}
	j := Judgement{Score: c.Probability(l.evidence), Findings: l.found, Layers: map[string]float64{Rules: rules}}
	if len(layers) > 1 {
		j.Score = max(j.Score, l.places(c))
	}
	if len(layers) == 1 {
		return j
	}
	if len(l.found) == 0 && l.thin() {
		j.Score = min(j.Score, thinScore)
		j.Layers[Compact] = j.Score
		return j
	}
	alone := l.evidence
	alone.Rules = 0
	p := c.Probability(alone)
	j.Layers[Compact] = l.d.model.Combiner(Rules, Compact).Probability(alone)
	if len(layers) > 2 {
		j.Layers[Embeddings] = 1 / (1 + math.Exp(-l.evidence.Embeddings))
	}
	if p >= Told {
		layer := l.layers[l.at]
		start, end := layer.Span(l.d.model.Strongest(layer.Plain, l.best))
		j.Findings = append(j.Findings, detect.Finding{
			Kind: "injection", Rule: layers[len(layers)-1], Score: p, Start: start, End: end,
			Why: fmt.Sprintf("the classifier puts this at %.0f %%: it reads like instructions to a model; what is marked weighs most", 100*p),
		})
	}
	return j
}
