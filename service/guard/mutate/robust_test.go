package mutate_test

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"text/tabwriter"

	"github.com/goccy/go-yaml"

	"aran/service/guard/detect"
	"aran/service/guard/injection"
	"aran/service/guard/mutate"
	"aran/service/guard/policy"
)

// Bounds of how much is lost when known attacks are said in another form, and of what is flagged of harmless texts in one.
const (
	averageFall  = 0.10
	worstFall    = 0.25
	fewestKnown  = 0.75 // of the attacks, as they are
	averageFalse = 0.02
	worstFalse   = 0.15
	seed         = 20
)

// labelled is one text of a test set, with the family that it stands under.
type labelled struct{ family, text string }

func texts(t *testing.T, file string) (out []labelled) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var m yaml.MapSlice
	if err := yaml.Unmarshal(b, &m); err != nil {
		t.Fatal(err)
	}
	for _, family := range m {
		list, ok := family.Value.([]any)
		if !ok {
			t.Fatalf("%s: %v is no list", file, family.Key)
		}
		for _, s := range list {
			out = append(out, labelled{fmt.Sprint(family.Key), fmt.Sprint(s)})
		}
	}
	return out
}

// origin is where texts of a family come from.
func origin(family string) detect.Origin {
	if family == "indirect" || family == "exfiltration" || family == "tools" {
		return detect.Document
	}
	return detect.User
}

// alarms says whether the detector that comes with the program blocks a text at its default threshold.
func alarms(t *testing.T) func(l labelled, text string) bool {
	t.Helper()
	d, err := injection.Builtin()
	if err != nil {
		t.Fatal(err)
	}
	thresholds := policy.Default().Thresholds
	return func(l labelled, text string) bool {
		threshold := thresholds.User.Block
		if origin(l.family) != detect.User {
			threshold = thresholds.Document.Block
		}
		return d.Judge(text, origin(l.family)).Score >= threshold
	}
}

func TestKnownAttacksAreFoundInOtherForms(t *testing.T) {
	if raced {
		t.Skip("twenty thousand judgements take a minute beside the race detector; test/unit runs them without it")
	}
	alarm := alarms(t)
	attacks, harmless := texts(t, "testdata/attacks.yaml"), texts(t, "testdata/harmless.yaml")
	known := slices.DeleteFunc(slices.Clone(attacks), func(l labelled) bool { return !alarm(l, l.text) })
	t.Logf("%d of %d attacks are known as they are", len(known), len(attacks))
	if float64(len(known)) < fewestKnown*float64(len(attacks)) {
		t.Errorf("only %d of %d attacks are known as they are", len(known), len(attacks))
	}
	for _, l := range harmless {
		if alarm(l, l.text) {
			t.Errorf("false alarm: %s: %s", l.family, l.text)
		}
	}
	var table strings.Builder
	w := tabwriter.NewWriter(&table, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(w, "\nmutation\trecall\tfalse alarms\t")
	found, flagged, all, harmful := 0.0, 0.0, 0.0, 0.0
	for _, m := range mutate.All() {
		recall, wrong := share(known, m, alarm), 0.0
		all, found = all+1, found+recall
		if !m.Hostile {
			wrong = share(harmless, m, alarm)
			harmful, flagged = harmful+1, flagged+wrong
		}
		_, _ = fmt.Fprintf(w, "%s\t%.3f\t%.3f\t\n", m.Name, recall, wrong)
		if recall < 1-worstFall {
			t.Errorf("%s: recall falls to %.3f", m.Name, recall)
		}
		if wrong > worstFalse {
			t.Errorf("%s: %.3f of the harmless texts are flagged", m.Name, wrong)
		}
	}
	_, _ = fmt.Fprintf(w, "average\t%.3f\t%.3f\t\n", found/all, flagged/harmful)
	_ = w.Flush() // to a string
	t.Log(table.String())
	if found/all < 1-averageFall {
		t.Errorf("recall falls to %.3f on average", found/all)
	}
	if flagged/harmful > averageFalse {
		t.Errorf("%.3f of the harmless texts are flagged on average", flagged/harmful)
	}
}

// share is how many of some texts alarm in another form.
func share(of []labelled, m mutate.Mutation, alarm func(labelled, string) bool) float64 {
	n := 0
	for _, l := range of {
		if alarm(l, m.Apply(l.text, seed)) {
			n++
		}
	}
	return float64(n) / float64(len(of))
}
