// Package replicas_test looks at two replicas on shared servers: what one knows, the other knows too.
package replicas_test

import (
	"context"
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"aran/test/harness"
)

const burst = 20

func TestTwoReplicas(t *testing.T) {
	p := harness.Two(t, "ARAN_MODELS="+harness.NoModels(t), fmt.Sprintf("ARAN_GATEWAY_RATE_BURST=%d", burst), "ARAN_GATEWAY_RATE_PER_MINUTE=1")
	a, b := p.Processes[0], p.Processes[1]
	a.AdminKey, b.AdminKey = p.AdminKey, p.AdminKey
	t.Run("the balancer reaches both", func(t *testing.T) {
		for range 10 {
			p.Must(t, http.StatusOK, http.MethodGet, "/api/v1/collections", p.AdminKey, nil)
		}
		if n := p.Balancer.Served(); n[0] == 0 || n[1] == 0 {
			t.Errorf("requests by replica: %v", n)
		}
	})
	t.Run("a key of one is good at the other at once", func(t *testing.T) {
		for i := range 5 {
			from, to := a, b
			if i%2 == 1 {
				from, to = b, a
			}
			to.Must(t, http.StatusOK, http.MethodGet, "/v1/models", makeKey(t, from).Key, nil)
		}
	})
	t.Run("a session of one is refreshed at the other, once", func(t *testing.T) { oneRefresh(t, a, b) })
	t.Run("limits are counted together", func(t *testing.T) { sharedLimit(t, a, b) })
	t.Run("a revoked key ends at both within a second", func(t *testing.T) { revoked(t, p, a, b, time.Second) })
	t.Run("documents, and each event once in one log", func(t *testing.T) { oneLog(t, p, a, b) })
	t.Run("a request with an idempotency key is done once", func(t *testing.T) { idempotent(t, a, b) })
	t.Run("without the bus a revoked key ends within 30 s", func(t *testing.T) {
		p.Parts.NATS.Kill()
		revoked(t, p, a, b, 31*time.Second)
		p.Parts.NATS.Restart()
		oneLog(t, p, a, b)
	})
	t.Run("a replica that is killed is not missed", func(t *testing.T) {
		b.Kill()
		harness.Eventually(t, 5*time.Second, "the balancer leaves it out", func() bool { return p.Balancer.Ready() == 1 })
		for range 6 {
			p.Must(t, http.StatusOK, http.MethodGet, "/api/v1/collections", p.AdminKey, nil)
		}
		addDocument(t, &p.Client, &p.Client)
		b.Again()
		p.AwaitReady(time.Minute)
	})
	t.Run("a replica with another keyring does not start", func(t *testing.T) {
		c := harness.Launch(t, harness.Options{Env: append(p.Parts.Env(), "ARAN_DATA_KEYRING="+filepath.Join(t.TempDir(), "other.key"))})
		refuses(t, c, "keyring")
	})
}

type key struct{ ID, Key string }

func makeKey(t *testing.T, p *harness.Process) (k key) {
	t.Helper()
	p.Must(t, http.StatusCreated, http.MethodPost, "/api/v1/keys", p.AdminKey, map[string]any{"name": "replicas", "scopes": []string{"models:read"}}).JSON(t, &k)
	return k
}

// oneRefresh uses a refresh token at one replica and again at the other: the second is reuse, and ends the session at both.
func oneRefresh(t *testing.T, a, b *harness.Process) {
	const mail, password = "replica@example.org", "correct horse battery"
	a.Must(t, http.StatusCreated, http.MethodPost, "/api/v1/accounts", "", map[string]string{"email": mail, "password": password, "name": "R"})
	type tokens struct {
		AccessToken  string `json:"access_token"`
		RefreshToken string `json:"refresh_token"`
	}
	var first, second tokens
	b.Must(t, http.StatusCreated, http.MethodPost, "/api/v1/sessions", "", map[string]string{"email": mail, "password": password}).JSON(t, &first)
	a.Must(t, http.StatusOK, http.MethodGet, "/api/v1/me", first.AccessToken, nil)
	a.Must(t, http.StatusCreated, http.MethodPost, "/api/v1/sessions/refresh", "", map[string]string{"refresh_token": first.RefreshToken}).JSON(t, &second)
	b.Must(t, http.StatusOK, http.MethodGet, "/api/v1/me", second.AccessToken, nil)
	b.Must(t, http.StatusUnauthorized, http.MethodPost, "/api/v1/sessions/refresh", "", map[string]string{"refresh_token": first.RefreshToken})
	a.Must(t, http.StatusUnauthorized, http.MethodPost, "/api/v1/sessions/refresh", "", map[string]string{"refresh_token": second.RefreshToken})
}

// sharedLimit asks both replicas by turns, and all at once.
func sharedLimit(t *testing.T, a, b *harness.Process) {
	k := makeKey(t, a).Key
	answers := make(chan int)
	for i := range 3 * burst {
		p := []*harness.Process{a, b}[i%2]
		go func() {
			got, err := p.Call(t.Context(), http.MethodGet, "/v1/models", k, nil)
			if err != nil {
				got.Status = -1
			}
			answers <- got.Status
		}()
	}
	count := map[int]int{}
	for range 3 * burst {
		count[<-answers]++
	}
	if got := count[http.StatusOK]; got < burst || got > burst+1 || count[http.StatusOK]+count[http.StatusTooManyRequests] != 3*burst {
		t.Errorf("answers by status: %v; want %d allowed by both together", count, burst)
	}
}

