// Package storetest is what every database behind platform/store must do alike.
package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"aran/platform/fault"
	"aran/platform/store"
)

// Migrations make the one table that the suite uses.
func Migrations() fstest.MapFS {
	return fstest.MapFS{"0001_start.sql": {Data: []byte(`CREATE TABLE probe_thing (id TEXT PRIMARY KEY, n BIGINT NOT NULL, b {{blob}}); CREATE TABLE probe_part (thing TEXT NOT NULL REFERENCES probe_thing (id), size BIGINT NOT NULL DEFAULT 1 CHECK (size > 0))`)}}
}

const (
	insert = `INSERT INTO probe_thing (id, n, b) VALUES ($1, $2, $3)`
	count  = `SELECT COUNT(*) FROM probe_thing`
)

func add(ctx context.Context, db *store.DB, id string, n int64) error {
	return db.Tx(ctx, func(tx *store.Tx) error {
		_, err := tx.Exec(ctx, insert, id, n, []byte{0, 1, 255})
		return err
	})
}

func things(t *testing.T, db *store.DB) (n int) {
	t.Helper()
	if err := db.QueryRow(t.Context(), count).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// Run runs the suite. open returns a database of service "probe" with Migrations, empty at the first call of a subtest
// and the same one at later calls with the same t.
func Run(t *testing.T, open func(t *testing.T) *store.DB) {
	t.Run("values come back as they went in", func(t *testing.T) { values(t, open(t)) })
	t.Run("an error undoes only its own transaction", func(t *testing.T) { alone(t, open(t)) })
	t.Run("a panic undoes its own transaction and reaches its caller", func(t *testing.T) { panics(t, open(t)) })
	t.Run("concurrent writers", func(t *testing.T) { concurrent(t, open(t)) })
	t.Run("constraints", func(t *testing.T) { constraints(t, open(t)) })
	t.Run("outbox", func(t *testing.T) { outbox(t, open(t)) })
	t.Run("inbox", func(t *testing.T) { inbox(t, open(t)) })
	t.Run("idempotency keys", func(t *testing.T) { idempotency(t, open(t)) })
	t.Run("text that one of the databases could not keep", func(t *testing.T) { unstorable(t, open(t)) })
	t.Run("an undone statement does not end the others", func(t *testing.T) { undone(t, open(t)) })
	t.Run("text sorts by bytes", func(t *testing.T) { sorted(t, open(t)) })
	t.Run("reads inside a transaction see its writes", func(t *testing.T) { ownWrites(t, open(t)) })
	t.Run("a cancelled transaction does nothing", func(t *testing.T) { cancelled(t, open(t)) })
}

func values(t *testing.T, db *store.DB) {
	at := time.Now().UnixMicro()
	if err := add(t.Context(), db, "வணக்கம்", at); err != nil {
		t.Fatal(err)
	}
	for name, in := range map[string][]byte{"none": nil, "zeros": make([]byte, 3), "large": bytes.Repeat([]byte{0, 0xff, '\''}, 400_000)} {
		var out []byte
		err := db.Tx(t.Context(), func(tx *store.Tx) error {
			_, err := tx.Exec(t.Context(), insert, name, math.MinInt64, in)
			return err
		})
		var least int64
		if err := errors.Join(err, db.QueryRow(t.Context(), `SELECT n, b FROM probe_thing WHERE id = $1`, name).Scan(&least, &out)); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(in, out) || (in == nil) != (out == nil) || least != math.MinInt64 {
			t.Errorf("%s: %d bytes come back as %d, and %d", name, len(in), len(out), least)
		}
	}
	var id string
	var n int64
	var b []byte
	if err := db.QueryRow(t.Context(), `SELECT id, n, b FROM probe_thing WHERE id = $1`, "வணக்கம்").Scan(&id, &n, &b); err != nil || n != at || len(b) != 3 || b[2] != 255 {
		t.Errorf("read %q %d %v, %v", id, n, b, err)
	}
	if err := db.QueryRow(t.Context(), `SELECT id FROM probe_thing WHERE id = $1`, "x").Scan(&id); !store.NoRows(err) {
		t.Errorf("a row that is not there: %v", err)
	}
}

func alone(t *testing.T, db *store.DB) {
	broken := errors.New("broken")
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			err := db.Tx(t.Context(), func(tx *store.Tx) error {
				if _, err := tx.Exec(t.Context(), insert, fmt.Sprint(i), i, nil); err != nil {
					return err
				}
				if i%2 == 1 {
					return broken
				}
				return nil
			})
			if (i%2 == 1) != errors.Is(err, broken) {
				t.Errorf("transaction %d: %v", i, err)
			}
		})
	}
	wg.Wait()
	if n := things(t, db); n != 10 {
		t.Errorf("%d rows, want the 10 of the good transactions", n)
	}
}

