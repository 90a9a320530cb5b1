package vector

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"aran/platform/fault"
	"aran/platform/store"
)

// texts are the statements on the tables of spaces and their vectors. $S is the service, $N the number of a space, $D a
// dimension. The index of a large space is partial, so the space's number stands in the text.
type texts struct {
	create                                        []string
	there, space, addSpace, put, deleteAll, count string
	deleteSpace, exact, near, some                string
	large, empty, marked, built, indexes, dropOne string
	build                                         string
}

const (
	extension  = `SELECT COALESCE((SELECT extversion FROM pg_extension WHERE extname = 'vector'), ''), to_regtype('vector') IS NOT NULL`
	addVector  = `CREATE EXTENSION IF NOT EXISTS vector`
	searchWith = `SELECT set_config('hnsw.iterative_scan', 'strict_order', true), set_config('hnsw.ef_search', $1, true)`
	buildWith  = `SET statement_timeout = 0; SET lock_timeout = 0; SET maintenance_work_mem = '256MB'`
	buildReset = `RESET statement_timeout; RESET lock_timeout; RESET maintenance_work_mem`
)

func textsFor(service string) texts {
	t := strings.NewReplacer("$S", service)
	return texts{
		create: []string{
			t.Replace(`CREATE TABLE IF NOT EXISTS $S_vector_space (id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name TEXT NOT NULL UNIQUE, model TEXT NOT NULL, dim BIGINT NOT NULL, indexed BIGINT NOT NULL DEFAULT 0)`),
			t.Replace(`CREATE TABLE IF NOT EXISTS $S_vector_item (space BIGINT NOT NULL, id BIGINT NOT NULL, owner BIGINT NOT NULL, embedding vector NOT NULL, PRIMARY KEY (space, id))`),
			// In the row itself: a scan must not fetch each vector from elsewhere.
			t.Replace(`ALTER TABLE $S_vector_item ALTER COLUMN embedding SET STORAGE PLAIN`),
			t.Replace(`CREATE INDEX IF NOT EXISTS $S_vector_item_owner ON $S_vector_item (owner, space)`),
		},
		there:    t.Replace(`SELECT to_regclass('$S_vector_item') IS NOT NULL`),
		space:    t.Replace(`SELECT id, model, dim, indexed FROM $S_vector_space WHERE name = $1`),
		addSpace: t.Replace(`INSERT INTO $S_vector_space (name, model, dim) VALUES ($1, $2, $3) RETURNING id`),
		put: t.Replace(`INSERT INTO $S_vector_item (space, id, owner, embedding)
			SELECT $1, x.id, x.owner, x.embedding::vector FROM unnest($2::bigint[], $3::bigint[], $4::text[]) AS x (id, owner, embedding)
			ON CONFLICT (space, id) DO UPDATE SET owner = excluded.owner, embedding = excluded.embedding`),
		deleteAll:   t.Replace(`DELETE FROM $S_vector_item WHERE owner = ANY($1::bigint[])`),
		deleteSpace: t.Replace(`DELETE FROM $S_vector_item WHERE owner = ANY($1::bigint[]) AND space = $2`),
		count:       t.Replace(`SELECT COUNT(*) FROM $S_vector_item v JOIN $S_vector_space s ON s.id = v.space WHERE s.name = $1`),
		// The index is on another expression, so that no plan for this text can use it.
		exact: t.Replace(`SELECT v.id, -(v.embedding <#> $Q::real[]::vector) FROM $S_vector_item v WHERE v.space = $N AND ($C)
			ORDER BY v.embedding <#> $Q::real[]::vector, v.id LIMIT $K`),
		near: t.Replace(`SELECT v.id, -(v.embedding::vector($D) <#> $Q::real[]::vector($D)) FROM $S_vector_item v WHERE v.space = $N AND ($C)
			ORDER BY v.embedding::vector($D) <#> $Q::real[]::vector($D) LIMIT $K`),
		some:    t.Replace(`SELECT COUNT(*) FROM (SELECT 1 FROM $S_vector_item v WHERE v.space = $N AND ($C) LIMIT $L) x`),
		large:   t.Replace(`SELECT s.id, s.dim FROM $S_vector_space s JOIN (SELECT space FROM $S_vector_item GROUP BY space HAVING COUNT(*) > $1) l ON l.space = s.id WHERE s.indexed = 0`),
		empty:   t.Replace(`DELETE FROM $S_vector_space s WHERE NOT EXISTS (SELECT 1 FROM $S_vector_item v WHERE v.space = s.id)`),
		marked:  t.Replace(`UPDATE $S_vector_space SET indexed = 1 WHERE id = $1`),
		built:   `SELECT i.indisvalid FROM pg_class c JOIN pg_index i ON i.indexrelid = c.oid WHERE c.oid = to_regclass($1)`,
		dropOne: t.Replace(`DROP INDEX CONCURRENTLY IF EXISTS $S_vector_near_$N`),
		build: t.Replace(`CREATE INDEX CONCURRENTLY $S_vector_near_$N ON $S_vector_item
			USING hnsw ((embedding::vector($D)) vector_ip_ops) WITH (m = 16, ef_construction = 128) WHERE space = $N`),
		// Indexes of spaces that are gone.
		indexes: t.Replace(`SELECT substr(x.indexname, length('$S_vector_near_') + 1)::bigint FROM pg_indexes x
			WHERE x.schemaname = 'public' AND x.tablename = '$S_vector_item' AND x.indexname ~ '^$S_vector_near_[0-9]+$'
			AND NOT EXISTS (SELECT 1 FROM $S_vector_space s WHERE s.id = substr(x.indexname, length('$S_vector_near_') + 1)::bigint)`),
	}
}

