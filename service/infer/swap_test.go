package infer

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"

	inferv1 "aran/api/gen/aran/infer/v1"
	"aran/api/gen/aran/infer/v1/inferv1connect"
	"aran/platform/auth"
	"aran/platform/fault"
	"aran/platform/rpc"
	"aran/service/infer/child/childtest"
	"aran/service/infer/minilm"
	"aran/service/infer/registry"
)

var (
	swaps = flag.Int("swaps", 20, "how often TestSwapsUnderLoad changes a version")
	pace  = flag.Duration("pace", 60*time.Millisecond, "how long each of its eight callers waits between two calls")
	hold  = flag.Duration("hold", 40*time.Millisecond, "how long it holds each step")
)

// The models of the tests: an encoder and a language model of which versions can be made.
const (
	words = "words"
	talk  = "talk"
)

var good = childtest.Nature{Dim: 32, Seed: 1}

// fleet is a world whose models have versions that are made as they are needed.
type fleet struct {
	*world
	reg *registry.Registry
}

func newFleet(t *testing.T, change func(*Config)) *fleet {
	t.Helper()
	cfg := settings(t)
	cfg.RolloutHold, cfg.RolloutSample, cfg.RolloutErrors = *hold, 5, .2
	cfg.EmbedWait, cfg.GenerateWait, cfg.KeepVersions = time.Minute, time.Minute, time.Minute
	cfg.EmbedQueue, cfg.GenerateQueue = 1000, 1000
	if change != nil {
		change(&cfg)
	}
	f := &fleet{world: &world{t: t, cfg: cfg}}
	f.make(words, "1", good)
	f.make(talk, "1", childtest.Nature{})
	f.world = newWorld(t, cfg, database(t), fake)
	return f
}

// make publishes and pulls a version.
func (f *fleet) make(name, version string, n childtest.Nature) {
	f.t.Helper()
	n.Tag = name + version
	m := registry.Manifest{Name: name, Version: version, Title: name, Licence: "MIT"}
	blobs := map[string][]byte{}
	if name == words {
		blobs["weights.aran"] = n.File()
		m.Kind, m.Engine, m.Weights, m.Dim = registry.Embed, registry.Encoder, "weights.aran", good.Dim
		m.Gate = &registry.Gate{Metric: registry.GateCosine, Min: .99}
		for _, text := range []string{"the audit log", "a red apple", "three small boats"} {
			m.Gate.Cases = append(m.Gate.Cases, registry.Case{Text: text, Expect: registry.Expect{Vector: good.Vector(text)}})
		}
		m.Smoke = m.Gate.Cases[:1]
	} else {
		blobs["model.gguf"], blobs["lib/a.so"] = n.File(), []byte("\x7fELF")
		m.Kind, m.Engine, m.Weights, m.Libraries, m.Context = registry.Generate, registry.LlamaCpp, "model.gguf", "lib", 64
		m.Smoke = []registry.Case{{Prompt: "one two", Expect: registry.Expect{Contains: []string{"two"}}}}
		m.Gate = &registry.Gate{Metric: registry.GatePass, Min: 1, Cases: m.Smoke}
	}
	for p, b := range blobs {
		m.Files = append(m.Files, registry.File{Path: p, Size: int64(len(b)), SHA256: sum(b)})
		if err := os.WriteFile(filepath.Join(f.cfg.FilesDir, sum(b)), b, 0o600); err != nil {
			f.t.Fatal(err)
		}
	}
	slices.SortFunc(m.Files, func(a, b registry.File) int { return strings.Compare(a.Path, b.Path) })
	doc, err := json.Marshal(m)
	if err == nil {
		err = os.WriteFile(filepath.Join(f.cfg.ManifestsDir, name+"-"+version+".json"), doc, 0o600)
	}
	if err == nil {
		f.reg, err = f.cfg.Registry()
	}
	if err == nil {
		err = f.reg.Pull(f.t.Context(), name+"@"+version, nil)
	}
	if err != nil {
		f.t.Fatal(err)
	}
}

func (f *fleet) use(name, version string) {
	f.t.Helper()
	if _, err := f.reg.Use(f.t.Context(), name, version, registry.Change{By: "user:op", Why: "a test"}); err != nil {
		f.t.Fatal(err)
	}
}

