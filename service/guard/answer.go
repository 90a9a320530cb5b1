package guard

import (
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"aran/platform/cache"
	"aran/service/guard/detect"
	"aran/service/guard/outgoing"
)

// answerChecks holds what the checks of answers keep between calls.
type answerChecks struct {
	marks   *outgoing.MarkCache
	leaks   *outgoing.LeakCache
	schemas *cache.Cache[string, string] // why a schema can't be used; empty: it can
}

func newAnswerChecks() *answerChecks {
	return &answerChecks{outgoing.NewMarkCache(), outgoing.NewLeakCache(), cache.New[string, string](64, time.Hour)}
}

// answerRules is what holds for one answer.
type answerRules struct {
	weigh      func(segment string, found []detect.Finding) ruling
	hosts      outgoing.Hosts
	boundaries *outgoing.Boundaries
	private    func(text string) []detect.Finding
	leak       outgoing.Limits
}

// restorer puts values back that pseudonyms stand for. It is safe for concurrent use.
type restorer interface {
	// Restore holds back the end in which a pseudonym may have begun, unless final.
	Restore(text string, final bool) (release, hold string)
	// Pseudonym reports whether all of a text is a pseudonym.
	Pseudonym(s string) bool
	// Known reports whether a text is a value that the user gave.
	Known(value string) bool
}

// nobody has given anything.
type nobody struct{}

func (nobody) Restore(text string, _ bool) (release, hold string) { return text, "" }
func (nobody) Pseudonym(string) bool                              { return false }
func (nobody) Known(string) bool                                  { return false }

// How far back the checks look, in bytes of what was released.
const (
	lookBack    = 512
	lookPrivate = 128
)

// told is what the model was told, and how much of it an answer may repeat.
type told struct {
	instructions *outgoing.Instructions
	limits       outgoing.Limits
	follow       *outgoing.Follower // from the first segment on
}

// reader judges an answer segment by segment (outgoing.Next). What it makes of a segment depends on the segment and on the end
// of what was released before it, and so never on how the answer was cut into pieces.
type reader struct {
	rules answerRules
	marks *outgoing.Marks
	back  restorer
	json  bool // the answer is JSON: signs are escaped as JSON does

	behind string // the end of what was released, lookBack bytes at most
	before string // all of it that is known, at the beginning
	told   []told
	fences *outgoing.Fences // from the first segment on

	verdict  string
	score    float64
	ruling   ruling // the one that decided
	findings []detect.Finding
	released strings.Builder
	changed  bool
}

func newReader(rules answerRules, marks *outgoing.Marks, back restorer, before string, what ...told) *reader {
	return &reader{rules: rules, marks: marks, back: back, verdict: Allow, behind: ending(before, lookBack), before: before, told: what}
}

// pending asks all checks whether something has begun at the end of a segment.
func (r *reader) pending(segment string) bool {
	if _, hold := r.back.Restore(segment, false); hold != "" {
		return true
	}
	text := r.behind + segment
	return outgoing.OpenSpan(text) || r.marks.Pending(text) || r.rules.boundaries.Pending(text)
}

// read judges the segments that are complete, and returns where it stopped. Of a blocked answer nothing more is read.
func (r *reader) read(text string, final bool) (done int) {
	for done < len(text) && r.verdict != Block {
		n := outgoing.Next(text[done:], final, r.pending)
		if n == 0 {
			break
		}
		r.segment(text[done:done+n], done, final && done+n == len(text))
		done += n
	}
	return done
}

// segment judges one segment, which begins at a place of the request's text.
func (r *reader) segment(s string, at int, last bool) {
	if r.fences == nil {
		r.fences = outgoing.Resume(r.before)
		for i := range r.told {
			r.told[i].follow = r.told[i].instructions.Follow(r.before)
		}
	}
	found := r.find(s, last)
	var edits []outgoing.Edit
	if len(found) > 0 {
		plain := make([]detect.Finding, len(found))
		for i, f := range found {
			plain[i] = f.Finding
		}
		w := r.rules.weigh(s, plain)
		r.score = max(r.score, w.score)
		if rank(w.verdict) > rank(r.verdict) {
			r.verdict, r.ruling = w.verdict, w
		}
		for _, f := range found {
			if slices.Contains(w.cut, f.Finding) {
				edits = append(edits, f.Edits...)
			}
			f.Start, f.End = f.Start+at, f.End+at
			r.findings = append(r.findings, f.Finding)
		}
	}
	if r.verdict == Block {
		return
	}
	out, _ := r.back.Restore(apply(s, edits), true)
	r.changed = r.changed || out != s
	r.released.WriteString(out)
	r.behind = ending(r.behind+out, lookBack)
	r.fences.Write(out)
	for _, t := range r.told {
		t.follow.Write(out)
	}
}

