package registry

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"
)

// Case is one thing that a model is asked, and what is expected of it. Which fields are set follows from the
// model's kind: Text for embed and classify, Query and Documents for rerank, Prompt for generate.
//
// The same type serves the smoke test (each case must pass, before a version gets any traffic) and the gate (the
// share or the mean over all cases must reach a floor, before and while it gets traffic).
type Case struct {
	Name      string   `json:"name,omitempty"`
	Text      string   `json:"text,omitempty"`
	Query     string   `json:"query,omitempty"`
	Documents []string `json:"documents,omitempty"`
	Prompt    string   `json:"prompt,omitempty"`
	Expect    Expect   `json:"expect"`
}

// Expect says what a good answer looks like. At least one field is set.
type Expect struct {
	// embed
	Vector    Vector  `json:"vector,omitempty"`     // what the publisher's copy of the model gave: unit length, base64 of little-endian float32
	MinCosine float64 `json:"min_cosine,omitempty"` // to Vector, at least; with Vector only
	Closer    string  `json:"closer,omitempty"`     // a text that is closer to Text than Farther is
	Farther   string  `json:"farther,omitempty"`
	Margin    float64 `json:"margin,omitempty"` // by how much, in cosine

	// rerank and classify
	Best     *int    `json:"best,omitempty"`      // rerank: which document is best, from 0
	Label    string  `json:"label,omitempty"`     // classify: which label is most likely
	MinScore float64 `json:"min_score,omitempty"` // classify: of that label, at least

	// generate
	Contains  []string `json:"contains,omitempty"` // each of them, without regard to case
	Excludes  []string `json:"excludes,omitempty"` // none of them, without regard to case
	Matches   string   `json:"matches,omitempty"`  // RE2 expression
	MinLength int      `json:"min_length,omitempty"`
	MaxTokens int      `json:"max_tokens,omitempty"` // what the answer may have at most; also the limit of the request
}

// Gate is what a version must reach, measured on its cases, to take over and to keep the traffic.
type Gate struct {
	Metric      string  `json:"metric"` // GateCosine, GateOrder, GateBest, GateLabel or GatePass
	Min         float64 `json:"min"`    // at least, 0 to 1
	Cases       []Case  `json:"cases"`
	MaxMillis   int     `json:"max_ms,omitempty"`       // of one case, 0: not looked at
	MaxSlowdown float64 `json:"max_slowdown,omitempty"` // times the mean latency of the version that is served, 0: not looked at
}

// The metrics of a gate. All lie between 0 and 1 for a working model; GateCosine may be negative.
const (
	GateCosine = "cosine" // embed: mean cosine to the vectors of the cases
	GateOrder  = "order"  // embed: share of the cases in which the closer text is closer
	GateBest   = "best"   // rerank: share of the cases in which the best document has the highest score
	GateLabel  = "label"  // classify: share of the cases with the right label
	GatePass   = "pass"   // every kind: share of the cases that pass
)

// Bounds of the cases.
const (
	maxCases    = 256
	maxCaseText = 8 << 10
	maxCaseDocs = 64
	minDefault  = 0.99 // MinCosine when none is given
	maxDim      = 1 << 16
)

// Vector is a reference vector. In JSON it is base64 of little-endian float32, a quarter of the size of numbers.
type Vector []float32

// MarshalText implements encoding.TextMarshaler.
func (v Vector) MarshalText() ([]byte, error) {
	raw := make([]byte, 0, 4*len(v))
	for _, x := range v {
		raw = binary.LittleEndian.AppendUint32(raw, math.Float32bits(x))
	}
	return []byte(base64.StdEncoding.EncodeToString(raw)), nil
}

