// Command guard trains the guard's compact classifier (make train-guard DATA=DIR).
//
// It reads labelled texts from DATA/*.jsonl and from package corpus, prints how well each source is judged by models that
// did not see it, and writes the model's file. Same texts and processor, same bytes.
package main

import (
	"context"
	"flag"
	"log"
	"os"
	"strings"

	"aran/service/guard/classify/train"
)

func main() {
	log.SetFlags(0)
	data := flag.String("data", "", "folder of *.jsonl")
	clean := flag.String("clean", "", "corpus.jsonl in BEIR's layout: documents that are harmless")
	out := flag.String("out", "service/guard/classify/model.bin", "the model's file")
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
	flag.Parse()
	if err := run(context.Background(), set, *data, *clean, *out, *cache, *dump); err != nil {
		log.Fatal("train-guard: ", err)
	}
}

func run(ctx context.Context, set train.Settings, data, clean, out, cache, dump string) error {
	rows, err := read(data, clean)
	if err != nil {
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
	report(left, dump)
	if out == "" {
		return nil
	}
	w, top := t.Model()
	log.Print("words that weigh most: ", strings.Join(top, "; "))
	file, err := w.Encode()
	if err != nil {
		return err
	}
	return os.WriteFile(out, file, 0o644) //nolint:gosec // a file of the repository
}
