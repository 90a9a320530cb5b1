package notify_test

import (
	"bytes"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.opentelemetry.io/otel"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"aran/platform/auth"
	"aran/platform/store/pgtest"
	"aran/service/notify"
)

// What holds on files holds on PostgreSQL.
func TestOnPostgreSQL(t *testing.T) {
	server := pgtest.Start(t)
	for name, test := range map[string]func(*testing.T, backend){
		"delivered": delivered, "retried": retried, "dead": dead, "tenants": tenants, "rotated": rotated, "rest": rest, "answers": answers,
		"order": order, "slow": slow, "failing": failing, "backlog": backlog, "pruned": prunes, "idempotent": idempotent, "replicas": replicas, "taken over": takenOver,
	} {
		t.Run(name, func(t *testing.T) { test(t, postgres(server)) })
	}
}

func TestDelivered(t *testing.T)                    { delivered(t, backend{}) }
func TestRetriedUnderTheSameID(t *testing.T)        { retried(t, backend{}) }
func TestDeadLetterAndReplay(t *testing.T)          { dead(t, backend{}) }
func TestTenantsSeeNothingOfEachOther(t *testing.T) { tenants(t, backend{}) }
func TestSecretIsRotated(t *testing.T)              { rotated(t, backend{}) }
func TestWhatIsRefused(t *testing.T)                { rest(t, backend{}) }
func TestWhatTargetsAnswer(t *testing.T)            { answers(t, backend{}) }
func TestOrderPerWebhook(t *testing.T)              { order(t, backend{}) }
func TestSlowTargetHoldsUpNobody(t *testing.T)      { slow(t, backend{}) }
func TestFailingWebhookIsDisabled(t *testing.T)     { failing(t, backend{}) }
func TestBacklogIsBounded(t *testing.T)             { backlog(t, backend{}) }
func TestOldDeliveriesArePruned(t *testing.T)       { prunes(t, backend{}) }
func TestIdempotency(t *testing.T)                  { idempotent(t, backend{}) }

func delivered(t *testing.T, at backend) {
	w := open(t, at, quick())
	r := receive(t, status(204))
	early := w.emit(t.Context(), "acme", indexed, "early")
	w.settled()
	h := w.hook("acme", r.URL+"/hook", "document.indexed", "guard.blocked")
	if !strings.HasPrefix(h.Secret, "whsec_") || !h.Enabled {
		t.Errorf("made: %+v", h)
	}
	event := w.emit(t.Context(), "acme", indexed, "one")
	w.emit(t.Context(), "acme", "aran.search.document_failed.v1", "not asked for")
	w.emit(t.Context(), "acme", blocked, "digest")
	got := r.wait(w, 2)
	w.ended("acme", h.ID, notify.Delivered, 2)
	w.settled()
	if len(r.all()) != 2 {
		t.Fatalf("%d messages came, want 2", len(r.all()))
	}
	slices.SortFunc(got, func(a, b received) int { return strings.Compare(a.message(t).Type, b.message(t).Type) })
	m := got[0].message(t)
	if m.Type != "document.indexed" || m.Data["document"] != "one" || m.Data["event"] != event || m.Data["collection"] != "docs" || len(m.Data) != 5 {
		t.Errorf("message %s", got[0].body)
	}
	if _, err := time.Parse(time.RFC3339Nano, m.Timestamp); err != nil {
		t.Error(err)
	}
	if got[1].message(t).Type != "guard.blocked" || got[1].message(t).Data["text_digest"] != "digest" {
		t.Errorf("message %s", got[1].body)
	}
	for _, m := range got {
		if err := m.verify(h.Secret); err != nil {
			t.Error(err)
		}
		if m.path != "/hook" || m.header.Get("Content-Type") != "application/json" || m.id() == "" {
			t.Errorf("%s %v", m.path, m.header)
		}
	}
	if got[0].id() != notify.DeliveryID(event, h.ID) || got[0].id() == notify.DeliveryID(early, h.ID) {
		t.Error("the id does not come from event and webhook")
	}
	for _, d := range w.deliveries("acme", h.ID, "").Deliveries {
		if d.Status != notify.Delivered || len(d.Attempts) != 1 || d.Attempts[0].StatusCode != 204 || d.Attempts[0].Error != "" || d.Attempts[0].Duration == nil || d.Next != nil {
			t.Errorf("listed: %+v", d)
		}
	}
	if e := w.emitted(w.first, notify.EndpointCreated); len(e) != 1 || e[0]["arantenant"] != "acme" || e[0]["aranactor"] != "user:meena" {
		t.Errorf("events %v", e)
	}
}

