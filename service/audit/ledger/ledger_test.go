package ledger_test

import (
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"aran/platform/store"
	"aran/service/audit/ledger"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func leaf(t testing.TB, i int) []byte {
	t.Helper()
	l := ledger.Leaf{
		Actor: "0123456789abcdef", ID: fmt.Sprintf("event-%03d", i), Sealed: fmt.Appendf(nil, "sealed %d", i), Tenant: "acme",
		Time: ledger.At(time.Date(2026, 3, 4, 5, 6, 7, i*1000, time.UTC)), Type: "aran.farm.grown.v1", V: 1,
	}
	b, err := l.Encode()
	must(t, err)
	return b
}

// log is a data directory with a log that was written as the service writes it.
type log struct {
	dir      string
	db       *store.DB
	signer   note.Signer
	verifier string
}

// newLog has n entries, and a checkpoint at 0, after each `every` entries, and at the end less `unsigned`.
func newLog(t testing.TB, n, every, unsigned int) *log {
	t.Helper()
	private, verifier, err := ledger.NewKey("aran.audit/test")
	must(t, err)
	return newLogWith(t, private, verifier, n, every, unsigned)
}

// fixedLog has the same key in each process, as fuzzing needs it.
func fixedLog(t testing.TB, n, every, unsigned int) *log {
	t.Helper()
	seed := make([]byte, ed25519.SeedSize)
	key, ok := ed25519.NewKeyFromSeed(seed).Public().(ed25519.PublicKey)
	if !ok {
		t.Fatal("no public key")
	}
	verifier, err := note.NewEd25519VerifierKey("aran.audit/test", key)
	must(t, err)
	hash := strings.Split(verifier, "+")[1]
	private := "PRIVATE+KEY+aran.audit/test+" + hash + "+" + base64.StdEncoding.EncodeToString(append([]byte{1}, seed...))
	return newLogWith(t, private, verifier, n, every, unsigned)
}

func newLogWith(t testing.TB, private, verifier string, n, every, unsigned int) *log {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	l := &log{dir: t.TempDir(), verifier: verifier}
	var err error
	l.signer, err = note.NewSigner(private)
	must(t, err)
	l.db, err = store.Open(ctx, store.Options{
		Service: "audit", Path: filepath.Join(l.dir, "audit", "audit.db"), Migrations: os.DirFS(".."), Log: slog.New(slog.DiscardHandler),
	})
	must(t, err)
	t.Cleanup(func() { must(t, l.db.Close()) })
	must(t, os.WriteFile(filepath.Join(l.dir, "audit", "verifier.key"), []byte(verifier+"\n"), 0o600))
	front := &ledger.Frontier{}
	must(t, l.db.Tx(ctx, func(tx *store.Tx) error {
		if _, err := tx.Exec(ctx, `INSERT INTO audit_key (id, verifier, sealed, made_at) VALUES (1, $1, x'', 0)`, verifier); err != nil {
			return err
		}
		node := 0
		for i := range n + 1 {
			if i%every == 0 && i <= n-unsigned || i == n-unsigned {
				if err := l.sign(ctx, tx, front); err != nil {
					return err
				}
			}
			if i == n {
				break
			}
			b := leaf(t, i)
			if _, err := tx.Exec(ctx, `INSERT INTO audit_entry (seq, event_id, tenant, type, leaf, added_at) VALUES ($1, $2, 'acme', 'aran.farm.grown.v1', $3, $1)`,
				i, fmt.Sprintf("event-%03d", i), b); err != nil {
				return err
			}
			made := front.Add(tlog.RecordHash(b))
			if i >= n-unsigned {
				continue
			}
			for _, h := range made {
				if _, err := tx.Exec(ctx, `INSERT INTO audit_node (id, hash) VALUES ($1, $2)`, node, h[:]); err != nil {
					return err
				}
				node++
			}
		}
		return nil
	}))
	return l
}

func (l *log) sign(ctx context.Context, tx *store.Tx, front *ledger.Frontier) error {
	root, err := front.Root()
	if err != nil {
		return err
	}
	signed, err := ledger.Checkpoint{Origin: l.signer.Name(), Size: front.Size(), Root: root}.Sign(l.signer)
	if err != nil {
		return err
	}
	_, err = tx.Exec(ctx, `INSERT INTO audit_checkpoint (size, root, signed, signed_at) VALUES ($1, $2, $3, 0)`, front.Size(), root[:], signed)
	return err
}

func (l *log) exec(t testing.TB, query string, args ...any) {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	must(t, l.db.Tx(ctx, func(tx *store.Tx) error {
		n, err := tx.Exec(ctx, query, args...)
		if err == nil && n == 0 {
			err = errors.New("nothing was changed: the case is no case")
		}
		return err
	}))
}

// The frontier gives the same nodes and roots as the library's own stored hashes, and can be taken up anywhere.
func TestFrontierEqualsLibrary(t *testing.T) {
	var stored []tlog.Hash
	reader := tlog.HashReaderFunc(func(ids []int64) ([]tlog.Hash, error) {
		out := make([]tlog.Hash, len(ids))
		for i, id := range ids {
			out[i] = stored[id]
		}
		return out, nil
	})
	front := &ledger.Frontier{}
	for n := range int64(600) {
		resumed, err := ledger.Resume(n, reader)
		must(t, err)
		want, err := tlog.TreeHash(n, reader)
		must(t, err)
		for name, f := range map[string]*ledger.Frontier{"grown": front, "resumed": resumed} {
			if root, err := f.Root(); err != nil || root != want || f.Size() != n {
				t.Fatalf("%s to %d: root %s of %d, want %s (%v)", name, n, root, f.Size(), want, err)
			}
		}
		data := fmt.Append(nil, n)
		hashes, err := tlog.StoredHashes(n, data, reader)
		must(t, err)
		got := front.Clone().Add(tlog.RecordHash(data))
		front.Add(tlog.RecordHash(data))
		if len(got) != len(hashes) || tlog.StoredHashCount(n) != int64(len(stored)) {
			t.Fatalf("entry %d: %d nodes, want %d", n, len(got), len(hashes))
		}
		for i := range got {
			if got[i] != hashes[i] {
				t.Fatalf("entry %d: node %d differs", n, i)
			}
		}
		stored = append(stored, hashes...)
	}
}

func TestLeafHasOneForm(t *testing.T) {
	good := string(leaf(t, 1))
	if _, err := ledger.ParseLeaf([]byte(good)); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"a space":          " " + good,
		"an end of line":   good + "\n",
		"another order":    `{"id":"x","actor":""}`,
		"an unknown field": good[:len(good)-1] + `,"x":1}`,
		"a repeated field": `{"actor":"a",` + good[1:],
		"an escape":        `{"\u0061ctor"` + good[8:],
		"nothing":          "",
		"null":             "null",
	} {
		if l, err := ledger.ParseLeaf([]byte(text)); !errors.Is(err, ledger.ErrBroken) {
			t.Errorf("%s: %+v, %v", name, l, err)
		}
	}
	for name, l := range map[string]ledger.Leaf{
		"no id":           {Type: "a", Time: ledger.At(time.Now()), V: 1, Sealed: []byte{}},
		"no version":      {ID: "a", Type: "a", Time: ledger.At(time.Now()), Sealed: []byte{}},
		"no time":         {ID: "a", Type: "a", V: 1, Sealed: []byte{}},
		"too much sealed": {ID: "a", Type: "a", Time: ledger.At(time.Now()), V: 1, Sealed: make([]byte, 60<<10)},
	} {
		if _, err := l.Encode(); err == nil {
			t.Errorf("%s: encoded", name)
		}
	}
}

