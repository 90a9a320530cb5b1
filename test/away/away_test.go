// Package away_test takes one dependency after the other from a platform whose services run apart, at its start and while
// it runs, and looks at what a user still gets: something useful that says what it is, or a clear 503 with Retry-After.
//
// The table in docs/operate.md is this package's: each of its cells is a test (go test ./test/away -update writes it).
package away_test

import (
	"flag"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"aran/platform/llm/llmtest"
	"aran/test/harness"
)

var update = flag.Bool("update", false, "write the table into docs/operate.md")

// What a user may get.
const (
	works      = "works"
	words      = "by words only"
	extract    = "rung extractive"
	apology    = "rung apology"
	kept       = "kept, done later"
	retryLater = "503"
)

// uses are what is tried, in the order of the table's columns.
func uses() []use {
	return []use{
		{"sign in", signIn}, {"list models", models}, {"search", search}, {"ask", ask}, {"add a document", add},
		{"recommend", recommend}, {"webhooks", webhooks}, {"read the log", readLog},
	}
}

type use struct {
	name string
	try  func(t *testing.T, w *world) string
}

// away is a row of the table.
type away struct {
	name       string
	stop, back func(w *world)
	want       []string // by use
	starts     bool     // the rest becomes ready without it
}

func service(name string, want ...string) away {
	return away{
		name: name, want: want, starts: true,
		stop: func(w *world) { w.p.Of(name).Kill() },
		back: func(w *world) { w.p.Of(name).Again() },
	}
}

func rows() []away {
	n := retryLater
	return []away{
		{
			name: "PostgreSQL", want: []string{n, n, n, n, n, n, n, n},
			stop: func(w *world) { w.p.Parts.Postgres.Kill() }, back: func(w *world) { w.p.Parts.Postgres.Restart() },
		},
		{
			name: "Redis", want: []string{works, works, works, works, works, works, works, works}, starts: true,
			stop: func(w *world) { w.p.Parts.Redis.Kill() }, back: func(w *world) { w.p.Parts.Redis.Restart() },
		},
		{
			name: "NATS", want: []string{works, works, works, works, kept, works, works, works}, starts: true,
			stop: func(w *world) { w.p.Parts.NATS.Kill() }, back: func(w *world) { w.p.Parts.NATS.Restart() },
		},
		service("user", n, n, n, n, n, n, n, n),
		service("audit", works, works, works, works, works, works, works, n),
		service("infer", works, works, words, works, kept, works, works, works),
		service("guard", works, works, works, extract, kept, works, works, works),
		service("search", works, works, n, apology, n, works, works, works),
		service("recommend", works, works, works, works, works, n, works, works),
		service("notify", works, works, works, works, works, works, n, works),
		service("chat", works, n, works, n, works, works, works, works),
		{
			name: "the model provider", want: []string{works, works, works, extract, works, works, works, works}, starts: true,
			stop: func(w *world) { w.provider.Close() }, back: func(w *world) { w.startProvider() },
		},
	}
}

// world is a platform with one provider, a key, and a document.
type world struct {
	t        *testing.T
	p        *harness.Platform
	provider *httptest.Server
	address  string
	key      string
	n        int
	audit    []string // events that answers named
	docs     []string // that were acknowledged
}

const question = "Within how many days is the refund for a lamp paid?"

func open(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, address: "127.0.0.1:" + harness.Port(t)}
	w.startProvider()
	t.Cleanup(func() { w.provider.Close() })
	// A credential is trusted for two seconds instead of thirty, so that the table shows what holds after that.
	w.p = harness.Apart(t, "ARAN_MODELS="+harness.NoModels(t), "OPENAI_API_KEY=sk-test", "OPENAI_BASE_URL=http://"+w.address+"/v1", "ARAN_GATEWAY_CREDENTIAL_CACHE=2s",
		"ARAN_GATEWAY_RATE_PER_MINUTE=60000", "ARAN_GATEWAY_RATE_BURST=6000", "ARAN_GATEWAY_SIGN_IN_RATE_PER_MINUTE=60000", "ARAN_GATEWAY_SIGN_IN_RATE_BURST=6000", "ARAN_USER_SIGN_IN_BURST=6000")
	w.p.Must(t, http.StatusCreated, http.MethodPost, "/api/v1/accounts", "", account)
	var session struct {
		AccessToken string `json:"access_token"`
	}
	w.p.Must(t, http.StatusCreated, http.MethodPost, "/api/v1/sessions", "", credentials).JSON(t, &session)
	var key struct{ Key string }
	w.p.Must(t, http.StatusCreated, http.MethodPost, "/api/v1/keys", session.AccessToken, map[string]any{"name": "away", "scopes": []string{
		"chat:use", "models:read", "models:use", "search:read", "search:write", "audit:read", "items:write", "interactions:write", "recommendations:read", "webhooks:manage",
	}}).JSON(t, &key)
	w.key = key.Key
	w.p.Must(t, http.StatusCreated, http.MethodPost, "/api/v1/collections", w.key, map[string]string{"name": "shop"})
	w.p.Must(t, http.StatusOK, http.MethodPut, "/api/v1/items/lamp", w.key, map[string]any{"title": "Lamp"})
	if got := add(t, w); got != works {
		t.Fatalf("the first document: %s", got)
	}
	return w
}

