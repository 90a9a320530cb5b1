package recommend_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"aran/platform/auth"
	"aran/platform/fault"
	"aran/platform/rpc/rpctest"
	"aran/platform/seal"
	"aran/platform/secret"
	"aran/platform/store"
	"aran/platform/store/pgtest"
	"aran/platform/watch"
	"aran/service/recommend"
)

// world is a recommendation service on a real database.
type world struct {
	t    testing.TB
	s    *recommend.Service
	db   *store.DB
	box  *seal.Box
	ring *seal.Keyring
	a    *rpctest.Authority
	id   auth.Identity
	o    store.Options
	keys func() (*seal.Box, error)
}

// engine opens databases of one kind: the service's, and that of its keys.
type engine func(t testing.TB) (o store.Options, keys func(k *seal.Keyring) (*seal.Box, error))

func onSQLite(t testing.TB) (store.Options, func(*seal.Keyring) (*seal.Box, error)) {
	dir := t.TempDir()
	return store.Options{Path: filepath.Join(dir, "recommend.db")}, func(k *seal.Keyring) (*seal.Box, error) {
		return seal.Open(t.Context(), k, "recommend", filepath.Join(dir, "keys.db"))
	}
}

func onPostgres(server *pgtest.Server) engine {
	return func(t testing.TB) (store.Options, func(*seal.Keyring) (*seal.Box, error)) {
		keys := secret.New(server.Database())
		return store.Options{URL: secret.New(server.Database())}, func(k *seal.Keyring) (*seal.Box, error) {
			return seal.OpenURL(t.Context(), k, "recommend", keys, slog.New(slog.DiscardHandler))
		}
	}
}

func open(t testing.TB, on engine, change ...func(*recommend.Config)) *world {
	t.Helper()
	w := &world{t: t, a: rpctest.NewAuthority(t), id: auth.Identity{Tenant: "t1", Subject: "key:1", Scopes: []string{auth.ScopeItems, auth.ScopeInteract, auth.ScopeRecommend}}}
	o, keys := on(t)
	o.Service, o.Migrations, o.Log = "recommend", recommend.Migrations, slog.New(slog.DiscardHandler)
	var err error
	w.ring, err = seal.Local(filepath.Join(t.TempDir(), "keyring.key"))
	w.must(err)
	w.o, w.keys = o, func() (*seal.Box, error) { return keys(w.ring) }
	return w.replica(change...)
}

