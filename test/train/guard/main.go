// Command guard trains the guard's compact classifier (make train-guard DATA=DIR).
//
// It reads labelled texts from DATA/*.jsonl and from package corpus, prints how well each source is judged by models that
// did not see it, and writes the model's file. Same texts and processor, same bytes.
package main

import (
	"context"
	"errors"
	"flag"
	"log"
	"os"
	"strings"

	"aran/service/guard/classify"
	"aran/service/guard/classify/train"
)

func main() {
	log.SetFlags(0)
	data := flag.String("data", "", "folder of *.jsonl")
	clean := flag.String("clean", "", "corpus.jsonl in BEIR's layout: documents that are harmless")
	out := flag.String("out", "service/guard/classify/model.aran", "the model's file")
	head := flag.String("head", "service/infer/heads/injection.safetensors", "the head's file")
	cache := flag.String("cache", ".cache/train-guard", "folder for vectors of word pieces")
	set := train.Default()
	flag.IntVar(&set.Sources, "sources", set.Sources, "")
	flag.IntVar(&set.Rows, "rows", set.Rows, "")
	flag.IntVar(&set.Rounds, "rounds", set.Rounds, "")
	flag.IntVar(&set.Folds, "folds", set.Folds, "")
	flag.IntVar(&set.Most, "most", set.Most, "")
	flag.Float64Var(&set.Lambda, "lambda", set.Lambda, "")
	flag.Float64Var(&set.Pieces, "pieces", set.Pieces, "")
	flag.Float64Var(&set.Grams, "grams", set.Grams, "")
	flag.Float64Var(&set.Rare, "rare", set.Rare, "")
	dump := flag.String("dump", "", "")
	encode := flag.Bool("encode", false, "only encode the texts for the head")
	flag.Parse()
	if err := run(context.Background(), set, *data, *clean, *out, *head, *cache, *dump, *encode); err != nil {
		log.Fatal("train-guard: ", err)
	}
}

// injectionThreshold is injection.UserThreshold: a package that embeds what is made here can't be asked for it.
const injectionThreshold = 0.7

func run(ctx context.Context, set train.Settings, data, clean, out, head, cache, dump string, encode bool) error {
	rows, err := read(data, clean)
	if err != nil {
		return err
	}
	withVectors, err := headData(ctx, rows, set.Most, cache)
	if err != nil || encode {
		return err
	}
	pieces, vectors, err := pieceVectors(ctx, cache)
	if err != nil {
		return err
	}
	t, err := train.New(set, rows, pieces, train.Reduce(vectors, 64))
	if err != nil {
		return err
	}
	left := t.LeaveOut(func(fold int, groups []string) { log.Printf("fold %d without %s", fold, strings.Join(groups, ", ")) })
	alarms := train.Alarms{Threshold: injectionThreshold, All: 0.005, Hard: 0.01}
	var combine []classify.Combiner
	rate := 0.0
	for _, layers := range [][]string{{classify.Rules}, {classify.Rules, classify.Compact}} {
		c, r := train.Combine(left, alarms, layers...)
		combine, rate = append(combine, c), r
		log.Printf("%v: %+v, base rate %.4f", layers, c, r)
	}
	report(left, &combine[1], dump)
	some := t.HeadLeaveOut(left, withVectors)
	log.Printf("the same with embeddings, on %d of the texts:", len(some))
	c, _ := train.Combine(some, alarms, classify.Rules, classify.Compact, classify.Embeddings)
	combine = append(combine, c)
	log.Printf("%+v", c)
	compare(some, classify.Rules, classify.Compact)
	compare(some, classify.Embeddings)
	compare(some, classify.Rules, classify.Compact, classify.Embeddings)
	if out == "" {
		return nil
	}
	w, top := t.Model()
	log.Print("words that weigh most: ", strings.Join(top, "; "))
	w.About.Version, w.About.BaseRate, w.About.Combine = "1", rate, combine
	w.About.Trained = train.Counts(rows)
	file, err := w.Encode()
	if err != nil {
		return err
	}
	headBytes, err := headFile(train.FitHead(withVectors))
	if err != nil {
		return err
	}
	return errors.Join(os.WriteFile(out, file, 0o644), os.WriteFile(head, headBytes, 0o644)) //nolint:gosec // files of the repository
}