func retried(t *testing.T, at backend) {
	w := open(t, at, quick())
	r := receive(t, status(500))
	var n atomic.Int32
	r.set(func(w http.ResponseWriter, _ *http.Request) {
		if n.Add(1) < 3 {
			w.WriteHeader(http.StatusInternalServerError)
		}
	})
	h := w.hook("acme", r.URL)
	w.emit(t.Context(), "acme", indexed, "one")
	d := w.ended("acme", h.ID, notify.Delivered, 1)[0]
	got := r.all()
	if len(got) != 3 || d.Count != 3 || !slices.Equal(d.errors(), []string{"server_error", "server_error", ""}) {
		t.Fatalf("%d messages, %+v", len(got), d)
	}
	for _, m := range got {
		if m.id() != d.ID || !bytes.Equal(m.body, got[0].body) {
			t.Errorf("%s %s: not the same message", m.id(), m.body)
		}
		if err := m.verify(h.Secret); err != nil {
			t.Error(err)
		}
	}
	if p := got[1].at.Sub(got[0].at); p < 20*time.Millisecond {
		t.Errorf("it was tried again after %s", p)
	}
	if w.show("acme", h.ID).FailingSince != nil {
		t.Error("it still counts as failing")
	}
}

func dead(t *testing.T, at backend) {
	w := open(t, at, quick())
	r := receive(t, status(400))
	h := w.hook("acme", r.URL)
	w.emit(t.Context(), "acme", indexed, "one")
	d := w.ended("acme", h.ID, notify.Dead, 1)[0]
	if d.Count != 4 || len(r.all()) != 4 || w.show("acme", h.ID).FailingSince == nil || !w.show("acme", h.ID).Enabled {
		t.Errorf("dead: %+v", d)
	}
	if e := w.emitted(w.first, notify.DeliveryDead); len(e) != 1 || e[0]["subject"] != d.ID || e[0]["arantenant"] != "acme" {
		t.Errorf("events %v", e)
	}
	path := hooks + "/" + h.ID + "/deliveries/" + d.ID
	r.set(status(200))
	w.want(202, w.call(owner("acme"), "POST", path+"/replay", nil))
	again := w.ended("acme", h.ID, notify.Delivered, 1)[0]
	got := r.all()
	if again.ID != d.ID || again.Count != 5 || len(got) != 5 || got[4].id() != d.ID || !bytes.Equal(got[4].body, got[0].body) {
		t.Errorf("replayed: %+v", again)
	}
	if e := w.emitted(w.first, notify.DeliveryReplayed); len(e) != 1 || e[0]["aranactor"] != "user:meena" {
		t.Errorf("events %v", e)
	}
	r.set(func(rw http.ResponseWriter, _ *http.Request) {
		rw.Header().Set("Retry-After", "3000")
		rw.WriteHeader(429)
	})
	w.want(202, w.call(owner("acme"), "POST", path+"/replay", nil))
	w.until("it was tried", func() bool { return w.deliveries("acme", h.ID, "").Deliveries[0].Count == 6 })
	w.want(409, w.call(owner("acme"), "POST", path+"/replay", nil)) // it is on its way
	w.want(404, w.call(owner("acme"), "POST", hooks+"/"+h.ID+"/deliveries/nothing/replay", nil))
}

// A delivery goes to its own tenant only, and nobody reads or changes another's webhooks.
func tenants(t *testing.T, at backend) {
	w := open(t, at, quick())
	r, other := receive(t, status(200)), receive(t, status(200))
	h, theirs := w.hook("acme", r.URL), w.hook("globex", other.URL)
	event := w.emit(t.Context(), "acme", indexed, "one")
	w.emit(t.Context(), "", indexed, "nobody's")
	r.wait(w, 1)
	w.ended("acme", h.ID, notify.Delivered, 1)
	w.settled()
	if len(other.all()) != 0 || len(w.deliveries("globex", theirs.ID, "").Deliveries) != 0 {
		t.Error("another tenant was told")
	}
	delivery := notify.DeliveryID(event, h.ID)
	for _, c := range []struct {
		method, path string
		body         any
	}{
		{"GET", "/" + h.ID, nil},
		{"PATCH", "/" + h.ID, map[string]any{"enabled": false}},
		{"DELETE", "/" + h.ID, nil},
		{"POST", "/" + h.ID + "/secret", nil},
		{"POST", "/" + h.ID + "/test", nil},
		{"GET", "/" + h.ID + "/deliveries", nil},
		{"GET", "/" + h.ID + "/deliveries/" + delivery, nil},
		{"GET", "/" + theirs.ID + "/deliveries/" + delivery, nil},
		{"POST", "/" + h.ID + "/deliveries/" + delivery + "/replay", nil},
		{"POST", "/" + theirs.ID + "/deliveries/" + delivery + "/replay", nil},
	} {
		if a := w.call(owner("globex"), c.method, hooks+c.path, c.body); a.Status != 404 {
			t.Errorf("%s %s of another tenant answered %d %s", c.method, c.path, a.Status, a.Body)
		}
		nobody := &auth.Identity{Tenant: "acme", Subject: "user:x", Scopes: []string{auth.ScopeChat}}
		if a := w.call(nobody, c.method, hooks+c.path, c.body); a.Status != 403 {
			t.Errorf("%s %s without the scope answered %d", c.method, c.path, a.Status)
		}
	}
	var list struct{ Webhooks []hook }
	w.want(200, w.call(owner("globex"), "GET", hooks, nil)).JSON(t, &list)
	if len(list.Webhooks) != 1 || list.Webhooks[0].ID != theirs.ID || list.Webhooks[0].Secret != "" {
		t.Errorf("listed: %+v", list)
	}
	if !w.show("acme", h.ID).Enabled {
		t.Error("another tenant changed it")
	}
}

