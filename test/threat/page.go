package threat

import (
	"fmt"
	"strings"
)

var strideNames = map[string]string{ //nolint:gochecknoglobals // a constant table
	"S": "Spoofing", "T": "Tampering", "R": "Repudiation", "I": "Information disclosure", "D": "Denial of service", "E": "Elevation of privilege",
}

// Page draws the model as Markdown with a Mermaid data-flow picture.
func (m Model) Page() string {
	var b strings.Builder
	b.WriteString("# Threat model\n\nGenerated from `threat-model.yaml`; change that file and run `make generate`. A test fails when a named test does not exist, or when a served route or an event has no entry here.\n\n## Data flow\n\n")
	m.picture(&b)
	for _, s := range []struct {
		title  string
		things []Thing
	}{{"Assets", m.Assets}, {"Actors", m.Actors}} {
		fmt.Fprintf(&b, "\n## %s\n\n", s.title)
		for _, t := range s.things {
			fmt.Fprintf(&b, "- **%s**: %s\n", t.Title, t.Note)
		}
	}
	b.WriteString("\n## Trust boundaries\n\n")
	for _, t := range m.Boundaries {
		fmt.Fprintf(&b, "- **%s**: %s\n", t.Title, t.Note)
	}
	b.WriteString("\n## Threats\n")
	for _, p := range m.Parts {
		m.threatsOf(&b, p)
	}
	m.entryTable(&b)
	return b.String()
}

func (m Model) picture(b *strings.Builder) {
	b.WriteString("```mermaid\nflowchart LR\n")
	for _, z := range m.Boundaries {
		fmt.Fprintf(b, "  subgraph %s[%q]\n", z.ID, z.Title)
		for _, p := range m.Parts {
			if p.Boundary != z.ID {
				continue
			}
			open, end := `["`, `"]`
			switch p.Shape {
			case "store":
				open, end = `[("`, `")]`
			case "person":
				open, end = `(["`, `"])`
			}
			fmt.Fprintf(b, "    %s%s%s%s\n", p.ID, open, p.Title, end)
		}
		b.WriteString("  end\n")
	}
	for _, f := range m.Flows {
		fmt.Fprintf(b, "  %s -->|%q| %s\n", f.From, f.What, f.To)
	}
	b.WriteString("```\n")
}

func (m Model) threatsOf(b *strings.Builder, p Part) {
	head := false
	for _, t := range m.Threats {
		if t.Service != p.ID {
			continue
		}
		if !head {
			fmt.Fprintf(b, "\n### %s\n\n| id | threat | kind | severity | what is done | covered by |\n|---|---|---|---|---|---|\n", p.Title)
			head = true
		}
		kind := strideNames[t.Stride]
		if t.LLM != "" {
			kind += ", " + t.LLM
		}
		covered := "open: " + t.Open
		if len(t.Tests) > 0 {
			covered = "`" + strings.Join(t.Tests, "`, `") + "`"
		}
		fmt.Fprintf(b, "| %s | %s | %s | %s | %s | %s |\n", t.ID, t.Title, kind, t.Severity, t.Mitigation, covered)
	}
}

func (m Model) entryTable(b *strings.Builder) {
	b.WriteString("\n## Entry points\n\n| route or event | threats |\n|---|---|\n")
	for _, e := range m.Entries {
		for _, r := range append(append([]string{}, e.Routes...), e.Events...) {
			fmt.Fprintf(b, "| `%s` | %s |\n", r, strings.Join(e.Threats, ", "))
		}
	}
}
