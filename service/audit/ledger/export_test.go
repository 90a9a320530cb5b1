package ledger_test

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/tlog"

	"aran/service/audit/ledger"
)

func export(t testing.TB, l *log) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), "out")
	if _, err := ledger.Export(t.Context(), ledger.In(l.dir), out); err != nil {
		t.Fatal(err)
	}
	return out
}

func files(t testing.TB, dir string) map[string][]byte {
	t.Helper()
	out := map[string][]byte{}
	must(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		out[name], err = os.ReadFile(path)
		return err
	}))
	return out
}

func TestExport(t *testing.T) {
	l := newLog(t, 600, 100, 4)
	out := filepath.Join(t.TempDir(), "deep", "out")
	r, err := ledger.Export(t.Context(), ledger.In(l.dir), out)
	if err != nil || r.Entries != 596 {
		t.Fatalf("%+v, %v", r, err)
	}
	if again, err := ledger.VerifyExport(t.Context(), out); err != nil || again != r {
		t.Errorf("verified as %+v, exported %+v, %v", again, r, err)
	}
	got := files(t, out)
	for _, name := range []string{
		"checkpoint", "verifier.key", "entries.jsonl", "tile/0/000", "tile/0/001", "tile/0/002.p/84", "tile/1/000.p/2",
		"tile/entries/000", "tile/entries/001", "tile/entries/002.p/84",
	} {
		if got[name] == nil {
			t.Errorf("%s is missing", name)
		}
		delete(got, name)
	}
	if len(got) > 0 {
		t.Errorf("there are more files: %d", len(got))
	}
	if _, err := ledger.Export(t.Context(), ledger.In(l.dir), out); err == nil {
		t.Error("exported into a directory that is not empty")
	}
	empty := t.TempDir()
	if _, err := ledger.Export(t.Context(), ledger.In(l.dir), empty); err != nil {
		t.Errorf("into an empty directory: %v", err)
	}
}

// Any byte of any file, changed in any way that a flipped bit shows, is refused; so is a file that is cut, longer,
// missing, added, swapped, or a link.
func TestEveryChangedByteIsRefused(t *testing.T) {
	out := export(t, newLog(t, 3, 2, 0))
	check := func(what string) {
		t.Helper()
		if r, err := ledger.VerifyExport(t.Context(), out); !errors.Is(err, ledger.ErrBroken) {
			t.Errorf("%s: verified as %+v, %v", what, r, err)
		}
	}
	whole := files(t, out)
	if len(whole) != 5 {
		t.Fatalf("%d files", len(whole))
	}
	for name, content := range whole {
		path := filepath.Join(out, name)
		put := func(b []byte) { t.Helper(); must(t, os.WriteFile(path, b, 0o600)) }
		for i := range content {
			changed := append([]byte{}, content...)
			changed[i] ^= 1 << (i % 8)
			put(changed)
			check(name + " byte " + strconv.Itoa(i) + " flipped")
			if i%8 != 0 && i < len(content)-4 { // the ends are where parsers are lax
				continue
			}
			put(append(append([]byte{}, content[:i]...), content[i+1:]...))
			check(name + " without byte " + strconv.Itoa(i))
			put(content[:i])
			check(name + " cut at " + strconv.Itoa(i))
		}
		for _, more := range []string{"\n", " ", "\x00", "x", string(content)} {
			put(append(append([]byte{}, content...), more...))
			check(name + " with more at the end")
			put(append([]byte(more), content...))
			check(name + " with more at the beginning")
		}
		must(t, os.Remove(path))
		check(name + " missing")
		must(t, os.Symlink(filepath.Join(t.TempDir(), "x"), path))
		check(name + " a link to nothing")
		must(t, os.Remove(path))
		elsewhere := filepath.Join(t.TempDir(), "same")
		must(t, os.WriteFile(elsewhere, content, 0o600))
		must(t, os.Symlink(elsewhere, path))
		check(name + " a link to the same")
		must(t, os.Remove(path))
		must(t, os.Mkdir(path, 0o700))
		check(name + " a directory")
		must(t, os.Remove(path))
		for other, theirs := range whole {
			if other != name {
				put(theirs)
				check(name + " with what belongs to " + other)
			}
		}
		put(content)
	}
	for _, extra := range []string{"more", "tile/0/001", "tile/0/000.p/2", "tile/1/000", "tile/entries/x", ".hidden"} {
		path := filepath.Join(out, extra)
		must(t, os.MkdirAll(filepath.Dir(path), 0o700))
		must(t, os.WriteFile(path, nil, 0o600))
		check("an extra file " + extra)
		must(t, os.Remove(path))
		_ = os.Remove(filepath.Dir(path)) // when it was made for this
	}
	must(t, os.Mkdir(filepath.Join(out, "empty"), 0o700))
	check("an extra directory")
	must(t, os.Remove(filepath.Join(out, "empty")))
	if _, err := ledger.VerifyExport(t.Context(), out); err != nil {
		t.Errorf("put back as it was: %v", err)
	}
}

// A second log's files fit together, but not with the first's.
func TestSwappedFilesAreRefused(t *testing.T) {
	first, second := newLog(t, 5, 2, 0), newLog(t, 6, 2, 0)
	for _, name := range []string{"checkpoint", "verifier.key", "entries.jsonl"} {
		a, b := export(t, first), export(t, second)
		must(t, os.Rename(filepath.Join(b, name), filepath.Join(a, name)))
		if _, err := ledger.VerifyExport(t.Context(), a); !errors.Is(err, ledger.ErrBroken) {
			t.Errorf("%s of another log: %v", name, err)
		}
	}
}

