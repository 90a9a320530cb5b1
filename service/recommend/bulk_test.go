package recommend_test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"testing"

	"aran/platform/rpc/rpctest"
)

// FuzzLines: every line has exactly one answer in its order, a line that stands alone has the same outcome as among
// others, and what is not said to be stored is not stored.
func FuzzLines(f *testing.F) {
	f.Add([]byte("{\"user\":\"u\",\"item\":\"i\",\"type\":\"view\"}\n\n{\"user\":\"u\"}\nnot json\n"))
	f.Add([]byte("{\"user\":\"u\",\"item\":\"i\",\"type\":\"view\",\"weight\":1e-9}\r\n{\"user\":\"\xff\",\"item\":\"i\",\"type\":\"view\"}"))
	f.Add([]byte("{\"user\":\"u\",\"item\":\"i\",\"type\":\"like\",\"time\":\"0001-01-01T00:00:00Z\",\"id\":\"a\"}\n[]\n\"x\"\nnull"))
	w := open(f, onSQLite)
	f.Fuzz(func(t *testing.T, body []byte) {
		w := &world{t: t, s: w.s, db: w.db, a: rpctest.NewAuthority(t), id: w.id}
		if len(body) > 32<<10 {
			return
		}
		before := w.count(`SELECT COUNT(*) FROM recommend_interaction`)
		got := w.call(http.MethodPost, "/api/v1/interactions", string(body), "Content-Type", "application/x-ndjson")
		want := bytes.Count(body, []byte("\n"))
		if len(body) > 0 && body[len(body)-1] != '\n' {
			want++
		}
		if got.Status == http.StatusRequestEntityTooLarge && want > 10_000 {
			return
		}
		if got.Status != http.StatusOK {
			t.Fatalf("%d %s", got.Status, got.Body)
		}
		answers := bytes.Split(bytes.TrimSuffix(got.Body, []byte("\n")), []byte("\n"))
		if want == 0 {
			answers = nil
		}
		if len(answers) != want {
			t.Fatalf("%d answers to %d lines of %q", len(answers), want, body)
		}
		recorded := int64(0)
		for i, a := range answers {
			var res struct {
				Line         int
				Status, Code string
			}
			if err := json.Unmarshal(a, &res); err != nil || res.Line != i+1 || (res.Status == "") == (res.Code == "") || res.Code == "internal" {
				t.Fatalf("answer %s to line %d of %q: %v", a, i+1, body, err)
			}
			if res.Status == "recorded" {
				recorded++
			}
		}
		if after := w.count(`SELECT COUNT(*) FROM recommend_interaction`); after-before != recorded {
			t.Fatalf("%d are said to be recorded, %d are", recorded, after-before)
		}
	})
}