// settled waits for the end of the model's rollout to a version and returns it.
func (f *fleet) settled(name, version string) (out rolloutRow) {
	f.t.Helper()
	waitLong(f.t, 2*time.Minute, "the end of the rollout to "+name+"@"+version, func() bool {
		list, err := rollouts(f.t.Context(), f.db, name, 1)
		if err != nil {
			f.t.Fatal(err)
		}
		if len(list) == 0 || list[0].to.Version != version || list[0].ended.IsZero() || list[0].phase == phaseBroken {
			return false
		}
		out = list[0]
		m, err := f.s.Model(f.t.Context(), name) // the row is written just before the version serves
		return err == nil && m.Phase == "" && (out.phase != phaseDone || m.Version == version)
	})
	return out
}

// as is a client of a tenant's user.
func (f *fleet) as(tenant, user string) inferv1connect.InferServiceClient {
	id := auth.Identity{Tenant: tenant, Subject: "user:" + user, Scopes: []string{auth.ScopeModels}}
	h := &http.Client{Transport: rpc.InProcess("chat", f.s.Internal())}
	return inferv1connect.NewInferServiceClient(h, "http://infer", rpc.ClientOptions("infer", f.authority.Source("chat", id))...)
}

func (f *fleet) embed(text, digest string) (*inferv1.EmbedResponse, error) {
	return f.as("t1", "1").Embed(f.t.Context(), &inferv1.EmbedRequest{Model: words, Texts: []string{text}, Digest: digest})
}

// breakage is a way in which a version is bad, and the reasons for which it may go back.
type breakage struct {
	name    string
	model   string
	nature  childtest.Nature
	damage  bool // the file is exchanged after it was chosen
	reasons []string
}

func breakages() []breakage {
	other := good
	other.Seed = 7
	small, dies, slow, fails, later := good, good, good, good, good
	small.Dim, fails.Fails, dies.Dies, slow.Slow, later.Dies = 16, true, 3, 400, 24
	return []breakage{
		{"crash at load", words, fails, false, []string{reasonLoad}},
		{"a language model that breaks off", talk, childtest.Nature{Breaks: 24}, false, []string{reasonCrash, "errors"}},
		{"wrong dimension", words, small, false, []string{reasonSmoke}},
		{"another model of the same dimension", words, other, false, []string{reasonSmoke, reasonGate}},
		{"ten times slower", words, slow, false, []string{reasonLatency}},
		{"tampered file", words, good, true, []string{reasonLoad}},
		{"crash at request", words, later, false, []string{reasonCrash, "errors"}},
		{"crash at its first requests", words, dies, false, []string{reasonSmoke, reasonGate, reasonCrash}},
		{"a language model that dies", talk, childtest.Nature{Dies: 24}, false, []string{reasonCrash, "errors"}},
		{"a language model that says something else", talk, childtest.Nature{Gibberish: true}, false, []string{reasonSmoke}},
	}
}