func TestExportChecksWhatItWrites(t *testing.T) {
	l := newLog(t, 30, 10, 0)
	l.exec(t, `UPDATE audit_entry SET leaf = CAST(REPLACE(CAST(leaf AS TEXT), 'acme', 'acne') AS BLOB) WHERE seq = 3`)
	out := filepath.Join(t.TempDir(), "out")
	if _, err := ledger.Export(t.Context(), ledger.In(l.dir), out); !errors.Is(err, ledger.ErrBroken) {
		t.Errorf("a tampered log was exported: %v", err)
	}
	if names, err := os.ReadDir(filepath.Dir(out)); err != nil || len(names) != 0 {
		t.Errorf("it left %v, %v", names, err)
	}
}

func TestProof(t *testing.T) {
	l := newLog(t, 300, 50, 3)
	for _, event := range []string{"event-000", "event-150", "event-296"} {
		b, err := ledger.Proof(t.Context(), ledger.In(l.dir), event)
		must(t, err)
		text, err := json.Marshal(b)
		must(t, err)
		for _, key := range []string{"", l.verifier} {
			if got, err := ledger.CheckProof(text, key); err != nil || got.Event != event || got.Size != 297 {
				t.Errorf("%s with key %q: %+v, %v", event, key, got, err)
			}
		}
		if _, err := ledger.CheckProof(text, newLog(t, 1, 1, 0).verifier); !errors.Is(err, ledger.ErrBroken) {
			t.Errorf("%s with another's key: %v", event, err)
		}
		for name, change := range map[string]func(b *ledger.Bundle){
			"event":     func(b *ledger.Bundle) { b.Event = "event-001" },
			"index":     func(b *ledger.Bundle) { b.Index++ },
			"size":      func(b *ledger.Bundle) { b.Size-- },
			"leaf":      func(b *ledger.Bundle) { b.Leaf = strings.Replace(b.Leaf, "acme", "acne", 1) },
			"a hash":    func(b *ledger.Bundle) { b.Hashes[1][5] ^= 1 },
			"no hashes": func(b *ledger.Bundle) { b.Hashes = nil },
			"one more":  func(b *ledger.Bundle) { b.Hashes = append(b.Hashes, tlog.Hash{}) },
			"signed":    func(b *ledger.Bundle) { b.Checkpoint = strings.Replace(b.Checkpoint, "297", "298", 1) },
		} {
			var changed ledger.Bundle
			must(t, json.Unmarshal(text, &changed))
			change(&changed)
			bad, err := json.Marshal(changed)
			must(t, err)
			if _, err := ledger.CheckProof(bad, l.verifier); !errors.Is(err, ledger.ErrBroken) {
				t.Errorf("%s with another %s: %v", event, name, err)
			}
		}
	}
	for _, event := range []string{"event-298", "nonsense"} {
		if b, err := ledger.Proof(t.Context(), ledger.In(l.dir), event); err == nil {
			t.Errorf("%s is not under a checkpoint, and proved as %+v", event, b)
		}
	}
}

// What verifies is what was exported: no other set of the three files that a stranger can choose does.
func FuzzVerify(f *testing.F) {
	l := fixedLog(f, 3, 2, 0)
	whole := files(f, export(f, l))
	f.Add(whole["checkpoint"], whole["verifier.key"], whole["entries.jsonl"], whole["tile/0/000.p/3"])
	f.Add([]byte("x\n0\nAAAA\n\n— x AAAA\n"), []byte("x+00000000+AAAA\n"), []byte("{}\n"), []byte{})
	f.Fuzz(func(t *testing.T, checkpoint, key, entries, tile []byte) {
		dir := t.TempDir()
		must(t, os.MkdirAll(filepath.Join(dir, "tile/0/000.p"), 0o700))
		must(t, os.MkdirAll(filepath.Join(dir, "tile/entries/000.p"), 0o700))
		given := map[string][]byte{
			"checkpoint": checkpoint, "verifier.key": key, "entries.jsonl": entries, "tile/0/000.p/3": tile, "tile/entries/000.p/3": whole["tile/entries/000.p/3"],
		}
		same := true
		for name, content := range given {
			must(t, os.WriteFile(filepath.Join(dir, name), content, 0o600))
			same = same && string(content) == string(whole[name])
		}
		_, err := ledger.VerifyExport(t.Context(), dir)
		if (err == nil) != same {
			t.Errorf("same %v, verified %v", same, err)
		}
	})
}

// A proof that checks is one that was made: the entries it can name are those of the log.
func FuzzProof(f *testing.F) {
	l := fixedLog(f, 5, 2, 0)
	known := map[string]int64{}
	for i := range int64(5) {
		event := "event-00" + strconv.FormatInt(i, 10)
		known[event] = i
		b, err := ledger.Proof(f.Context(), ledger.In(l.dir), event)
		must(f, err)
		text, err := json.Marshal(b)
		must(f, err)
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		b, err := ledger.CheckProof(text, l.verifier)
		if err != nil {
			return
		}
		if i, ok := known[b.Event]; !ok || i != b.Index {
			t.Errorf("proved %+v", b)
		}
	})
}
