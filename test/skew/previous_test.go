package skew_test

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"aran/test/harness"
)

// repository is one with a commit for each of the subjects; "tag X" tags the last one.
func repository(t *testing.T, history ...string) string {
	t.Helper()
	dir := t.TempDir()
	git(t, dir, "init", "-q", "-b", "main")
	for _, h := range history {
		if tag, ok := strings.CutPrefix(h, "tag "); ok {
			git(t, dir, "tag", tag)
		} else {
			git(t, dir, "commit", "-q", "--allow-empty", "-m", h)
		}
	}
	return dir
}

func git(t *testing.T, dir string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "git", append([]string{"-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"}, args...)...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("git %v: %v\n%s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

func previous(t *testing.T, dir string) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), filepath.Join(harness.Root(), "test", "skew", "previous"))
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

func TestThePreviousRelease(t *testing.T) {
	for _, c := range []struct {
		name    string
		history []string
		want    string // its name
	}{
		{"nothing was released", []string{"a", "b"}, ""},
		{"one commit", []string{"a"}, ""},
		{"the newest tag, by version", []string{"a", "tag v0.9.0", "b", "tag v0.10.0", "c"}, "v0.10.0"},
		{"not of a single service, nor of another form", []string{"a", "tag v0.2.0", "b", "tag chat-v3.0.0", "tag v0.3.0-rc1", "tag vital", "c"}, "v0.2.0"},
		{"from a tag, the one before", []string{"a", "tag v0.2.0", "b", "tag v0.3.0"}, "v0.2.0"},
		{"from the first tag, itself", []string{"a", "b", "tag v0.2.0"}, "v0.2.0"},
		{"by subject where there are no tags", []string{"release v0.2.0", "b", "release v0.3.0", "c"}, "v0.3.0"},
		{"not by any mention", []string{"release v0.2.0", "b\n\nrelease v0.9.0", "release v0.8.0 soon", "the release v0.7.0", "c"}, "v0.2.0"},
		{"from the commit of a release, the one before", []string{"release v0.2.0", "b", "release v0.3.0"}, "v0.2.0"},
		{"from the first one's, itself", []string{"a", "release v0.2.0"}, "v0.2.0"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := repository(t, c.history...)
			got, err := previous(t, dir)
			if err != nil {
				t.Fatalf("%v: %s", err, got)
			}
			commit, name, _ := strings.Cut(got, " ")
			if name != c.want {
				t.Fatalf("found %q, want %s", got, c.want)
			}
			if name != "" && commit != git(t, dir, "rev-parse", commit+"^{commit}") {
				t.Errorf("%q is no commit", commit)
			}
		})
	}
}

func TestAShallowCloneSaysHowToGetHistory(t *testing.T) {
	dir := repository(t, "a", "tag v0.2.0", "b", "c")
	shallow := filepath.Join(t.TempDir(), "clone")
	git(t, dir, "clone", "-q", "--depth", "1", "--no-tags", "file://"+dir, shallow)
	if out, err := previous(t, shallow); err == nil || !strings.Contains(out, "git fetch --unshallow --tags") {
		t.Errorf("%v: %s", err, out)
	}
}

func TestNoCloneIsNoSilentSkip(t *testing.T) {
	if out, err := previous(t, t.TempDir()); err == nil || !strings.Contains(out, "no git clone") {
		t.Errorf("%v: %s", err, out)
	}
}
