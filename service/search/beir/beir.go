// Package beir reads evaluation data in BEIR's layout (Thakur et al. 2021) and scores rankings by it.
//
// It is for `aran eval search` and benchmarks. It takes such folders as they are found: without
// titles, with empty documents, with ids of any characters, with judgements with or without a
// header. What it leaves out it counts and says.
package beir

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Document is a line of corpus.jsonl.
type Document struct {
	ID    string
	Title string
	Text  string
}

// Query is a line of queries.jsonl.
type Query struct {
	ID   string
	Text string
}

// Judgements say how relevant a document is to a query: query → document → grade. Grades above 0 are relevant.
type Judgements map[string]map[string]int

// Relevant is how many documents are relevant to a query.
func (j Judgements) Relevant(query string) (n int) {
	for _, grade := range j[query] {
		if grade > 0 {
			n++
		}
	}
	return n
}

// Data is a folder in BEIR's layout.
type Data struct {
	Documents  []Document // each id once
	Queries    []Query    // those with a relevant document, each id once
	Judgements Judgements
	// Left out: documents whose id was there already, documents without any text, queries without a relevant document.
	Twice, Empty, Unjudged int
}

// longestLine is the longest line that is read: a document may have 5 MB, and JSON takes six bytes for some characters.
const longestLine = 64 << 20

// Open reads a folder with corpus.jsonl, queries.jsonl and qrels.tsv (or qrels/test.tsv). An error names file and line.
func Open(dir string) (d Data, err error) {
	if d.Judgements, err = judgements(dir); err != nil {
		return d, err
	}
	seen := map[string]bool{}
	err = lines(filepath.Join(dir, "corpus.jsonl"), func(l line) {
		switch {
		case seen[l.id()]:
			d.Twice++
		case strings.TrimSpace(l.Title+l.Text) == "":
			d.Empty++
		default:
			d.Documents = append(d.Documents, Document{l.id(), l.Title, l.Text})
		}
		seen[l.id()] = true
	})
	if err != nil {
		return d, err
	}
	clear(seen)
	err = lines(filepath.Join(dir, "queries.jsonl"), func(l line) {
		if seen[l.id()] {
			return
		}
		seen[l.id()] = true
		if d.Judgements.Relevant(l.id()) == 0 || strings.TrimSpace(l.Text) == "" {
			d.Unjudged++
			return
		}
		d.Queries = append(d.Queries, Query{l.id(), l.Text})
	})
	if err != nil {
		return d, err
	}
	switch {
	case len(d.Documents) == 0:
		return d, fmt.Errorf("%s: no document has text", filepath.Join(dir, "corpus.jsonl"))
	case len(d.Queries) == 0:
		return d, fmt.Errorf("%s: no query has a relevant document in the judgements", filepath.Join(dir, "queries.jsonl"))
	}
	return d, nil
}

// line is an object of corpus or queries. An id may be a number in some folders.
type line struct {
	ID    json.RawMessage `json:"_id"`
	Title string          `json:"title"`
	Text  string          `json:"text"`
}

func (l line) id() string {
	var s string
	if json.Unmarshal(l.ID, &s) == nil {
		return s
	}
	return string(l.ID)
}

func lines(path string, yield func(line)) error {
	return each(path, func(n int, b []byte) error {
		var l line
		if err := json.Unmarshal(b, &l); err != nil {
			return fmt.Errorf("%s, line %d: %w", path, n, err)
		}
		if len(l.ID) == 0 || string(l.ID) == "null" {
			return fmt.Errorf("%s, line %d: no _id", path, n)
		}
		yield(l)
		return nil
	})
}

// each calls yield for each line that is not empty.
func each(path string, yield func(n int, b []byte) error) (err error) {
	f, err := os.Open(path) //nolint:gosec // the folder is the caller's
	if err != nil {
		return err
	}
	defer f.Close() //nolint:errcheck // read only
	s := bufio.NewScanner(f)
	s.Buffer(make([]byte, 1<<20), longestLine)
	n := 0
	for s.Scan() {
		n++
		b := s.Bytes()
		if n == 1 {
			b = []byte(strings.TrimPrefix(string(b), "\uFEFF"))
		}
		if strings.TrimSpace(string(b)) == "" {
			continue
		}
		if err := yield(n, b); err != nil {
			return err
		}
	}
	if err := s.Err(); err != nil {
		return fmt.Errorf("%s, line %d: %w", path, n+1, err)
	}
	return nil
}

// judgements reads qrels.tsv, qrels/test.tsv, or the only file in qrels/.
func judgements(dir string) (Judgements, error) {
	places := []string{filepath.Join(dir, "qrels.tsv"), filepath.Join(dir, "qrels", "test.tsv")}
	others, err := filepath.Glob(filepath.Join(dir, "qrels", "*.tsv"))
	if err != nil {
		return nil, err
	}
	if len(others) == 1 {
		places = append(places, others[0])
	}
	for _, p := range places {
		j, err := readJudgements(p)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		return j, err
	}
	return nil, fmt.Errorf("%s: neither qrels.tsv nor qrels/test.tsv is there", dir)
}

// readJudgements takes query, document and grade, or TREC's four columns; a first line without a grade is a header.
func readJudgements(path string) (Judgements, error) {
	out := Judgements{}
	first := true
	err := each(path, func(n int, b []byte) error {
		header := first
		first = false
		query, document, grade, err := judgement(strings.TrimRight(string(b), "\r"))
		if err != nil {
			if header {
				return nil
			}
			return fmt.Errorf("%s, line %d: %w", path, n, err)
		}
		if out[query] == nil {
			out[query] = map[string]int{}
		}
		out[query][document] = max(grade, out[query][document])
		return nil
	})
	return out, err
}

func judgement(s string) (query, document string, grade int, err error) {
	f := strings.Split(s, "\t")
	if len(f) < 3 {
		f = strings.Fields(s)
	}
	switch len(f) {
	case 3:
	case 4:
		f = []string{f[0], f[2], f[3]}
	default:
		return "", "", 0, fmt.Errorf("%d columns; query, document and grade are wanted, separated by tabs", len(f))
	}
	g, err := strconv.ParseFloat(strings.TrimSpace(f[2]), 64)
	if err != nil {
		return "", "", 0, fmt.Errorf("grade %q is not a number", f[2])
	}
	return f[0], f[1], int(g), nil
}

// WriteRanking writes a ranking in TREC's format, for trec_eval and its like.
func WriteRanking(w io.Writer, query string, documents []string, name string) error {
	for i, id := range documents {
		if _, err := fmt.Fprintf(w, "%s Q0 %s %d %d %s\n", query, id, i+1, len(documents)-i, name); err != nil {
			return err
		}
	}
	return nil
}