func TestVerify(t *testing.T) {
	for _, c := range []struct {
		name               string
		n, every, unsigned int
		checkpoints        int
	}{
		{"an empty log", 0, 10, 0, 1},
		{"one entry", 1, 10, 0, 2},
		{"many checkpoints", 700, 7, 0, 101},
		{"a tail that is not signed yet", 50, 20, 5, 4},
	} {
		l := newLog(t, c.n, c.every, c.unsigned)
		r, err := ledger.Verify(t.Context(), ledger.In(l.dir))
		if err != nil || r.Entries != int64(c.n) || r.Checkpoints != c.checkpoints || r.Unsigned != int64(c.unsigned) || r.Size != int64(c.n-c.unsigned) || r.Key != l.verifier {
			t.Errorf("%s: %+v, %v", c.name, r, err)
		}
	}
}

// Whatever is done to a signed entry, to its order, to the tree or to a checkpoint is found.
func TestTamperingIsFound(t *testing.T) {
	other := newLog(t, 30, 10, 0)
	const swap = `UPDATE audit_entry SET seq = CASE seq WHEN 11 THEN -1 WHEN 12 THEN 11 END WHERE seq IN (11, 12)`
	for name, tamper := range map[string]func(l *log){
		"a leaf changed": func(l *log) {
			l.exec(t, `UPDATE audit_entry SET leaf = CAST(REPLACE(CAST(leaf AS TEXT), 'acme', 'acne') AS BLOB), tenant = 'acne' WHERE seq = 3`)
		},
		"a leaf put into another form": func(l *log) {
			l.exec(t, `UPDATE audit_entry SET leaf = CAST(CAST(leaf AS TEXT) || ' ' AS BLOB) WHERE seq = 3`)
		},
		"a column changed":  func(l *log) { l.exec(t, `UPDATE audit_entry SET tenant = 'acne' WHERE seq = 3`) },
		"an id changed":     func(l *log) { l.exec(t, `UPDATE audit_entry SET event_id = 'x' WHERE seq = 29`) },
		"the first removed": func(l *log) { l.exec(t, `DELETE FROM audit_entry WHERE seq = 0`) },
		"one removed":       func(l *log) { l.exec(t, `DELETE FROM audit_entry WHERE seq = 15`) },
		"the last removed":  func(l *log) { l.exec(t, `DELETE FROM audit_entry WHERE seq = 29`) },
		"one removed, numbers closed up": func(l *log) {
			l.exec(t, `DELETE FROM audit_entry WHERE seq = 28`)
			l.exec(t, `UPDATE audit_entry SET seq = 28 WHERE seq = 29`)
		},
		"two swapped": func(l *log) {
			l.exec(t, swap)
			l.exec(t, `UPDATE audit_entry SET seq = 12 WHERE seq = -1`)
		},
		"one inserted in the past": func(l *log) {
			l.exec(t, `INSERT INTO audit_entry (seq, event_id, tenant, type, leaf, added_at) SELECT -1, event_id || 'x', tenant, type, leaf, 0 FROM audit_entry WHERE seq = 3`)
		},
		"a node changed":       func(l *log) { l.exec(t, `UPDATE audit_node SET hash = zeroblob(32) WHERE id = 20`) },
		"a node removed":       func(l *log) { l.exec(t, `DELETE FROM audit_node WHERE id = 20`) },
		"all nodes removed":    func(l *log) { l.exec(t, `DELETE FROM audit_node`) },
		"all checkpoints gone": func(l *log) { l.exec(t, `DELETE FROM audit_checkpoint`) },
		"a checkpoint's root":  func(l *log) { l.exec(t, `UPDATE audit_checkpoint SET root = zeroblob(32) WHERE size = 10`) },
		"a checkpoint's size":  func(l *log) { l.exec(t, `UPDATE audit_checkpoint SET size = 11 WHERE size = 10`) },
		"another log's": func(l *log) {
			l.exec(t, `UPDATE audit_checkpoint SET signed = (SELECT signed FROM audit_checkpoint WHERE size = 20) WHERE size = 10`)
		},
		"the key in the rows": func(l *log) { l.exec(t, `UPDATE audit_key SET verifier = $1`, other.verifier) },
		"checkpoints held back": func(l *log) {
			l.exec(t, `DELETE FROM audit_checkpoint WHERE size > 0`)
			l.exec(t, `UPDATE audit_entry SET added_at = seq * 60000000`)
		},
		"the key in the file": func(l *log) {
			must(t, os.WriteFile(filepath.Join(l.dir, "audit", "verifier.key"), []byte(other.verifier+"\n"), 0o600))
		},
		"a checkpoint by others": func(l *log) { l.exec(t, `UPDATE audit_checkpoint SET signed = $1 WHERE size = 30`, other.newest(t)) },
	} {
		t.Run(name, func(t *testing.T) {
			l := newLog(t, 30, 10, 0)
			if _, err := ledger.Verify(t.Context(), ledger.In(l.dir)); err != nil {
				t.Fatal(err)
			}
			tamper(l)
			if r, err := ledger.Verify(t.Context(), ledger.In(l.dir)); !errors.Is(err, ledger.ErrBroken) {
				t.Errorf("verified: %+v, %v", r, err)
			}
		})
	}
}