// UnmarshalText implements encoding.TextUnmarshaler. A vector that is not of unit length is refused.
func (v *Vector) UnmarshalText(text []byte) error {
	raw, err := base64.StdEncoding.DecodeString(string(text))
	if err != nil || len(raw) == 0 || len(raw)%4 != 0 || len(raw) > 4*maxDim {
		return errors.New("vector: use base64 of little-endian float32")
	}
	*v = make(Vector, len(raw)/4)
	var square float64
	for i := range *v {
		x := math.Float32frombits(binary.LittleEndian.Uint32(raw[4*i:]))
		(*v)[i] = x
		square += float64(x) * float64(x)
	}
	if !(math.Abs(square-1) < 1e-2) {
		return fmt.Errorf("vector: its length is %.3g, want 1", math.Sqrt(square))
	}
	return nil
}

// checkProof checks the smoke test and the gate against the model's kind.
func (m *Manifest) checkProof() error {
	if len(m.Smoke) > maxCases {
		return fmt.Errorf("smoke: %d cases, at most %d", len(m.Smoke), maxCases)
	}
	for i := range m.Smoke {
		if err := m.Smoke[i].check(m); err != nil {
			return fmt.Errorf("smoke %d: %w", i, err)
		}
	}
	if m.Gate == nil {
		return nil
	}
	if err := m.Gate.check(m); err != nil {
		return fmt.Errorf("gate: %w", err)
	}
	return nil
}

func (g *Gate) check(m *Manifest) error {
	kind, known := map[string]string{GateCosine: Embed, GateOrder: Embed, GateBest: Rerank, GateLabel: Classify, GatePass: m.Kind}[g.Metric]
	switch {
	case !known:
		return fmt.Errorf("metric %.100q: use %s, %s, %s, %s or %s", g.Metric, GateCosine, GateOrder, GateBest, GateLabel, GatePass)
	case kind != m.Kind:
		return fmt.Errorf("metric %s is for models of kind %s", g.Metric, kind)
	case !(g.Min > 0 && g.Min <= 1):
		return fmt.Errorf("min %v: use more than 0, up to 1", g.Min)
	case len(g.Cases) == 0 || len(g.Cases) > maxCases:
		return fmt.Errorf("%d cases, want 1 to %d", len(g.Cases), maxCases)
	case g.MaxMillis < 0 || g.MaxMillis > 600_000:
		return fmt.Errorf("max_ms %d: use up to 600000", g.MaxMillis)
	case g.MaxSlowdown != 0 && !(g.MaxSlowdown >= 1 && g.MaxSlowdown <= 1000):
		return fmt.Errorf("max_slowdown %v: use 1 to 1000", g.MaxSlowdown)
	}
	for i := range g.Cases {
		c := &g.Cases[i]
		if err := c.check(m); err != nil {
			return fmt.Errorf("case %d: %w", i, err)
		}
		if g.Metric == GateCosine && len(c.Expect.Vector) == 0 || g.Metric == GateOrder && c.Expect.Closer == "" {
			return fmt.Errorf("case %d: it says nothing about %s", i, g.Metric)
		}
	}
	return nil
}