func TestGoodVersionTakesOver(t *testing.T) {
	f := newFleet(t, nil)
	first, err := f.embed("a", "")
	if err != nil || first.GetVersion() != "1" {
		t.Fatalf("%v, %v", first, err)
	}
	f.make(words, "2", good)
	f.use(words, "2")
	r := f.settled(words, "2")
	if r.phase != phaseDone || r.percent != 100 || r.actor != "user:op" || r.from.Version != "1" {
		t.Fatalf("%+v", r)
	}
	second, err := f.embed("a", "")
	if err != nil || second.GetVersion() != "2" || second.GetDigest() == first.GetDigest() {
		t.Errorf("%v, %v", second, err)
	}
	var phases []string
	for _, e := range f.rolloutEvents() {
		phases = append(phases, fmt.Sprint(e.Phase, " ", e.Percent))
		if e.Name != words || e.To != "2" || e.From != "1" || e.ToDigest != second.GetDigest() || e.FromDigest != first.GetDigest() || e.Chosen != "user:op" {
			t.Errorf("event %+v", e)
		}
	}
	if got := strings.Join(phases, ", "); got != "starting 0, checking 0, shifting 1, shifting 10, shifting 50, shifting 100, done 100" {
		t.Errorf("events: %s", got)
	}

	// Who compares with vectors of the old version still gets it.
	old, err := f.embed("a", first.GetDigest())
	if err != nil || old.GetVersion() != "1" || old.GetDigest() != first.GetDigest() {
		t.Errorf("pinned: %v, %v", old, err)
	}
	list, err := f.client("chat").ListModels(t.Context(), &inferv1.ListModelsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range list.GetModels() {
		if m.GetName() == words && (len(m.GetVersions()) != 2 || !m.GetVersions()[0].GetActive() || m.GetVersions()[0].GetVersion() != "2" || m.GetVersions()[0].GetPercent() != 100 || m.GetVersions()[1].GetActive()) {
			t.Errorf("%v", m)
		}
	}
	if _, err := f.embed("a", strings.Repeat("0", 64)); fault.From(err) == nil || fault.From(err).Code != "digest_not_served" {
		t.Errorf("an unknown digest: %v", err)
	}
}

func (f *fleet) rolloutEvents() (out []RolloutEvent) {
	f.t.Helper()
	pending, err := f.db.Pending(f.t.Context(), 10000)
	if err != nil {
		f.t.Fatal(err)
	}
	for _, p := range pending {
		var e struct{ Data RolloutEvent }
		if p.Type == Rollout {
			if err := json.Unmarshal(p.Payload, &e); err != nil {
				f.t.Fatal(err)
			}
			out = append(out, e.Data)
		}
	}
	return out
}

func TestBadVersionsGoBack(t *testing.T) {
	f := newFleet(t, nil)
	for i, b := range breakages() {
		version := fmt.Sprint(10 + i)
		f.bad(b, version)
		r := f.settled(b.model, version)
		if r.phase != phaseBack || !slices.Contains(b.reasons, r.reason) || r.detail == "" {
			t.Errorf("%s: %s %s: %s; want one of %v", b.name, r.phase, r.reason, r.detail, b.reasons)
		}
		waitFor(t, "the choice to be put back", func() bool { return f.reg.Active(b.model) == "1" })
		if m, err := f.s.Model(t.Context(), b.model); err != nil || m.Version != "1" {
			t.Errorf("%s: %s serves, %v", b.name, m.Version, err)
		}
	}
	if e, err := f.embed("a", ""); err != nil || e.GetVersion() != "1" {
		t.Errorf("%v, %v", e, err)
	}
	if err := f.s.Rollback(t.Context(), identity(), words, "", ""); fault.From(err) == nil || fault.From(err).Code != "former_went_back" {
		t.Errorf("rolling back to what went back: %v", err)
	}
	if text, last, err := f.generate(t.Context(), "one two", func(r *inferv1.GenerateRequest) { r.Model = talk }); err != nil || text != "one two" || last.GetVersion() != "1" {
		t.Errorf("%q %v %v", text, last, err)
	}
}

// bad makes a broken version and chooses it.
func (f *fleet) bad(b breakage, version string) {
	f.t.Helper()
	f.make(b.model, version, b.nature)
	if !b.damage {
		f.use(b.model, version)
		return
	}
	// What was checked when it was chosen is exchanged before it is loaded.
	m, err := f.reg.Version(f.t.Context(), b.model, version)
	if err != nil {
		f.t.Fatal(err)
	}
	name := filepath.Join(m.Dir, m.Weights)
	was, err := os.ReadFile(name)
	if err != nil {
		f.t.Fatal(err)
	}
	f.use(b.model, version)
	now := slices.Clone(was)
	now[len(now)-3] ^= 1
	if err := errors.Join(os.Chmod(name, 0o600), os.WriteFile(name, now, 0o600)); err != nil {
		f.t.Fatal(err)
	}
}

func TestChoiceTakenBackInTheMiddle(t *testing.T) {
	f := newFleet(t, func(c *Config) { c.RolloutHold = time.Minute })
	f.make(words, "2", good)
	f.use(words, "2")
	waitFor(t, "the first step", func() bool { m, err := f.s.Model(t.Context(), words); return err == nil && m.Phase == phaseShifting })
	if _, err := f.reg.Rollback(t.Context(), words, registry.Change{By: "user:op"}); err != nil {
		t.Fatal(err)
	}
	if r := f.settled(words, "2"); r.phase != phaseBack || r.reason != "stopped" {
		t.Errorf("%+v", r)
	}
}

func TestGoingBackToAVersionThatServedIsQuick(t *testing.T) {
	f := newFleet(t, nil)
	f.make(words, "2", good)
	f.use(words, "2")
	if r := f.settled(words, "2"); r.phase != phaseDone {
		t.Fatalf("%+v", r)
	}
	if _, err := f.reg.Rollback(t.Context(), words, registry.Change{By: "user:op"}); err != nil {
		t.Fatal(err)
	}
	if r := f.settled(words, "1"); r.phase != phaseDone {
		t.Errorf("%+v", r)
	}
	n := 0
	for _, e := range f.rolloutEvents() {
		if e.To == "1" && e.Phase == phaseShifting {
			n++
		}
	}
	if n != 1 {
		t.Errorf("%d steps, want one of 100 %%", n)
	}
}

// A rollout that was cut off by a kill begins again, and until it is done the old version serves.
func TestRolloutAfterAKill(t *testing.T) {
	f := newFleet(t, func(c *Config) { c.RolloutHold = time.Minute })
	waitFor(t, "what serves to be written down", func() bool { r, err := serving(t.Context(), f.db, words); return err == nil && r != nil })
	f.make(words, "2", good)
	f.use(words, "2")
	waitFor(t, "the first step", func() bool { m, err := f.s.Model(t.Context(), words); return err == nil && m.Phase == phaseShifting })
	f.stop()
	list, err := rollouts(t.Context(), f.db, words, 10)
	if err != nil || len(list) != 1 || list[0].phase != phaseBroken {
		t.Fatalf("%+v, %v", list, err)
	}
	// A kill writes nothing: the row stays as if its owner were alive.
	old := time.Now().Add(-time.Hour).UnixMicro()
	if _, err := f.db.Writer().ExecContext(t.Context(), `UPDATE infer_rollout SET ended_at = 0, phase = 'shifting', percent = 50, beat_at = $1`, old); err != nil {
		t.Fatal(err)
	}
	f.cfg.RolloutHold = *hold
	again := &fleet{world: newWorld(t, f.cfg, f.db, fake), reg: f.reg}
	if m, err := again.s.Model(t.Context(), words); err != nil || m.Version != "1" {
		t.Errorf("after the kill %s serves, %v", m.Version, err)
	}
	if r := again.settled(words, "2"); r.phase != phaseDone {
		t.Errorf("%+v", r)
	}
	again.stop()
	third := newWorld(t, f.cfg, f.db, fake)
	if m, err := third.s.Model(t.Context(), words); err != nil || m.Version != "2" {
		t.Errorf("after one more start %s serves, %v", m.Version, err)
	}
}

// load is what callers saw.
type load struct {
	calls, streams, broken, failed, wrong, late atomic.Int64
	mu                                          sync.Mutex
	errs                                        []string
}

func (l *load) fail(format string, args ...any) {
	l.failed.Add(1)
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.errs) < 10 {
		l.errs = append(l.errs, fmt.Sprintf(format, args...))
	}
}