func (l *log) newest(t testing.TB) []byte {
	t.Helper()
	var signed []byte
	must(t, l.db.QueryRow(t.Context(), `SELECT signed FROM audit_checkpoint ORDER BY size DESC LIMIT 1`).Scan(&signed))
	return signed
}

// A log that was cut back, or written anew with the same key, fits together; a checkpoint kept elsewhere tells.
func TestKeptCheckpointFindsACutLog(t *testing.T) {
	l := newLog(t, 30, 10, 0)
	kept := l.newest(t)
	if _, err := ledger.Verify(t.Context(), ledger.In(l.dir), kept); err != nil {
		t.Fatal(err)
	}
	l.exec(t, `DELETE FROM audit_entry WHERE seq >= 20`)
	l.exec(t, `DELETE FROM audit_checkpoint WHERE size > 20`)
	l.exec(t, `DELETE FROM audit_node WHERE id >= $1`, tlog.StoredHashCount(20))
	if _, err := ledger.Verify(t.Context(), ledger.In(l.dir)); err != nil {
		t.Fatalf("the cut log fits together, and that is why one keeps a checkpoint: %v", err)
	}
	if _, err := ledger.Verify(t.Context(), ledger.In(l.dir), kept); !errors.Is(err, ledger.ErrBroken) {
		t.Errorf("the cut log verified against the kept checkpoint: %v", err)
	}
}

func TestVerifyNeedsALog(t *testing.T) {
	if _, err := ledger.Verify(t.Context(), ledger.In(t.TempDir())); err == nil || errors.Is(err, ledger.ErrBroken) {
		t.Errorf("an empty directory: %v", err)
	}
}
