package vector_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"aran/platform/fault"
	"aran/platform/secret"
	"aran/platform/store"
	"aran/platform/store/pgtest"
	"aran/platform/vector"
	"aran/platform/vector/vectortest"
)

func openStore(t testing.TB, o store.Options) *store.DB {
	t.Helper()
	o.Service = "probe"
	db, err := store.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

func openTable(t testing.TB, url string) (*store.DB, *vector.Table) {
	t.Helper()
	db := openStore(t, store.Options{URL: secret.New(url)})
	table := vector.NewTable(db)
	if err := table.Create(t.Context()); err != nil {
		t.Fatal(err)
	}
	return db, table
}

func TestPgvector(t *testing.T) {
	server := pgtest.StartVector(t)
	_, table := openTable(t, server.VectorDatabase())
	n := 0
	vectortest.Run(t, func(_ *testing.T, dim int) vector.Space {
		n++
		return table.Space(vector.Name{Space: fmt.Sprint("s", n), Model: vectortest.Model, Dim: dim})
	})
	t.Run("a space keeps the model and the dimension of its first vector", func(t *testing.T) { pinned(t, table) })
	t.Run("vectors and what they belong to are one transaction", func(t *testing.T) { transaction(t, server) })
	t.Run("replicas that start together make the tables once", func(t *testing.T) { together(t, server) })
	t.Run("the graph of a large space", func(t *testing.T) { graph(t, server) })
	t.Run("a graph whose making was cut off is made again", func(t *testing.T) { cutOff(t, server) })
	t.Run("a database without the extension says what to do", func(t *testing.T) { missing(t, server) })
	t.Run("what was stored is there after a crash", func(t *testing.T) { crash(t, server) }) // last: it takes the server down
}

func TestFilesHaveNoPgvector(t *testing.T) {
	db := openStore(t, store.Options{Path: filepath.Join(t.TempDir(), "probe.db")})
	table := vector.NewTable(db)
	if err := table.Create(t.Context()); fault.From(err) == nil || fault.From(err).Code != "pgvector_needs_postgresql" {
		t.Errorf("error %v", err)
	}
	if there, err := table.There(t.Context(), db); there || err != nil {
		t.Errorf("there = %v, %v", there, err)
	}
}

func pinned(t *testing.T, table *vector.Table) {
	x := vector.Item{ID: 1, Vector: []float32{1, 0, 0}}
	if err := table.Space(vector.Name{Space: "pinned", Model: "a", Dim: 3}).Put(t.Context(), x); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		n    vector.Name
		v    []float32
		code string
	}{
		{vector.Name{Space: "pinned", Model: "b", Dim: 3}, []float32{1, 0, 0}, "vector_model"},
		{vector.Name{Space: "pinned", Model: "a", Dim: 2}, []float32{1, 0}, "vector_dimension"},
	} {
		s := table.Space(c.n)
		if err := s.Put(t.Context(), vector.Item{ID: 2, Vector: c.v}); fault.From(err) == nil || fault.From(err).Code != c.code {
			t.Errorf("put as %v: %v", c.n, err)
		}
		if _, err := s.Search(t.Context(), vector.Query{Model: c.n.Model, Vector: c.v}, 1, nil); fault.From(err) == nil || fault.From(err).Code != c.code {
			t.Errorf("search as %v: %v", c.n, err)
		}
	}
	large := make([]float32, 2001)
	large[0] = 1
	if err := table.Space(vector.Name{Space: "large", Model: "a", Dim: 2001}).Put(t.Context(), vector.Item{Vector: large}); fault.KindOf(err) != fault.Invalid {
		t.Errorf("2001 dimensions: %v", err)
	}
	if err := table.Space(vector.Name{Space: "largest", Model: "a", Dim: 2000}).Put(t.Context(), vector.Item{Vector: large[:2000]}); err != nil {
		t.Errorf("2000 dimensions: %v", err)
	}
}

func transaction(t *testing.T, server *pgtest.Server) {
	db, table := openTable(t, server.VectorDatabase())
	broken := errors.New("broken")
	n := vector.Name{Space: "s", Model: vectortest.Model, Dim: 3}
	put := func(id int64, end error) error {
		return db.Tx(t.Context(), func(tx *store.Tx) error {
			if err := table.Put(t.Context(), tx, n, vector.Item{ID: id, Owner: id, Vector: []float32{1, 0, 0}}); err != nil {
				return err
			}
			return end
		})
	}
	if err := put(1, broken); !errors.Is(err, broken) {
		t.Fatal(err)
	}
	if err := put(2, nil); err != nil {
		t.Fatal(err)
	}
	err := db.Tx(t.Context(), func(tx *store.Tx) error {
		return errors.Join(table.Delete(t.Context(), tx, 2), broken)
	})
	if !errors.Is(err, broken) {
		t.Fatal(err)
	}
	hits, err := table.Space(n).Search(t.Context(), vector.Query{Model: vectortest.Model, Vector: []float32{1, 0, 0}}, 9, nil)
	if err != nil || len(hits) != 1 || hits[0].ID != 2 {
		t.Errorf("found %v, %v; want what was committed", hits, err)
	}
}