const (
	maxDim     = 2000   // what pgvector indexes and a page holds
	exactUpTo  = 20_000 // so many allowed vectors are compared one by one
	minBeam    = 200    // how many candidates a walk through the graph keeps
	maxBeam    = 1000   // pgvector's own limit
	putRows    = 200    // in one statement
	buildLimit = time.Hour
)

// Table keeps spaces in a service's own PostgreSQL database, with pgvector. Safe for concurrent use, by replicas too.
//
// Up to 20,000 allowed vectors a search compares all of them: its answers are exact. Above that it walks a graph (HNSW,
// Malkov & Yashunin 2018), which Tend makes for each space that large, and goes on walking until k allowed ones are
// found; where the graph gives fewer than there are, they are compared one by one after all.
type Table struct {
	db    *store.DB
	text  texts
	exact int
}

// NewTable names the tables in a database; nothing is made before Create.
func NewTable(db *store.DB) *Table { return &Table{db, textsFor(db.Service()), exactUpTo} }

// Create makes the tables if they are not there. It fails when the database is not PostgreSQL with pgvector 0.8 or newer.
func (t *Table) Create(ctx context.Context) error {
	if !t.db.Shared() {
		return fault.New(fault.Unsupported, "pgvector_needs_postgresql", "pgvector is an extension of PostgreSQL, and this database is a file.")
	}
	return t.db.InTurn(ctx, t.db.Service()+" vectors", func(ctx context.Context) error {
		if err := t.checkExtension(ctx); err != nil {
			return err
		}
		return t.db.Tx(ctx, func(tx *store.Tx) error {
			if there, err := t.There(ctx, tx); err != nil || there {
				return err
			}
			for _, q := range t.text.create {
				if _, err := tx.Exec(ctx, q); err != nil {
					return err
				}
			}
			return nil
		})
	})
}

// checkExtension looks for pgvector, and adds it where the role may.
func (t *Table) checkExtension(ctx context.Context) error {
	var version string
	var seen bool
	if err := t.db.QueryRow(ctx, extension).Scan(&version, &seen); err != nil {
		return err
	}
	if version == "" {
		if _, err := t.db.Pool().Exec(ctx, addVector); err != nil {
			return fault.New(fault.Conflict, "pgvector_missing",
				"The database of %s has no pgvector, and its role may not add it: have a superuser run CREATE EXTENSION vector in that database (with pgvector 0.8 or newer installed on the server).", t.db.Service()).Because(err)
		}
		if err := t.db.QueryRow(ctx, extension).Scan(&version, &seen); err != nil {
			return err
		}
	}
	if !seen {
		return fault.New(fault.Conflict, "pgvector_elsewhere", "The extension vector is in a schema that %s does not look in: have a superuser run ALTER EXTENSION vector SET SCHEMA public.", t.db.Service())
	}
	if old(version) {
		return fault.New(fault.Conflict, "pgvector_old", "pgvector %s is too old; 0.8 or newer is needed: install it on the server and have a superuser run ALTER EXTENSION vector UPDATE.", version)
	}
	return nil
}