// replica opens another service on the same databases.
func (w *world) replica(change ...func(*recommend.Config)) *world {
	w.t.Helper()
	r := *w
	var err error
	r.db, err = store.Open(w.t.Context(), w.o)
	r.must(err)
	w.t.Cleanup(func() { _ = r.db.Close() })
	r.box, err = r.keys()
	r.must(err)
	w.t.Cleanup(func() { _ = r.box.Close() })
	cfg := recommend.Default()
	for _, c := range change {
		c(&cfg)
	}
	r.s, err = recommend.New(cfg, recommend.Deps{DB: r.db, Box: r.box, Server: r.a.Server("recommend"), Log: slog.New(slog.DiscardHandler), Health: &watch.Health{}})
	r.must(err)
	r.must(r.s.Start(w.t.Context()))
	w.t.Cleanup(func() { _ = r.s.Stop(context.WithoutCancel(w.t.Context())) })
	return &r
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// as is a context of somebody in a tenant.
func (w *world) as(tenant string) context.Context {
	id := w.id
	id.Tenant = tenant
	return auth.With(w.t.Context(), id, "")
}

func (w *world) items(ids ...string) {
	w.t.Helper()
	for _, id := range ids {
		_, err := w.s.PutItems(w.as("t1"), []recommend.Item{{ID: id, Available: true}}, "")
		w.must(err)
	}
}

func (w *world) record(list ...recommend.Interaction) []recommend.Outcome {
	w.t.Helper()
	out, err := w.s.Record(w.as("t1"), list, "")
	w.must(err)
	return out
}

func (w *world) rank(user, context string) recommend.Ranking {
	w.t.Helper()
	r, err := w.s.Rank(w.as("t1"), recommend.Query{User: user, Limit: 20, Context: context})
	w.must(err)
	return r
}

func names(r recommend.Ranking) (out []string) {
	for _, x := range r.Items {
		out = append(out, x.Item)
	}
	return out
}

func (w *world) call(method, path string, body any, header ...string) rpctest.Answer {
	w.t.Helper()
	return w.a.Gateway(w.s.Public(), "recommend", &w.id, method, path, body, header...)
}

// rows reads a whole table as text.
func (w *world) rows(query string) (out []string) {
	w.t.Helper()
	rows, err := w.db.Query(w.t.Context(), query)
	w.must(err)
	defer rows.Close() //nolint:errcheck // a test's
	for rows.Next() {
		var s string
		w.must(rows.Scan(&s))
		out = append(out, s)
	}
	w.must(rows.Err())
	return out
}

func (w *world) count(query string) (n int64) {
	w.t.Helper()
	w.must(w.db.QueryRow(w.t.Context(), query).Scan(&n))
	return n
}

// cases are run on every database.
func cases() map[string]func(t *testing.T, on engine) {
	return map[string]func(t *testing.T, on engine){
		"way":        wayThrough,
		"decay":      decay,
		"erase":      eraseEquals,
		"erased":     erasedStayUnlinkable,
		"unfinished": unfinishedErasure,
		"replicas":   replicas,
		"tenants":    tenants,
		"poison":     poison,
		"halfLife":   halfLife,
		"expire":     expire,
		"repeat":     repeat,
		"unlisted":   unlisted,
		"full":       full,
		"context":    contexts,
		"ties":       ties,
	}
}

func TestOnPostgreSQL(t *testing.T) {
	server := pgtest.Start(t)
	for _, name := range slices.Sorted(maps.Keys(cases())) {
		t.Run(name, func(t *testing.T) { cases()[name](t, onPostgres(server)) })
	}
}

func TestWayThrough(t *testing.T)                   { wayThrough(t, onSQLite) }
func TestDecayEqualsBruteForce(t *testing.T)        { decay(t, onSQLite) }
func TestErasureIsAsIfNeverThere(t *testing.T)      { eraseEquals(t, onSQLite) }
func TestErasedUsersStayUnlinkable(t *testing.T)    { erasedStayUnlinkable(t, onSQLite) }
func TestUnfinishedErasureIsFinished(t *testing.T)  { unfinishedErasure(t, onSQLite) }
func TestReplicasCountTogether(t *testing.T)        { replicas(t, onSQLite) }
func TestTenantsSeeNothingOfEachOther(t *testing.T) { tenants(t, onSQLite) }
func TestOneUserCannotPushAnItem(t *testing.T)      { poison(t, onSQLite) }
func TestHalfLifeOfTheSettingsHolds(t *testing.T)   { halfLife(t, onSQLite) }
func TestWhatIsOldIsForgotten(t *testing.T)         { expire(t, onSQLite) }
func TestRepeatsCountOnce(t *testing.T)             { repeat(t, onSQLite) }
func TestOnlyTheCatalogueIsRecommended(t *testing.T) {
	unlisted(t, onSQLite)
}
func TestQuotas(t *testing.T)               { full(t, onSQLite) }
func TestContexts(t *testing.T)             { contexts(t, onSQLite) }
func TestEqualsAreOrderedById(t *testing.T) { ties(t, onSQLite) }

func wayThrough(t *testing.T, on engine) {
	w := open(t, on)
	var r struct {
		Items []struct {
			Item, Reason string
			Score        float64
		}
		Model, Rung string
	}
	w.call(http.MethodGet, "/api/v1/recommendations", nil).JSON(t, &r)
	if r.Rung != "editorial" || r.Items == nil || len(r.Items) != 0 || !strings.HasPrefix(r.Model, "popularity@") {
		t.Errorf("of nothing: %+v", r)
	}
	if got := w.call(http.MethodPost, "/api/v1/items", `[{"id":"lamp","metadata":{"category":"lamps"}},{"id":"chair","title":"A chair","editorial":2},{"id":"desk","editorial":1},{"id":"sold","available":false,"editorial":3}]`); got.Status != http.StatusCreated {
		t.Fatalf("%d %s", got.Status, got.Body)
	}
	w.call(http.MethodGet, "/api/v1/recommendations?user=ann", nil).JSON(t, &r)
	if r.Rung != "editorial" || len(r.Items) != 3 || r.Items[0].Item != "desk" || r.Items[1].Item != "chair" || r.Items[1].Reason != "editorial" || r.Items[2].Item != "lamp" || r.Items[2].Reason != "new" {
		t.Errorf("without interactions: %+v", r)
	}
	got := w.call(http.MethodPost, "/api/v1/interactions", `{"interactions":[{"user":"ann","item":"lamp","type":"view"},{"user":"bob","item":"lamp","type":"purchase"},{"user":"bob","item":"chair","type":"like"},{"user":"bob","item":"sold","type":"purchase"}]}`)
	if got.Status != http.StatusCreated || !strings.Contains(string(got.Body), `"recorded":4`) {
		t.Fatalf("%d %s", got.Status, got.Body)
	}
	w.call(http.MethodGet, "/api/v1/recommendations?user=ann&limit=2", nil).JSON(t, &r)
	if r.Rung != "popularity" || len(r.Items) != 2 || r.Items[0].Item != "lamp" || r.Items[0].Score != 1 || r.Items[0].Reason != "popular" || r.Items[1].Item != "chair" || r.Items[1].Score != 0.333333 {
		t.Errorf("popular: %+v", r)
	}
	w.call(http.MethodGet, "/api/v1/recommendations?user=bob", nil).JSON(t, &r)
	if len(r.Items) != 2 || r.Items[0].Item != "chair" || r.Items[0].Score != 1 || r.Items[1].Item != "desk" || r.Items[1].Score != 0 {
		t.Errorf("without what bob bought, filled up with the editors' picks: %+v", r)
	}
	w.call(http.MethodGet, "/api/v1/recommendations?context=metadata.category:lamps", nil).JSON(t, &r)
	if len(r.Items) != 1 || r.Items[0].Reason != "popular among category:lamps" {
		t.Errorf("a segment: %+v", r)
	}
	if got := w.call(http.MethodDelete, "/api/v1/items/lamp", nil); got.Status != http.StatusNoContent {
		t.Errorf("%d %s", got.Status, got.Body)
	}
	if got := w.call(http.MethodGet, "/api/v1/items/lamp", nil); got.Status != http.StatusNotFound {
		t.Errorf("a deleted item: %d %s", got.Status, got.Body)
	}
	if slices.Contains(names(w.rank("ann", "")), "lamp") {
		t.Error("a deleted item is recommended")
	}
	w.call(http.MethodPut, "/api/v1/items/chair", `{"available":false}`)
	if slices.Contains(names(w.rank("ann", "")), "chair") {
		t.Error("an item that is not available is recommended")
	}
	var page struct {
		Items      []struct{ ID string }
		NextCursor string `json:"next_cursor"`
	}
	w.call(http.MethodGet, "/api/v1/items?limit=2", nil).JSON(t, &page)
	if len(page.Items) != 2 || page.Items[0].ID != "chair" || page.NextCursor != "desk" {
		t.Errorf("first page: %+v", page)
	}
	page.NextCursor = ""
	w.call(http.MethodGet, "/api/v1/items?limit=2&cursor=desk", nil).JSON(t, &page)
	if len(page.Items) != 1 || page.Items[0].ID != "sold" || page.NextCursor != "" {
		t.Errorf("last page: %+v", page)
	}
	if got := w.call(http.MethodDelete, "/api/v1/interactions?user=bob", nil); got.Status != http.StatusNoContent {
		t.Errorf("%d %s", got.Status, got.Body)
	}
	if n := w.count(`SELECT COUNT(*) FROM recommend_interaction`); n != 1 {
		t.Errorf("%d interactions, want ann's", n)
	}
}

// done is an interaction as the brute force has it.
type done struct {
	user, item, kind string
	day              int64
	weight           float64
}

// bruteForce adds up everything anew: the definition of the score.
func bruteForce(list []done, today int64, halfLife float64) map[string]float64 {
	seen, out := map[done]bool{}, map[string]float64{}
	for _, x := range list {
		key := x
		key.weight = 0
		if seen[key] {
			continue
		}
		seen[key] = true
		out[x.item] += x.weight * math.Pow(2, -float64(today-x.day)/halfLife)
	}
	return out
}

// best orders by score and id, as fractions of the best.
func best(scores map[string]float64) (out []recommend.Ranked) {
	top := 0.0
	for _, v := range scores {
		top = max(top, v)
	}
	for item, v := range scores {
		if v > 0 {
			out = append(out, recommend.Ranked{Item: item, Score: math.Round(1e6*v/top) / 1e6, Reason: "popular"})
		}
	}
	slices.SortFunc(out, func(a, b recommend.Ranked) int {
		if a.Score != b.Score {
			return int(math.Copysign(1, b.Score-a.Score))
		}
		return strings.Compare(a.Item, b.Item)
	})
	return out
}

func decay(t *testing.T, on engine) {
	const halfLifeDays = 3
	days := func(n int) time.Duration { return time.Duration(n) * 24 * time.Hour }
	rnd := rand.New(rand.NewPCG(1, 2))
	run := func(t *testing.T, wait func(time.Duration)) {
		w := open(t, on, func(c *recommend.Config) { c.HalfLife, c.Keep = days(halfLifeDays), days(halfLifeDays*512) })
		w.must(w.s.Stop(t.Context())) // its clock would tick through the years
		ids := []string{"a", "b", "c", "d", "e", "f", "g", "h"}
		w.items(ids...)
		types, kinds := recommend.Default().Types, slices.Sorted(maps.Keys(recommend.Default().Types))
		var all []done
		for range 6 {
			var list []recommend.Interaction
			for range 80 {
				kind := kinds[rnd.IntN(len(kinds))]
				x := recommend.Interaction{User: fmt.Sprint("u", rnd.IntN(9)), Item: ids[rnd.IntN(len(ids))], Type: kind, Time: time.Now().Add(-days(rnd.IntN(30)))}
				weight := types[kind]
				if rnd.IntN(3) == 0 {
					x.Weight = float64(1+rnd.IntN(9000)) / 1000
					weight = math.Copysign(x.Weight, weight)
				}
				list = append(list, x)
				all = append(all, done{x.User, x.Item, kind, x.Time.Unix() / 86400, weight})
			}
			w.record(list...)
			want := best(bruteForce(all, time.Now().Unix()/86400, halfLifeDays))
			var got []recommend.Ranked
			for _, x := range w.rank("", "").Items {
				if x.Reason == "popular" {
					got = append(got, x)
				}
			}
			if !near(got, want) {
				t.Fatalf("ranked\n%v, by brute force\n%v", got, want)
			}
			wait(days(1 + rnd.IntN(20)))
		}
	}
	run(t, func(time.Duration) {})
	if isSQLite(t, on) { // a bubble can't hold a connection to a server
		synctest.Test(t, func(t *testing.T) { run(t, tick) })
		synctest.Test(t, func(t *testing.T) { run(t, func(d time.Duration) { tick(20 * d) }) }) // past where scores are scaled again
	}
}

// tick lets time go by in a bubble.
func tick(d time.Duration) { <-time.After(d) }

func isSQLite(t *testing.T, on engine) bool {
	t.Helper()
	return runtime.FuncForPC(reflect.ValueOf(on).Pointer()).Name() == runtime.FuncForPC(reflect.ValueOf(engine(onSQLite)).Pointer()).Name()
}

func near(a, b []recommend.Ranked) bool {
	return slices.EqualFunc(a, b, func(x, y recommend.Ranked) bool {
		return x.Item == y.Item && math.Abs(x.Score-y.Score) <= 1e-6 && x.Reason == y.Reason
	})
}

// eraseEquals: with and then without a user is the same as never with that user.
func eraseEquals(t *testing.T, on engine) {
	for seed := range uint64(2) {
		rnd := rand.New(rand.NewPCG(seed, 7))
		with, never := open(t, on), open(t, on)
		ids := []string{"a", "b", "c", "d", "e", "f", "only-mallory"}
		with.items(ids...)
		never.items(ids...)
		kinds := slices.Sorted(maps.Keys(recommend.Default().Types))
		base := time.Now().Add(-time.Minute)
		for range 12 {
			var all, others []recommend.Interaction
			for i := range 20 {
				x := recommend.Interaction{User: fmt.Sprint("u", rnd.IntN(5)), Item: ids[rnd.IntN(6)], Type: kinds[rnd.IntN(len(kinds))], Time: base.Add(-time.Duration(rnd.IntN(60*24)) * time.Hour), Weight: float64(1+rnd.IntN(9999)) / 1000}
				switch rnd.IntN(3) {
				case 0:
					x.User, x.ID = "mallory", fmt.Sprint("order-", i)
					if rnd.IntN(4) == 0 {
						x.Item = "only-mallory"
					}
				default:
					others = append(others, x)
				}
				all = append(all, x)
			}
			with.record(all...)
			never.record(others...)
		}
		if slices.Equal(with.rows(`SELECT CAST(weight AS TEXT) FROM recommend_bucket ORDER BY item, day`), never.rows(`SELECT CAST(weight AS TEXT) FROM recommend_bucket ORDER BY item, day`)) {
			t.Fatal("mallory changed nothing: the test shows nothing")
		}
		with.must(with.s.Erase(with.as("t1"), "mallory"))
		for _, q := range []string{
			`SELECT item || ' ' || CAST(day AS TEXT) || ' ' || CAST(weight AS TEXT) || ' ' || CAST(n AS TEXT) FROM recommend_bucket ORDER BY item, day`,
			`SELECT item FROM recommend_popularity ORDER BY item`,
			`SELECT CAST(interactions AS TEXT) FROM recommend_tenant`,
			`SELECT item || type || CAST(day AS TEXT) || ' ' || CAST(weight AS TEXT) FROM recommend_interaction ORDER BY item, type, day, weight`,
			`SELECT ref FROM recommend_ref`,
		} {
			if a, b := with.rows(q), never.rows(q); !slices.Equal(a, b) {
				t.Errorf("%s:\nafter erasing %v\nnever there   %v", q, a, b)
			}
		}
		if a, b := with.rank("u1", ""), never.rank("u1", ""); !near(a.Items, b.Items) || a.Rung != b.Rung {
			t.Errorf("after erasing %v, never there %v", a, b)
		}
	}
}

func (w *world) events(kind string) (out []string) {
	w.t.Helper()
	list, err := w.db.Pending(w.t.Context(), 1000)
	w.must(err)
	for _, e := range list {
		if e.Type == kind {
			out = append(out, string(e.Payload))
		}
	}
	return out
}

func userOf(t *testing.T, event string) string {
	t.Helper()
	var e struct {
		Data struct{ User string }
	}
	if err := json.Unmarshal([]byte(event), &e); err != nil {
		t.Fatal(err)
	}
	return e.Data.User
}

func erasedStayUnlinkable(t *testing.T, on engine) {
	w := open(t, on)
	w.items("a", "b")
	const user = "ann.secret@example.org"
	w.rank(user, "") // nothing is known, so nothing is made
	w.record(recommend.Interaction{User: user, Item: "a", Type: "purchase", ID: "order of " + user})
	if got := names(w.rank(user, "")); !slices.Equal(got, []string{"b"}) {
		t.Errorf("%v: a was bought", got)
	}
	w.must(w.s.Erase(w.as("t1"), user))
	if got := names(w.rank(user, "")); !slices.Equal(got, []string{"b", "a"}) {
		t.Errorf("%v: nothing is known of the user any more", got)
	}
	w.record(recommend.Interaction{User: user, Item: "b", Type: "purchase"})
	w.rank(user, "")
	ranked := w.events(recommend.TypeRanked)
	if len(ranked) != 4 {
		t.Fatalf("%d rankings are recorded", len(ranked))
	}
	first, second := userOf(t, ranked[1]), userOf(t, ranked[3])
	if userOf(t, ranked[0]) != "" || len(first) != 64 || userOf(t, ranked[2]) != "" || len(second) != 64 || first == second {
		t.Errorf("pseudonyms %q %q %q %q: absent, one, absent, another", userOf(t, ranked[0]), first, userOf(t, ranked[2]), second)
	}
	erased := w.events(recommend.TypeUserErased)
	if len(erased) != 1 || userOf(t, erased[0]) != first {
		t.Errorf("erasures %v", erased)
	}
	for _, e := range append(ranked, erased...) {
		if strings.Contains(e, "secret") {
			t.Errorf("an event tells who it was: %s", e)
		}
	}
	for _, q := range []string{`SELECT person FROM recommend_interaction`, `SELECT person FROM recommend_ref`, `SELECT person || ref FROM recommend_ref`, `SELECT person FROM recommend_gone`} {
		for _, s := range w.rows(q) {
			if strings.Contains(s, "secret") || strings.Contains(s, "example") {
				t.Errorf("%s: %s", q, s)
			}
		}
	}
	if n := w.count(`SELECT COUNT(*) FROM recommend_interaction WHERE person = '` + first + `'`); n != 0 {
		t.Errorf("%d rows of an erased user", n)
	}
	w.must(w.s.Erase(w.as("t1"), user))
	w.must(w.s.Erase(w.as("t1"), user))
	w.must(w.s.Erase(w.as("t1"), "nobody"))
	if n := w.count(`SELECT COUNT(*) FROM recommend_interaction`); n != 0 {
		t.Errorf("%d rows after all are erased", n)
	}
}

// unfinishedErasure: the rows are gone and the key is not, as after a crash; and another replica has the key in memory.
func unfinishedErasure(t *testing.T, on engine) {
	w := open(t, on)
	w.items("a")
	w.record(recommend.Interaction{User: "ann", Item: "a", Type: "view"})
	other := w.replica()
	other.record(recommend.Interaction{User: "ann", Item: "a", Type: "like"}) // it has ann's pseudonym in memory
	w.must(w.box.Close())
	if err := w.s.Erase(w.as("t1"), "ann"); err == nil {
		t.Fatal("an erasure that could not erase the key says that all is well")
	}
	before := other.rows(`SELECT person FROM recommend_gone`)
	if len(before) != 1 || other.count(`SELECT COUNT(*) FROM recommend_interaction`) != 0 {
		t.Fatalf("the rows: %v", before)
	}
	other.record(recommend.Interaction{User: "ann", Item: "a", Type: "view"})
	if after := other.rows(`SELECT person FROM recommend_interaction`); len(after) != 1 || after[0] == before[0] {
		t.Errorf("ann is %v again, after %v was erased", after, before)
	}
	if _, err := other.box.Known(t.Context(), "t1\x00ann\x000"); fault.From(err) == nil || fault.From(err).Code != seal.CodeErased {
		t.Errorf("the key is still there: %v", err)
	}
	third := other.replica()
	third.record(recommend.Interaction{User: "ann", Item: "a", Type: "view"})
	other.must(other.s.Erase(other.as("t1"), "ann"))
	third.record(recommend.Interaction{User: "ann", Item: "a", Type: "like"}) // the third still has the pseudonym in memory
	if got := third.rows(`SELECT person FROM recommend_interaction WHERE person IN (SELECT person FROM recommend_gone)`); len(got) != 0 {
		t.Errorf("rows under the names of erased people: %v", got)
	}
}

func replicas(t *testing.T, on engine) {
	w := open(t, on)
	w.items("a", "b")
	services := []*world{w}
	if !isSQLite(t, on) { // a file has one process
		services = append(services, w.replica())
	}
	const workers, each = 8, 10
	var wg sync.WaitGroup
	for i := range workers {
		wg.Go(func() {
			r := services[i%len(services)]
			for j := range each {
				// Everybody's own view of a, and one like of b that all of them send.
				if _, err := r.s.Record(r.as("t1"), []recommend.Interaction{{User: fmt.Sprint(i, "-", j), Item: "a", Type: "view"}, {User: fmt.Sprint("same", j), Item: "b", Type: "like", ID: "1"}}, ""); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if got := w.rows(`SELECT item || ' ' || CAST(weight AS TEXT) || ' ' || CAST(n AS TEXT) FROM recommend_bucket ORDER BY item, day`); !slices.Equal(got, []string{"a 80000 80", "b 30000 10"}) {
		t.Errorf("counted %v", got)
	}
	if n := w.count(`SELECT interactions FROM recommend_tenant`); n != workers*each+each {
		t.Errorf("%d interactions", n)
	}
	if r := w.rank("", ""); len(r.Items) != 2 || r.Items[1].Score != 0.375 {
		t.Errorf("ranked %+v", r)
	}
}

func tenants(t *testing.T, on engine) {
	w := open(t, on)
	w.items("a", "b")
	_, err := w.s.PutItems(w.as("t2"), []recommend.Item{{ID: "a", Available: true}, {ID: "z", Available: true, Metadata: map[string]string{"k": "v"}}}, "")
	w.must(err)
	_, err = w.s.Record(w.as("t2"), []recommend.Interaction{{User: "ann", Item: "z", Type: "purchase"}, {User: "bob", Item: "b", Type: "purchase"}, {User: "ann", Item: "a", Type: "purchase"}}, "")
	w.must(err)
	if r := w.rank("ann", ""); r.Rung != recommend.RungEditorial || !slices.Equal(names(r), []string{"b", "a"}) {
		t.Errorf("t1 has no interactions, and ann of t1 bought nothing: %+v", r)
	}
	if r := w.rank("", "metadata.k:v"); len(r.Items) != 0 {
		t.Errorf("a segment of another tenant: %+v", r)
	}
	if _, err := w.s.Item(w.as("t1"), "z"); fault.KindOf(err) != fault.Missing {
		t.Errorf("another tenant's item: %v", err)
	}
	if err := w.s.DeleteItem(w.as("t1"), "z"); fault.KindOf(err) != fault.Missing {
		t.Errorf("another tenant's item: %v", err)
	}
	list, err := w.s.Items(w.as("t1"), "", 10)
	if err != nil || len(list) != 2 {
		t.Errorf("items of t1: %v, %v", list, err)
	}
	w.record(recommend.Interaction{User: "ann", Item: "a", Type: "view"})
	w.must(w.s.Erase(w.as("t1"), "ann"))
	if n := w.count(`SELECT COUNT(*) FROM recommend_interaction WHERE tenant = 't2'`); n != 3 {
		t.Errorf("erasing ann of t1 left %d of 3 interactions of t2", n)
	}
}

// poison: however often, with whatever weights and times, one user adds what the note says and no more.
func poison(t *testing.T, on engine) {
	const kept = 100
	w := open(t, on, func(c *recommend.Config) { c.Keep = kept * 24 * time.Hour })
	w.items("honest", "pushed")
	types := recommend.Default().Types
	var most float64
	for _, v := range types {
		if v > 0 {
			most += recommend.Default().MaxWeight
		}
	}
	halfLife := recommend.Default().HalfLife.Hours() / 24
	bound := most / (1 - math.Pow(2, -1/halfLife))
	var honest []recommend.Interaction
	for i := range 400 {
		honest = append(honest, recommend.Interaction{User: fmt.Sprint("h", i), Item: "honest", Type: "purchase"})
	}
	w.record(honest...)
	for round := range 2 {
		for kind, v := range types {
			if v < 0 {
				continue
			}
			var list []recommend.Interaction
			for d := range kept {
				list = append(list, recommend.Interaction{ID: fmt.Sprint(round, kind, d), User: "mallory", Item: "pushed", Type: kind, Weight: 10, Time: time.Now().Add(-time.Duration(d) * 24 * time.Hour)})
			}
			w.record(list...)
		}
		var list []recommend.Interaction
		for i := range 500 {
			list = append(list, recommend.Interaction{ID: fmt.Sprint(round, "x", i), User: "mallory", Item: "pushed", Type: "view", Weight: 10})
		}
		for _, o := range w.record(list...) {
			if o.Status != recommend.Repeated {
				t.Fatal("the same on the same day counts again")
			}
		}
	}
	r := w.rank("", "")
	pushed := 1.0
	for i, x := range r.Items {
		if x.Item == "honest" && i == 0 {
			pushed = r.Items[1].Score
		}
	}
	if got := pushed * 400 * types["purchase"]; got > bound*1.0001 || got < bound*0.98 {
		t.Errorf("mallory adds %.1f to an item, the bound is %.1f", got, bound)
	}
	if n := w.count(`SELECT COUNT(*) FROM recommend_interaction WHERE item = 'pushed'`); n != kept*9 {
		t.Errorf("%d rows, want one a type and day", n)
	}
}

func halfLife(t *testing.T, on engine) {
	w := open(t, on)
	w.items("old", "new")
	ago := time.Now().Add(-28 * 24 * time.Hour)
	w.record(recommend.Interaction{User: "a", Item: "old", Type: "purchase", Time: ago}, recommend.Interaction{User: "a", Item: "new", Type: "save"})
	if got := w.rank("", ""); got.Items[0].Item != "new" || math.Abs(got.Items[1].Score-2.0/3) > 1e-6 {
		t.Errorf("8 of two half-lives ago count 2, 3 of today 3: %+v", got)
	}
	slow := w.replica(func(c *recommend.Config) { c.HalfLife = 28 * 24 * time.Hour })
	if got := slow.rank("", ""); got.Items[0].Item != "old" || math.Abs(got.Items[1].Score-0.75) > 1e-6 || got.Model == w.rank("", "").Model {
		t.Errorf("8 of one half-life ago count 4: %+v", got)
	}
	w.record(recommend.Interaction{User: "b", Item: "old", Type: "purchase", Time: ago}) // a replica with the settings of before
	if got := slow.rank("", ""); math.Abs(got.Items[1].Score-0.375) > 1e-6 {
		t.Errorf("replicas with two settings mix: %+v", got)
	}
}

func expire(t *testing.T, on engine) {
	w := open(t, on)
	w.items("a", "b")
	day := 24 * time.Hour
	w.record(
		recommend.Interaction{User: "u", Item: "a", Type: "purchase", ID: "1", Time: time.Now().Add(-100 * day)}, recommend.Interaction{User: "u", Item: "a", Type: "view", ID: "2"},
		recommend.Interaction{User: "u", Item: "b", Type: "purchase", ID: "3", Time: time.Now().Add(-100 * day)},
	)
	short := w.replica(func(c *recommend.Config) { c.Keep = 30 * day })
	short.must(short.s.Tidy(t.Context()))
	for q, want := range map[string]int64{
		`SELECT COUNT(*) FROM recommend_interaction`: 1, `SELECT COUNT(*) FROM recommend_ref`: 1, `SELECT COUNT(*) FROM recommend_bucket`: 1,
		`SELECT COUNT(*) FROM recommend_popularity`: 1, `SELECT interactions FROM recommend_tenant`: 1,
	} {
		if got := short.count(q); got != want {
			t.Errorf("%s: %d, want %d", q, got, want)
		}
	}
	if got := short.rank("u", ""); !slices.Equal(names(got), []string{"a", "b"}) || got.Items[1].Score != 0 {
		t.Errorf("%+v: the purchases are forgotten", got)
	}
	_, err := short.s.Record(short.as("t1"), []recommend.Interaction{{User: "u", Item: "a", Type: "view", Time: time.Now().Add(-40 * day)}}, "")
	if fault.KindOf(err) != fault.Invalid || !strings.Contains(err.Error(), "recommend.keep") {
		t.Errorf("older than is kept: %v", err)
	}
}

func repeat(t *testing.T, on engine) {
	w := open(t, on)
	w.items("a")
	x := recommend.Interaction{ID: "e1", User: "ann", Item: "a", Type: "view"}
	if out := w.record(x, x); out[0].Status != recommend.Recorded || out[1].Status != recommend.Repeated {
		t.Errorf("one id twice: %v", out)
	}
	x.Type = "like"
	if out := w.record(x); out[0].Status != recommend.Repeated {
		t.Errorf("an id that was used: %v", out)
	}
	x.User = "bob"
	if out := w.record(x); out[0].Status != recommend.Recorded {
		t.Errorf("the id of another user: %v", out)
	}
	const body = `{"user":"cat","item":"a","type":"view"}`
	first := w.call(http.MethodPost, "/api/v1/interactions", body, "Idempotency-Key", "k1")
	again := w.call(http.MethodPost, "/api/v1/interactions", body, "Idempotency-Key", "k1")
	if first.Status != http.StatusCreated || string(first.Body) != string(again.Body) || !strings.Contains(string(again.Body), `"recorded":1`) {
		t.Errorf("%s, then %s", first.Body, again.Body)
	}
	for _, another := range []string{`{"user":"cat","item":"a","type":"like"}`, `{"user":"cat","item":"a","type":"view","time":` + strconv.Quote(time.Now().UTC().Format(time.RFC3339)) + `}`} {
		if other := w.call(http.MethodPost, "/api/v1/interactions", another, "Idempotency-Key", "k1"); other.Status != http.StatusConflict {
			t.Errorf("another request under the key: %d %s", other.Status, other.Body)
		}
	}
	if got := w.rows(`SELECT CAST(weight AS TEXT) || ' ' || CAST(n AS TEXT) FROM recommend_bucket`); !slices.Equal(got, []string{"5000 3"}) {
		t.Errorf("counted %v: ann's view, bob's like, cat's view", got)
	}
	lines := `{"user":"dan","item":"a","type":"view"}` + "\n" + `{"user":"eve","item":"a","type":"view"}`
	one := w.call(http.MethodPost, "/api/v1/interactions", lines, "Content-Type", "application/x-ndjson", "Idempotency-Key", "k2")
	two := w.call(http.MethodPost, "/api/v1/interactions", lines, "Content-Type", "application/x-ndjson", "Idempotency-Key", "k2")
	if string(one.Body) != string(two.Body) || strings.Count(string(two.Body), `"recorded"`) != 2 {
		t.Errorf("lines: %s, then %s", one.Body, two.Body)
	}
}

func unlisted(t *testing.T, on engine) {
	w := open(t, on)
	if out := w.record(recommend.Interaction{User: "ann", Item: "planted", Type: "purchase"}); !out[0].Unlisted || out[0].Status != recommend.Recorded {
		t.Errorf("outcome %v", out)
	}
	if r := w.rank("", ""); len(r.Items) != 0 {
		t.Errorf("what is not in the catalogue is recommended: %+v", r)
	}
	w.items("planted")
	if r := w.rank("", ""); len(r.Items) != 1 || r.Rung != recommend.RungPopularity {
		t.Errorf("now that it is in the catalogue: %+v", r)
	}
	w.must(w.s.DeleteItem(w.as("t1"), "planted"))
	w.record(recommend.Interaction{User: "bob", Item: "planted", Type: "purchase"})
	if r := w.rank("", ""); len(r.Items) != 0 {
		t.Errorf("a deleted item comes back: %+v", r)
	}
}

func full(t *testing.T, on engine) {
	w := open(t, on, func(c *recommend.Config) { c.Items, c.Interactions = 2, 2 })
	w.items("a", "b", "a")
	_, err := w.s.PutItems(w.as("t1"), []recommend.Item{{ID: "c"}}, "")
	if f := fault.From(err); f == nil || f.Code != "too_many_items" {
		t.Errorf("a third item: %v", err)
	}
	w.record(recommend.Interaction{User: "u", Item: "a", Type: "view"})
	_, err = w.s.Record(w.as("t1"), []recommend.Interaction{{User: "u", Item: "a", Type: "like"}, {User: "u", Item: "b", Type: "like"}}, "")
	if f := fault.From(err); f == nil || f.Code != "too_many_interactions" || w.count(`SELECT COUNT(*) FROM recommend_interaction`) != 1 || w.count(`SELECT COUNT(*) FROM recommend_bucket`) != 1 {
		t.Errorf("a third interaction: %v; all or none", err)
	}
	w.must(w.s.Erase(w.as("t1"), "u"))
	w.must(w.s.DeleteItem(w.as("t1"), "b"))
	w.items("c")
	w.record(recommend.Interaction{User: "v", Item: "a", Type: "view"}, recommend.Interaction{User: "v", Item: "a", Type: "like"})
}

func contexts(t *testing.T, on engine) {
	w := open(t, on)
	_, err := w.s.PutItems(w.as("t1"), []recommend.Item{
		{ID: "red", Available: true, Metadata: map[string]string{"colour": "red"}},
		{ID: "blue", Available: true, Metadata: map[string]string{"colour": "blue", "note": "a:b"}},
		{ID: "new-blue", Available: true, Metadata: map[string]string{"colour": "blue"}},
		{ID: "hidden-blue", Metadata: map[string]string{"colour": "blue"}},
	}, "")
	w.must(err)
	w.record(
		recommend.Interaction{User: "u", Item: "red", Type: "like"}, recommend.Interaction{User: "u", Item: "blue", Type: "view"}, recommend.Interaction{User: "v", Item: "hidden-blue", Type: "view"},
		recommend.Interaction{User: "w", Item: "red", Type: "dislike", Weight: 1},
	)
	for _, c := range []struct{ user, context, want string }{
		{"", "", "red blue new-blue"},
		{"", "red", "blue new-blue"},
		{"", "metadata.colour:blue", "blue new-blue"},
		{"", "metadata.colour:green", ""},
		{"", "metadata.note:a:b", "blue"},
		{"w", "", "blue new-blue"},
		{"w", "metadata.colour:red", ""},
	} {
		if got := strings.Join(names(w.rank(c.user, c.context)), " "); got != c.want {
			t.Errorf("user %q, context %q: %q, want %q", c.user, c.context, got, c.want)
		}
	}
	for _, bad := range []string{"metadata.", "metadata.x", "metadata.x:", "a b", "a/b", "metadata.a b:c"} {
		if _, err := w.s.Rank(w.as("t1"), recommend.Query{Limit: 1, Context: bad}); fault.KindOf(err) != fault.Invalid {
			t.Errorf("context %q: %v", bad, err)
		}
	}
	for _, e := range w.events(recommend.TypeRanked) {
		if strings.Contains(e, "colour") {
			t.Errorf("an event holds the context: %s", e)
		}
	}
}

func ties(t *testing.T, on engine) {
	w := open(t, on)
	ids := []string{"d", "b", "a", "c"}
	w.items(ids...)
	for i, weights := range [][]float64{{0.1, 0.2, 0.3}, {0.3, 0.2, 0.1}, {0.2, 0.1, 0.3}, {0.3, 0.1, 0.2}} {
		for j, v := range weights {
			w.record(recommend.Interaction{User: fmt.Sprint(j), Item: ids[i], Type: "view", Weight: v})
		}
	}
	if got := names(w.rank("", "")); !slices.Equal(got, []string{"a", "b", "c", "d"}) {
		t.Errorf("equal sums, added in other orders: %v", got)
	}
	r, err := w.s.Rank(w.as("t1"), recommend.Query{Limit: 2})
	if err != nil || !slices.Equal(names(r), []string{"a", "b"}) {
		t.Errorf("the first two: %v, %v", r, err)
	}
}

func TestWhatIsRefused(t *testing.T) {
	w := open(t, onSQLite)
	future := time.Now().Add(time.Hour).Format(time.RFC3339)
	for name, c := range map[string]struct {
		method, path, body string
		status             int
		says               string
	}{
		"unknown type":            {"POST", "/api/v1/interactions", `{"user":"u","item":"i","type":"stare"}`, 400, "view"},
		"no user":                 {"POST", "/api/v1/interactions", `{"item":"i","type":"view"}`, 400, "user"},
		"no item":                 {"POST", "/api/v1/interactions", `{"user":"u","type":"view"}`, 400, "item"},
		"user too long":           {"POST", "/api/v1/interactions", `{"user":"` + strings.Repeat("x", 257) + `","item":"i","type":"view"}`, 400, "user"},
		"NUL in user":             {"POST", "/api/v1/interactions", `{"user":"a\u0000b","item":"i","type":"view"}`, 400, "user"},
		"not UTF-8":               {"POST", "/api/v1/interactions", "{\"user\":\"\xff\",\"item\":\"i\",\"type\":\"view\"}", 400, "not_utf8"},
		"weight 0":                {"POST", "/api/v1/interactions", `{"user":"u","item":"i","type":"view","weight":0}`, 400, "weight"},
		"weight below 0":          {"POST", "/api/v1/interactions", `{"user":"u","item":"i","type":"view","weight":-3}`, 400, "weight"},
		"weight too large":        {"POST", "/api/v1/interactions", `{"user":"u","item":"i","type":"view","weight":1e300}`, 400, "weight"},
		"future":                  {"POST", "/api/v1/interactions", `{"user":"u","item":"i","type":"view","time":"` + future + `"}`, 400, "future"},
		"too old":                 {"POST", "/api/v1/interactions", `{"user":"u","item":"i","type":"view","time":"1999-01-01T00:00:00Z"}`, 400, "recommend.keep"},
		"no time":                 {"POST", "/api/v1/interactions", `{"user":"u","item":"i","type":"view","time":"yesterday"}`, 400, ""},
		"misspelt":                {"POST", "/api/v1/interactions", `{"user":"u","item":"i","typ":"view"}`, 400, "did you mean"},
		"second is wrong":         {"POST", "/api/v1/interactions", `{"interactions":[{"user":"u","item":"i","type":"view"},{"user":"u","item":"i","type":"x"}]}`, 400, "[1].type"},
		"none":                    {"POST", "/api/v1/interactions", `{"interactions":[]}`, 400, "empty"},
		"one and several":         {"POST", "/api/v1/interactions", `{"user":"u","interactions":[{"user":"u","item":"i","type":"view"}]}`, 400, "both"},
		"too many":                {"POST", "/api/v1/interactions", `{"interactions":[` + strings.Repeat(`{},`, 1000) + `{}]}`, 413, "x-ndjson"},
		"item id":                 {"PUT", "/api/v1/items/a%20b", `{}`, 400, "letters"},
		"item id of a segment":    {"PUT", "/api/v1/items/metadata.x", `{}`, 400, "letters"},
		"item id in the body":     {"PUT", "/api/v1/items/a", `{"id":"b"}`, 400, "path"},
		"rank 0":                  {"PUT", "/api/v1/items/a", `{"editorial":0}`, 400, "editorial"},
		"item twice":              {"POST", "/api/v1/items", `[{"id":"a"},{"id":"a"}]`, 400, "twice"},
		"empty array":             {"POST", "/api/v1/items", `[]`, 400, "empty"},
		"metadata key":            {"PUT", "/api/v1/items/a", `{"metadata":{"a:b":"c"}}`, 400, "metadata"},
		"metadata value":          {"PUT", "/api/v1/items/a", `{"metadata":{"a":""}}`, 400, "metadata.a"},
		"not an object":           {"POST", "/api/v1/items", `"x"`, 400, ""},
		"limit":                   {"GET", "/api/v1/recommendations?limit=101", "", 400, "limit"},
		"context":                 {"GET", "/api/v1/recommendations?context=a%2Fb", "", 400, "context"},
		"erase without user":      {"DELETE", "/api/v1/interactions", "", 400, "user"},
		"erase with control char": {"DELETE", "/api/v1/interactions?user=a%00", "", 400, "user"},
	} {
		var body any
		if c.body != "" {
			body = c.body
		}
		got := w.call(c.method, c.path, body)
		if got.Status != c.status || !strings.Contains(string(got.Body), c.says) || !strings.Contains(got.Header.Get("Content-Type"), "problem+json") {
			t.Errorf("%s: %d %s", name, got.Status, got.Body)
		}
	}
	if got := w.call(http.MethodPost, "/api/v1/interactions", "user=u", "Content-Type", "text/csv"); got.Status != http.StatusUnsupportedMediaType {
		t.Errorf("a form: %d", got.Status)
	}
	for _, q := range []string{`SELECT COUNT(*) FROM recommend_interaction`, `SELECT COUNT(*) FROM recommend_item`, `SELECT COUNT(*) FROM recommend_popularity`} {
		if n := w.count(q); n != 0 {
			t.Errorf("%s: %d", q, n)
		}
	}
}

func TestScopesAreNeeded(t *testing.T) {
	w := open(t, onSQLite)
	for _, c := range []struct{ method, path, body, scope string }{
		{"GET", "/api/v1/items", "", auth.ScopeRecommend},
		{"GET", "/api/v1/items/a", "", auth.ScopeRecommend},
		{"PUT", "/api/v1/items/a", `{}`, auth.ScopeItems},
		{"POST", "/api/v1/items", `[{"id":"a"}]`, auth.ScopeItems},
		{"DELETE", "/api/v1/items/a", "", auth.ScopeItems},
		{"POST", "/api/v1/interactions", `{"user":"u","item":"i","type":"view"}`, auth.ScopeInteract},
		{"DELETE", "/api/v1/interactions?user=u", "", auth.ScopeInteract},
		{"GET", "/api/v1/recommendations?user=u", "", auth.ScopeRecommend},
	} {
		var body any
		if c.body != "" {
			body = c.body
		}
		without := auth.Identity{Tenant: "t1", Subject: "user:1", Scopes: slices.DeleteFunc(slices.Clone(w.id.Scopes), func(s string) bool { return s == c.scope })}
		if got := w.a.Gateway(w.s.Public(), "recommend", &without, c.method, c.path, body); got.Status != http.StatusForbidden {
			t.Errorf("%s %s without %s: %d", c.method, c.path, c.scope, got.Status)
		}
		if got := w.a.Gateway(w.s.Public(), "recommend", nil, c.method, c.path, body); got.Status != http.StatusUnauthorized {
			t.Errorf("%s %s by nobody: %d", c.method, c.path, got.Status)
		}
		if got := w.call(c.method, c.path, body); got.Status >= 500 || got.Status == http.StatusForbidden {
			t.Errorf("%s %s: %d %s", c.method, c.path, got.Status, got.Body)
		}
	}
}

func TestLines(t *testing.T) {
	w := open(t, onSQLite)
	w.items("a")
	var lines []string
	for i := range 600 {
		lines = append(lines, fmt.Sprintf(`{"user":"u%d","item":"a","type":"view"}`, i))
	}
	lines[3], lines[300], lines[301], lines[302] = `{"user":`, ``, `{"user":"u","item":"a","type":"x"}`, `{"user":"u","item":"b","type":"view","id":"z"}`
	got := w.call(http.MethodPost, "/api/v1/interactions", strings.Join(lines, "\n"), "Content-Type", "application/x-ndjson")
	if got.Status != http.StatusOK {
		t.Fatalf("%d %s", got.Status, got.Body)
	}
	answers := strings.Split(strings.TrimSpace(string(got.Body)), "\n")
	if len(answers) != 600 || !strings.Contains(answers[3], `"line":4,"code":"malformed_json"`) || answers[300] != `{"line":301,"status":"empty"}` || !strings.Contains(answers[301], `"code":"invalid"`) || answers[302] != `{"line":303,"id":"z","status":"recorded","unlisted":true}` || answers[599] != `{"line":600,"status":"recorded"}` {
		t.Errorf("%d answers: %s\n%s\n%s\n%s\n%s", len(answers), answers[3], answers[300], answers[301], answers[302], answers[599])
	}
	if n := w.count(`SELECT COUNT(*) FROM recommend_interaction`); n != 597 {
		t.Errorf("%d of 597 good lines are stored", n)
	}
	got = w.call(http.MethodPost, "/api/v1/items", `{"id":"x","metadata":{"k":"v"}}`+"\n"+`{"id":"bad id"}`+"\n"+`{"id":"`+strings.Repeat("y", 70_000)+`"}`+"\n"+`{"id":"z"}`, "Content-Type", "application/x-ndjson")
	answers = strings.Split(strings.TrimSpace(string(got.Body)), "\n")
	if len(answers) != 3 || answers[0] != `{"line":1,"id":"x","status":"stored"}` || !strings.Contains(answers[1], `"code":"invalid"`) || !strings.Contains(answers[2], `"line":3,"code":"line_too_long"`) {
		t.Errorf("items: %v", answers)
	}
	got = w.call(http.MethodPost, "/api/v1/items", strings.Repeat("\n", 10_001), "Content-Type", "application/x-ndjson")
	if got.Status != http.StatusRequestEntityTooLarge {
		t.Errorf("too many lines: %d %s", got.Status, got.Body)
	}
}

func TestConfig(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*recommend.Config)
		says   string
	}{
		"as it comes":     {func(*recommend.Config) {}, ""},
		"half-life":       {func(c *recommend.Config) { c.HalfLife = time.Hour }, "recommend.half_life"},
		"broken day":      {func(c *recommend.Config) { c.HalfLife = 25 * time.Hour }, "recommend.half_life"},
		"keep":            {func(c *recommend.Config) { c.Keep = 600 * c.HalfLife }, "recommend.keep"},
		"no types":        {func(c *recommend.Config) { c.Types = nil }, "recommend.types"},
		"name":            {func(c *recommend.Config) { c.Types = map[string]float64{"A": 1} }, "recommend.types"},
		"weight 0":        {func(c *recommend.Config) { c.Types = map[string]float64{"view": 0} }, "recommend.types.view"},
		"weight NaN":      {func(c *recommend.Config) { c.Types = map[string]float64{"view": math.NaN()} }, "recommend.types.view"},
		"consumed":        {func(c *recommend.Config) { c.Consumed = []string{"eat"} }, "recommend.consumed"},
		"max weight":      {func(c *recommend.Config) { c.MaxWeight = math.Inf(1) }, "recommend.max_weight"},
		"no items":        {func(c *recommend.Config) { c.Items = 0 }, "recommend.items"},
		"no interactions": {func(c *recommend.Config) { c.Interactions = -1 }, "recommend.interactions"},
	} {
		cfg := recommend.Default()
		c.change(&cfg)
		err := cfg.Check()
		if c.says == "" && err != nil || c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says)) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestARankingThatCannotBeRecordedIsNotGiven(t *testing.T) {
	w := open(t, onSQLite)
	w.items("a")
	w.must(w.db.Tx(t.Context(), func(tx *store.Tx) error {
		_, err := tx.Exec(t.Context(), `DROP TABLE recommend_outbox`)
		return err
	}))
	if _, err := w.s.Rank(w.as("t1"), recommend.Query{Limit: 1}); err == nil || errors.Is(err, context.Canceled) {
		t.Errorf("ranked without a trace: %v", err)
	}
}