// find asks all checks about a segment.
func (r *reader) find(s string, last bool) []outgoing.Link {
	from, text := len(r.behind), r.behind+s
	var out []outgoing.Link
	add := func(shift int, found ...detect.Finding) {
		for _, f := range found {
			if f.End <= shift {
				continue
			}
			f.Start, f.End = max(0, f.Start-shift), f.End-shift
			removed := "[removed: " + strings.TrimPrefix(f.Kind, "pii.") + "]"
			out = append(out, outgoing.Link{Finding: f, Edits: []outgoing.Edit{{Start: f.Start, End: f.End, Text: removed}}})
		}
	}
	add(from, r.marks.Find(text)...)
	for _, t := range r.told {
		add(0, t.follow.Find(s, t.limits)...)
	}
	near := ending(r.behind, lookPrivate)
	for _, f := range r.rules.private(near + s) {
		if f.End > len(near) && !r.own((near + s)[f.Start:f.End]) {
			add(len(near), f)
		}
	}
	add(from, r.rules.boundaries.Find(text, from)...)
	add(from, outgoing.Code(text, from, last)...)
	for _, l := range outgoing.Addresses(text, from, r.rules.hosts) {
		if !r.fences.CodeAfter(text[from:l.Start]) {
			out = append(out, moved(l, from))
		}
	}
	for _, l := range outgoing.HTML(text, from, r.fences) {
		l = moved(l, from)
		if r.json {
			l.Edits[0].Text = `\u003c`
		}
		out = append(out, l)
	}
	return out
}

// own reports whether a text is the user's: a pseudonym of theirs, or a value that they gave.
func (r *reader) own(s string) bool { return r.back.Pseudonym(s) || r.back.Known(s) }

func moved(l outgoing.Link, by int) outgoing.Link {
	l.Start, l.End = max(0, l.Start-by), l.End-by
	for i := range l.Edits {
		l.Edits[i].Start -= by
		l.Edits[i].End -= by
	}
	return l
}

// apply makes edits. Of two that overlap, the one that removes more stays; what a removal covers is not edited besides.
func apply(s string, edits []outgoing.Edit) string {
	if len(edits) == 0 {
		return s
	}
	slices.SortStableFunc(edits, func(a, b outgoing.Edit) int { return (b.End - b.Start) - (a.End - a.Start) })
	var kept []outgoing.Edit
	for _, e := range edits {
		if !slices.ContainsFunc(kept, func(k outgoing.Edit) bool { return e.Start < k.End && k.Start < e.End }) {
			kept = append(kept, e)
			continue
		}
		for i := range kept { // what sticks out of a removal goes with it
			if k := &kept[i]; removes(e) && removes(*k) && e.Start < k.End && k.Start < e.End {
				k.Start, k.End = min(k.Start, e.Start), max(k.End, e.End)
			}
		}
	}
	slices.SortFunc(kept, func(a, b outgoing.Edit) int { return a.Start - b.Start })
	var out strings.Builder
	last := 0
	for _, e := range kept {
		if e.Start < last { // removals that grew into each other
			last = max(last, e.End)
			continue
		}
		out.WriteString(s[last:e.Start])
		out.WriteString(e.Text)
		last = e.End
	}
	out.WriteString(s[last:])
	return out.String()
}

func removes(e outgoing.Edit) bool { return strings.HasPrefix(e.Text, "[removed") }

// ending is the last n bytes of a text or less, in whole characters.
func ending(s string, n int) string {
	if len(s) <= n {
		return s
	}
	i := len(s) - n
	for i < len(s) && !utf8.RuneStart(s[i]) {
		i++
	}
	return s[i:]
}