func panics(t *testing.T, db *store.DB) {
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the panic was swallowed")
			}
		}()
		_ = db.Tx(t.Context(), func(tx *store.Tx) error {
			if _, err := tx.Exec(t.Context(), insert, "p", 1, nil); err != nil {
				t.Error(err)
			}
			panic("bug")
		})
	}()
	if n := things(t, db); n != 0 {
		t.Errorf("%d rows after the panic", n)
	}
	if err := add(t.Context(), db, "after", 1); err != nil {
		t.Errorf("the writer did not survive: %v", err)
	}
}

func concurrent(t *testing.T, db *store.DB) {
	const writers, each = 16, 20
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				if err := add(t.Context(), db, fmt.Sprint(w, "-", i), 1); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if n := things(t, db); n != writers*each {
		t.Errorf("%d rows, want %d", n, writers*each)
	}
}

func constraints(t *testing.T, db *store.DB) {
	if err := add(t.Context(), db, "a", 1); err != nil {
		t.Fatal(err)
	}
	err := add(t.Context(), db, "a", 2)
	if !store.IsUnique(err) || fault.KindOf(err) != fault.Conflict {
		t.Errorf("the same key twice: %v", err)
	}
	err = db.Tx(t.Context(), func(tx *store.Tx) error {
		_, err := tx.Exec(t.Context(), `INSERT INTO probe_part (thing) VALUES ($1)`, "nobody")
		return err
	})
	if fault.KindOf(err) != fault.Conflict || store.IsUnique(err) {
		t.Errorf("a reference to nothing: %v", err)
	}
	for what, statement := range map[string]string{
		"nothing where something must be": `INSERT INTO probe_thing (id, n) VALUES ($1, NULL)`,
		"a value that breaks a check":     `INSERT INTO probe_part (thing, size) SELECT $1, 0 FROM probe_thing WHERE id = 'a'`,
	} {
		err := db.Tx(t.Context(), func(tx *store.Tx) error {
			_, err := tx.Exec(t.Context(), statement, "a2")
			return err
		})
		if fault.KindOf(err) != fault.Conflict || store.IsUnique(err) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if n := things(t, db); n != 1 {
		t.Errorf("%d rows after what was refused", n)
	}
	err = db.Tx(t.Context(), func(tx *store.Tx) error {
		return tx.ExecOne(t.Context(), `UPDATE probe_thing SET n = $1 WHERE id = $2`, 3, "nobody")
	})
	if fault.KindOf(err) != fault.Conflict {
		t.Errorf("ExecOne that changes nothing: %v", err)
	}
}

func outbox(t *testing.T, db *store.DB) {
	broken := errors.New("broken")
	emit := func(id string, fail error) error {
		return db.Tx(t.Context(), func(tx *store.Tx) error {
			if err := tx.Emit(t.Context(), store.Event{ID: id, Type: "aran.probe.done.v1", Data: map[string]int{"n": 1}}); err != nil {
				return err
			}
			return fail
		})
	}
	if err := emit("e1", nil); err != nil {
		t.Fatal(err)
	}
	select {
	case <-db.Committed():
	case <-time.After(5 * time.Second):
		t.Error("nobody was woken")
	}
	if err := emit("e2", broken); !errors.Is(err, broken) {
		t.Fatal(err)
	}
	pending, err := db.Pending(t.Context(), 10)
	if err != nil || len(pending) != 1 || pending[0].ID != "e1" {
		t.Fatalf("pending %v, %v: want the committed event only", pending, err)
	}
	if err := db.MarkSent(t.Context(), []int64{pending[0].Sequence}); err != nil {
		t.Fatal(err)
	}
	if pending, err = db.Pending(t.Context(), 10); err != nil || len(pending) != 0 {
		t.Errorf("pending after sending: %v, %v", pending, err)
	}
	if err := db.Replay(t.Context()); err != nil {
		t.Fatal(err)
	}
	if pending, err = db.Pending(t.Context(), 10); err != nil || len(pending) != 1 {
		t.Errorf("pending after replay: %v, %v", pending, err)
	}
	if err := emit("e3", nil); err != nil {
		t.Fatal(err)
	}
	if err := db.MarkSent(t.Context(), []int64{pending[0].Sequence}); err != nil {
		t.Fatal(err)
	}
	if err := db.Prune(t.Context(), time.Now().Add(time.Second), time.Time{}); err != nil {
		t.Fatal(err)
	}
	if n, err := db.Unsent(t.Context()); err != nil || n != 1 {
		t.Errorf("%d unsent after pruning, %v: what was not sent must stay", n, err)
	}
	foreign := db.Tx(t.Context(), func(tx *store.Tx) error {
		return tx.Emit(t.Context(), store.Event{Type: "aran.other.done.v1"})
	})
	if foreign == nil {
		t.Error("an event of another service was taken")
	}
}

func inbox(t *testing.T, db *store.DB) {
	see := func(consumer string, fail error) (fresh bool, err error) {
		err = db.Tx(t.Context(), func(tx *store.Tx) error {
			f, err := tx.Seen(t.Context(), consumer, "e1")
			fresh = f
			return errors.Join(err, fail)
		})
		return fresh, err
	}
	broken := errors.New("broken")
	if fresh, err := see("a", broken); !fresh || !errors.Is(err, broken) {
		t.Errorf("first: %v, %v", fresh, err)
	}
	if fresh, err := see("a", nil); !fresh || err != nil {
		t.Errorf("again after an undone effect: fresh %v, %v", fresh, err)
	}
	if fresh, err := see("a", nil); fresh || err != nil {
		t.Errorf("the same event twice: fresh %v, %v", fresh, err)
	}
	if fresh, err := see("b", nil); !fresh || err != nil {
		t.Errorf("another consumer: fresh %v, %v", fresh, err)
	}
}

func cancelled(t *testing.T, db *store.DB) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := add(ctx, db, "c", 1); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	if n := things(t, db); n != 0 {
		t.Errorf("%d rows", n)
	}
}

