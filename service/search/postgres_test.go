package search_test

import (
	"fmt"
	"log/slog"
	"math"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"

	"aran/platform/auth"
	"aran/platform/fault"
	"aran/platform/saga"
	"aran/platform/secret"
	"aran/platform/store"
	"aran/platform/store/pgtest"
	"aran/service/search"
)

// What holds on files and in memory holds on PostgreSQL with pgvector; and what there is of it only there.
func TestOnPgvector(t *testing.T) {
	server = pgtest.StartVector(t)
	t.Cleanup(func() { server = nil })
	for _, fn := range []func(*testing.T){
		TestDocumentIsIndexedAndCitedExactly, TestTenantsSeeNothingOfEachOther, TestAccessListsHoldBeforeRanking, TestFilter,
		TestFusionBringsBothLists, TestEncoderAwayMeansWordsAndSaysSo, TestVectorsOfAnotherEncoderAreNotCompared, TestOtherScriptsGoByWords,
		TestQuarantine, TestWaitsForGuardAndEncoder, TestSuspendedSubjectStopsTheWork, TestEncoderThatChangesWhileIndexing,
		TestDocumentThatNobodyWorksOnIsTakenUpAgain, TestOtherCuttingBeginsAnew, TestNewVersionReplacesTheOldOne, TestDeleteReallyDeletes, TestDeleteStopsTheWork,
		TestLifeGoesOnAfterRestart, TestIdempotencyKey, TestUploadFile, TestLines,
		TestReplicaCatchesUpBeforeItSearches, TestHandbookIsThereForEveryTenant, TestAccessListsOfAPublicCollectionOpenNothingToOtherTenants,
		TestNoCollectionsNamedMeansAllReadable, TestPackIsReplacedByANewOne, TestPackOfAnotherEncoderGoesByWords, TestKilledAtRandom,
		TestPerDocumentAndDistinct, TestTypedFilter, TestHitSaysWhereItAnswers, TestTamilIsFoundByItsStems, TestFiftyTenantsLeaveNoTrace,
		TestVersionsStayReadable, TestAnotherModelTakesOverWithoutAGap, TestANewVersionOfTheModelTakesOverByItself,
		TestAVersionThatIsGoneTakesOverToo, TestReembeddingIsCancelled,
		searchIsTheSameEverywhere, vectorsMoveBetweenMemoryAndPgvector, editionsSwapWithoutAGap, refusedWithoutTheExtension,
	} {
		name := runtime.FuncForPC(reflect.ValueOf(fn).Pointer()).Name()
		t.Run(name[strings.LastIndexByte(name, '.')+1:], fn)
	}
}

var memory option = func(c *search.Config, _ *search.Deps) { c.Vectors = search.VectorsMemory }

// fill stores the same documents everywhere: open ones, restricted ones, with and without metadata, short and long.
func fill(w *world, ann, bob *auth.Identity) {
	w.t.Helper()
	w.collection(ann, "docs")
	w.collection(bob, "docs")
	subjects := []string{"boats and harbours", "cars and motors", "doctors and nurses", "gardens and soil", "budgets and money"}
	for i := range 60 { // one after the other: equal scores go by the order of storing

		s := subjects[i%len(subjects)]
		text := fmt.Sprintf("About %s, number %d. %s", s, i, strings.Repeat("A sentence on "+s+" follows here. ", i%7*3))
		access := []string{}
		if i%4 == 0 {
			access = append(access, "role:finance")
		}
		w.want(202, w.call(ann, "POST", "/api/v1/collections/docs/documents", map[string]any{
			"id": fmt.Sprint("d", i), "title": "On " + s, "text": text, "access": access, "metadata": map[string]string{"lang": []string{"en", "de", "ta"}[i%3]},
		}))
	}
	w.put(bob, "docs", map[string]any{"id": "d0", "text": "Boats of another tenant, budgets and motors."})
	w.eventually("all is indexed", func() bool { return w.rows("search_document WHERE status <> 'indexed'") == 0 })
}