func together(t *testing.T, server *pgtest.Server) {
	url := server.VectorDatabase()
	var wg sync.WaitGroup
	for range 4 {
		db := openStore(t, store.Options{URL: secret.New(url)})
		wg.Go(func() {
			if err := vector.NewTable(db).Create(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

// clusters fills a space: meaning comes in clusters. Owner i has the vectors 4i to 4i+3.
func clusters(t testing.TB, s vector.Space, rnd *rand.Rand, n, dim int) (centres [][]float32) {
	t.Helper()
	for range 60 {
		centres = append(centres, vectortest.Unit(rnd, dim))
	}
	var items []vector.Item
	for id := range int64(n) {
		items = append(items, vector.Item{ID: id, Owner: id / 4, Vector: vectortest.Near(rnd, centres[rnd.IntN(len(centres))], 0.7)})
		if len(items) == 1000 || id == int64(n)-1 {
			if err := s.Put(t.Context(), items...); err != nil {
				t.Fatal(err)
			}
			items = items[:0]
		}
	}
	return centres
}

func graph(t *testing.T, server *pgtest.Server) {
	const n, dim = 3000, 48
	db, table := openTable(t, server.VectorDatabase())
	table.SetExact(500)
	name := vector.Name{Space: "s", Model: vectortest.Model, Dim: dim}
	s, truth := table.Space(name), vector.NewMemory(vectortest.Model, dim)
	centres := clusters(t, s, rand.New(rand.NewPCG(1, 1)), n, dim)
	clusters(t, truth, rand.New(rand.NewPCG(1, 1)), n, dim)
	other := table.Space(vector.Name{Space: "small", Model: vectortest.Model, Dim: 3})
	if err := other.Put(t.Context(), vector.Item{ID: 1, Owner: 1 << 40, Vector: []float32{1, 0, 0}}); err != nil {
		t.Fatal(err)
	}
	graphs := func() (names []string) {
		rows, err := db.Query(t.Context(), "SELECT indexname FROM pg_indexes WHERE indexdef LIKE '%hnsw%' ORDER BY 1")
		if err != nil {
			t.Fatal(err)
		}
		defer rows.Close() //nolint:errcheck // a test's
		for rows.Next() {
			var s string
			if err := rows.Scan(&s); err != nil {
				t.Fatal(err)
			}
			names = append(names, s)
		}
		return names
	}
	for range 2 {
		if err := table.Tend(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if got := graphs(); len(got) != 1 {
		t.Fatalf("graphs %v, want the large space's", got)
	}
	rnd := rand.New(rand.NewPCG(2, 2))
	for _, c := range []struct {
		name   string
		of     int64 // every of-th owner is allowed
		least  float64
		absent bool // all are allowed by leaving the owners out
	}{{"all", 1, .95, true}, {"all, named", 1, .95, false}, {"half", 2, .95, false}, {"a tenth", 10, 1, false}, {"a hundredth", 100, 1, false}} {
		var owners []int64
		for o := int64(0); o < n/4 && !c.absent; o += c.of {
			owners = append(owners, o)
		}
		sum := 0.0
		const queries = 40
		for range queries {
			q := vector.Query{Model: vectortest.Model, Vector: vectortest.Near(rnd, centres[rnd.IntN(len(centres))], 0.7)}
			got, err := s.Search(t.Context(), q, 10, owners)
			if err != nil {
				t.Fatal(err)
			}
			want, err := truth.Search(t.Context(), q, 10, owners)
			if err != nil {
				t.Fatal(err)
			}
			if len(got) != len(want) {
				t.Fatalf("%s: %d hits, want %d", c.name, len(got), len(want))
			}
			for _, h := range got {
				if !c.absent && h.ID/4%c.of != 0 {
					t.Errorf("%s: %d was found, though not allowed", c.name, h.ID)
				}
			}
			sum += vectortest.Recall(got, want)
		}
		if r := sum / queries; r < c.least {
			t.Errorf("%s: recall %.3f, want %.2f", c.name, r, c.least)
		}
	}
	// More than the walk gives: the rest is found one by one.
	all, err := s.Search(t.Context(), vector.Query{Model: vectortest.Model, Vector: centres[0]}, n, nil)
	if err != nil || len(all) != n {
		t.Errorf("of all %d vectors %d were found, %v", n, len(all), err)
	}
	if !usesGraph(t, db, dim) {
		t.Error("the graph is not used")
	}
	var owners []int64
	for o := range int64(n / 4) {
		owners = append(owners, o)
	}
	if err := s.Delete(t.Context(), owners...); err != nil {
		t.Fatal(err)
	}
	if err := table.Tend(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := graphs(); len(got) != 0 {
		t.Errorf("graphs %v after the space was emptied", got)
	}
	if n, err := other.Len(t.Context()); err != nil || n != 1 {
		t.Errorf("the other space holds %d, %v", n, err)
	}
}

// usesGraph asks whether the server walked a graph since it started.
func usesGraph(t *testing.T, db *store.DB, dim int) bool {
	t.Helper()
	q := fmt.Sprintf("EXPLAIN SELECT id FROM probe_vector_item v WHERE v.space = 1 ORDER BY v.embedding::vector(%d) <#> (SELECT embedding::vector(%d) FROM probe_vector_item WHERE space = 1 LIMIT 1) LIMIT 10", dim, dim)
	rows, err := db.Query(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close() //nolint:errcheck // a test's
	used := false
	for rows.Next() {
		var line string
		if err := rows.Scan(&line); err != nil {
			t.Fatal(err)
		}
		used = used || strings.Contains(line, "_near_")
	}
	return used
}

func cutOff(t *testing.T, server *pgtest.Server) {
	db, table := openTable(t, server.VectorDatabase())
	table.SetExact(50)
	s := table.Space(vector.Name{Space: "s", Model: vectortest.Model, Dim: 8})
	centres := clusters(t, s, rand.New(rand.NewPCG(1, 1)), 200, 8)
	if err := table.Tend(t.Context()); err != nil {
		t.Fatal(err)
	}
	// As a crash in the middle leaves it.
	err := db.Tx(t.Context(), func(tx *store.Tx) error {
		if _, err := tx.Exec(t.Context(), "UPDATE probe_vector_space SET indexed = 0"); err != nil {
			return err
		}
		_, err := tx.Exec(t.Context(), "UPDATE pg_index SET indisvalid = false WHERE indexrelid = to_regclass('probe_vector_near_1')")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if hits, err := s.Search(t.Context(), vector.Query{Model: vectortest.Model, Vector: centres[0]}, 10, nil); err != nil || len(hits) != 10 {
		t.Errorf("meanwhile: %v, %v", hits, err)
	}
	if err := table.Tend(t.Context()); err != nil {
		t.Fatal(err)
	}
	var valid bool
	if err := db.QueryRow(t.Context(), "SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass('probe_vector_near_1')").Scan(&valid); err != nil || !valid {
		t.Errorf("valid = %v, %v", valid, err)
	}
}

func missing(t *testing.T, server *pgtest.Server) {
	server.Exec("postgres", "CREATE ROLE aran_probe LOGIN", "CREATE DATABASE aran_probe OWNER aran_probe TEMPLATE template0 ENCODING 'UTF8' LOCALE 'C'")
	db := openStore(t, store.Options{URL: secret.New(server.URL("aran_probe", "aran_probe"))})
	table := vector.NewTable(db)
	err := table.Create(t.Context())
	if f := fault.From(err); f == nil || f.Code != "pgvector_missing" || !strings.Contains(f.Detail, "CREATE EXTENSION vector") {
		t.Errorf("error %v", err)
	}
	server.Exec("aran_probe", "CREATE SCHEMA elsewhere", "CREATE EXTENSION vector SCHEMA elsewhere")
	if err := table.Create(t.Context()); fault.From(err) == nil || fault.From(err).Code != "pgvector_elsewhere" {
		t.Errorf("error %v", err)
	}
	server.Exec("aran_probe", "ALTER EXTENSION vector SET SCHEMA public")
	if err := table.Create(t.Context()); err != nil {
		t.Error(err)
	}
	if err := table.Tend(t.Context()); err != nil { // with the rights of the role alone
		t.Error(err)
	}
}

func crash(t *testing.T, server *pgtest.Server) {
	url := server.VectorDatabase()
	_, table := openTable(t, url)
	n := vector.Name{Space: "s", Model: vectortest.Model, Dim: 16}
	centres := clusters(t, table.Space(n), rand.New(rand.NewPCG(1, 1)), 500, 16)
	q := vector.Query{Model: vectortest.Model, Vector: centres[0]}
	before, err := table.Space(n).Search(t.Context(), q, 50, nil)
	if err != nil {
		t.Fatal(err)
	}
	server.Kill()
	if _, err := table.Space(n).Search(t.Context(), q, 50, nil); fault.KindOf(err) != fault.Unavailable {
		t.Errorf("without a server: %v", err)
	}
	server.Restart()
	_, table = openTable(t, url)
	after, err := table.Space(n).Search(t.Context(), q, 50, nil)
	if err != nil || !slices.Equal(before, after) {
		t.Errorf("after the crash %v, %v; before it %v", after, err, before)
	}
}