func revoked(t *testing.T, p *harness.Platform, a, b *harness.Process, within time.Duration) {
	k := makeKey(t, a)
	for _, q := range []*harness.Process{a, b} { // both have it in their caches
		q.Must(t, http.StatusOK, http.MethodGet, "/v1/models", k.Key, nil)
	}
	p.Must(t, http.StatusNoContent, http.MethodDelete, "/api/v1/keys/"+k.ID, p.AdminKey, nil)
	for name, q := range map[string]*harness.Process{"first": a, "second": b} {
		harness.Eventually(t, within, "the key is refused by the "+name+" replica", func() bool {
			got, err := q.Call(t.Context(), http.MethodGet, "/v1/models", k.Key, nil)
			return err == nil && got.Status == http.StatusUnauthorized
		})
	}
}

// addDocument stores at one and finds at the other.
func addDocument(t *testing.T, at, found *harness.Client) string {
	t.Helper()
	got, err := at.Call(t.Context(), http.MethodPost, "/api/v1/collections", at.AdminKey, map[string]string{"name": "replicas"})
	if err != nil || got.Status != http.StatusCreated && got.Status != http.StatusConflict {
		t.Fatalf("collection: %d %s %v", got.Status, got.Body, err)
	}
	word := fmt.Sprintf("wort%d", time.Now().UnixNano())
	id := "doc-" + word
	got, err = at.Call(t.Context(), http.MethodPost, "/api/v1/collections/replicas/documents", at.AdminKey, map[string]string{"id": id, "title": word, "text": "The " + word + " stands in the hall."})
	if err != nil || got.Status != http.StatusCreated && got.Status != http.StatusAccepted {
		t.Fatalf("document: %d %s %v", got.Status, got.Body, err)
	}
	harness.Eventually(t, 30*time.Second, "the document is found", func() bool {
		var out struct{ Hits []struct{ Document string } }
		found.Must(t, http.StatusOK, http.MethodPost, "/api/v1/collections/replicas/search", at.AdminKey, map[string]any{"query": word, "mode": "words"}).JSON(t, &out)
		return len(out.Hits) == 1 && out.Hits[0].Document == id
	})
	return id
}

// oneLog adds documents at both, and finds each one's event once in the log that both write.
func oneLog(t *testing.T, p *harness.Platform, a, b *harness.Process) {
	docs := []string{addDocument(t, &a.Client, &b.Client), addDocument(t, &b.Client, &a.Client), addDocument(t, &a.Client, &b.Client)}
	harness.Eventually(t, 30*time.Second, "each document's event is in the log", func() bool {
		seen := map[string]int{}
		for _, subject := range indexed(t, p) {
			for _, d := range docs {
				if strings.Contains(subject, d) {
					seen[d]++
				}
			}
		}
		for _, n := range seen {
			if n > 1 {
				t.Fatalf("events by document: %v", seen)
			}
		}
		return len(seen) == len(docs)
	})
	writer := p.Of("audit")
	if said, err := writer.Command(t.Context(), "audit", "verify", "--data", writer.Data).CombinedOutput(); err != nil {
		t.Errorf("the log does not verify: %v\n%s", err, said)
	}
}

func indexed(t *testing.T, p *harness.Platform) (subjects []string) {
	t.Helper()
	cursor, ids := "", []string{}
	for {
		var page struct {
			Events []struct{ ID, Type, Subject string }
			Next   string `json:"next_cursor"`
		}
		p.Must(t, http.StatusOK, http.MethodGet, "/api/v1/audit/events?limit=500&cursor="+cursor, p.AdminKey, nil).JSON(t, &page)
		for _, e := range page.Events {
			if slices.Contains(ids, e.ID) {
				t.Fatalf("event %s stands twice in the log", e.ID)
			}
			ids = append(ids, e.ID)
			if e.Type == "aran.search.document_indexed.v1" {
				subjects = append(subjects, e.Subject)
			}
		}
		if cursor = page.Next; cursor == "" {
			return subjects
		}
	}
}

func idempotent(t *testing.T, a, b *harness.Process) {
	body := map[string]any{"name": "once", "scopes": []string{"models:read"}}
	var made [2]key
	for i, p := range []*harness.Process{a, b} {
		p.Must(t, http.StatusCreated, http.MethodPost, "/api/v1/keys", p.AdminKey, body, "Idempotency-Key", "replicas-1").JSON(t, &made[i])
	}
	if made[0].ID != made[1].ID {
		t.Errorf("two keys were made: %s, %s", made[0].ID, made[1].ID)
	}
}

// refuses waits until a process ends by itself with an error that says a word.
func refuses(t *testing.T, p *harness.Process, word string) {
	t.Helper()
	select {
	case <-p.Ended():
	case <-time.After(time.Minute):
		t.Fatalf("it did not refuse:\n%s", p.Output())
	}
	if p.ExitCode() != 1 || !strings.Contains(p.Output(), word) {
		t.Errorf("exit code %d, want 1, and a line that says %q:\n%s", p.ExitCode(), word, p.Output())
	}
}

// TestSecondOnFilesIsRefused: a database that is a file has one owner, also where the two have files of their own.
func TestSecondOnFilesIsRefused(t *testing.T) {
	nats := harness.StartNATS(t)
	env := []string{"ARAN_BUS_URL=" + nats.URL(), "ARAN_MODELS=" + harness.NoModels(t)}
	first := harness.Start(t, harness.Options{Env: env})
	refuses(t, harness.Launch(t, harness.Options{Env: env}), "store.url")
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if got, err := first.Call(ctx, http.MethodGet, "/v1/models", first.AdminKey, nil); err != nil || got.Status != http.StatusOK {
		t.Errorf("the first one suffers: %d %v", got.Status, err)
	}
}