func rotated(t *testing.T, at backend) {
	cfg := quick()
	cfg.SecretOverlap = time.Second
	w := open(t, at, cfg)
	r := receive(t, status(200))
	h := w.hook("acme", r.URL)
	var made hook
	w.want(200, w.call(owner("acme"), "POST", hooks+"/"+h.ID+"/secret", nil)).JSON(t, &made)
	if made.Secret == h.Secret || made.OldSecretUntil == nil {
		t.Fatalf("rotated: %+v", made)
	}
	w.emit(t.Context(), "acme", indexed, "one")
	both := r.wait(w, 1)[0]
	if both.verify(h.Secret) != nil || both.verify(made.Secret) != nil {
		t.Error("during the overlap both secrets verify")
	}
	w.until("the overlap has ended", func() bool { return w.show("acme", h.ID).OldSecretUntil == nil })
	w.emit(t.Context(), "acme", indexed, "two")
	alone := r.wait(w, 2)[1]
	if alone.verify(h.Secret) == nil || alone.verify(made.Secret) != nil {
		t.Error("after it only the new one does")
	}
	if got := w.show("acme", h.ID); got.Secret != "" {
		t.Error("the secret is shown again")
	}
	// What was signed is not taken for anything else: another id, another time, another body.
	for name, change := range map[string]func(m *received){
		"id":   func(m *received) { m.header.Set("webhook-id", "msg_other") },
		"time": func(m *received) { m.header.Set("webhook-timestamp", fmt.Sprint(time.Now().Unix()+60)) },
		"old":  func(m *received) { m.header.Set("webhook-timestamp", fmt.Sprint(time.Now().Add(-time.Hour).Unix())) },
		"body": func(m *received) { m.body = append([]byte(" "), m.body...) },
	} {
		m := received{header: alone.header.Clone(), body: bytes.Clone(alone.body)}
		change(&m)
		if m.verify(made.Secret) == nil {
			t.Errorf("with another %s it still verifies", name)
		}
	}
}