var (
	account     = map[string]string{"email": "away@example.org", "password": "correct horse battery", "name": "A"}
	credentials = map[string]string{"email": "away@example.org", "password": "correct horse battery"}
)

func (w *world) startProvider() {
	s := httptest.NewUnstartedServer(llmtest.NewServer("sk-test", "large"))
	_ = s.Listener.Close()
	l, err := harness.Listen(w.t, w.address)
	if err != nil {
		w.t.Fatal(err)
	}
	s.Listener = l
	s.Start()
	w.provider = s
}

// call is a use of the API: its status, or what is wrong with the answer.
func (w *world) call(method, path, key string, body any, into any) (int, string) {
	a, err := w.p.Call(w.t.Context(), method, path, key, body)
	switch {
	case err != nil:
		return 0, "no answer: " + err.Error()
	case a.Status == http.StatusServiceUnavailable && a.Header.Get("Retry-After") != "":
		return a.Status, retryLater
	case a.Status >= 300:
		return a.Status, fmt.Sprintf("%d: %.300s", a.Status, a.Body)
	}
	if into != nil {
		a.JSON(w.t, into)
	}
	return a.Status, works
}

func signIn(_ *testing.T, w *world) string {
	_, got := w.call(http.MethodPost, "/api/v1/sessions", "", credentials, nil)
	return got
}

func models(_ *testing.T, w *world) string {
	_, got := w.call(http.MethodGet, "/v1/models", w.key, nil, nil)
	return got
}

func search(_ *testing.T, w *world) string {
	var out struct {
		Hits     []struct{ Document string }
		Degraded bool
	}
	_, got := w.call(http.MethodPost, "/api/v1/collections/shop/search", w.key, map[string]any{"query": question}, &out)
	switch {
	case got != works:
		return got
	case len(out.Hits) == 0:
		return "nothing found"
	case out.Degraded:
		return words
	}
	return works
}

func ask(_ *testing.T, w *world) string {
	var out struct {
		Choices []struct{ Message struct{ Content string } }
		Aran    struct {
			Rung, Audit string
			Citations   []any
		}
	}
	_, got := w.call(http.MethodPost, "/v1/chat/completions", w.key, map[string]any{
		"model": "default", "messages": []map[string]string{{"role": "user", "content": question}}, "aran": map[string]any{"collections": []string{"shop"}},
	}, &out)
	if got != works {
		return got
	}
	if out.Aran.Audit == "" || len(out.Choices) != 1 || out.Choices[0].Message.Content == "" {
		return fmt.Sprintf("an answer without its record: %+v", out)
	}
	w.audit = append(w.audit, out.Aran.Audit)
	switch out.Aran.Rung {
	case "primary":
		return works
	case "extractive":
		if len(out.Aran.Citations) == 0 {
			return "an extract that cites nothing"
		}
		return extract
	}
	return "rung " + out.Aran.Rung
}

// add stores a document, and sees whether it is indexed soon.
func add(t *testing.T, w *world) string {
	w.n++
	id := fmt.Sprintf("policy-%d", w.n)
	text := fmt.Sprintf("# Refunds %d\n\nA customer who returns a lamp within 30 days gets the whole price back. The refund is paid within 14 days.\n", w.n)
	_, got := w.call(http.MethodPost, "/api/v1/collections/shop/documents", w.key, map[string]string{"id": id, "title": "Policy", "content_type": "text/markdown", "text": text}, nil)
	if got != works {
		return got
	}
	w.docs = append(w.docs, id)
	for end := time.Now().Add(3 * time.Second); time.Now().Before(end); <-time.After(50 * time.Millisecond) {
		if w.status(id) == "indexed" {
			return works
		}
	}
	return kept
}

func (w *world) status(id string) string {
	var d struct{ Status string }
	_, got := w.call(http.MethodGet, "/api/v1/collections/shop/documents/"+id, w.key, nil, &d)
	if got != works {
		return got
	}
	return d.Status
}

func recommend(_ *testing.T, w *world) string {
	if _, got := w.call(http.MethodPost, "/api/v1/interactions", w.key, map[string]string{"user": "u1", "item": "lamp", "type": "view"}, nil); got != works {
		return got
	}
	var out struct {
		Items []struct{ Item string }
		Rung  string
	}
	_, got := w.call(http.MethodGet, "/api/v1/recommendations?user=u2", w.key, nil, &out)
	if got == works && (len(out.Items) == 0 || out.Rung == "") {
		return "nothing is recommended"
	}
	return got
}

