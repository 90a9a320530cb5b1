package seal_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"aran/platform/fault"
	"aran/platform/seal"
	"aran/platform/secret"
	"aran/platform/store/pgtest"
)

func keyring(t *testing.T, path string) *seal.Keyring {
	t.Helper()
	k, err := seal.Local(path)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func openBox(t *testing.T, k *seal.Keyring, path string) *seal.Box {
	t.Helper()
	b, err := seal.Open(t.Context(), k, "chat", path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestOnPostgreSQL: two replicas share keys, and what one erases is gone for both and in the table's file.
func TestOnPostgreSQL(t *testing.T) {
	url := secret.New(pgtest.Start(t).Database())
	ring := keyring(t, filepath.Join(t.TempDir(), "keyring"))
	open := func(k *seal.Keyring, service string) (*seal.Box, error) {
		b, err := seal.OpenURL(t.Context(), k, service, url, slog.New(slog.DiscardHandler))
		if err == nil {
			t.Cleanup(func() { _ = b.Close() })
		}
		return b, err
	}
	one, two := must[*seal.Box](t)(open(ring, "chat")), must[*seal.Box](t)(open(ring, "chat"))
	sealed := must[[]byte](t)(one.Seal(t.Context(), "user:ann", []byte("text"), nil))
	if got := must[[]byte](t)(two.Open(t.Context(), "user:ann", sealed, nil)); string(got) != "text" {
		t.Errorf("the other replica reads %q", got)
	}
	if a, b := must[string](t)(one.Pseudonym(t.Context(), "user:ann")), must[string](t)(two.Pseudonym(t.Context(), "user:ann")); a != b {
		t.Errorf("two names for one subject: %s, %s", a, b)
	}
	if err := one.Erase(t.Context(), "user:ann"); err != nil {
		t.Fatal(err)
	}
	three := must[*seal.Box](t)(open(ring, "chat")) // a replica that has nothing in memory
	for _, b := range []*seal.Box{one, three} {
		if _, err := b.Open(t.Context(), "user:ann", sealed, nil); !erased(err) {
			t.Errorf("after the erasure: %v", err)
		}
	}
	other := keyring(t, filepath.Join(t.TempDir(), "keyring"))
	if _, err := open(other, "chat"); err == nil || !strings.Contains(err.Error(), "keyring") {
		t.Errorf("a replica with another keyring: %v", err)
	}
}

func must[T any](t *testing.T) func(v T, err error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func erased(err error) bool {
	f := fault.From(err)
	return f != nil && f.Kind == fault.Missing && f.Code == seal.CodeErased
}

func TestSealAndOpen(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "keys.db")
	plain, aad := []byte("what Ann asked"), []byte("entry 1")
	var sealed []byte
	var name string
	for round := range 2 { // the second time from the file
		b := openBox(t, keyring(t, filepath.Join(dir, "keyring")), path)
		if round == 0 {
			sealed = must[[]byte](t)(b.Seal(t.Context(), "user:ann", plain, aad))
			name = must[string](t)(b.Pseudonym(t.Context(), "user:ann"))
			if bytes.Contains(sealed, plain) || len(name) != 64 || strings.Contains(name, "ann") {
				t.Errorf("sealed %q, pseudonym %s", sealed, name)
			}
			if again := must[[]byte](t)(b.Seal(t.Context(), "user:ann", plain, aad)); bytes.Equal(again, sealed) {
				t.Error("sealing twice gives the same bytes")
			}
			if other := must[string](t)(b.Pseudonym(t.Context(), "user:bob")); other == name {
				t.Error("two subjects have one pseudonym")
			}
		}
		if got := must[string](t)(b.Pseudonym(t.Context(), "user:ann")); got != name {
			t.Errorf("round %d: pseudonym %s, before %s", round, got, name)
		}
		for how, open := range map[string]func(sealed, aad []byte) ([]byte, error){
			"by subject":   func(sealed, aad []byte) ([]byte, error) { return b.Open(t.Context(), "user:ann", sealed, aad) },
			"by pseudonym": func(sealed, aad []byte) ([]byte, error) { return b.OpenFor(t.Context(), name, sealed, aad) },
		} {
			if got := must[[]byte](t)(open(sealed, aad)); !bytes.Equal(got, plain) {
				t.Errorf("round %d %s: opened %q", round, how, got)
			}
			if got, err := open(sealed, []byte("entry 2")); err == nil {
				t.Errorf("round %d %s: opened %q in another place", round, how, got)
			}
			for i := range sealed {
				changed := bytes.Clone(sealed)
				changed[i] ^= 1
				if got, err := open(changed, aad); err == nil {
					t.Fatalf("round %d %s: opened %q with byte %d changed", round, how, got, i)
				}
			}
		}
		if got, err := b.Open(t.Context(), "user:bob", sealed, aad); err == nil || erased(err) {
			t.Errorf("bob opened %q, %v", got, err)
		}
		if got, err := b.Open(t.Context(), "user:nobody", sealed, aad); err == nil || erased(err) {
			t.Errorf("nobody opened %q, %v", got, err)
		}
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestErase(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "keys.db")
	k := keyring(t, filepath.Join(dir, "keyring"))
	b := openBox(t, k, path)
	sealed := must[[]byte](t)(b.Seal(t.Context(), "user:ann", []byte("x"), nil))
	name := must[string](t)(b.Pseudonym(t.Context(), "user:ann"))
	others := must[[]byte](t)(b.Seal(t.Context(), "user:bob", []byte("y"), nil))
	must[[]byte](t)(b.OpenFor(t.Context(), name, sealed, nil)) // so that the cache knows it by both names
	for range 2 {
		if err := b.Erase(t.Context(), "user:ann"); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.Erase(t.Context(), "user:never-seen"); err != nil {
		t.Fatal(err)
	}
	check := func(when string) {
		t.Helper()
		for _, subject := range []string{"user:ann", "user:never-seen"} {
			if _, err := b.Open(t.Context(), subject, sealed, nil); !erased(err) {
				t.Errorf("%s: open for %s: %v", when, subject, err)
			}
			if _, err := b.Seal(t.Context(), subject, []byte("new"), nil); !erased(err) {
				t.Errorf("%s: seal for %s: %v", when, subject, err)
			}
			if _, err := b.Pseudonym(t.Context(), subject); !erased(err) {
				t.Errorf("%s: pseudonym of %s: %v", when, subject, err)
			}
		}
		if _, err := b.OpenFor(t.Context(), name, sealed, nil); !erased(err) {
			t.Errorf("%s: open for the pseudonym: %v", when, err)
		}
		if got := must[[]byte](t)(b.Open(t.Context(), "user:bob", others, nil)); string(got) != "y" {
			t.Errorf("%s: bob's text is %q", when, got)
		}
	}
	check("at once")
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	b = openBox(t, k, path)
	check("after a restart")
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
}

// Nothing of an erased subject stays in the files: not its name, not its pseudonym, and nothing of the row that
// only it had. The control is what stays of one who was not erased.
func TestErasedKeysLeaveNoTrace(t *testing.T) {
	dir := t.TempDir()
	b := openBox(t, keyring(t, filepath.Join(dir, "keyring")), filepath.Join(dir, "keys.db"))
	defer func() { _ = b.Close() }()
	names := map[string]string{}
	for _, subject := range []string{"user:ann", "user:bob", "user:cid"} {
		names[subject] = must[string](t)(b.Pseudonym(t.Context(), subject))
	}
	files := func() []byte {
		var all []byte
		for _, f := range []string{"keys.db", "keys.db-wal"} {
			b, err := os.ReadFile(filepath.Join(dir, f))
			if err != nil && !errors.Is(err, os.ErrNotExist) {
				t.Fatal(err)
			}
			all = append(all, b...)
		}
		return all
	}
	wrapped := seal.WrappedKey(t.Context(), b, "user:ann")
	if !bytes.Contains(files(), wrapped) || len(wrapped) < 100 {
		t.Fatal("the wrapped key is not in the files even before it is erased: this test would see nothing")
	}
	if err := b.Erase(t.Context(), "user:ann"); err != nil {
		t.Fatal(err)
	}
	after := files()
	for at := 0; at+32 <= len(wrapped); at += 16 {
		if bytes.Contains(after, wrapped[at:at+32]) {
			t.Fatalf("bytes %d to %d of the erased key are still in the files", at, at+32)
		}
	}
	if bytes.Contains(after, []byte(names["user:ann"])) {
		t.Error("the pseudonym of the erased subject is still in the files")
	}
	if !bytes.Contains(after, []byte(names["user:bob"])) {
		t.Error("the pseudonym of another subject is gone")
	}
	if bytes.Contains(after, []byte("user:")) {
		t.Error("the key database holds a subject's name")
	}
}

func TestOnlyTheRightKeyringAndServiceOpen(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "keys.db")
	right, wrong := keyring(t, filepath.Join(dir, "right")), keyring(t, filepath.Join(dir, "wrong"))
	if right.Fingerprint() == wrong.Fingerprint() || len(right.Fingerprint()) != 32 {
		t.Errorf("fingerprints %s and %s", right.Fingerprint(), wrong.Fingerprint())
	}
	b := openBox(t, right, path)
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := seal.Open(t.Context(), wrong, "chat", path); err == nil || !strings.Contains(err.Error(), right.Fingerprint()) {
		t.Errorf("the wrong keyring: %v", err)
	}
	if _, err := seal.Open(t.Context(), right, "search", path); err == nil {
		t.Error("another service opened the keys")
	}
	b = openBox(t, right, path)
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestKeyring(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "deep", "keyring")
	first := keyring(t, path)
	if again := keyring(t, path); again.Fingerprint() != first.Fingerprint() {
		t.Error("a second start made another key")
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the keyring has mode %v, %v", info.Mode(), err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	write := func(name string, content []byte, mode os.FileMode) string {
		t.Helper()
		p := filepath.Join(dir, name)
		if err := os.WriteFile(p, content, mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(p, mode); err != nil {
			t.Fatal(err)
		}
		return p
	}
	link := filepath.Join(dir, "link")
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	for name, p := range map[string]string{
		"readable by others": write("open", text, 0o644),
		"empty":              write("empty", nil, 0o600),
		"cut":                write("cut", text[:len(text)/2], 0o600),
		"too large":          write("large", bytes.Repeat([]byte("x"), 65<<10), 0o600),
		"a link":             link,
		"a directory":        dir,
	} {
		if k, err := seal.Local(p); err == nil {
			t.Errorf("%s: accepted as %s", name, k.Fingerprint())
		}
	}
}

func TestTwoFirstStartsMakeOneKeyring(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keyring")
	var mu sync.Mutex
	prints := map[string]bool{}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			k, err := seal.Local(path)
			if err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			prints[k.Fingerprint()] = true
		})
	}
	wg.Wait()
	if len(prints) != 1 {
		t.Errorf("fingerprints %v", prints)
	}
}

// Beside an erasure no text is sealed under a key that lives on.
func TestEraseBesideUse(t *testing.T) {
	dir := t.TempDir()
	b := openBox(t, keyring(t, filepath.Join(dir, "keyring")), filepath.Join(dir, "keys.db"))
	defer func() { _ = b.Close() }()
	for range 20 {
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for range 20 {
					if _, err := b.Seal(context.WithoutCancel(t.Context()), "user:ann", []byte("x"), nil); err != nil && !erased(err) {
						t.Error(err)
					}
				}
			})
		}
		wg.Go(func() {
			if err := b.Erase(t.Context(), "user:ann"); err != nil {
				t.Error(err)
			}
		})
		wg.Wait()
		if _, err := b.Seal(t.Context(), "user:ann", []byte("x"), nil); !erased(err) {
			t.Fatalf("after the erasure: %v", err)
		}
	}
}

// A keyring file that is accepted keeps its meaning: the same fingerprint each time.
func FuzzKeyring(f *testing.F) {
	path := filepath.Join(f.TempDir(), "keyring")
	if _, err := seal.Local(path); err != nil {
		f.Fatal(err)
	}
	good, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte(`{}`))
	f.Add([]byte(`{"primaryKeyId":1,"key":[]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		k, err := seal.ParseKeyring(b)
		if err != nil {
			return
		}
		again, err := seal.ParseKeyring(b)
		if err != nil || again.Fingerprint() != k.Fingerprint() {
			t.Errorf("%v, %s and %s", err, k.Fingerprint(), again.Fingerprint())
		}
	})
}

func BenchmarkSeal(b *testing.B) {
	dir := b.TempDir()
	k, err := seal.Local(filepath.Join(dir, "keyring"))
	if err != nil {
		b.Fatal(err)
	}
	box, err := seal.Open(b.Context(), k, "chat", filepath.Join(dir, "keys.db"))
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = box.Close() }()
	plain := make([]byte, 300)
	for b.Loop() {
		if _, err := box.Seal(b.Context(), "user:ann", plain, nil); err != nil {
			b.Fatal(err)
		}
	}
}