func rest(t *testing.T, at backend) {
	cfg := quick()
	cfg.UnsafePrivateTargets, cfg.MaxEndpoints = false, 3
	w := open(t, at, cfg)
	me := owner("acme")
	kinds := []string{"document.indexed"}
	for name, body := range map[string]any{
		"loopback":      map[string]any{"url": "https://127.0.0.1/x", "events": kinds},
		"metadata":      map[string]any{"url": "https://169.254.169.254/latest", "events": kinds},
		"plain http":    map[string]any{"url": "http://example.com/x", "events": kinds},
		"credentials":   map[string]any{"url": "https://a:b@example.com/x", "events": kinds},
		"no events":     map[string]any{"url": "https://example.com/x", "events": []string{}},
		"unknown event": map[string]any{"url": "https://example.com/x", "events": []string{"document.exploded"}},
		"test event":    map[string]any{"url": "https://example.com/x", "events": []string{"webhook.test"}},
		"unknown field": map[string]any{"url": "https://example.com/x", "events": kinds, "secret": "mine"},
		"control":       map[string]any{"url": "https://example.com/x", "events": kinds, "description": "a\u0007b"},
		"long":          map[string]any{"url": "https://example.com/x", "events": kinds, "description": strings.Repeat("x", 501)},
		"long url":      map[string]any{"url": "https://example.com/" + strings.Repeat("x", 2048), "events": kinds},
		"not JSON":      "{",
	} {
		if a := w.call(me, "POST", hooks, body); a.Status != 400 || a.Header.Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s: answered %d %s", name, a.Status, a.Body)
		}
	}
	var h hook
	w.want(201, w.call(me, "POST", hooks, map[string]any{"url": "https://example.com/x", "events": []string{"guard.blocked", "document.indexed", "guard.blocked"}, "description": "ours", "enabled": false})).JSON(t, &h)
	if h.Enabled || h.Description != "ours" || !slices.Equal(h.Events, []string{"document.indexed", "guard.blocked"}) {
		t.Errorf("made: %+v", h)
	}
	w.hook("acme", "https://example.com/two")
	w.hook("acme", "https://example.com/three")
	if a := w.call(me, "POST", hooks, map[string]any{"url": "https://example.com/four", "events": kinds}); a.Status != 409 {
		t.Errorf("one too many: %d %s", a.Status, a.Body)
	}
	var seen []string
	for cursor, pages := "", 0; pages < 5; pages++ {
		var page struct {
			Webhooks []hook
			Next     string `json:"next_cursor"`
		}
		w.want(200, w.call(me, "GET", hooks+"?limit=2&cursor="+cursor, nil)).JSON(t, &page)
		for _, x := range page.Webhooks {
			seen = append(seen, x.URL)
		}
		if cursor = page.Next; cursor == "" {
			break
		}
	}
	if !slices.Equal(seen, []string{"https://example.com/three", "https://example.com/two", "https://example.com/x"}) {
		t.Errorf("pages: %v", seen)
	}
	path := hooks + "/" + h.ID
	w.want(400, w.call(me, "PATCH", path, map[string]any{"url": "https://10.0.0.1/"}))
	w.want(400, w.call(me, "PATCH", path, map[string]any{"events": []string{}}))
	w.want(409, w.call(me, "POST", path+"/test", nil)) // it is disabled
	w.want(404, w.call(me, "POST", hooks+"/nothing/test", nil))
	h = hook{}
	w.want(200, w.call(me, "PATCH", path, map[string]any{"url": "https://example.com/y", "description": "", "events": kinds})).JSON(t, &h)
	if h.URL != "https://example.com/y" || h.Description != "" || len(h.Events) != 1 || h.Enabled {
		t.Errorf("changed: %+v", h)
	}
	w.want(400, w.call(me, "GET", path+"/deliveries?status=lost", nil))
	w.want(400, w.call(me, "GET", path+"/deliveries?cursor=x", nil))
	w.want(204, w.call(me, "DELETE", path, nil))
	w.want(404, w.call(me, "DELETE", path, nil))
	w.want(404, w.call(me, "GET", path, nil))
	for kind, n := range map[string]int{notify.EndpointCreated: 3, notify.EndpointChanged: 1, notify.EndpointDeleted: 1} {
		if e := w.emitted(w.first, kind); len(e) != n {
			t.Errorf("%s: %d events, want %d", kind, len(e), n)
		}
	}
}

// What a target answers decides what comes next.
func answers(t *testing.T, at backend) {
	cfg := quick()
	cfg.Retries = []time.Duration{20 * time.Millisecond}
	w := open(t, at, cfg)
	inside := receive(t, status(200))
	garbage := receive(t, func(w http.ResponseWriter, _ *http.Request) {
		c, b, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		_, _ = b.WriteString("\x00\xffnot HTTP at all\r\n\r\n")
		_ = b.Flush()
		_ = c.Close()
	})
	swollen := receive(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Swollen", strings.Repeat("x", 64<<10))
	})
	endless := receive(t, func(w http.ResponseWriter, r *http.Request) {
		for r.Context().Err() == nil {
			if _, err := w.Write(make([]byte, 32<<10)); err != nil {
				return
			}
		}
	})
	redirect := receive(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, inside.URL, http.StatusTemporaryRedirect)
	})
	hanging := receive(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	gone := receive(t, status(410))
	unknown := httptest.NewUnstartedServer(inside)
	unknown.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)
	unknown.StartTLS()
	t.Cleanup(unknown.Close)
	closed := receive(t, status(200))
	closed.Close()
	for _, c := range []struct {
		name, url, status string
		errors            []string
	}{
		{"no HTTP", garbage.URL, notify.Dead, []string{"bad_answer", "bad_answer"}},
		{"large headers", swollen.URL, notify.Dead, []string{"bad_answer", "bad_answer"}},
		{"an endless body", endless.URL, notify.Delivered, []string{""}},
		{"a redirect", redirect.URL, notify.Dead, []string{"redirect", "redirect"}},
		{"no answer", hanging.URL, notify.Dead, []string{"timeout", "timeout"}},
		{"gone", gone.URL, notify.Dead, []string{"gone"}},
		{"nobody there", closed.URL, notify.Dead, []string{"connect", "connect"}},
		{"no TLS there", strings.Replace(inside.URL, "http:", "https:", 1), notify.Dead, []string{"bad_answer", "bad_answer"}},
		{"a certificate of nobody", unknown.URL, notify.Dead, []string{"tls", "tls"}},
	} {
		tenant := strings.ReplaceAll(c.name, " ", "-")
		h := w.hook(tenant, c.url)
		w.emit(t.Context(), tenant, indexed, "one")
		d := w.ended(tenant, h.ID, c.status, 1)[0]
		if !slices.Equal(d.errors(), c.errors) {
			t.Errorf("%s: %v, want %v", c.name, d.errors(), c.errors)
		}
		if got := w.show(tenant, h.ID); (c.url == gone.URL) == got.Enabled || (got.DisabledReason == "gone") == got.Enabled {
			t.Errorf("%s: %+v", c.name, got)
		}
	}
	if n := len(inside.all()); n != 0 {
		t.Errorf("a redirect was followed %d times", n)
	}
	if e := w.emitted(w.first, notify.EndpointDisabled); len(e) != 1 || e[0]["arantenant"] != "gone" {
		t.Errorf("events %v", e)
	}

	later := receive(t, func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Retry-After", "1"); w.WriteHeader(503) })
	h := w.hook("later", later.URL)
	w.emit(t.Context(), "later", indexed, "one")
	w.emit(t.Context(), "later", indexed, "two")
	later.wait(w, 1)
	later.set(status(200))
	w.ended("later", h.ID, notify.Delivered, 2)
	got := later.all()
	if p := got[1].at.Sub(got[0].at); p < time.Second || len(got) != 3 {
		t.Errorf("asked to wait a second, it came again after %s; %d messages", p, len(got))
	}
}

