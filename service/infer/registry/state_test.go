package registry

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"aran/platform/fault"
)

// tinyVersion is a version of the model `tiny` with weights of its own.
func tinyVersion(version string) (Manifest, []byte) {
	b := ggufFile(version)
	m := tiny(nil, nil)
	m.Version = version
	m.Files[0].Size, m.Files[0].SHA256 = int64(len(b)), sum(b)
	return m, b
}

// several makes a registry that knows versions of `tiny` and can pull each.
func several(t *testing.T, dir string, o Options, versions ...string) *Registry {
	t.Helper()
	docs, blobs := fstest.MapFS{}, map[string][]byte{sum(library): library}
	for _, v := range versions {
		m, b := tinyVersion(v)
		docs["tiny-"+v+".json"] = &fstest.MapFile{Data: encode(t, m)}
		blobs[sum(b)] = b
	}
	if o.Manifests == nil {
		o.Manifests = docs
	}
	o.Folder = folder(t, blobs)
	r, err := Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func pullAll(t *testing.T, r *Registry, refs ...string) {
	t.Helper()
	for _, ref := range refs {
		if err := r.Pull(t.Context(), ref, nil); err != nil {
			t.Fatal(err)
		}
	}
}

var me = Change{By: "me", Why: "a test"}

func isCode(err error, code string) bool {
	f := fault.From(err)
	return err != nil && f != nil && f.Code == code
}

func TestVersionsSideBySide(t *testing.T) {
	r := several(t, t.TempDir(), Options{}, "1.9", "1.10", "2")
	if got := r.Active("tiny"); got != "2" {
		t.Errorf("with nothing here, %q is active; want the newest", got)
	}
	pullAll(t, r, "tiny@1.9")
	if got := r.Active("tiny"); got != "1.9" {
		t.Errorf("%q is active; want the one that is here", got)
	}
	pullAll(t, r, "tiny", "tiny@1.10")
	if got := r.Active("tiny"); got != "1.9" {
		t.Errorf("a pull made %q the active version; want 1.9 to stay", got)
	}
	list, err := r.Versions(t.Context(), "tiny")
	if err != nil {
		t.Fatal(err)
	}
	dirs := map[string]bool{}
	for i, want := range []string{"1.9", "1.10", "2"} {
		if list[i].Version != want || list[i].Status != Installed || list[i].Active != (want == "1.9") {
			t.Errorf("version %d: %s is %s, active %v; want %s", i, list[i].Version, list[i].Status, list[i].Active, want)
		}
		if err := r.Verify(t.Context(), "tiny@"+want); err != nil {
			t.Error(err)
		}
		dirs[list[i].Dir] = true
	}
	if len(dirs) != 3 {
		t.Errorf("folders %v; want one for each version", slices.Collect(maps.Keys(dirs)))
	}
	if _, err := r.Version(t.Context(), "tiny", "3"); !isCode(err, "model_version_not_found") || !strings.Contains(err.Error(), "1.9, 1.10, 2") {
		t.Errorf("an unknown version: %v", err)
	}
	if m, err := r.Model(t.Context(), "tiny"); err != nil || m.Version != "1.9" {
		t.Errorf("the model is version %s (%v), want the active one", m.Version, err)
	}
}

func TestUseAndRollback(t *testing.T) {
	dir := t.TempDir()
	r := several(t, dir, Options{}, "1", "2", "3")
	pullAll(t, r, "tiny@1", "tiny@2")
	if _, err := r.Rollback(t.Context(), "tiny", me); !isCode(err, "no_former_version") {
		t.Errorf("nothing to go back to: %v", err)
	}
	s, err := r.Use(t.Context(), "tiny", "2", Change{By: "anna", Why: "better answers"})
	if err != nil || s.Version != "2" || s.Former == nil || s.Former.Version != "1" {
		t.Fatalf("use: %+v, %v", s, err)
	}
	other := several(t, dir, Options{}, "1", "2", "3") // as another process
	if other.Active("tiny") != "2" {
		t.Errorf("another process sees %q", other.Active("tiny"))
	}
	again, err := r.Use(t.Context(), "tiny", "2", me)
	if err != nil || again.Serial != s.Serial {
		t.Errorf("using what is used: serial %d, then %d (%v)", s.Serial, again.Serial, err)
	}
	if s, err = other.Rollback(t.Context(), "tiny", Change{By: "ben", Why: "slow"}); err != nil || s.Version != "1" || s.Former.Version != "2" {
		t.Fatalf("rollback: %+v, %v", s, err)
	}
	if r.Active("tiny") != "1" {
		t.Errorf("after the rollback of another process: %q", r.Active("tiny"))
	}
	if s, err = r.Rollback(t.Context(), "tiny", me); err != nil || s.Version != "2" {
		t.Errorf("rolling back again: %+v, %v", s, err)
	}
	h := s.History
	if len(h) != 4 || h[1].By != "anna" || h[1].Why != "better answers" || h[1].Action != ActionUse || h[2].Action != ActionRollback || h[0].Action != ActionPull || h[3].At.IsZero() {
		t.Errorf("history %+v", h)
	}
	list, err := r.Versions(t.Context(), "tiny")
	if err != nil || !list[0].Former || list[0].Active || !list[1].Active || list[1].Former {
		t.Errorf("versions %+v, %v", list, err)
	}
}

func TestWhatCannotBeUsed(t *testing.T) {
	r := several(t, t.TempDir(), Options{}, "1", "2", "3")
	pullAll(t, r, "tiny@1", "tiny@2")
	damaged := state(t, r)
	damaged, err := r.Version(t.Context(), "tiny", "2")
	if err != nil {
		t.Fatal(err)
	}
	b := ggufFile("2")
	b[len(b)-1] ^= 1
	overwrite(t, filepath.Join(damaged.Dir, "model.gguf"), b)
	for _, c := range []struct{ name, version, code string }{
		{"tiny", "3", "model_not_installed"},
		{"tiny", "2", "model_damaged"},
		{"tiny", "9", "model_version_not_found"},
		{"tiny", "", "model_version_needed"},
		{"gpt", "1", "model_not_found"},
	} {
		if _, err := r.Use(t.Context(), c.name, c.version, me); !isCode(err, c.code) {
			t.Errorf("use %s@%s: %v; want %s", c.name, c.version, err, c.code)
		}
	}
	if _, err := r.Use(t.Context(), "tiny", "1", Change{By: "a\x1b[2J"}); !isCode(err, "bad_reason") {
		t.Errorf("control characters: %v", err)
	}
	if r.Active("tiny") != "1" {
		t.Errorf("refused uses changed the active version to %q", r.Active("tiny"))
	}
	if _, err := several(t, "", Options{}, "1").Use(t.Context(), "tiny", "1", me); err == nil {
		t.Error("used without a folder")
	}
}

func TestChoicesThatDoNotCount(t *testing.T) {
	for name, spoil := range map[string]func(t *testing.T, file string){
		"not JSON":       func(t *testing.T, file string) { overwrite(t, file, []byte("{")) },
		"another name":   func(t *testing.T, file string) { replaceIn(t, file, `"tiny"`, `"other"`) },
		"unknown":        func(t *testing.T, file string) { replaceIn(t, file, `"version": "2"`, `"version": "7"`) },
		"another digest": func(t *testing.T, file string) { replaceIn(t, file, `"digest": "`, `"digest": "0`) },
		"a link": func(t *testing.T, file string) {
			to := file + ".moved"
			if err := errors.Join(os.Rename(file, to), os.Symlink(to, file)); err != nil {
				t.Fatal(err)
			}
		},
	} {
		r := several(t, t.TempDir(), Options{}, "1", "2")
		pullAll(t, r, "tiny@1", "tiny@2")
		for _, v := range []string{"1", "2"} {
			if _, err := r.Use(t.Context(), "tiny", v, me); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.RemoveAll(filepath.Join(r.Dir(), "models", "tiny", "2")); err != nil {
			t.Fatal(err)
		}
		spoil(t, filepath.Join(r.Dir(), "active", "tiny.json"))
		if got := r.Active("tiny"); got != "1" {
			t.Errorf("%s: %q is served, want what is here", name, got)
		}
		if s, err := r.Use(t.Context(), "tiny", "1", me); err != nil || s.Version != "1" || r.Active("tiny") != "1" {
			t.Errorf("%s: a new choice: %+v, %v", name, s, err)
		}
	}
}

func replaceIn(t *testing.T, file, from, to string) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil || !bytes.Contains(b, []byte(from)) {
		t.Fatalf("%s in %s: %v", from, b, err)
	}
	overwrite(t, file, bytes.ReplaceAll(b, []byte(from), []byte(to)))
}

func TestHistoryIsBounded(t *testing.T) {
	r := several(t, t.TempDir(), Options{}, "1", "2")
	pullAll(t, r, "tiny@1", "tiny@2")
	var s State
	for range maxHistory + 5 {
		var err error
		if s, err = r.Use(t.Context(), "tiny", map[string]string{"1": "2", "2": "1"}[r.Active("tiny")], me); err != nil {
			t.Fatal(err)
		}
	}
	if len(s.History) != maxHistory || s.Serial != maxHistory+6 {
		t.Errorf("%d entries, serial %d", len(s.History), s.Serial)
	}
}

// A model that was pulled before there were versions is where it was, and works.
func TestFormerFolderLayout(t *testing.T) {
	r := several(t, t.TempDir(), Options{}, "1", "2")
	pullAll(t, r, "tiny@1")
	m, err := r.Version(t.Context(), "tiny", "1")
	if err != nil {
		t.Fatal(err)
	}
	old := filepath.Join(r.Dir(), "models", "tiny", m.Digest[:16])
	if err := errors.Join(os.Rename(m.Dir, old), os.RemoveAll(filepath.Join(r.Dir(), "active"))); err != nil {
		t.Fatal(err)
	}
	if m = state(t, r); m.Status != Installed || m.Dir != old || m.Version != "1" {
		t.Errorf("%+v; want version 1 in its old folder", m)
	}
	pullAll(t, r, "tiny@1", "tiny@2")
	if _, err := os.Stat(filepath.Join(r.Dir(), "models", "tiny", "1")); err == nil {
		t.Error("a pull fetched again what was there")
	}
	if got := r.Active("tiny"); got != "1" {
		t.Errorf("%q is served, want 1", got)
	}
	for _, v := range []string{"2", "1"} {
		if s, err := r.Use(t.Context(), "tiny", v, me); err != nil || s.Version != v {
			t.Errorf("use %s: %+v, %v", v, s, err)
		}
	}
	damaged := slices.Clone(ggufFile("1"))
	damaged[len(damaged)-1] ^= 1
	overwrite(t, filepath.Join(old, "model.gguf"), damaged)
	if err := r.Verify(t.Context(), "tiny@1"); err == nil {
		t.Error("damage in an old folder was not found")
	}
}

func TestTwoUsersAtOnce(t *testing.T) {
	dir := t.TempDir()
	first := several(t, dir, Options{}, "1", "2", "3")
	pullAll(t, first, "tiny@1", "tiny@2", "tiny@3")
	var g sync.WaitGroup
	for _, v := range []string{"1", "2", "3"} {
		r := several(t, dir, Options{}, "1", "2", "3")
		g.Go(func() {
			for range 4 {
				if _, err := r.Use(context.WithoutCancel(t.Context()), "tiny", v, me); err != nil {
					t.Error(err)
				}
				if s, err := r.State("tiny"); err != nil || s.Serial < 1 {
					t.Errorf("read between: %+v, %v", s, err)
				}
			}
		})
	}
	g.Wait()
	s, err := first.State("tiny")
	if err != nil || int(s.Serial) != len(s.History) {
		t.Errorf("serial %d, %d entries (%v): a change was lost", s.Serial, len(s.History), err)
	}
}

func TestWatchSeesWhatOthersDo(t *testing.T) {
	dir, manifests := t.TempDir(), t.TempDir()
	put := func(version string) {
		m, _ := tinyVersion(version)
		if err := os.WriteFile(filepath.Join(manifests, version+".json"), encode(t, m), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	put("1")
	r := several(t, dir, Options{Manifests: os.DirFS(manifests)}, "1", "2")
	pullAll(t, r, "tiny")
	ctx, stop := context.WithTimeout(t.Context(), 20*time.Second)
	defer stop()
	seen := make(chan string, 100)
	var g sync.WaitGroup
	g.Go(func() {
		if err := r.Watch(ctx, time.Millisecond, func(s State) { seen <- s.Name + "@" + s.Version }); !errors.Is(err, context.Canceled) {
			t.Errorf("watch ended with %v", err)
		}
	})
	wait := func(want string) {
		t.Helper()
		for {
			select {
			case got := <-seen:
				if got == want {
					return
				}
			case <-ctx.Done():
				t.Fatalf("never saw %s", want)
			}
		}
	}
	wait("tiny@1")
	put("2")
	other := several(t, dir, Options{Manifests: os.DirFS(manifests)}, "1", "2")
	pullAll(t, other, "tiny@2")
	if _, err := other.Use(t.Context(), "tiny", "2", me); err != nil {
		t.Fatal(err)
	}
	wait("tiny@2")
	if m, err := r.Model(t.Context(), "tiny"); err != nil || m.Version != "2" || m.Status != Installed {
		t.Errorf("after that: %s %s, %v", m.Version, m.Status, err)
	}
	if _, err := other.Rollback(t.Context(), "tiny", me); err != nil {
		t.Fatal(err)
	}
	wait("tiny@1")
	stop()
	g.Wait()
}

func TestCompareVersions(t *testing.T) {
	want := []string{"1", "1.2", "1.9", "1.10", "2-beta", "10", "2026-01-02", "2026-01-10", "v1", "v1.1"}
	got := slices.Clone(want)
	slices.Reverse(got)
	slices.SortFunc(got, compareVersions)
	if !slices.Equal(got, want) {
		t.Errorf("sorted %v, want %v", got, want)
	}
}

func TestStateIsReadableJSON(t *testing.T) {
	r := several(t, t.TempDir(), Options{}, "1")
	pullAll(t, r, "tiny")
	if _, err := r.Use(t.Context(), "tiny", "1", me); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(r.Dir(), "active", "tiny.json"))
	if err != nil {
		t.Fatal(err)
	}
	var flat struct{ Name, Version, Digest string }
	if err := json.Unmarshal(b, &flat); err != nil || flat.Name != "tiny" || flat.Version != "1" || len(flat.Digest) != 64 {
		t.Errorf("%s: %v", b, err)
	}
}
