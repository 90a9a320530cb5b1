package redteam

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"slices"
)

//go:embed report.html
var page string

// percent shows a share.
func percent(f float64) string { return fmt.Sprintf("%.1f %%", 100*f) }

// width is a share as a length, for bars.
func width(n, all int) template.CSS {
	if all == 0 {
		return "0%"
	}
	return template.CSS(fmt.Sprintf("%.2f%%", 100*float64(n)/float64(all))) //nolint:gosec // a number
}

// WriteHTML writes the report as one page without scripts, pictures or anything from elsewhere. All that was sent and answered
// stands in it as text.
func (r *Report) WriteHTML(w io.Writer) error {
	t, err := template.New("report").Funcs(template.FuncMap{"percent": percent, "width": width}).Parse(page)
	if err != nil {
		return err
	}
	type group struct {
		Count
		Attempts []Attempt
	}
	var groups []group
	for _, p := range r.Packs {
		g := group{Count: p}
		for _, a := range r.Attempts {
			if a.Pack == p.Name {
				g.Attempts = append(g.Attempts, a)
			}
		}
		slices.SortStableFunc(g.Attempts, func(a, b Attempt) int { return order(a.Outcome) - order(b.Outcome) })
		groups = append(groups, g)
	}
	return t.Execute(w, map[string]any{"R": r, "Groups": groups, "Duration": fmt.Sprintf("%.1f s", r.Seconds)})
}

// order puts what worked first.
func order(o Outcome) int {
	return slices.Index([]Outcome{Succeeded, Failed, Resisted, Refused, Blocked, Skipped}, o)
}