// TestSwapsUnderLoad changes versions while several tenants call, every third of them to a broken one.
func TestSwapsUnderLoad(t *testing.T) {
	f := newFleet(t, nil)
	var l load
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var bad sync.Map // digests that went back, and when
	var g sync.WaitGroup
	for n := range 4 {
		client := f.as(fmt.Sprint("t", n), fmt.Sprint(n))
		g.Go(func() { f.embeds(ctx, client, &l, &bad) })
		g.Go(func() { f.streams(ctx, f.as(fmt.Sprint("t", n), fmt.Sprint(n)), &l, &bad) })
	}
	ways, broken, done := breakages(), 0, 0
	serves := map[string]string{words: "1", talk: "1"}
	for i := range *swaps {
		version := fmt.Sprint(2 + i)
		if i%3 == 2 {
			b := ways[broken%len(ways)]
			broken++
			f.bad(b, version)
			r := f.settled(b.model, version)
			if r.phase == phaseBack {
				bad.Store(r.to.Digest, time.Now())
			} else {
				t.Errorf("%s: %s", b.name, r.phase)
				serves[b.model] = version
			}
			waitFor(t, "the choice to be put back", func() bool { return f.reg.Active(b.model) == serves[b.model] })
			continue
		}
		name := []string{words, talk}[i%2]
		n := childtest.Nature{}
		if name == words {
			n = good
		}
		f.make(name, version, n)
		f.use(name, version)
		if r := f.settled(name, version); r.phase != phaseDone {
			t.Errorf("good version %s@%s: %s %s", name, version, r.reason, r.detail)
			continue
		}
		serves[name] = version
		done++
	}
	stop()
	g.Wait()
	t.Logf("swaps=%d done=%d broken=%d calls=%d streams=%d failed=%d streams_ended_with_error=%d wrong_version=%d after_rollback=%d goroutines=%d",
		*swaps, done, broken, l.calls.Load(), l.streams.Load(), l.failed.Load(), l.broken.Load(), l.wrong.Load(), l.late.Load(), runtime.NumGoroutine())
	for _, e := range l.errs {
		t.Error(e)
	}
	if l.failed.Load() > 0 || l.wrong.Load() > 0 || l.late.Load() > 0 {
		t.Errorf("%d calls failed, %d had the wrong vectors, %d came from a version that had gone back", l.failed.Load(), l.wrong.Load(), l.late.Load())
	}
	if l.calls.Load() < int64(*swaps) || l.streams.Load() < int64(*swaps) {
		t.Errorf("only %d calls and %d streams: that is no load", l.calls.Load(), l.streams.Load())
	}
	if share := l.streams.Load() / 4; l.broken.Load() > share {
		t.Errorf("%d of %d streams broke off", l.broken.Load(), l.streams.Load())
	}
}

