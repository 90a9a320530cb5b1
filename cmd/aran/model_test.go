package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"aran/service/infer/registry"
)

// shop is a folder with settings, manifests and files of a model `tiny` in two versions.
type shop struct {
	t      *testing.T
	dir    string
	config string
}

func newShop(t *testing.T, settings string) *shop {
	t.Helper()
	dir := t.TempDir()
	s := &shop{t: t, dir: dir, config: filepath.Join(dir, "aran.yaml")}
	for _, v := range []string{"1", "2"} {
		b := []byte("aran weights " + v)
		s.write("files/"+hash(b), b)
		s.write("manifests/tiny-"+v+".json", fmt.Appendf(nil, `{"name":"tiny","version":%q,"title":"Tiny","kind":"embed","engine":"encoder","licence":"MIT","dim":4,"weights":"tiny.aran",
			"files":[{"path":"tiny.aran","size":%d,"sha256":%q}],"provenance":{"publisher":"We","unknown":"all of it"},
			"evaluation":[{"dataset":"SciFact","metric":"ndcg@10","value":0.6}]}`, v, len(b), hash(b)))
	}
	s.settings(settings)
	return s
}

func (s *shop) settings(more string) {
	s.write("aran.yaml", fmt.Appendf(nil, "infer:\n  models_dir: %s/models\n  manifests_dir: %[1]s/manifests\n  files_dir: %[1]s/files\n  sources: [file]\n%s", s.dir, more))
}

func (s *shop) write(name string, b []byte) {
	s.t.Helper()
	name = filepath.Join(s.dir, name)
	if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o700), os.WriteFile(name, b, 0o600)); err != nil {
		s.t.Fatal(err)
	}
}

func hash(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// run runs a command and returns its exit code and what it said.
func (s *shop) run(args ...string) (code int, out, stderr string) {
	var o, e bytes.Buffer
	err := dispatch(s.t.Context(), terminal{strings.NewReader(""), &o, &e}, append([]string{"model"}, args...))
	code = exitCode(&e, err)
	return code, o.String(), e.String()
}

func (s *shop) model(args ...string) (code int, out, stderr string) {
	return s.run(append(args, "--config", s.config)...)
}

// want runs a command that is to end with code and to say text, on the output for 0, else on the error output.
func (s *shop) want(code int, text string, args ...string) string {
	s.t.Helper()
	got, out, stderr := s.model(args...)
	said := out
	if code != 0 {
		said = stderr
	}
	if got != code || !strings.Contains(said, text) {
		s.t.Errorf("aran model %s: exit code %d, %q, %q; want %d and %q", strings.Join(args, " "), got, out, stderr, code, text)
	}
	return out
}

func TestModelCommands(t *testing.T) {
	s := newShop(t, "")
	s.want(1, "tiny@2 is not installed", "use", "tiny@2")
	s.want(0, "tiny@1 is installed", "pull", "tiny@1")
	if _, _, stderr := s.model("pull", "tiny@1"); stderr != "" {
		t.Errorf("without a terminal, the bar says %q", stderr)
	}
	s.want(0, "tiny is served in version 1", "pull", "tiny@2")
	s.want(1, "no version to go back to", "rollback", "tiny")
	s.want(0, "tiny is served in version 2", "use", "tiny@2", "--why", "it is better")
	s.want(0, "* tiny@2", "list")
	s.want(0, "- tiny@1", "list")
	s.want(0, "it is better", "show", "tiny")
	s.want(0, "not known    all of it", "show", "tiny@1")
	s.want(0, "tiny is served in version 1", "rollback", "tiny")
	s.want(0, "tiny@2 is what its manifest says", "verify")

	var list struct{ Models []modelLine }
	if err := json.Unmarshal([]byte(s.want(0, "", "list", "--format", "json")), &list); err != nil {
		t.Fatal(err)
	}
	found := map[string]modelLine{}
	for _, m := range list.Models {
		found[m.Name+"@"+m.Version] = m
	}
	one, two := found["tiny@1"], found["tiny@2"]
	if !one.Active || one.Former || two.Active || !two.Former || one.Status != "installed" || len(one.Digest) != 64 || len(one.ManifestDigest) != 64 ||
		one.Provenance == nil || one.Provenance.Unknown != "all of it" || len(one.Evaluation) != 1 || one.Origin != "folder" || one.Signed {
		t.Errorf("listed as %+v and %+v", one, two)
	}
	var shown struct {
		Manifest registry.Manifest
		History  []registry.Use
	}
	if err := json.Unmarshal([]byte(s.want(0, "", "show", "tiny", "--format", "json")), &shown); err != nil || len(shown.History) != 3 || shown.History[1].Why != "it is better" || shown.History[1].By == "" || shown.Manifest.Dim != 4 {
		t.Errorf("shown as %+v, %v", shown, err)
	}

	damaged := filepath.Join(s.dir, "models", "models", "tiny", "2", "tiny.aran")
	if err := errors.Join(os.Chmod(damaged, 0o600), os.WriteFile(damaged, []byte("aran weights 3"), 0o600)); err != nil {
		t.Fatal(err)
	}
	s.want(1, "expected SHA-256", "verify")
	s.want(1, "damaged", "use", "tiny@2")
	s.want(0, "* tiny@1", "list")
}

func TestModelCommandsThatAreRefused(t *testing.T) {
	s := newShop(t, "")
	for _, args := range [][]string{{"use"}, {"use", "tiny"}, {"use", "tiny@1", "tiny@2"}, {"rollback"}, {"show"}, {"list", "tiny"}, {"list", "--format", "xml"}, {"fetch"}, {"sign"}, {"key"}} {
		if code, _, stderr := s.model(args...); code != 2 && args[0] != "sign" && args[0] != "key" && args[0] != "fetch" {
			t.Errorf("aran model %v: exit code %d, %s; want 2", args, code, stderr)
		}
		if code, _, stderr := s.run(args...); code != 2 {
			t.Errorf("aran model %v: exit code %d, %s; want 2", args, code, stderr)
		}
	}
	s.want(1, "There is no model", "pull", "gpt")
	s.want(1, "known are 1, 2", "use", "tiny@9")
}

func TestSignedModels(t *testing.T) {
	s := newShop(t, "")
	key := filepath.Join(s.dir, "key")
	code, out, stderr := s.run("key", key)
	_, public, found := strings.Cut(out, "infer.trusted_keys: ")
	if code != 0 || !found {
		t.Fatalf("%d %s %s", code, out, stderr)
	}
	if info, err := os.Stat(key); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the private key: %v, %v", info, err)
	}
	if code, _, _ := s.run("key", key); code != 1 {
		t.Error("a key was written over another")
	}
	s.settings("  trusted_keys: " + public)
	s.want(1, "not signed", "pull", "tiny@1")
	s.want(0, "refused", "list")
	if code, out, stderr := s.run("sign", "--key", key, filepath.Join(s.dir, "manifests", "tiny-1.json")); code != 0 {
		t.Fatalf("%d %s %s", code, out, stderr)
	}
	s.want(0, "installed", "pull", "tiny@1")
	s.want(0, "signed by ", "show", "tiny")
	s.want(1, "not signed", "pull", "tiny@2")
	s.settings("  trusted_keys: [file:" + key + ".pub]\n  require_signature: true\n")
	s.want(0, "tiny@1 is what its manifest says", "verify", "tiny@1")
	s.settings("  trusted_keys: [nonsense]\n")
	s.want(1, "infer.trusted_keys 1", "list")
	s.settings("  require_signature: true\n")
	s.want(1, "set infer.trusted_keys", "verify", "tiny@1")
}
