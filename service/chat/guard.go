package chat

import (
	"context"
	"slices"
	"unicode/utf8"

	guardv1 "aran/api/gen/aran/guard/v1"
	"aran/platform/fault"
	"aran/platform/llm"
)

// Verdicts as clients see them.
const (
	verdictAllow  = "allow"
	verdictFlag   = "flag"
	verdictRedact = "redact"
	verdictBlock  = "block"
)

// GuardReport is what the guard said about one answer and all that went into it.
type GuardReport struct {
	Verdict  string    `json:"verdict"`
	Findings []Finding `json:"findings"`
}

// Finding is one reason.
type Finding struct {
	Kind  string  `json:"kind"`
	Score float64 `json:"score"`
	Where string  `json:"where"` // user, tool, document, output, guard
}

// Places of findings.
const (
	whereUser     = "user"
	whereTool     = "tool"
	whereDocument = "document"
	whereOutput   = "output"
	whereGuard    = "guard"
)

// kindUnavailable says that the guard could not be asked.
const kindUnavailable = "guard_unavailable"

const maxFindings = 32

func newReport() *GuardReport { return &GuardReport{Verdict: verdictAllow, Findings: []Finding{}} }

// order of verdicts: the highest one stands.
func severity(verdict string) int {
	return slices.Index([]string{verdictAllow, verdictFlag, verdictRedact, verdictBlock}, verdict)
}

func (g *GuardReport) add(verdict string, findings ...Finding) {
	if severity(verdict) > severity(g.Verdict) {
		g.Verdict = verdict
	}
	for _, f := range findings {
		if len(g.Findings) < maxFindings && !slices.Contains(g.Findings, f) {
			g.Findings = append(g.Findings, f)
		}
	}
}

// kinds lists each kind of finding once.
func (g *GuardReport) kinds() []string {
	var out []string
	for _, f := range g.Findings {
		if !slices.Contains(out, f.Kind) {
			out = append(out, f.Kind)
		}
	}
	return out
}

func (g *GuardReport) judged() Judged { return Judged{Verdict: g.Verdict, Kinds: g.kinds()} }

// verdictOf is the word for a verdict. One that this program does not know, or that is missing, blocks.
func verdictOf(v guardv1.Verdict) string {
	switch v {
	case guardv1.Verdict_VERDICT_ALLOW:
		return verdictAllow
	case guardv1.Verdict_VERDICT_FLAG:
		return verdictFlag
	case guardv1.Verdict_VERDICT_REDACT:
		return verdictRedact
	default:
		return verdictBlock
	}
}

func findingsOf(in []*guardv1.Finding, where string) []Finding {
	var out []Finding
	for _, f := range in {
		out = append(out, Finding{Kind: f.GetKind(), Score: f.GetScore(), Where: where})
	}
	return out
}

// trustReleased is search's word for documents that a person let out of quarantine.
const trustReleased = "released"

// Bounds of guard.ScanRequest.
const (
	maxScanTexts = 256
	maxScanRunes = 1_000_000
)

// scanned is a text that the guard is to judge. Redactions are written back.
type scanned struct {
	text    *string
	where   string
	source  string // where it comes from; empty: not known
	verdict string // set by scan
}

// scan has texts judged. Every one gets a verdict, or the whole scan fails: what was not judged is not passed on.
func (s *Service) scan(ctx context.Context, c *call, origin guardv1.Origin, texts []*scanned) error {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.GuardTimeout)
	defer cancel()
	for batch := range slices.Chunk(texts, maxScanTexts) {
		req := &guardv1.ScanRequest{Origin: origin, Collections: c.question.Collections, Conversation: c.question.tainted()}
		for _, t := range batch {
			if utf8.RuneCountInString(*t.text) > maxScanRunes {
				return fault.New(fault.TooLarge, "text_too_large", "One text has more than %d characters.", maxScanRunes)
			}
			req.Texts = append(req.Texts, *t.text)
			if origin != guardv1.Origin_ORIGIN_USER {
				req.Sources = append(req.Sources, t.source)
			}
		}
		res, err := s.d.Guard.Scan(ctx, req)
		if err != nil {
			return asFault(ctx, err)
		}
		if len(res.GetResults()) != len(batch) {
			return fault.New(fault.Unavailable, "guard_answer", "The guard judged %d of %d texts.", len(res.GetResults()), len(batch))
		}
		for i, r := range res.GetResults() {
			t := batch[i]
			t.verdict = verdictOf(r.GetVerdict())
			if t.verdict == verdictRedact {
				*t.text = r.GetRedacted()
			}
			verdict := t.verdict
			if verdict == verdictBlock && t.where == whereDocument {
				verdict = verdictFlag // the passage is left out, the answer is not
			}
			c.report.add(verdict, findingsOf(r.GetFindings(), t.where)...)
		}
	}
	return nil
}

// scanRequest has the texts judged that users and tools wrote. The request holds the redacted ones afterwards.
func (s *Service) scanRequest(ctx context.Context, c *call) error {
	r := &c.question.Request
	var user, tool []*scanned
	sources := toolSources(r)
	for at, text := range r.Texts() {
		source := ""
		if at.Role == llm.Tool && len(sources) > 0 {
			source, sources = sources[0], sources[1:]
		}
		switch {
		case *text == "":
		case at.Role == llm.User:
			user = append(user, &scanned{text: text, where: whereUser})
		case at.Role == llm.Tool:
			tool = append(tool, &scanned{text: text, where: whereTool, source: source})
		}
	}
	if err := s.scan(ctx, c, guardv1.Origin_ORIGIN_USER, user); err != nil {
		return err
	}
	return s.scan(ctx, c, guardv1.Origin_ORIGIN_TOOL, tool)
}

// scanHits has passages judged and returns those that may be used. What a person let out of quarantine stays although the guard
// refuses it: it is marked, and the conversation that reads it is on record as having read an attack.
func (s *Service) scanHits(ctx context.Context, c *call, hits []source) (good, bad []source, err error) {
	var texts []*scanned
	for i := range hits {
		texts = append(texts, &scanned{text: &hits[i].text, where: whereDocument, source: sourceOf(hits[i])})
	}
	for i := range hits {
		if hits[i].title != "" {
			texts = append(texts, &scanned{text: &hits[i].title, where: whereDocument, source: sourceOf(hits[i])})
		}
	}
	if err := s.scan(ctx, c, guardv1.Origin_ORIGIN_DOCUMENT, texts); err != nil {
		return nil, nil, err
	}
	for _, t := range texts[len(hits):] {
		if t.verdict == verdictBlock {
			*t.text = ""
		}
	}
	for i, h := range hits {
		if texts[i].verdict == verdictBlock && h.trust != trustReleased {
			bad = append(bad, h)
			continue
		}
		good = append(good, h)
	}
	return good, bad, nil
}
