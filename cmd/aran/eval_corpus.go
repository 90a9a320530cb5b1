package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"aran/client"
	"aran/service/search/beir"
)

const (
	evalCollection = "corpus"
	evalDepth      = 100 // documents of a ranking: recall@100 wants so many
	bulkBytes      = 1 << 20
	bulkLines      = 100
	longestTitle   = 500 // characters
	longestText    = 4_900_000
)

// corpus is a corpus that the platform holds. Documents have ids of their own there: those of a corpus may be anything.
type corpus struct {
	documents []beir.Document
}

// loadCorpus stores the documents over the public API and waits until searches find them.
func loadCorpus(ctx context.Context, t terminal, c *client.Client, d beir.Data) (corpus, error) {
	err := c.CreateCollection(ctx, evalCollection)
	if refused := (*client.Error)(nil); errors.As(err, &refused) && refused.Status == http.StatusConflict {
		err = nil // of an earlier run in the same data directory
	}
	if err != nil {
		return corpus{}, err
	}
	show, end := counter(t, "stored", len(d.Documents))
	var body bytes.Buffer
	lines := 0
	send := func() error {
		var stored []client.Stored
		err := patiently(ctx, func(ctx context.Context) (err error) {
			stored, err = c.PutDocuments(ctx, evalCollection, body.Bytes())
			return err
		})
		if err != nil {
			return err
		}
		for _, l := range stored {
			if l.Code != "" {
				return fmt.Errorf("document %s is refused: %s: %s", l.ID, l.Code, l.Detail)
			}
		}
		lines = 0
		body.Reset()
		return nil
	}
	enc := json.NewEncoder(&body)
	for i, x := range d.Documents {
		if err := enc.Encode(documentLine(i, x)); err != nil {
			return corpus{}, err
		}
		if lines++; lines == bulkLines || body.Len() > bulkBytes || i == len(d.Documents)-1 {
			if err := send(); err != nil {
				return corpus{}, err
			}
			show(i + 1)
		}
	}
	end()
	return corpus{d.Documents}, awaitIndexed(ctx, t, c, len(d.Documents))
}

// documentLine is a document as the API takes it. What does not fit into a title stands before the text.
func documentLine(i int, x beir.Document) map[string]string {
	clean := strings.NewReplacer("\x00", " ")
	title, text := clean.Replace(strings.TrimSpace(x.Title)), clean.Replace(x.Text)
	if len([]rune(title)) > longestTitle {
		title, text = "", title+"\n\n"+text
	}
	if strings.TrimSpace(text) == "" {
		title, text = "", title
	}
	if len(text) > longestText {
		text = strings.ToValidUTF8(text[:longestText], "")
	}
	return map[string]string{"id": evalID(i), "title": title, "text": text}
}

func evalID(i int) string { return fmt.Sprintf("d%07d", i) }

const pollEvery = 500 * time.Millisecond

// awaitIndexed follows the indexing through the pages of documents, in the order in which they were stored.
func awaitIndexed(ctx context.Context, t terminal, c *client.Client, total int) error {
	show, end := counter(t, "indexed", total)
	defer end()
	done, lost := 0, map[string]int{}
	for cursor := ""; ; {
		page, next, err := c.DocumentStates(ctx, evalCollection, cursor)
		if err != nil {
			return err
		}
		queued, ended := 0, map[string]int{}
		for _, x := range page {
			switch x.Status {
			case "queued":
				queued++
			case "indexed":
			default:
				ended[x.Status+" "+x.Reason]++
			}
		}
		show(done + len(page) - queued)
		if queued > 0 {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(pollEvery):
			}
			continue
		}
		done += len(page)
		for why, n := range ended {
			lost[why] += n
		}
		if cursor = next; next == "" {
			break
		}
	}
	end()
	for why, n := range lost {
		_, _ = fmt.Fprintf(t.err, "%d documents are not found by searches: %s\n", n, why)
	}
	return nil
}

// measure asks every query and scores the rankings. The first query is asked twice: it loads what is loaded once.
func (x corpus) measure(ctx context.Context, t terminal, c *client.Client, d beir.Data, mode string, rerank bool, run string) (r searchReport, err error) {
	ranking := &bytes.Buffer{}
	var took []float64
	show, end := counter(t, mode, len(d.Queries))
	degraded := 0
	for i, q := range append(d.Queries[:1:1], d.Queries...) {
		began := time.Now()
		found, err := c.Search(ctx, evalCollection, client.Search{Query: shortened(q.Text), Limit: evalDepth, Mode: mode, PerDocument: 1, Rerank: &rerank})
		if err != nil {
			return r, fmt.Errorf("query %s: %w", q.ID, err)
		}
		if i == 0 {
			continue
		}
		took = append(took, float64(time.Since(began).Microseconds())/1000)
		if found.Degraded && mode != "words" {
			degraded++
		}
		documents := x.ranking(q, found.Hits)
		r.Add(d.Judgements[q.ID], documents)
		if err := beir.WriteRanking(ranking, q.ID, documents, "aran-"+mode); err != nil {
			return r, err
		}
		show(i)
	}
	end()
	if degraded > 0 {
		_, _ = fmt.Fprintf(t.err, "%d searches went by words alone: the encoder did not answer in time\n", degraded)
	}
	r.Latency.P50, r.Latency.P99 = beir.Quantile(took, 0.5), beir.Quantile(took, 0.99)
	if run != "" {
		err = os.WriteFile(run, ranking.Bytes(), 0o600)
	}
	return r, err
}

// ranking is what a search found, by the corpus's ids. A query that is a document of the corpus does not find itself.
func (x corpus) ranking(q beir.Query, hits []client.Hit) (out []string) {
	for _, h := range hits {
		i, err := strconv.Atoi(strings.TrimPrefix(h.Document, "d"))
		if err != nil || i >= len(x.documents) {
			continue // of another run
		}
		if doc := x.documents[i]; doc.ID != q.ID || doc.Text != q.Text {
			out = append(out, doc.ID)
		}
	}
	return out
}

const longestQuery = 9_900 // characters

func shortened(q string) string {
	q = strings.ReplaceAll(strings.ToValidUTF8(q, " "), "\x00", " ")
	if r := []rune(q); len(r) > longestQuery {
		return string(r[:longestQuery])
	}
	return q
}

// counter shows how far a work of so many pieces is.
func counter(t terminal, name string, total int) (show func(done int), end func()) {
	b := newBar(t.err)
	return func(done int) { b.show(int64(done), int64(total), fmt.Sprintf("%s %d / %d", name, done, total)) }, b.end
}