func (c *Case) check(m *Manifest) error {
	for _, s := range append([]string{c.Name, c.Text, c.Query, c.Prompt, c.Expect.Closer, c.Expect.Farther, c.Expect.Label, c.Expect.Matches}, append(c.Documents, append(c.Expect.Contains, c.Expect.Excludes...)...)...) {
		if len(s) > maxCaseText || !utf8.ValidString(s) {
			return fmt.Errorf("a text of more than %d bytes, or not UTF-8", maxCaseText)
		}
	}
	if len(c.Documents) > maxCaseDocs || len(c.Expect.Contains)+len(c.Expect.Excludes) > maxCaseDocs {
		return fmt.Errorf("more than %d documents or words", maxCaseDocs)
	}
	e := &c.Expect
	embed := len(e.Vector) > 0 || e.MinCosine != 0 || e.Closer != "" || e.Farther != "" || e.Margin != 0
	scores := e.Best != nil
	label := e.Label != "" || e.MinScore != 0
	text := len(e.Contains)+len(e.Excludes) > 0 || e.Matches != "" || e.MinLength != 0 || e.MaxTokens != 0
	asks := map[string]bool{Embed: c.Text != "", Classify: c.Text != "", Rerank: c.Query != "" && len(c.Documents) > 0, Generate: c.Prompt != ""}
	fits := map[string]bool{Embed: embed && !scores && !label && !text, Rerank: scores && !embed && !label && !text, Classify: label && !embed && !scores && !text, Generate: text && !embed && !scores && !label}
	switch {
	case !asks[m.Kind]:
		return fmt.Errorf("a model of kind %s is asked by %s", m.Kind, map[string]string{Embed: "text", Classify: "text", Rerank: "query and documents", Generate: "prompt"}[m.Kind])
	case !fits[m.Kind]:
		return fmt.Errorf("expect: it does not say what a model of kind %s is to answer, or more than that", m.Kind)
	}
	switch m.Kind {
	case Embed:
		return e.checkEmbed(m.Dim)
	case Rerank:
		if *e.Best < 0 || *e.Best >= len(c.Documents) {
			return fmt.Errorf("best %d: there are %d documents", *e.Best, len(c.Documents))
		}
	case Classify:
		if e.Label == "" || e.MinScore < 0 || e.MinScore > 1 || len(m.Labels) > 0 && !slices.Contains(m.Labels, e.Label) {
			return fmt.Errorf("label %.100q: not one of the model's, or a score that is not between 0 and 1", e.Label)
		}
	case Generate:
		if _, err := regexp.Compile(e.Matches); err != nil {
			return fmt.Errorf("matches: %w", err)
		}
		if e.MinLength < 0 || e.MaxTokens < 0 || e.MaxTokens > 1<<20 {
			return errors.New("min_length or max_tokens is out of range")
		}
	}
	return nil
}

func (e *Expect) checkEmbed(dim int) error {
	switch {
	case len(e.Vector) > 0 && dim > 0 && len(e.Vector) != dim:
		return fmt.Errorf("vector of %d numbers, the model's have %d", len(e.Vector), dim)
	case e.MinCosine != 0 && (len(e.Vector) == 0 || !(e.MinCosine > 0 && e.MinCosine <= 1)):
		return errors.New("min_cosine: needs a vector, and lies above 0, up to 1")
	case (e.Closer == "") != (e.Farther == ""):
		return errors.New("closer and farther belong together")
	case e.Margin != 0 && (e.Closer == "" || !(e.Margin > 0 && e.Margin < 2)):
		return errors.New("margin: needs closer and farther, and lies between 0 and 2")
	case len(e.Vector) == 0 && e.Closer == "":
		return errors.New("neither a vector nor a closer text")
	}
	return nil
}

// Texts of a case of an embedder, in the order in which JudgeVectors wants their vectors.
func (c *Case) Texts() []string {
	if c.Expect.Closer == "" {
		return []string{c.Text}
	}
	return []string{c.Text, c.Expect.Closer, c.Expect.Farther}
}

// MissedError says in what an answer differs from what was expected.
type MissedError struct{ Case, Why string }

func (e *MissedError) Error() string {
	if e.Case == "" {
		return e.Why
	}
	return e.Case + ": " + e.Why
}

func (c *Case) missed(format string, args ...any) error {
	return &MissedError{Case: c.Name, Why: fmt.Sprintf(format, args...)}
}