func idempotency(t *testing.T, db *store.DB) {
	once := func(key, request string) (answer string, err error) {
		err = db.Tx(t.Context(), func(tx *store.Tx) error {
			old, err := tx.Replay(t.Context(), "t1/make", key, []byte(request))
			if err != nil || old != nil {
				answer = "again " + string(old)
				return err
			}
			answer = "first"
			return tx.Remember(t.Context(), "t1/make", key, []byte(request), []byte(request+" done"))
		})
		return answer, err
	}
	for _, c := range []struct {
		key, request, want string
		kind               fault.Kind
	}{
		{"k", "a", "first", 0},
		{"k", "a", "again a done", 0},
		{"k", "b", "", fault.Conflict},
		{"", "a", "first", 0},
		{"", "a", "first", 0},
	} {
		got, err := once(c.key, c.request)
		if c.kind != 0 && fault.KindOf(err) == c.kind {
			continue
		}
		if err != nil || got != c.want {
			t.Errorf("key %q, request %q: %q, %v", c.key, c.request, got, err)
		}
	}
}

func unstorable(t *testing.T, db *store.DB) {
	for _, text := range []string{"a\x00b", "\xff"} {
		if err := add(t.Context(), db, text, 1); fault.KindOf(err) != fault.Invalid {
			t.Errorf("%q: %v", text, err)
		}
		if err := db.QueryRow(t.Context(), `SELECT n FROM probe_thing WHERE id = $1`, text).Scan(new(int64)); fault.KindOf(err) != fault.Invalid {
			t.Errorf("asked for %q: %v", text, err)
		}
	}
}

// undone: transactions that share a commit do not share a failure, whatever the engine does after a failed statement.
func undone(t *testing.T, db *store.DB) {
	if err := add(t.Context(), db, "taken", 1); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for i := range 40 {
		wg.Go(func() {
			id := fmt.Sprint("free", i)
			if i%4 == 0 {
				id = "taken"
			}
			if err := add(t.Context(), db, id, 1); (id == "taken") != store.IsUnique(err) {
				t.Errorf("%s: %v", id, err)
			}
		})
	}
	wg.Wait()
	if n := things(t, db); n != 31 {
		t.Errorf("%d rows, want 31", n)
	}
}

func sorted(t *testing.T, db *store.DB) {
	want := []string{"A", "Z", "_", "a", "b", "z", "ä", "அ"}
	for i := range want {
		if err := add(t.Context(), db, want[len(want)-1-i], 1); err != nil {
			t.Fatal(err)
		}
	}
	rows, err := db.Query(t.Context(), `SELECT id FROM probe_thing ORDER BY id`)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close() //nolint:errcheck // read only
	var got []string
	for rows.Next() {
		var id string
		if err := rows.Scan(&id); err != nil {
			t.Fatal(err)
		}
		got = append(got, id)
	}
	if err := rows.Err(); err != nil || !slices.Equal(got, want) {
		t.Errorf("%q, want %q (%v)", got, want, err)
	}
}

func ownWrites(t *testing.T, db *store.DB) {
	err := db.Tx(t.Context(), func(tx *store.Tx) error {
		if _, err := tx.Exec(t.Context(), insert, "own", 7, nil); err != nil {
			return err
		}
		var n int64
		var b []byte
		if err := tx.QueryRow(t.Context(), `SELECT n, b FROM probe_thing WHERE id = $1`, "own").Scan(&n, &b); err != nil || n != 7 || b != nil {
			t.Errorf("%d %v %v", n, b, err)
		}
		rows, err := tx.Query(t.Context(), `SELECT id FROM probe_thing`)
		if err != nil {
			return err
		}
		defer rows.Close() //nolint:errcheck // read only
		if !rows.Next() {
			t.Error("its own row is not there")
		}
		return rows.Err()
	})
	if err != nil {
		t.Error(err)
	}
	if err := db.QueryRow(t.Context(), `SELECT n FROM probe_thing WHERE id = $1`, "nobody").Scan(new(int64)); !store.NoRows(err) {
		t.Errorf("a row that is not there: %v", err)
	}
}