func (f *fleet) embeds(ctx context.Context, c inferv1connect.InferServiceClient, l *load, bad *sync.Map) {
	pinned := ""
	tick := time.NewTicker(*pace)
	defer tick.Stop()
	for n := 0; wait(ctx, tick); n++ {
		text := fmt.Sprint("text number ", rand.IntN(50))
		r := &inferv1.EmbedRequest{Model: words, Texts: []string{text, "another"}}
		if n%4 == 3 {
			r.Digest = pinned
		}
		begin := time.Now()
		e, err := c.Embed(ctx, r)
		if ctx.Err() != nil {
			return
		}
		l.calls.Add(1)
		switch {
		case err != nil:
			l.fail("embed: %v", err)
		case len(e.GetVectors()) != 2 || !slices.Equal(e.GetVectors()[0].GetValues(), good.Vector(text)):
			l.wrong.Add(1)
		case r.GetDigest() != "" && e.GetDigest() != r.GetDigest():
			l.wrong.Add(1)
		case after(bad, e.GetDigest(), begin):
			l.late.Add(1)
		}
		if pinned == "" && err == nil {
			pinned = e.GetDigest()
		}
	}
}

// wait reports whether there is another call to be made.
func wait(ctx context.Context, tick *time.Ticker) bool {
	select {
	case <-tick.C:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}

// after says whether the digest had gone back before the call began.
func after(bad *sync.Map, digest string, begin time.Time) bool {
	at, ok := bad.Load(digest)
	if !ok {
		return false
	}
	when, _ := at.(time.Time)
	return begin.After(when)
}

func (f *fleet) streams(ctx context.Context, c inferv1connect.InferServiceClient, l *load, bad *sync.Map) {
	tick := time.NewTicker(*pace)
	defer tick.Stop()
	for wait(ctx, tick) {
		want := fmt.Sprint("one two three ", rand.IntN(1000))
		begin := time.Now()
		stream, err := c.Generate(ctx, &inferv1.GenerateRequest{Model: talk, Messages: []*inferv1.Message{{Role: "user", Content: want}}})
		var text strings.Builder
		var last *inferv1.GenerateResponse
		if err == nil {
			for stream.Receive() {
				last = stream.Msg()
				text.WriteString(last.GetText())
			}
			err = stream.Err()
			_ = stream.Close()
		}
		if ctx.Err() != nil {
			return
		}
		l.streams.Add(1)
		switch {
		case err != nil && text.Len() > 0:
			l.broken.Add(1) // with a terminal error
			if code := connect.CodeOf(err); code != connect.CodeUnavailable && fault.KindOf(err) != fault.Unavailable {
				l.fail("a stream ended with %v", err)
			}
		case err != nil:
			l.fail("generate: %v", err)
		case text.String() != want || last.GetFinishReason() == "":
			l.wrong.Add(1)
		case after(bad, last.GetDigest(), begin):
			l.late.Add(1)
		}
	}
}

func TestChangingAVersionOverREST(t *testing.T) {
	f := newFleet(t, nil)
	f.make(words, "2", good)
	admin := auth.Identity{Tenant: "default", Subject: "user:op", Scopes: []string{"*"}}
	const use, back = "/api/v1/models/words/use", "/api/v1/models/words/rollback"
	post := func(id *auth.Identity, path, key string, body any) (int, modelDetail, string) {
		a := f.authority.Gateway(f.s.Public(), "infer", id, http.MethodPost, path, body, "Idempotency-Key", key)
		var d modelDetail
		if a.Status < 300 {
			a.JSON(t, &d)
		}
		return a.Status, d, string(a.Body)
	}
	two := map[string]string{"version": "2", "why": "better"}
	reader := identity()
	for name, id := range map[string]*auth.Identity{"a reader": &reader, "nobody": nil} {
		if status, _, _ := post(id, use, "", two); status != 403 && status != 401 {
			t.Errorf("%s may change a model: %d", name, status)
		}
		if status, _, _ := post(id, back, "", map[string]string{}); status != 403 && status != 401 {
			t.Errorf("%s may roll back: %d", name, status)
		}
	}
	if status, _, body := post(&admin, use, "", map[string]string{"version": "9"}); status != 404 || !strings.Contains(body, "model_version_not_found") {
		t.Errorf("an unknown version: %d %s", status, body)
	}
	if status, _, body := post(&admin, back, "", map[string]string{}); status != 409 {
		t.Errorf("nothing to go back to: %d %s", status, body)
	}
	status, d, body := post(&admin, use, "k1", two)
	if status != 202 || len(d.Versions) != 2 || !d.Versions[1].Chosen {
		t.Fatalf("%d %s", status, body)
	}
	f.settled(words, "2")
	if status, d, body = post(&admin, back, "k2", map[string]string{"why": "hm"}); status != 202 {
		t.Fatalf("%d %s", status, body)
	}
	f.settled(words, "1")
	for _, again := range []struct {
		path, key string
		body      any
	}{{use, "k1", two}, {back, "k2", map[string]string{"why": "hm"}}} {
		if status, d, body = post(&admin, again.path, again.key, again.body); status != 202 || d.Version != "1" || !d.Versions[0].Chosen {
			t.Errorf("%s again: %d %s", again.path, status, body)
		}
	}
	if status, _, _ := post(&admin, use, "k1", map[string]string{"version": "1"}); status != 409 {
		t.Errorf("another request under the same key: %d", status)
	}
	if len(d.Rollouts) != 2 || d.Rollouts[0].To != "1" || d.Rollouts[1].To != "2" || d.Rollouts[1].Chosen != "user:op" || d.Rollouts[1].Ended == nil {
		t.Errorf("rollouts %+v", d.Rollouts)
	}
	var seen modelDetail
	f.authority.Gateway(f.s.Public(), "infer", &reader, http.MethodGet, "/api/v1/models/words", nil).JSON(t, &seen)
	if len(seen.Rollouts) != 2 || seen.Rollouts[1].Chosen != "" || !seen.Versions[0].Active || seen.Versions[0].Percent != 100 || len(seen.Versions[0].ManifestDigest) != 64 {
		t.Errorf("%+v", seen)
	}
}

func TestEncoderRunsInAProcessOfItsOwn(t *testing.T) {
	cfg := settings(t)
	for _, c := range []struct {
		process string
		alone   bool
		own     bool
	}{{ProcessAuto, true, true}, {ProcessAuto, false, false}, {ProcessOwn, false, true}, {ProcessShared, true, false}} {
		s := &Service{cfg: Config{EncoderProcess: c.process}, d: Deps{Alone: c.alone}}
		if s.ownProcess() != c.own {
			t.Errorf("%s, alone %v: own process %v", c.process, c.alone, s.ownProcess())
		}
	}
	cfg.EncoderProcess = ProcessOwn
	w := newWorld(t, cfg, database(t), func(context.Context, []string) ([]minilm.Embedding, error) {
		t.Error("it was computed here")
		return nil, errors.New("here")
	})
	_, err := w.s.Embed(t.Context(), EmbedCall{Texts: []string{"a"}})
	f := fault.From(err) // the stand-in for the program has no built-in model
	if f == nil || f.Kind != fault.Unavailable || f.RetryAfter < time.Second {
		t.Errorf("%v; want Unavailable with RetryAfter", err)
	}
	w.health.Open()
	waitFor(t, "the failure to be seen", func() bool { ok, _ := w.health.Ready(t.Context()); return !ok })
}

// A process that ends takes calls with it, and only those; then it is back.
func TestEncoderProcessIsStartedAgain(t *testing.T) {
	f := newFleet(t, nil)
	if _, err := f.embed("a", ""); err != nil {
		t.Fatal(err)
	}
	lease, err := f.s.lookup(words).current().child.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	lease.Kill()
	lease.Release()
	waitFor(t, "the end", func() bool { m, err := f.s.Model(t.Context(), words); return err == nil && m.Status != Ready })
	_, err = f.embed("a", "")
	if c := fault.From(err); err != nil && (c == nil || c.Kind != fault.Unavailable || c.RetryAfter <= 0) {
		t.Errorf("meanwhile: %v; want Unavailable with RetryAfter", err)
	}
	waitFor(t, "the restart", func() bool { _, err := f.embed("a", ""); return err == nil })
}
