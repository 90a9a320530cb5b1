package redteam

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"
)

// Count says what became of some attempts.
type Count struct {
	Name      string `json:"name"`
	Title     string `json:"title,omitempty"`
	Attempts  int    `json:"attempts"`
	Succeeded int    `json:"succeeded"`
	Resisted  int    `json:"resisted"`
	Refused   int    `json:"refused"`
	Blocked   int    `json:"blocked"`
	Failed    int    `json:"failed"`
	Skipped   int    `json:"skipped"`
}

// Rate is the share of attempts that worked, of those that were answered or blocked. 0 when there was none.
func (c *Count) Rate() float64 {
	if n := c.Answered(); n > 0 {
		return float64(c.Succeeded) / float64(n)
	}
	return 0
}

// Answered counts the attempts that tell something.
func (c *Count) Answered() int { return c.Attempts - c.Failed - c.Skipped }

func (c *Count) add(o Outcome) {
	c.Attempts++
	*c.of(o)++
}

// of is the count of an outcome.
func (c *Count) of(o Outcome) *int {
	switch o {
	case Succeeded:
		return &c.Succeeded
	case Resisted:
		return &c.Resisted
	case Refused:
		return &c.Refused
	case Blocked:
		return &c.Blocked
	case Failed:
		return &c.Failed
	case Skipped:
		return &c.Skipped
	}
	return new(int)
}

// Report is what a run found.
type Report struct {
	Format    string    `json:"format"`
	Program   string    `json:"program,omitempty"`
	Target    string    `json:"target,omitempty"`
	Began     time.Time `json:"began"`
	Seconds   float64   `json:"seconds"`
	Seed      uint64    `json:"seed"`
	Total     Count     `json:"total"`
	Packs     []Count   `json:"packs"`
	Mutations []Count   `json:"mutations"`
	OWASP     []Count   `json:"owasp"`
	Changes   *Changes  `json:"changes,omitempty"`
	Attempts  []Attempt `json:"results"`
}

// reportFormat names the form of the JSON; another one is refused as a baseline.
const reportFormat = "aran-redteam/1"

// risks are the names of the OWASP Top 10 for LLM applications, 2025.
var risks = map[string]string{ //nolint:gochecknoglobals // a constant table
	"LLM01:2025": "Prompt Injection", "LLM02:2025": "Sensitive Information Disclosure", "LLM03:2025": "Supply Chain", "LLM04:2025": "Data and Model Poisoning", "LLM05:2025": "Improper Output Handling",
	"LLM06:2025": "Excessive Agency", "LLM07:2025": "System Prompt Leakage", "LLM08:2025": "Vector and Embedding Weaknesses", "LLM09:2025": "Misinformation", "LLM10:2025": "Unbounded Consumption",
}

func report(p Plan, all []*Attempt, begin time.Time) *Report {
	r := &Report{Format: reportFormat, Began: begin.UTC().Truncate(time.Second), Seconds: time.Since(begin).Seconds(), Seed: p.Seed, Total: Count{Name: "all"}}
	packs, mutations, owasp := map[string]*Count{}, map[string]*Count{}, map[string]*Count{}
	tally := func(m map[string]*Count, name, title string, o Outcome) {
		if m[name] == nil {
			m[name] = &Count{Name: name, Title: title}
		}
		m[name].add(o)
	}
	for _, a := range all {
		r.Attempts = append(r.Attempts, *a)
		r.Total.add(a.Outcome)
		i := slices.IndexFunc(p.Packs, func(o Pack) bool { return o.Name == a.Pack })
		tally(packs, a.Pack, p.Packs[i].Title, a.Outcome)
		name := a.Mutation
		if name == "" {
			name = "as it is"
		}
		tally(mutations, name, "", a.Outcome)
		for _, id := range a.OWASP {
			tally(owasp, id, risks[id], a.Outcome)
		}
	}
	for _, o := range p.Packs {
		r.Packs = append(r.Packs, *packs[o.Name])
	}
	r.Mutations, r.OWASP = sorted(mutations), sorted(owasp)
	return r
}

func sorted(m map[string]*Count) (out []Count) {
	for _, name := range slices.Sorted(maps.Keys(m)) {
		out = append(out, *m[name])
	}
	return out
}

// Changes is how a report differs from a former one, by probe and mutation.
type Changes struct {
	Since   time.Time `json:"since"`
	Worse   []string  `json:"worse"`   // worked now and did not then
	Better  []string  `json:"better"`  // worked then and does not now
	Added   int       `json:"added"`   // were not tried then
	Removed int       `json:"removed"` // were tried only then
}

// Load reads a report.
func Load(r io.Reader) (*Report, error) {
	const most = 512 << 20
	var out Report
	if err := json.NewDecoder(io.LimitReader(r, most)).Decode(&out); err != nil {
		return nil, fmt.Errorf("report: %w", err)
	}
	if out.Format != reportFormat {
		return nil, fmt.Errorf("report: its format is %q; %q is needed", out.Format, reportFormat)
	}
	return &out, nil
}

// key names an attempt in reports.
func (a *Attempt) key() string { return strings.TrimSuffix(a.Probe+" "+a.Mutation, " ") }

// Compare notes what changed since a former report. Attempts without an answer, then or now, tell nothing.
func (r *Report) Compare(former *Report) {
	then := map[string]Outcome{}
	for i := range former.Attempts {
		then[former.Attempts[i].key()] = former.Attempts[i].Outcome
	}
	c := &Changes{Since: former.Began, Worse: []string{}, Better: []string{}}
	tells := func(o Outcome) bool { return o != Failed && o != Skipped }
	for i := range r.Attempts {
		a := &r.Attempts[i]
		old, there := then[a.key()]
		delete(then, a.key())
		switch {
		case !there:
			c.Added++
		case !tells(old) || !tells(a.Outcome):
		case a.Outcome == Succeeded && old != Succeeded:
			c.Worse = append(c.Worse, a.key())
		case a.Outcome != Succeeded && old == Succeeded:
			c.Better = append(c.Better, a.key())
		}
	}
	c.Removed = len(then)
	r.Changes = c
}

// WriteJSON writes the report for programs.
func (r *Report) WriteJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", " ")
	return e.Encode(r)
}
