package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"aran/app"
	"aran/client"
	"aran/service/search/beir"
)

const evalSearchArgs = "DIR [--format text|json] [--mode hybrid|words|meaning] [--rerank] [--data DIR] [--run FILE] [--config FILE]"

// searchReport is what `aran eval search` prints.
type searchReport struct {
	beir.Measures
	Latency struct {
		P50 float64 `json:"p50"`
		P99 float64 `json:"p99"`
	} `json:"latency_ms"`
}

// evalSearch runs the platform on a corpus in BEIR's layout and measures its rankings.
func evalSearch(ctx context.Context, t terminal, args []string) error {
	f := flags(t, "eval search", evalSearchArgs)
	format := f.String("format", "text", "text, or json: the measures of one mode as an object")
	mode := f.String("mode", "", "hybrid, words or meaning; text shows all of them unless one is chosen")
	rerank := f.Bool("rerank", false, "let the reranker look at the best once more")
	data := f.String("data", "", "data directory that is kept, so that the next run need not encode again; without it a temporary one")
	run := f.String("run", "", "write the ranking to this file, in TREC's format")
	file := f.String("config", "", "path of aran.yaml")
	rest, err := parse(f, args)
	if err != nil {
		return err
	}
	if len(rest) != 1 {
		return fmt.Errorf("%w: aran eval search takes one folder with corpus.jsonl, queries.jsonl and qrels.tsv", errUsage)
	}
	modes, err := evalModes(*format, *mode)
	if err != nil {
		return err
	}
	d, err := beir.Open(rest[0])
	if err != nil {
		return err
	}
	_, _ = fmt.Fprintf(t.err, "%s: %d documents (%d without text and %d more of an id left out), %d queries (%d without a relevant document left out)\n",
		rest[0], len(d.Documents), d.Empty, d.Twice, len(d.Queries), d.Unjudged)
	return withPlatform(ctx, t, *file, *data, func(c *client.Client) error {
		corpus, err := loadCorpus(ctx, t, c, d)
		if err != nil {
			return err
		}
		var reports []searchReport
		for _, m := range modes {
			r, err := corpus.measure(ctx, t, c, d, m, *rerank, *run)
			if err != nil {
				return err
			}
			reports = append(reports, r)
		}
		if *format == "json" {
			return json.NewEncoder(t.out).Encode(reports[0])
		}
		return printSearch(t, modes, reports)
	})
}

func evalModes(format, mode string) ([]string, error) {
	all := []string{"words", "meaning", "hybrid"}
	switch {
	case format != "json" && format != "text":
		return nil, fmt.Errorf("%w: --format %q; use text or json", errUsage, format)
	case mode != "" && !slices.Contains(all, mode):
		return nil, fmt.Errorf("%w: --mode %q; use one of %v", errUsage, mode, all)
	case mode != "":
		return []string{mode}, nil
	case format == "json":
		return []string{"hybrid"}, nil
	}
	return all, nil
}

func printSearch(t terminal, modes []string, reports []searchReport) error {
	w := tabwriter.NewWriter(t.out, 0, 0, 2, ' ', tabwriter.AlignRight)
	_, _ = fmt.Fprintln(w, "mode\tnDCG@10\trecall@100\tMRR@10\tqueries\tp50 ms\tp99 ms\t")
	for i, r := range reports {
		_, _ = fmt.Fprintf(w, "%s\t%.4f\t%.4f\t%.4f\t%d\t%.2f\t%.2f\t\n", modes[i], r.NDCG10, r.Recall100, r.MRR10, r.Queries, r.Latency.P50, r.Latency.P99)
	}
	return w.Flush()
}

// withPlatform runs the platform for as long as fn works: on loopback, in a data directory of its own unless one is named.
func withPlatform(ctx context.Context, t terminal, file, data string, fn func(c *client.Client) error) (err error) {
	if data == "" {
		if data, err = os.MkdirTemp("", "aran-eval-"); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, os.RemoveAll(data)) }()
	}
	cfg, err := app.Load(file, map[string]string{"data.dir": data, "gateway.listen": "127.0.0.1:0", "watch.listen": "127.0.0.1:0"})
	if err != nil {
		return err
	}
	log := &warnings{w: t.err}
	a, err := app.Open(ctx, cfg, app.Options{Version: version, Services: app.Names(), Log: log})
	if err != nil {
		return errors.Join(err, log.flush())
	}
	if err := a.Start(ctx); err != nil {
		return errors.Join(err, log.flush())
	}
	defer func() {
		stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
		defer cancel()
		err = errors.Join(err, a.Stop(stop))
	}()
	_, key, err := cfg.ClientAccess("")
	if err != nil {
		return err
	}
	if err := fn(client.New(a.PublicAddress(), key.Reveal(), nil)); err != nil {
		return errors.Join(err, log.flush())
	}
	return nil
}

// warnings keeps the end of a platform's log, to show it when something went wrong.
type warnings struct {
	w    interface{ Write(b []byte) (int, error) }
	kept []string
}

const keptWarnings = 20

func (l *warnings) Write(b []byte) (int, error) {
	if s := string(b); strings.Contains(s, "WARN") || strings.Contains(s, "ERROR") {
		l.kept = append(l.kept, s)
		l.kept = l.kept[max(0, len(l.kept)-keptWarnings):]
	}
	return len(b), nil
}

func (l *warnings) flush() error {
	for _, s := range l.kept {
		if _, err := l.w.Write([]byte(s)); err != nil {
			return err
		}
	}
	return nil
}