// old reports whether a version is before 0.8.
func old(version string) bool {
	major, rest, _ := strings.Cut(version, ".")
	minor, _, _ := strings.Cut(rest, ".")
	m, err := strconv.Atoi(minor)
	return major == "0" && (err != nil || m < 8)
}

// There reports whether the tables are there, as a transaction sees it: whoever changes what they are made of changes
// them too from then on, whether it searches in them or not.
func (t *Table) There(ctx context.Context, q store.Querier) (there bool, err error) {
	if !t.db.Shared() {
		return false, nil
	}
	return there, q.QueryRow(ctx, t.text.there).Scan(&there)
}

// Name is a space by its name, with the digest of the model that makes its vectors, and their dimension. The first Put
// pins both.
type Name struct {
	Space, Model string
	Dim          int
}

// Space returns a space as an implementation of the interface. It need not be there yet.
func (t *Table) Space(n Name) *Stored { return &Stored{t, n} }

// row is a space as it is stored.
type row struct {
	id, dim, indexed int64
	model            string
}

func (t *Table) find(ctx context.Context, q store.Querier, name string) (r row, err error) {
	err = q.QueryRow(ctx, t.text.space, name).Scan(&r.id, &r.model, &r.dim, &r.indexed)
	if store.NoRows(err) {
		return row{}, nil
	}
	return r, err
}

// Put adds or replaces vectors of a space, in a transaction of the caller's. Errors as in Space.
func (t *Table) Put(ctx context.Context, tx *store.Tx, n Name, items ...Item) error {
	for _, i := range items {
		if err := check(i.Vector, n.Dim); err != nil {
			return err
		}
	}
	if len(items) == 0 {
		return nil
	}
	r, err := t.find(ctx, tx, n.Space)
	if err != nil {
		return err
	}
	if r.id == 0 {
		if n.Dim > maxDim {
			return fault.New(fault.Invalid, "vector_dimension", "The vector has %d dimensions; pgvector indexes up to %d.", n.Dim, maxDim)
		}
		r = row{model: n.Model, dim: int64(n.Dim)}
		if err := tx.QueryRow(ctx, t.text.addSpace, n.Space, n.Model, n.Dim).Scan(&r.id); err != nil {
			return err
		}
	}
	if err := r.fits(n.Model, n.Dim); err != nil {
		return err
	}
	for rows := range slices.Chunk(lastOfEach(items), putRows) {
		ids, owners, texts := make([]int64, len(rows)), make([]int64, len(rows)), make([]string, len(rows))
		for i, x := range rows {
			ids[i], owners[i], texts[i] = x.ID, x.Owner, literal(x.Vector)
		}
		if _, err := tx.Exec(ctx, t.text.put, r.id, ids, owners, texts); err != nil {
			return err
		}
	}
	return nil
}

func (r row) fits(model string, dim int) error {
	if err := checkModel(r.model, model); err != nil {
		return err
	}
	if r.dim != int64(dim) {
		return fault.New(fault.Invalid, "vector_dimension", "The vector has %d dimensions; those it belongs with have %d.", dim, r.dim)
	}
	return nil
}

// lastOfEach drops items that a later one replaces: one statement can't write a row twice.
func lastOfEach(items []Item) []Item {
	last := make(map[int64]int, len(items))
	for i, x := range items {
		last[x.ID] = i
	}
	if len(last) == len(items) {
		return items
	}
	out := make([]Item, 0, len(last))
	for i, x := range items {
		if last[x.ID] == i {
			out = append(out, x)
		}
	}
	return out
}

// literal is a vector as pgvector reads it; each number comes back as it was.
func literal(v []float32) string {
	b := make([]byte, 0, 12*len(v))
	b = append(b, '[')
	for i, f := range v {
		if i > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendFloat(b, float64(f), 'g', -1, 32)
	}
	return string(append(b, ']'))
}