// JudgeVectors judges the vectors of Texts. cosine is that to the reference, else the margin by which the
// closer text is closer. The error is a *MissedError.
func (c *Case) JudgeVectors(dim int, vectors [][]float32) (cosine float64, err error) {
	if len(vectors) != len(c.Texts()) {
		return 0, c.missed("%d vectors for %d texts", len(vectors), len(c.Texts()))
	}
	for _, v := range vectors {
		var square float64
		for _, x := range v {
			square += float64(x) * float64(x)
		}
		switch {
		case len(v) == 0 || dim > 0 && len(v) != dim:
			return 0, c.missed("a vector has %d numbers, want %d", len(v), dim)
		case !(math.Abs(square-1) < 1e-2): // NaN too
			return 0, c.missed("a vector has length %.3g, want 1", math.Sqrt(square))
		}
	}
	e := &c.Expect
	if e.Closer != "" {
		cosine = dot(vectors[0], vectors[1]) - dot(vectors[0], vectors[2])
		if !(cosine > e.Margin) {
			return cosine, c.missed("%.40q is closer by %.3f, want more than %.3f", e.Closer, cosine, e.Margin)
		}
	}
	if len(e.Vector) == 0 {
		return cosine, nil
	}
	if len(e.Vector) != len(vectors[0]) {
		return 0, c.missed("a vector has %d numbers, the reference %d", len(vectors[0]), len(e.Vector))
	}
	least := e.MinCosine
	if least == 0 {
		least = minDefault
	}
	cosine = dot(e.Vector, vectors[0])
	if !(cosine >= least) {
		return cosine, c.missed("its cosine to the reference is %.4f, want %.4f: another model, or another version", cosine, least)
	}
	return cosine, nil
}

func dot(a, b []float32) (sum float64) {
	for i := range min(len(a), len(b)) {
		sum += float64(a[i]) * float64(b[i])
	}
	return sum
}

// JudgeScores judges a reranker's scores, one for each document. The error is a *MissedError.
func (c *Case) JudgeScores(scores []float64) error {
	if len(scores) != len(c.Documents) || c.Expect.Best == nil {
		return c.missed("%d scores for %d documents", len(scores), len(c.Documents))
	}
	best := scores[*c.Expect.Best]
	for i, s := range scores {
		if i != *c.Expect.Best && !(best > s) || math.IsNaN(s) {
			return c.missed("document %d has score %.4g, the best one %.4g", i, s, best)
		}
	}
	return nil
}

// JudgeLabel judges the most likely label and its probability. The error is a *MissedError.
func (c *Case) JudgeLabel(label string, score float64) error {
	if label != c.Expect.Label {
		return c.missed("label %.40q, want %q", label, c.Expect.Label)
	}
	if !(score >= c.Expect.MinScore) {
		return c.missed("label %q has %.3f, want %.3f", label, score, c.Expect.MinScore)
	}
	return nil
}

// JudgeText judges a whole answer and how many tokens it took. The error is a *MissedError.
func (c *Case) JudgeText(answer string, tokens int) error {
	e, lower := &c.Expect, strings.ToLower(answer)
	for _, w := range e.Contains {
		if !strings.Contains(lower, strings.ToLower(w)) {
			return c.missed("the answer lacks %.40q", w)
		}
	}
	for _, w := range e.Excludes {
		if strings.Contains(lower, strings.ToLower(w)) {
			return c.missed("the answer has %.40q", w)
		}
	}
	if e.Matches != "" {
		if ok, err := regexp.MatchString(e.Matches, answer); err != nil || !ok {
			return c.missed("the answer does not match %.100q", e.Matches)
		}
	}
	if n := utf8.RuneCountInString(strings.TrimSpace(answer)); n < e.MinLength {
		return c.missed("the answer has %d characters, want %d", n, e.MinLength)
	}
	if e.MaxTokens > 0 && tokens > e.MaxTokens {
		return c.missed("the answer has %d tokens, at most %d", tokens, e.MaxTokens)
	}
	return nil
}

// Value is the gate's metric of all cases, each given as its cosine (GateCosine only) and whether it passed.
func (g *Gate) Value(cosines []float64, passed []bool) float64 {
	if len(passed) == 0 {
		return 0
	}
	var sum float64
	for i, ok := range passed {
		switch {
		case g.Metric == GateCosine && i < len(cosines):
			sum += cosines[i]
		case g.Metric != GateCosine && ok:
			sum++
		}
	}
	return sum / float64(len(passed))
}
