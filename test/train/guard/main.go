// Command guard trains the guard's classifiers (make train-guard DATA=DIR).
//
// It reads labelled texts from DATA/*.jsonl and from package corpus, measures how each source is judged by models that did
// not see it, and writes the models' files, their manifests, and the table in their card. Same texts and processor, same bytes.
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"path/filepath"
	"strings"

	"aran/service/guard/classify"
	"aran/service/guard/classify/train"
	"aran/service/infer/heads"
	"aran/service/infer/registry"
)

// Thresholds and false alarms that calibration aims at.
const (
	// injectionThreshold is injection.UserThreshold: a package that embeds what is made here can't be asked for it.
	injectionThreshold = 0.7
	alarmsAll          = 0.0065
	alarmsHard         = 0.01
	vectorDims         = 64
	modelVersion       = "1"
)

func main() {
	log.SetFlags(0)
	data := flag.String("data", "", "folder of *.jsonl")
	clean := flag.String("clean", "", "corpus.jsonl in BEIR's layout: documents that are harmless")
	root := flag.String("root", ".", "the repository")
	flag.Parse()
	if err := run(context.Background(), *data, *clean, *root); err != nil {
		log.Fatal("train-guard: ", err)
	}
}

func run(ctx context.Context, data, clean, root string) error {
	set := train.Default()
	cache := filepath.Join(root, ".cache", "train-guard")
	rows, err := read(data, clean)
	if err != nil {
		return err
	}
	withVectors, err := headData(ctx, rows, set.Most, cache)
	if err != nil {
		return err
	}
	pieces, vectors, err := pieceVectors(ctx, cache)
	if err != nil {
		return err
	}
	if rows, err = forms(rows); err != nil {
		return err
	}
	t, err := train.New(set, rows, pieces, train.Reduce(vectors, vectorDims))
	if err != nil {
		return err
	}
	left := t.LeaveOut(func(fold int, groups []string) { log.Printf("fold %d without %s", fold, strings.Join(groups, ", ")) })
	some := t.HeadLeaveOut(left, withVectors)
	out, err := calibrated(t, rows, left, some)
	if err != nil {
		return err
	}
	if out.head, err = headFile(train.FitHead(withVectors)); err != nil {
		return err
	}
	log.Print(out.table)
	in := func(name string) string { return filepath.Join(root, filepath.FromSlash(name)) }
	return out.publish(in("service/guard/classify/model.aran"), in("service/infer/heads/injection.safetensors"), in("service/infer/registry/manifests"), in("docs/guard-model.md"))
}

// calibrated makes the compact classifier of everything, with combiners that were fitted to what was left out.
func calibrated(t *train.Trainer, rows []train.Row, left, some []train.Out) (*trained, error) {
	alarms := train.Alarms{Threshold: injectionThreshold, All: alarmsAll, Hard: alarmsHard}
	rules, _ := train.Combine(left, alarms, classify.Rules)
	compact, rate := train.Combine(left, alarms, classify.Rules, classify.Compact)
	all, _ := train.Combine(some, alarms, classify.Rules, classify.Compact, classify.Embeddings)
	w, top := t.Model()
	log.Print("words that weigh most: ", strings.Join(top, "; "))
	w.About.Version, w.About.BaseRate = modelVersion, rate
	w.About.Combine = []classify.Combiner{rules, compact, all}
	w.About.Trained = train.Counts(rows)
	file, err := w.Encode()
	if err != nil {
		return nil, err
	}
	every := func(train.Out) bool { return true }
	return &trained{
		compact: file,
		table: fmt.Sprintf("Scores are probabilities at a base rate of %.1f %% attacks.\n\n%s\nOn the %d texts of which there are embeddings:\n\n%s\n%s\n",
			100*rate, ladder(left, [][]string{{classify.Rules}, {classify.Compact}, {classify.Rules, classify.Compact}}), len(some),
			ladder(some, [][]string{{classify.Rules, classify.Compact}, {classify.Embeddings}, {classify.Rules, classify.Compact, classify.Embeddings}}), bySource(left, &compact)),
		evaluation: map[string][]registry.Evaluation{
			compactName:         measured(left, every, classify.Rules, classify.Compact).evaluation(leftOut + ", with the rules"),
			heads.InjectionName: measured(some, every, classify.Rules, classify.Compact, classify.Embeddings).evaluation(leftOut + ", with rules and " + compactName),
		},
	}, nil
}