func webhooks(_ *testing.T, w *world) string {
	_, got := w.call(http.MethodGet, "/api/v1/webhooks", w.key, nil, nil)
	return got
}

func readLog(_ *testing.T, w *world) string {
	_, got := w.call(http.MethodGet, "/api/v1/audit/events?limit=5", w.key, nil, nil)
	return got
}

const settle = 30 * time.Second // a list of models that could not be had is asked for again after 15 s

// look tries every use until it is as the row says. On the way there, nothing but clear refusals and useful answers may come.
func (w *world) look(t *testing.T, name string, want []string) {
	t.Helper()
	for i, u := range uses() {
		var got string
		for end := time.Now().Add(settle); ; <-time.After(100 * time.Millisecond) {
			if got = u.try(t, w); got == want[i] {
				break
			}
			if !clear(got) {
				t.Errorf("%s, %s: %s", name, u.name, got)
			}
			if time.Now().After(end) {
				t.Errorf("%s, %s: %q, want %q", name, u.name, got, want[i])
				break
			}
		}
	}
}

// clear reports whether an answer is useful or a refusal that says when to come again.
func clear(got string) bool {
	switch got {
	case works, words, extract, apology, kept, retryLater:
		return true
	}
	return false
}

// normal waits until everything works by itself, and nothing that was acknowledged is lost.
func (w *world) normal(t *testing.T, name string) {
	t.Helper()
	all := make([]string, len(uses()))
	for i := range all {
		all[i] = works
	}
	w.look(t, "after "+name, all)
	for _, id := range w.docs {
		harness.Eventually(t, time.Minute, "document "+id+", acknowledged while "+name+" was away, is indexed", func() bool { return w.status(id) == "indexed" })
	}
	for _, id := range w.audit {
		harness.Eventually(t, time.Minute, "the answer's event "+id+", given while "+name+" was away, is in the log", func() bool {
			_, got := w.call(http.MethodGet, "/api/v1/audit/proof/"+id, w.key, nil, nil)
			return got == works
		})
	}
	w.docs, w.audit = nil, nil
}

func TestOneAway(t *testing.T) {
	w := open(t)
	w.normal(t, "the start")
	for _, row := range rows() {
		t.Run(row.name, func(t *testing.T) {
			began := time.Now()
			row.stop(w)
			<-time.After(2100 * time.Millisecond) // what was checked a moment ago is no longer trusted
			w.look(t, row.name+" is away", row.want)
			row.back(w)
			back := time.Now()
			w.normal(t, row.name)
			t.Logf("%d uses as the table says; back to normal by itself in %.1fs; %.1fs in all", len(row.want), time.Since(back).Seconds(), time.Since(began).Seconds())
		})
	}
}

// TestOneAwayAtTheStart stops everything, and starts it while one thing is missing.
func TestOneAwayAtTheStart(t *testing.T) {
	w := open(t)
	for _, row := range rows() {
		t.Run(row.name, func(t *testing.T) {
			for _, p := range w.p.Processes {
				p.Kill()
			}
			row.stop(w)
			for _, p := range w.p.Processes {
				if p.Name() != row.name {
					p.Again()
				}
			}
			for _, p := range w.p.Processes {
				if p.Name() == row.name || !row.starts && p.Name() != "gateway" {
					continue
				}
				if err := p.Ready(30 * time.Second); err != nil {
					t.Fatalf("%s without %s: %v", p.Name(), row.name, err)
				}
			}
			want := row.want
			w.look(t, row.name+" is away from the start", want)
			row.back(w)
			w.normal(t, row.name)
		})
	}
}

const (
	tableBegin = "<!-- away: begin -->\n"
	tableEnd   = "<!-- away: end -->\n"
)

// TestTheTableIsInTheDocs holds docs/operate.md to what is tested here.
func TestTheTableIsInTheDocs(t *testing.T) {
	var b strings.Builder
	b.WriteString(tableBegin + "| away |")
	for _, u := range uses() {
		b.WriteString(" " + u.name + " |")
	}
	b.WriteString("\n|---|" + strings.Repeat("---|", len(uses())) + "\n")
	for _, r := range rows() {
		b.WriteString("| " + r.name + " | " + strings.Join(r.want, " | ") + " |\n")
	}
	b.WriteString(tableEnd)
	path := filepath.Join(harness.Root(), "docs", "operate.md")
	page, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(page), tableBegin)
	_, after, ok2 := strings.Cut(rest, tableEnd)
	if !ok || !ok2 {
		t.Fatalf("docs/operate.md has no %s", tableBegin)
	}
	want := before + b.String() + after
	if *update {
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil { //nolint:gosec // a source file
			t.Fatal(err)
		}
		return
	}
	if string(page) != want {
		t.Error("the table in docs/operate.md is not the one that is tested: go test ./test/away -run TheTable -update")
	}
}