func order(t *testing.T, at backend) {
	w := open(t, at, quick())
	fails := map[string]bool{}
	var mu sync.Mutex
	r := receive(t, status(200))
	r.set(func(rw http.ResponseWriter, req *http.Request) { // each fifth is refused once
		mu.Lock()
		defer mu.Unlock()
		id := req.Header.Get("webhook-id")
		if len(fails)%5 == 2 && !fails[id] {
			rw.WriteHeader(500)
		}
		fails[id] = true
	})
	h := w.hook("acme", r.URL)
	var want, firsts []string
	for i := range 20 {
		w.emit(t.Context(), "acme", indexed, fmt.Sprint("doc", i))
		want = append(want, fmt.Sprint("doc", i))
	}
	w.ended("acme", h.ID, notify.Delivered, 20)
	seen := map[string]bool{}
	for _, m := range r.all() {
		if !seen[m.id()] {
			firsts = append(firsts, m.message(t).Data["document"].(string))
		}
		seen[m.id()] = true
	}
	if !slices.Equal(firsts, want) {
		t.Errorf("first attempts came as %v", firsts)
	}
	if len(r.all()) <= 20 {
		t.Error("nothing was refused: the test shows nothing")
	}
	page := w.deliveries("acme", h.ID, "?limit=15")
	more := w.deliveries("acme", h.ID, "?limit=15&cursor="+page.NextCursor)
	if len(page.Deliveries) != 15 || len(more.Deliveries) != 5 || more.NextCursor != "" {
		t.Errorf("pages of %d and %d", len(page.Deliveries), len(more.Deliveries))
	}
}

// A tenant whose targets hang has its share of workers and no more.
func slow(t *testing.T, at backend) {
	cfg := quick()
	cfg.Workers, cfg.PerTenant, cfg.Timeout, cfg.Lease = 3, 2, 10*time.Second, 20*time.Second
	w := open(t, at, cfg)
	var in, most atomic.Int32
	hanging := receive(t, func(_ http.ResponseWriter, r *http.Request) {
		n := in.Add(1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		<-r.Context().Done()
		in.Add(-1)
	})
	quickly := receive(t, status(200))
	for range 5 {
		w.hook("hangs", hanging.URL)
	}
	h := w.hook("acme", quickly.URL)
	w.emit(t.Context(), "hangs", indexed, "x")
	w.until("its targets hang", func() bool { return in.Load() == 2 })
	began := time.Now()
	for i := range 10 {
		w.emit(t.Context(), "acme", indexed, fmt.Sprint(i))
	}
	w.ended("acme", h.ID, notify.Delivered, 10)
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("others waited %s", took)
	}
	if most.Load() != 2 {
		t.Errorf("one tenant had %d in hand, want 2", most.Load())
	}
}

