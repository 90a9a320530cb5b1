package audit_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"aran/platform/store"
	"aran/service/audit"
	"aran/service/audit/ledger"
)

func (w *world) exec(query string) {
	w.t.Helper()
	ctx := w.t.Context()
	db, err := store.Open(ctx, store.Options{Service: "audit", Path: filepath.Join(w.dir, "audit", "audit.db"), Migrations: audit.Migrations, Log: quiet})
	must(w.t, err)
	must(w.t, db.Tx(ctx, func(tx *store.Tx) error {
		n, err := tx.Exec(ctx, query)
		if err == nil && n == 0 {
			err = errors.New("nothing changed")
		}
		return err
	}))
	must(w.t, db.Close())
}

// The tree is derived: without it the service makes it again. Without the entries it refuses to sign.
func TestTreeIsRebuiltAndTamperingStopsTheService(t *testing.T) {
	for name, c := range map[string]struct {
		query  string
		refuse bool
	}{
		"nodes lost":       {`DELETE FROM audit_node`, false},
		"a node damaged":   {`UPDATE audit_node SET hash = zeroblob(32) WHERE id = (SELECT MAX(id) FROM audit_node)`, false},
		"an entry changed": {`UPDATE audit_entry SET leaf = CAST(REPLACE(CAST(leaf AS TEXT), 'acme', 'acne') AS BLOB) WHERE seq = 3`, true},
		"an entry removed": {`DELETE FROM audit_entry WHERE seq = 3`, true},
		"the end removed":  {`DELETE FROM audit_entry WHERE seq > 30`, true},
		"a checkpoint":     {`UPDATE audit_checkpoint SET root = zeroblob(32)`, true},
	} {
		t.Run(name, func(t *testing.T) {
			w := open(t, t.TempDir())
			for i := range 40 {
				w.emit(store.Event{ID: fmt.Sprint("event-", i), Tenant: "acme"})
			}
			before := w.settled(40)
			w.close()
			w.exec(c.query)
			if c.refuse && name != "a checkpoint" { // so that the service has to look at the entries
				w.exec(`DELETE FROM audit_node`)
			}
			again, err := tryOpen(t, w.dir)
			if c.refuse {
				if !errors.Is(err, ledger.ErrBroken) {
					t.Fatalf("started over a log that was changed: %v", err)
				}
				if ok, _ := again.health.Ready(t.Context()); ok {
					t.Error("and it is ready")
				}
				return
			}
			must(t, err)
			if after := again.settled(40); after.Root != before.Root {
				t.Error("the rebuilt tree has another root")
			}
			again.emit(store.Event{ID: "next", Tenant: "acme"})
			again.settled(41)
		})
	}
}

func TestForeignVerifierKeyIsRefused(t *testing.T) {
	w := open(t, t.TempDir())
	w.settled(0)
	w.close()
	path := filepath.Join(w.dir, "audit", "verifier.key")
	_, other, err := ledger.NewKey("aran.audit/other")
	must(t, err)
	must(t, os.WriteFile(path, []byte(other+"\n"), 0o600))
	if _, err := tryOpen(t, w.dir); err == nil || !strings.Contains(err.Error(), "verifier.key") {
		t.Errorf("started with another's verifier key: %v", err)
	}
}
