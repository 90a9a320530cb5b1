// Command guard measures the guard beside others on the same texts, in one run.
//
//	go run ./test/bench/guard DIR ROWS PYTHON
//
// DIR has *.jsonl of {"text", "label", "source"?}. Of more than ROWS texts, a share of each source is taken, always the same
// one; 0 takes all. PYTHON is an interpreter with the peers in it; "" measures ours alone.
package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"io"
	"math"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"aran/service/guard/detect"
	"aran/service/guard/injection"
	"aran/service/guard/measure"
	"aran/service/guard/policy"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if len(os.Args) != 4 {
		_, _ = fmt.Fprintln(os.Stderr, "usage: guard DIR ROWS PYTHON")
		os.Exit(2) //nolint:gocritic // nothing is open
	}
	if err := run(ctx, os.Stdout, os.Args[1], os.Args[2], os.Args[3]); err != nil {
		_, _ = fmt.Fprintln(os.Stderr, "guard:", err)
		os.Exit(1)
	}
}

// judged is what one detector made of the rows, in their order.
type judged struct {
	name    string
	verdict []verdict
}

type verdict struct {
	Score   float64 `json:"score"`
	Flagged bool    `json:"flagged"`
	US      float64 `json:"us"`
}

func run(ctx context.Context, w io.Writer, dir, most, python string) error {
	n, err := strconv.Atoi(most)
	if err != nil || n < 0 {
		return fmt.Errorf("ROWS %q: use a number, 0 for all", most)
	}
	all, err := measure.Read(os.DirFS(dir))
	if err != nil {
		return fmt.Errorf("%s: %w", dir, err)
	}
	rows := sample(all, n)
	_, _ = fmt.Fprintf(w, "%d of %d texts of %s\n\n", len(rows), len(all), dir)
	results, err := ours(ctx, rows)
	if err != nil {
		return err
	}
	if python != "" {
		peers, err := peers(ctx, rows, python)
		if err != nil {
			return err
		}
		results = append(results, peers...)
	}
	if err := summary(w, rows, results); err != nil {
		return err
	}
	return sources(w, rows, results)
}

// sample takes the same share of each source, by a hash of the text.
func sample(all []measure.Row, most int) []measure.Row {
	if most == 0 || len(all) <= most {
		return all
	}
	bySource := map[string][]int{}
	for i, r := range all {
		bySource[r.Source] = append(bySource[r.Source], i)
	}
	hash := func(i int) uint64 {
		h := fnv.New64a()
		_, _ = h.Write([]byte(all[i].Text)) // never fails
		return h.Sum64()
	}
	var kept []int
	for _, rows := range bySource {
		slices.SortFunc(rows, func(a, b int) int { return cmp.Or(cmp.Compare(hash(a), hash(b)), a-b) })
		kept = append(kept, rows[:(len(rows)*most+len(all)-1)/len(all)]...)
	}
	slices.Sort(kept)
	out := make([]measure.Row, len(kept))
	for i, k := range kept {
		out[i] = all[k]
	}
	return out
}

// ours judges with the rules alone, and with all that judges in this process.
func ours(ctx context.Context, rows []measure.Row) ([]judged, error) {
	rules, err := detect.Builtin()
	if err != nil {
		return nil, err
	}
	d, err := injection.Builtin()
	if err != nil {
		return nil, err
	}
	threshold := policy.Default().Thresholds.User.Block
	judge := func(name string, score func(text string) float64) judged {
		j := judged{name: name}
		_ = score("Hello, what is this?")
		for _, r := range rows {
			if ctx.Err() != nil {
				return j
			}
			begin := time.Now()
			s := score(r.Text)
			j.verdict = append(j.verdict, verdict{s, s >= threshold, float64(time.Since(begin)) / float64(time.Microsecond)})
		}
		return j
	}
	out := []judged{
		judge("aran", func(text string) float64 { return d.Judge(text, detect.User).Score }),
		judge("aran, rules alone", func(text string) float64 { return detect.Combine(rules.Scan(text, detect.User)) }),
	}
	return out, ctx.Err()
}