// Delete removes all vectors of owners in every space, in a transaction of the caller's.
func (t *Table) Delete(ctx context.Context, tx *store.Tx, owners ...int64) error {
	_, err := tx.Exec(ctx, t.text.deleteAll, owners)
	return err
}

// DeleteOf removes the vectors of owners in one space, in a transaction of the caller's.
func (t *Table) DeleteOf(ctx context.Context, tx *store.Tx, space string, owners ...int64) error {
	r, err := t.find(ctx, tx, space)
	if err != nil || r.id == 0 {
		return err
	}
	_, err = tx.Exec(ctx, t.text.deleteSpace, owners, r.id)
	return err
}

// Condition says which rows v (with v.owner) a search may look at: SQL with parameters from $1 on. It is part of the
// search's statement. Empty: all of the space.
type Condition struct {
	SQL  string
	Args []any
}

// Search finds the k nearest of a space's vectors among those that the condition lets through. Errors and order as in Space.
func (t *Table) Search(ctx context.Context, space string, q Query, k int, c Condition) (hits []Hit, err error) {
	if err := check(q.Vector, len(q.Vector)); err != nil {
		return nil, err
	}
	err = t.db.Snapshot(ctx, func(s store.Querier) error {
		r, err := t.find(ctx, s, space)
		if err != nil || r.id == 0 {
			return err
		}
		if err := r.fits(q.Model, len(q.Vector)); err != nil || k <= 0 {
			return err
		}
		hits, err = t.search(ctx, s, r, q.Vector, k, c)
		return err
	})
	return hits, err
}

func (t *Table) search(ctx context.Context, s store.Querier, r row, q []float32, k int, c Condition) ([]Hit, error) {
	if c.SQL == "" {
		c.SQL = "TRUE"
	}
	if r.indexed == 0 {
		return t.scan(ctx, s, t.text.exact, r, q, k, c)
	}
	var n int
	if err := s.QueryRow(ctx, t.expand(t.text.some, r, c), append(slices.Clone(c.Args), t.exact+1)...).Scan(&n); err != nil {
		return nil, err
	}
	if n > t.exact && k <= t.exact {
		beam := min(max(4*k, minBeam), maxBeam)
		if err := s.QueryRow(ctx, searchWith, strconv.Itoa(beam)).Scan(new(string), new(string)); err != nil {
			return nil, err
		}
		hits, err := t.scan(ctx, s, t.text.near, r, q, k, c)
		if err != nil || len(hits) == k {
			return hits, err
		}
	}
	return t.scan(ctx, s, t.text.exact, r, q, k, c)
}

// expand puts the condition into a statement, and the statement's own parameters behind the condition's.
func (*Table) expand(text string, r row, c Condition) string {
	n := len(c.Args)
	return strings.NewReplacer("$Q", "$"+strconv.Itoa(n+1), "$L", "$"+strconv.Itoa(n+1), "$K", "$"+strconv.Itoa(n+2), "$C", c.SQL,
		"$N", strconv.FormatInt(r.id, 10), "$D", strconv.FormatInt(r.dim, 10)).Replace(text)
}

func (t *Table) scan(ctx context.Context, s store.Querier, text string, r row, q []float32, k int, c Condition) (hits []Hit, err error) {
	rows, err := s.Query(ctx, t.expand(text, r, c), append(slices.Clone(c.Args), q, k)...)
	if err != nil {
		return nil, err
	}
	defer rows.Close() //nolint:errcheck // read only
	for rows.Next() {
		var id int64
		var score float64
		if err := rows.Scan(&id, &score); err != nil {
			return nil, err
		}
		hits = append(hits, Hit{id, float32(score)})
	}
	slices.SortFunc(hits, func(a, b Hit) int { return cmp.Or(cmp.Compare(b.Score, a.Score), cmp.Compare(a.ID, b.ID)) })
	return hits, rows.Err()
}

