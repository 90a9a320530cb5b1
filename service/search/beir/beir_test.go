package beir_test

import (
	"maps"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"aran/service/search/beir"
)

func folder(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		p := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

const corpus = `{"_id": "a b/ü", "title": "T", "text": "one"}
{"_id": 7, "text": "two"}

{"_id": "a b/ü", "text": "again"}
{"_id": "empty", "title": "", "text": " "}
{"_id": "title only", "title": "words"}
`

func TestOpenTakesFoldersAsTheyAre(t *testing.T) {
	queries := `{"_id": "q1", "text": "x"}` + "\n" + `{"_id": "q2", "text": "y"}` + "\n" + `{"_id": "q1", "text": "x"}` + "\n" + `{"_id": "q3", "text": "z"}`
	for name, qrels := range map[string]map[string]string{
		"with a header":      {"qrels.tsv": "query-id\tcorpus-id\tscore\nq1\ta b/ü\t2\nq1\t7\t0\nq3\t7\t0\n"},
		"without one":        {"qrels.tsv": "\uFEFFq1\ta b/ü\t2\r\nq1\t7\t0\r\n"},
		"in a folder":        {"qrels/test.tsv": "q1\ta b/ü\t2\nq1\t7\t0\n", "qrels/train.tsv": "q2\t7\t1\n"},
		"four columns":       {"qrels.tsv": "q1\t0\ta b/ü\t2\nq1\t0\t7\t0\n"},
		"another name, once": {"qrels/dev.tsv": "q1\ta b/ü\t2\nq1\t7\t0\n"},
	} {
		files := map[string]string{"corpus.jsonl": corpus, "queries.jsonl": queries}
		maps.Copy(files, qrels)
		d, err := beir.Open(folder(t, files))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if len(d.Documents) != 3 || d.Documents[1].ID != "7" || d.Twice != 1 || d.Empty != 1 {
			t.Errorf("%s: documents %+v, %d twice, %d empty", name, d.Documents, d.Twice, d.Empty)
		}
		if len(d.Queries) != 1 || d.Queries[0].ID != "q1" || d.Unjudged != 2 || d.Judgements["q1"]["a b/ü"] != 2 {
			t.Errorf("%s: queries %+v, %d left out, %v", name, d.Queries, d.Unjudged, d.Judgements)
		}
	}
}

func TestOpenNamesWhatIsWrong(t *testing.T) {
	good := map[string]string{"corpus.jsonl": corpus, "queries.jsonl": `{"_id": "q1", "text": "x"}`, "qrels.tsv": "q1\t7\t1\n"}
	for name, c := range map[string]struct{ file, text, want string }{
		"no JSON":        {"corpus.jsonl", "{\"_id\": \"a\", \"text\": \"x\"}\n{oops", "line 2"},
		"no id":          {"corpus.jsonl", `{"text": "x"}`, "no _id"},
		"no text at all": {"corpus.jsonl", `{"_id": "a"}`, "no document"},
		"no judgement":   {"qrels.tsv", "q9\t7\t1\n", "no query"},
		"bad judgement":  {"qrels.tsv", "q1\t7\t1\nq1\t7\tmany\n", "line 2"},
		"no columns":     {"qrels.tsv", "q1\t7\t1\nq1\n", "columns"},
	} {
		files := map[string]string{}
		maps.Copy(files, good)
		files[c.file] = c.text
		if _, err := beir.Open(folder(t, files)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := beir.Open(t.TempDir()); err == nil || !strings.Contains(err.Error(), "qrels") {
		t.Errorf("an empty folder: %v", err)
	}
}

// The numbers are those of trec_eval for the same judgements and ranking.
func TestMeasures(t *testing.T) {
	var m beir.Measures
	j := map[string]int{"a": 2, "b": 1, "c": 0, "d": 1}
	m.Add(j, []string{"x", "a", "c", "b"})
	want := (2/math.Log2(3) + 1/math.Log2(5)) / (2 + 1/math.Log2(3) + 1/math.Log2(4))
	if math.Abs(m.NDCG10-want) > 1e-12 || math.Abs(m.Recall100-2.0/3) > 1e-12 || m.MRR10 != 0.5 {
		t.Errorf("%+v, want nDCG %v", m, want)
	}
	m.Add(j, nil)
	if math.Abs(m.NDCG10-want/2) > 1e-12 || m.Queries != 2 || m.MRR10 != 0.25 {
		t.Errorf("the mean with an empty ranking: %+v", m)
	}
	m = beir.Measures{}
	m.Add(map[string]int{"a": 1}, []string{"1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "a"})
	if m.NDCG10 != 0 || m.MRR10 != 0 || m.Recall100 != 1 {
		t.Errorf("the eleventh: %+v", m)
	}
}

func TestQuantile(t *testing.T) {
	v := []float64{4, 1, 3, 2}
	if beir.Quantile(v, 0.5) != 2 || beir.Quantile(v, 0.99) != 4 || beir.Quantile(nil, 0.5) != 0 {
		t.Error("quantiles")
	}
}

func FuzzJudgements(f *testing.F) {
	f.Add("q1\t7\t1\n")
	f.Add("query-id\tcorpus-id\tscore\nq1 0 7 1")
	f.Fuzz(func(t *testing.T, qrels string) {
		d, err := beir.Open(folder(t, map[string]string{"corpus.jsonl": corpus, "queries.jsonl": `{"_id": "q1", "text": "x"}`, "qrels.tsv": qrels}))
		if err == nil && d.Judgements.Relevant("q1") == 0 {
			t.Fatal("a query without judgement is evaluated")
		}
	})
}