// peers runs the others on the rows.
func peers(ctx context.Context, rows []measure.Row, python string) ([]judged, error) {
	dir, err := os.MkdirTemp("", "aran-bench-guard-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // a folder for this run
	var b bytes.Buffer
	for _, r := range rows {
		if err := json.NewEncoder(&b).Encode(map[string]string{"text": r.Text}); err != nil {
			return nil, err
		}
	}
	file := filepath.Join(dir, "rows")
	if err := os.WriteFile(file, b.Bytes(), 0o600); err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, python, "test/bench/guard/peers.py", file, dir) //nolint:gosec // whoever runs this names the interpreter
	cmd.Stderr = os.Stderr
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("peers: %w", err)
	}
	var out []judged
	for _, name := range []string{"guardlayer", "agentbastion", "prompt-armor"} {
		b, err := os.ReadFile(filepath.Join(dir, name+".jsonl")) //nolint:gosec // a folder of ours
		if err != nil {
			return nil, err
		}
		j := judged{name: name}
		for line := range bytes.Lines(b) {
			var v verdict
			if err := json.Unmarshal(line, &v); err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
			j.verdict = append(j.verdict, v)
		}
		if len(j.verdict) != len(rows) {
			return nil, fmt.Errorf("%s judged %d of %d texts", name, len(j.verdict), len(rows))
		}
		out = append(out, j)
	}
	return out, nil
}

func summary(w io.Writer, rows []measure.Row, results []judged) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	_, _ = fmt.Fprintln(t, "\tAUC\trecall at 0.1 %\tat 1 %\tat 5 % false alarms\tas it comes: recall\tfalse alarms\tp50 µs\tp99 µs\t")
	for _, j := range results {
		var scored []measure.Scored
		var took []float64
		for i, v := range j.verdict {
			scored = append(scored, measure.Scored{Score: v.Score, Attack: rows[i].Attack})
			took = append(took, v.US)
		}
		recall, alarms := flagged(rows, j, "")
		_, _ = fmt.Fprintf(t, "%s\t%.3f\t%.3f\t%.3f\t%.3f\t%.3f\t%.3f\t%.0f\t%.0f\t\n", j.name, measure.AUC(scored), measure.RecallAt(scored, 0.001), measure.RecallAt(scored, 0.01),
			measure.RecallAt(scored, 0.05), recall, alarms, measure.Percentile(took, 0.5), measure.Percentile(took, 0.99))
	}
	return t.Flush()
}

// flagged are the shares of attacks and of harmless texts of a source ("": of all) that are flagged as it comes.
func flagged(rows []measure.Row, j judged, source string) (attacks, harmless float64) {
	var found, alarms, a, h float64
	for i, v := range j.verdict {
		if source != "" && rows[i].Source != source {
			continue
		}
		hit := 0.0
		if v.Flagged {
			hit = 1
		}
		if rows[i].Attack {
			a, found = a+1, found+hit
		} else {
			h, alarms = h+1, alarms+hit
		}
	}
	return found / a, alarms / h
}

// sources shows what each flags of every source as it comes: "!" before shares of attacks.
func sources(w io.Writer, rows []measure.Row, results []judged) error {
	names := map[string]int{}
	for _, r := range rows {
		names[r.Source]++
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	_, _ = fmt.Fprint(t, "\nsource\ttexts\tof\t")
	for _, j := range results {
		_, _ = fmt.Fprintf(t, "%s\t", j.name)
	}
	_, _ = fmt.Fprintln(t)
	var order []string
	for n := range names {
		order = append(order, n)
	}
	slices.Sort(order)
	for _, n := range order {
		for _, attacks := range []bool{true, false} {
			var line strings.Builder
			for _, j := range results {
				share, harmless := flagged(rows, j, n)
				if !attacks {
					share = harmless
				}
				if math.IsNaN(share) {
					break
				}
				_, _ = fmt.Fprintf(&line, "%.3f\t", share)
			}
			if line.Len() > 0 {
				_, _ = fmt.Fprintf(t, "%s\t%d\t%s\t%s\n", n, names[n], map[bool]string{true: "attacks", false: "harmless"}[attacks], line.String())
			}
		}
	}
	return t.Flush()
}