func failing(t *testing.T, at backend) {
	cfg := quick()
	cfg.DisableAfter = 50 * time.Millisecond
	cfg.Retries = append(cfg.Retries, 100*time.Millisecond, 100*time.Millisecond, 100*time.Millisecond, time.Hour, time.Hour)
	w := open(t, at, cfg)
	r := receive(t, status(500))
	h := w.hook("acme", r.URL)
	w.emit(t.Context(), "acme", indexed, "one")
	w.until("it is disabled", func() bool { return !w.show("acme", h.ID).Enabled })
	if got := w.show("acme", h.ID); got.DisabledReason != "failing" || got.FailingSince == nil {
		t.Errorf("disabled: %+v", got)
	}
	e := w.emitted(w.first, notify.EndpointDisabled)
	if len(e) != 1 || e[0]["arantenant"] != "acme" || e[0]["data"].(map[string]any)["reason"] != "failing" {
		t.Errorf("events %v", e)
	}
	n := len(r.all())
	w.emit(t.Context(), "acme", indexed, "while disabled")
	w.settled()
	if d := w.deliveries("acme", h.ID, ""); len(d.Deliveries) != 1 || d.Deliveries[0].Status != notify.Pending || len(r.all()) != n {
		t.Errorf("while disabled: %+v", d)
	}
	w.want(409, w.call(owner("acme"), "POST", hooks+"/"+h.ID+"/test", nil))
	r.set(status(200))
	w.want(200, w.call(owner("acme"), "PATCH", hooks+"/"+h.ID, map[string]any{"enabled": true}))
	w.ended("acme", h.ID, notify.Delivered, 1)
	if got := w.show("acme", h.ID); !got.Enabled || got.DisabledReason != "" || got.FailingSince != nil {
		t.Errorf("enabled again: %+v", got)
	}
}

func backlog(t *testing.T, at backend) {
	cfg := quick()
	cfg.MaxBacklog, cfg.Retries = 3, []time.Duration{time.Hour}
	w := open(t, at, cfg)
	r := receive(t, status(500))
	h := w.hook("acme", r.URL)
	for i := range 5 {
		w.emit(t.Context(), "acme", indexed, fmt.Sprint(i))
	}
	w.until("it is disabled", func() bool { return w.show("acme", h.ID).DisabledReason == "backlog" })
	w.settled()
	if n := len(w.deliveries("acme", h.ID, "").Deliveries); n != 3 {
		t.Errorf("%d deliveries wait, want 3", n)
	}
	r.set(status(200))
	w.want(200, w.call(owner("acme"), "PATCH", hooks+"/"+h.ID, map[string]any{"enabled": true}))
	w.ended("acme", h.ID, notify.Delivered, 3)
	w.emit(t.Context(), "acme", indexed, "more")
	w.ended("acme", h.ID, notify.Delivered, 4)
}

func prunes(t *testing.T, at backend) {
	cfg := quick()
	cfg.Retries = []time.Duration{time.Millisecond}
	w := open(t, at, cfg)
	r := receive(t, status(200))
	h, bad := w.hook("acme", r.URL), w.hook("globex", r.URL+"/bad")
	r.set(func(w http.ResponseWriter, req *http.Request) {
		if req.URL.Path == "/bad" {
			w.WriteHeader(500)
		}
	})
	w.emit(t.Context(), "acme", indexed, "one")
	w.emit(t.Context(), "globex", indexed, "one")
	w.ended("acme", h.ID, notify.Delivered, 1)
	w.ended("globex", bad.ID, notify.Dead, 1)
	count := func(when time.Duration) (int, int) {
		must(t, w.first.svc.Prune(t.Context(), time.Now().Add(when)))
		return len(w.deliveries("acme", h.ID, "").Deliveries), len(w.deliveries("globex", bad.ID, "").Deliveries)
	}
	if a, b := count(cfg.KeepDelivered - time.Minute); a != 1 || b != 1 {
		t.Errorf("too early: %d %d", a, b)
	}
	if a, b := count(cfg.KeepDelivered + time.Minute); a != 0 || b != 1 {
		t.Errorf("delivered: %d %d", a, b)
	}
	if a, b := count(cfg.KeepDead + time.Minute); a != 0 || b != 0 {
		t.Errorf("dead: %d %d", a, b)
	}
}