// answers are what several people find, in all modes, with and without a filter.
func answers(w *world, people ...*auth.Identity) (out []found) {
	for _, p := range people {
		for _, q := range []string{"boats in the harbour", "vehicle", "physician and nurse", "money for gardens", "number 17"} {
			for _, mode := range []string{"hybrid", "words", "meaning"} {
				for _, filter := range []map[string]string{nil, {"lang": "ta"}, {"lang": "none"}} {
					out = append(out, w.search(p, "docs", map[string]any{"query": q, "mode": mode, "filter": filter, "limit": 15}))
				}
			}
		}
	}
	return out
}

// alike lets passages change places when rounding alone tells their scores apart.
func alike(t *testing.T, what string, got, want []found) {
	t.Helper()
	for i := range want {
		g, w := got[i], want[i]
		if len(g.Hits) != len(w.Hits) || g.Degraded != w.Degraded || g.Encoder != w.Encoder {
			t.Fatalf("%s: search %d: %d hits, want %d; %v %v", what, i, len(g.Hits), len(w.Hits), g.Degraded, g.Encoder)
		}
		for j, h := range w.Hits {
			if math.Abs(g.Hits[j].Score-h.Score) > 1e-5 {
				t.Errorf("%s: search %d, hit %d: score %v, want %v", what, i, j, g.Hits[j].Score, h.Score)
			}
			there := slices.ContainsFunc(g.Hits, func(x hit) bool {
				return x.Chunk == h.Chunk && x.Text == h.Text && math.Abs(x.Score-h.Score) <= 1e-5
			})
			// The last ones may stand beside others of the same score that did not fit.
			if !there && math.Abs(h.Score-w.Hits[len(w.Hits)-1].Score) > 1e-5 {
				t.Errorf("%s: search %d: %s with score %v is missing", what, i, h.Chunk, h.Score)
			}
		}
	}
}

func searchIsTheSameEverywhere(t *testing.T) {
	ann, bob := person("acme", "user:ann"), person("bolt", "user:bob")
	people := []*auth.Identity{ann, person("acme", "user:eve", "finance"), person("acme", "user:dan"), bob}
	there := server
	server = nil
	w := open(t)
	fill(w, ann, bob)
	want := answers(w, people...)
	w.close()
	server = there
	w = open(t)
	fill(w, ann, bob)
	alike(t, "pgvector", answers(w, people...), want)
	w.close()
	w = open(t, memory)
	fill(w, ann, bob)
	alike(t, "PostgreSQL and memory", answers(w, people...), want)
}

func vectorsMoveBetweenMemoryAndPgvector(t *testing.T) {
	dir, e, j := t.TempDir(), newEncoder(), &judge{}
	ann, bob := person("acme", "user:ann"), person("bolt", "user:bob")
	people := []*auth.Identity{ann, person("acme", "user:eve", "finance"), bob}
	complete := func(w *world) {
		t.Helper()
		if n := w.rows("search_passage p WHERE NOT EXISTS (SELECT 1 FROM search_vector_item i WHERE i.owner = p.edition AND i.id = (p.edition << 20) + p.ordinal)"); n != 0 {
			t.Errorf("%d passages have no vector in pgvector", n)
		}
	}
	w := openAt(t, dir, e, j, memory)
	fill(w, ann, bob)
	want := answers(w, people...)
	if _, n := w.s.Loaded(); n == 0 {
		t.Error("nothing is in memory")
	}
	w.close()

	// A part that can't be copied: memory answers until it can.
	w = start(t, dir, e, j, memory)
	w.must(w.db.Tx(t.Context(), func(tx *store.Tx) error {
		if _, err := tx.Exec(t.Context(), "INSERT INTO search_edition SELECT 999999, 999999, document, version, tenant, subject, scopes, title, content_type, text, digest, encoder, cut, passages, terms, attempt, retry_at FROM search_edition LIMIT 1"); err != nil {
			return err
		}
		_, err := tx.Exec(t.Context(), "INSERT INTO search_vector (edition, part, passages, terms, packed) VALUES (999999, 0, 3, 0, $1)", []byte("garbage"))
		return err
	}))
	w.close()
	w = start(t, dir, e, j)
	alike(t, "while vectors are copied", answers(w, people...), want)
	if w.s.InDatabase() {
		t.Error("searches went over to vectors that are not all there")
	}
	w.must(w.db.Tx(t.Context(), func(tx *store.Tx) error {
		_, err := tx.Exec(t.Context(), "DELETE FROM search_vector WHERE edition = 999999")
		return err
	}))
	w.eventually("searches go over", w.s.InDatabase)
	if n, _ := w.s.Loaded(); n != 0 {
		t.Errorf("%d indexes are still in memory", n)
	}
	alike(t, "in the database", answers(w, people...), want)
	complete(w)
	w.close()

	// Back to memory: what is stored and deleted meanwhile is there, and gone, when pgvector is asked again.
	w = openAt(t, dir, e, j, memory)
	w.want(204, w.call(ann, "DELETE", "/api/v1/collections/docs/documents/d1", nil))
	w.put(ann, "docs", map[string]any{"id": "new", "text": "Boats that came while memory answered."})
	w.put(ann, "docs", map[string]any{"id": "d2", "text": "This was about doctors once."})
	w.eventually("the trash is empty", func() bool { return w.rows("search_trash") == 0 })
	complete(w)
	if n := w.rows("search_vector_item i WHERE NOT EXISTS (SELECT 1 FROM search_document d WHERE d.edition = i.owner)"); n != 0 {
		t.Errorf("%d vectors of deleted texts are still in pgvector", n)
	}
	want = answers(w, people...)
	w.close()
	w = openAt(t, dir, e, j)
	alike(t, "in the database again", answers(w, people...), want)
}

