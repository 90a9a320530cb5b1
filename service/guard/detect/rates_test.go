package detect_test

import (
	"bufio"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"aran/service/guard/detect"
)

var (
	data = flag.String("data", "", "folder of *.jsonl files with text and label")
	half = flag.String("half", "", "only even or odd lines")
	show = flag.String("show", "", "a source of which the wrong ones are listed")
)

// TestRates says of how many attacks, and of how many harmless texts, the rules alone say something, by source. It runs where a
// folder is given: go test ./service/guard/detect -run Rates -v -data DIR.
func TestRates(t *testing.T) {
	if *data == "" {
		t.Skip("no -data")
	}
	rs := builtin(t)
	files, err := filepath.Glob(filepath.Join(*data, "*.jsonl"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no sources in %s (%v)", *data, err)
	}
	var benign, alarms, strong int
	for _, name := range files {
		f, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close() //nolint:errcheck // only read
		source := strings.TrimSuffix(filepath.Base(name), ".jsonl")
		var all, any, over int
		label := 0
		var took []time.Duration
		by := map[string]int{}
		lines := bufio.NewScanner(f)
		lines.Buffer(nil, 8<<20)
		for n := 0; lines.Scan(); n++ {
			if *half == "even" && n%2 == 1 || *half == "odd" && n%2 == 0 {
				continue
			}
			var row struct {
				Text  string
				Label int
			}
			if err := json.Unmarshal(lines.Bytes(), &row); err != nil {
				t.Fatal(err)
			}
			label = row.Label
			origin := detect.User
			if strings.Contains(source, "injecagent") || strings.Contains(source, "llmail") {
				origin = detect.Document
			}
			start := time.Now()
			found := rs.Scan(row.Text, origin)
			took = append(took, time.Since(start))
			all++
			score := detect.Combine(found)
			if len(found) > 0 {
				any++
			}
			if score >= .7 {
				over++
			}
			for _, x := range found {
				by[x.Rule]++
			}
			if *show == source && (row.Label == 1 && score < .7 || row.Label == 0 && len(found) > 0) {
				t.Logf("%.2f %q", score, cut(row.Text, 260))
				for _, x := range found {
					t.Logf("      %s %q", x.Rule, cut(row.Text[x.Start:x.End], 120))
				}
			}
		}
		if label == 0 {
			benign, alarms, strong = benign+all, alarms+any, strong+over
		}
		slices.Sort(took)
		t.Logf("%-36s label %d: something %5.1f %%, from .7 %5.1f %% of %d; p50 %v", source, label, 100*float64(any)/float64(all), 100*float64(over)/float64(all), all, took[len(took)/2])
		if *show == source {
			t.Logf("%v", by)
		}
	}
	t.Logf("harmless: something %.2f %%, from .7 %.2f %% of %d", 100*float64(alarms)/float64(benign), 100*float64(strong)/float64(benign), benign)
}

func cut(s string, n int) string { return s[:min(len(s), n)] }