func idempotent(t *testing.T, at backend) {
	w := open(t, at, quick())
	r := receive(t, status(200))
	body := map[string]any{"url": r.URL, "events": []string{"document.indexed"}}
	var a, b hook
	w.want(201, w.call(owner("acme"), "POST", hooks, body, "Idempotency-Key", "k1")).JSON(t, &a)
	w.want(201, w.call(owner("acme"), "POST", hooks, body, "Idempotency-Key", "k1")).JSON(t, &b)
	if a.ID != b.ID || a.Secret != b.Secret || a.Secret == "" {
		t.Errorf("made twice: %+v %+v", a, b)
	}
	body["description"] = "another"
	w.want(409, w.call(owner("acme"), "POST", hooks, body, "Idempotency-Key", "k1"))
	var c, d hook
	w.want(200, w.call(owner("acme"), "POST", hooks+"/"+a.ID+"/secret", nil, "Idempotency-Key", "k2")).JSON(t, &c)
	w.want(200, w.call(owner("acme"), "POST", hooks+"/"+a.ID+"/secret", nil, "Idempotency-Key", "k2")).JSON(t, &d)
	if c.Secret != d.Secret || c.Secret == a.Secret {
		t.Error("rotated twice")
	}
	var x, y delivery
	w.want(202, w.call(owner("acme"), "POST", hooks+"/"+a.ID+"/test", nil, "Idempotency-Key", "k3")).JSON(t, &x)
	w.want(202, w.call(owner("acme"), "POST", hooks+"/"+a.ID+"/test", nil, "Idempotency-Key", "k3")).JSON(t, &y)
	w.ended("acme", a.ID, notify.Delivered, 1)
	got := r.all()
	if x.ID != y.ID || len(got) != 1 || got[0].message(t).Type != "webhook.test" || got[0].message(t).Data["endpoint"] != a.ID {
		t.Errorf("tested: %+v %+v, %d messages", x, y, len(got))
	}
	w.want(400, w.call(owner("acme"), "POST", hooks, body, "Idempotency-Key", "with space"))
}

// Two replicas share the work and deliver each event once.
func replicas(t *testing.T, at backend) {
	w := open(t, at, quick())
	w.join()
	r := receive(t, status(200))
	var ids []string
	for i := range 6 {
		ids = append(ids, w.hook(fmt.Sprint("tenant", i%3), r.URL).ID)
	}
	const events = 30
	for i := range events {
		w.emit(t.Context(), fmt.Sprint("tenant", i%3), indexed, fmt.Sprint(i))
	}
	for i, id := range ids {
		w.ended(fmt.Sprint("tenant", i%3), id, notify.Delivered, events/3)
	}
	seen := map[string]int{}
	for _, m := range r.all() {
		seen[m.id()]++
	}
	for id, n := range seen {
		if n != 1 {
			t.Errorf("%s was delivered %d times", id, n)
		}
	}
	if len(seen) != 2*events {
		t.Errorf("%d deliveries, want %d", len(seen), 2*events)
	}
}

// What a replica had in hand when it went is taken over when its lease ends, and what it says later counts for nothing.
func takenOver(t *testing.T, at backend) {
	w := open(t, at, quick())
	let := make(chan struct{})
	var n atomic.Int32
	r := receive(t, func(_ http.ResponseWriter, req *http.Request) {
		if n.Add(1) == 1 {
			select {
			case <-let:
			case <-req.Context().Done():
			}
		}
	})
	h := w.hook("acme", r.URL)
	w.emit(t.Context(), "acme", indexed, "one")
	r.wait(w, 1)
	w.first.svc.Abandon()
	second := w.join()
	close(let) // its answer comes, and cannot be recorded
	got := r.wait(w, 2)
	d := w.ended("acme", h.ID, notify.Delivered, 1)[0]
	if d.Count != 1 || got[0].id() != got[1].id() {
		t.Errorf("taken over: %+v", d)
	}
	if p := got[1].at.Sub(got[0].at); p < w.cfg.Lease-100*time.Millisecond {
		t.Errorf("taken over after %s, before the lease of %s ended", p, w.cfg.Lease)
	}
	_ = second
}

// Secrets and URLs stand in no file.
func TestSecretsAreSealed(t *testing.T) {
	w := open(t, backend{}, quick())
	r := receive(t, status(200))
	const password = "pass-word-in-the-path"
	h := w.hook("acme", r.URL+"/"+password)
	w.want(200, w.call(owner("acme"), "POST", hooks+"/"+h.ID+"/secret", nil, "Idempotency-Key", "k"))
	w.emit(t.Context(), "acme", indexed, "a-document-id")
	w.ended("acme", h.ID, notify.Delivered, 1)
	w.settled()
	w.close()
	found := false
	err := filepath.WalkDir(w.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		found = found || strings.HasPrefix(path, filepath.Join(w.dir, "notify")) && bytes.Contains(b, []byte("a-document-id"))
		for _, s := range []string{"whsec_", strings.TrimPrefix(h.Secret, "whsec_"), password} {
			if bytes.Contains(b, []byte(s)) {
				t.Errorf("%s holds %q", path, s)
			}
		}
		return nil
	})
	must(t, err)
	if !found {
		t.Error("the database does not hold what it should: the search shows nothing")
	}
}