// Tend makes the graph of each space that has grown large, and drops what belongs to none. It takes minutes for
// hundreds of thousands of vectors, holds no writer up, and does nothing while another replica does it.
func (t *Table) Tend(ctx context.Context) error {
	_, err := t.db.Alone(ctx, t.db.Service()+" vector graphs", func(ctx context.Context) error {
		if err := t.db.Tx(ctx, func(tx *store.Tx) error { _, err := tx.Exec(ctx, t.text.empty); return err }); err != nil {
			return err
		}
		conn, err := t.db.Pool().Acquire(ctx)
		if err != nil {
			return err
		}
		defer conn.Release()
		ctx, cancel := context.WithTimeout(ctx, buildLimit)
		defer cancel()
		if _, err := conn.Exec(ctx, buildWith); err != nil {
			return err
		}
		err = errors.Join(t.dropUnused(ctx, conn), t.buildMissing(ctx, conn))
		if _, reset := conn.Exec(context.WithoutCancel(ctx), buildReset); reset != nil {
			err = errors.Join(err, reset, conn.Conn().Close(ctx))
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("tend vectors: %w", err)
	}
	return nil
}

func (t *Table) dropUnused(ctx context.Context, conn *pgxpool.Conn) error {
	rows, err := t.db.Query(ctx, t.text.indexes)
	if err != nil {
		return err
	}
	unused, err := numbers(rows, 1)
	if err != nil {
		return err
	}
	for _, n := range unused {
		if _, err := conn.Exec(ctx, t.expand(t.text.dropOne, row{id: n[0]}, Condition{})); err != nil {
			return err
		}
	}
	return nil
}

func (t *Table) buildMissing(ctx context.Context, conn *pgxpool.Conn) error {
	rows, err := t.db.Query(ctx, t.text.large, t.exact)
	if err != nil {
		return err
	}
	large, err := numbers(rows, 2)
	if err != nil {
		return err
	}
	for _, n := range large {
		r := row{id: n[0], dim: n[1]}
		var valid bool
		err := t.db.QueryRow(ctx, t.text.built, t.db.Service()+"_vector_near_"+strconv.FormatInt(r.id, 10)).Scan(&valid)
		if err != nil && !store.NoRows(err) {
			return err
		}
		if !valid { // never made, or its making was cut off
			for _, q := range []string{t.text.dropOne, t.text.build} {
				if _, err := conn.Exec(ctx, t.expand(q, r, Condition{})); err != nil {
					return err
				}
			}
		}
		err = t.db.Tx(ctx, func(tx *store.Tx) error { _, err := tx.Exec(ctx, t.text.marked, r.id); return err })
		if err != nil {
			return err
		}
	}
	return nil
}

// numbers reads rows of whole numbers.
func numbers(rows store.Rows, columns int) (out [][]int64, err error) {
	defer rows.Close() //nolint:errcheck // read only
	for rows.Next() {
		line, into := make([]int64, columns), make([]any, columns)
		for i := range line {
			into[i] = &line[i]
		}
		if err := rows.Scan(into...); err != nil {
			return nil, err
		}
		out = append(out, line)
	}
	return out, rows.Err()
}

// Stored is a Space in a Table: each call is a transaction of its own.
type Stored struct {
	table *Table
	name  Name
}

// Put implements Space.
func (s *Stored) Put(ctx context.Context, items ...Item) error {
	return s.table.db.Tx(ctx, func(tx *store.Tx) error { return s.table.Put(ctx, tx, s.name, items...) })
}

// Delete implements Space.
func (s *Stored) Delete(ctx context.Context, owners ...int64) error {
	return s.table.db.Tx(ctx, func(tx *store.Tx) error {
		r, err := s.table.find(ctx, tx, s.name.Space)
		if err != nil || r.id == 0 {
			return err
		}
		_, err = tx.Exec(ctx, s.table.text.deleteSpace, owners, r.id)
		return err
	})
}

// Search implements Space.
func (s *Stored) Search(ctx context.Context, q Query, k int, owners []int64) ([]Hit, error) {
	if err := checkModel(s.name.Model, q.Model); err != nil {
		return nil, err
	}
	if err := check(q.Vector, s.name.Dim); err != nil {
		return nil, err
	}
	var c Condition
	if owners != nil {
		c = Condition{SQL: "v.owner = ANY($1::bigint[])", Args: []any{owners}}
	}
	return s.table.Search(ctx, s.name.Space, q, k, c)
}

// Len implements Space.
func (s *Stored) Len(ctx context.Context) (n int, err error) {
	return n, s.table.db.QueryRow(ctx, s.table.text.count, s.name.Space).Scan(&n)
}