// A version is replaced by the next one in one moment: a search finds one of them, never both, never none.
func editionsSwapWithoutAGap(t *testing.T) {
	w := open(t)
	me := person("acme", "user:ann")
	w.collection(me, "docs")
	w.put(me, "docs", map[string]any{"id": "d", "text": "boats, version 0"})
	done := make(chan struct{})
	looked := 0
	go func() {
		defer close(done)
		for i := 1; i <= 12; i++ {
			w.put(me, "docs", map[string]any{"id": "d", "text": fmt.Sprint("boats, version ", i)})
		}
	}()
	for over := false; !over; looked++ {
		select {
		case <-done:
			over = true
		default:
		}
		// Ranking and loading are two statements: a version that goes between them is looked for again by the caller.
		near, err := w.s.Nearest(t.Context(), *me, "docs", vectorOf("boats"))
		w.must(err)
		if len(near) != 1 {
			t.Errorf("%d versions are found", len(near))
		}
	}
	t.Logf("%d searches", looked)
	w.eventually("old versions are gone", func() bool { return w.rows("search_vector_item") == 1 })
}

// unopened is a service on a database that is made for it, set to pgvector.
func unopened(t *testing.T, o store.Options) (*search.Service, error) {
	t.Helper()
	o.Service, o.Migrations, o.Log = "search", search.Migrations, slog.New(slog.DiscardHandler)
	db, err := store.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	sagas, err := saga.Open(t.Context(), db, "search", search.Definitions, o.Log)
	if err != nil {
		t.Fatal(err)
	}
	cfg := search.Default()
	cfg.Vectors = search.VectorsPgvector
	return search.New(cfg, search.Deps{DB: db, Sagas: sagas, Count: tokens, Log: o.Log})
}

func refusedWithoutTheExtension(t *testing.T) {
	server.Exec("postgres", "CREATE ROLE aran_search LOGIN", "CREATE DATABASE aran_search OWNER aran_search TEMPLATE template0 ENCODING 'UTF8' LOCALE 'C'")
	s, err := unopened(t, store.Options{URL: secret.New(server.URL("aran_search", "aran_search"))})
	if err != nil {
		t.Fatal(err)
	}
	err = s.Start(t.Context())
	if f := fault.From(err); f == nil || f.Code != "pgvector_missing" || !strings.Contains(err.Error(), "CREATE EXTENSION vector") {
		t.Errorf("error %v", err)
	}
}

func TestPgvectorIsRefusedOnAFile(t *testing.T) {
	if _, err := unopened(t, store.Options{Path: filepath.Join(t.TempDir(), "search.db")}); err == nil || !strings.Contains(err.Error(), "store.url") {
		t.Errorf("error %v", err)
	}
	cfg := search.Default()
	cfg.Vectors = "elsewhere"
	if err := cfg.Check(); err == nil || !strings.Contains(err.Error(), "memory, pgvector") {
		t.Errorf("an unknown place: %v", err)
	}
}