// One trace from whoever caused the event to the receiver.
func TestOneTrace(t *testing.T) {
	spans := tracetest.NewInMemoryExporter()
	provider := sdktrace.NewTracerProvider(sdktrace.WithSyncer(spans))
	before := otel.GetTracerProvider()
	otel.SetTracerProvider(provider)
	t.Cleanup(func() { otel.SetTracerProvider(before) })
	w := open(t, backend{}, quick())
	r := receive(t, status(503))
	h := w.hook("acme", r.URL)
	ctx, cause := provider.Tracer("test").Start(t.Context(), "gateway")
	w.emit(ctx, "acme", indexed, "one")
	cause.End()
	r.wait(w, 1)
	r.set(status(200))
	d := w.ended("acme", h.ID, notify.Delivered, 1)[0]
	var sent []tracetest.SpanStub
	for _, s := range spans.GetSpans() {
		if s.Name == "webhook deliver" {
			sent = append(sent, s)
		}
	}
	got := r.all()
	if len(sent) < 2 || len(sent) != len(got) {
		t.Fatalf("%d spans, %d messages", len(sent), len(got))
	}
	for i, s := range sent {
		if s.SpanContext.TraceID() != cause.SpanContext().TraceID() || s.SpanKind != trace.SpanKindClient || !s.Parent.IsValid() {
			t.Errorf("span %+v is not of trace %s", s.SpanContext, cause.SpanContext().TraceID())
		}
		if want := fmt.Sprintf("00-%s-%s-01", s.SpanContext.TraceID(), s.SpanContext.SpanID()); got[i].header.Get("traceparent") != want {
			t.Errorf("the receiver got traceparent %q, want %q", got[i].header.Get("traceparent"), want)
		}
		attrs := fmt.Sprint(s.Attributes)
		for _, want := range []string{d.ID, "POST", "127.0.0.1", "http.response.status_code"} {
			if !strings.Contains(attrs, want) {
				t.Errorf("the span does not say %s: %s", want, attrs)
			}
		}
	}
}

// What was made under other settings is judged again at every attempt; what is dialled, by package target.
func TestPrivateTargetsAreNotReached(t *testing.T) {
	dir := t.TempDir()
	cfg := quick()
	cfg.Retries = []time.Duration{time.Millisecond}
	r := receive(t, status(200))
	w := openIn(t, dir, backend{}, cfg)
	h := w.hook("acme", strings.Replace(r.URL, "http://127.0.0.1", "https://localhost", 1))
	w.close()
	cfg.UnsafePrivateTargets = false
	w = openIn(t, dir, backend{}, cfg)
	w.emit(t.Context(), "acme", indexed, "one")
	d := w.ended("acme", h.ID, notify.Dead, 1)[0]
	for _, e := range d.errors() {
		if e != "target_refused" {
			t.Errorf("attempts: %v", d.errors())
		}
	}
	if len(r.all()) != 0 {
		t.Error("it was reached")
	}
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for v, want := range map[string]time.Duration{
		"": 0, "0": 0, "-5": 0, "7": 7 * time.Second, "99999999999999": 24 * time.Hour, "soon": 0,
		now.Add(time.Minute).Format(http.TimeFormat): time.Minute, now.Add(-time.Minute).Format(http.TimeFormat): 0, now.Add(1000 * time.Hour).Format(http.TimeFormat): 24 * time.Hour,
	} {
		if got := notify.RetryAfter(v, now); got != want {
			t.Errorf("Retry-After %q: %s, want %s", v, got, want)
		}
	}
}

func FuzzRetryAfter(f *testing.F) {
	f.Add("120")
	f.Add("Fri, 02 Jan 2026 03:04:05 GMT")
	f.Fuzz(func(t *testing.T, v string) {
		if d := notify.RetryAfter(v, time.Now()); d < 0 || d > 24*time.Hour {
			t.Errorf("%q: %s", v, d)
		}
	})
}

func TestSettings(t *testing.T) {
	must(t, notify.Default().Check())
	for key, change := range map[string]func(*notify.Config){
		"notify.workers":        func(c *notify.Config) { c.Workers = 0 },
		"notify.per_tenant":     func(c *notify.Config) { c.PerTenant = 0 },
		"notify.max_endpoints":  func(c *notify.Config) { c.MaxEndpoints = 0 },
		"notify.max_backlog":    func(c *notify.Config) { c.MaxBacklog = 0 },
		"notify.timeout":        func(c *notify.Config) { c.Timeout = 0 },
		"notify.lease":          func(c *notify.Config) { c.Lease = c.Timeout },
		"notify.retries":        func(c *notify.Config) { c.Retries = []time.Duration{-1} },
		"notify.disable_after":  func(c *notify.Config) { c.DisableAfter = 0 },
		"notify.secret_overlap": func(c *notify.Config) { c.SecretOverlap = -1 },
		"notify.keep_delivered": func(c *notify.Config) { c.KeepDelivered = 0 },
	} {
		c := notify.Default()
		change(&c)
		if err := c.Check(); err == nil || !strings.HasPrefix(err.Error(), key) {
			t.Errorf("%s: %v", key, err)
		}
	}
}
