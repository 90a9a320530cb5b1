package skew_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"aran/test/harness"
)

// docker is one that notes what is started, and from which version; a version with "bad" in it never gets healthy.
const docker = `#!/bin/sh
case "$1 $2" in
"compose version") exit 0 ;;
"compose config") printf 'user\nchat\ninfer\n' ;;
"compose up") shift 2; echo "$*" "${ARAN_CHAT_VERSION:-$(sed -n 's/^ARAN_CHAT_VERSION=//p' .env)}" >>started ;;
"compose ps") echo "$4" ;;
"inspect --format") case "$(sed -n 's/^ARAN_CHAT_VERSION=//p' .env)" in *bad*) echo unhealthy ;; *) echo healthy ;; esac ;;
*) echo "docker $*" >&2; exit 1 ;;
esac
`

func TestRoll(t *testing.T) {
	const up = "-d --no-deps --no-build chat "
	for _, c := range []struct {
		name, env     string
		args          []string
		fails         bool
		started, left string // what was started, and what .env says then
	}{
		{"forward", "ARAN_USER_VERSION=1\nARAN_CHAT_VERSION=1.3.2\n", []string{"chat", "1.4.0"}, false, up + "1.4.0\n", "ARAN_USER_VERSION=1\nARAN_CHAT_VERSION=1.4.0\n"},
		{"the first time", "", []string{"chat", "1.4.0"}, false, up + "1.4.0\n", "ARAN_CHAT_VERSION=1.4.0\n"},
		{"back when it is not healthy", "ARAN_CHAT_VERSION=1.3.2\nX=y\n", []string{"chat", "bad"}, true, up + "bad\n" + up + "1.3.2\n", "X=y\nARAN_CHAT_VERSION=1.3.2\n"},
		{"back to the default", "X=y\n", []string{"chat", "bad"}, true, up + "bad\n" + up + "\n", "X=y\n"},
		{"no such service", "X=y\n", []string{"ledger", "1"}, true, "", "X=y\n"},
		{"no tag", "X=y\n", []string{"chat", "1;id"}, true, "", "X=y\n"},
		{"nothing", "X=y\n", nil, true, "", "X=y\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			bin, dir := t.TempDir(), t.TempDir()
			for path, text := range map[string]string{filepath.Join(bin, "docker"): docker, filepath.Join(dir, ".env"): c.env} {
				if err := os.WriteFile(path, []byte(text), 0o700); err != nil {
					t.Fatal(err)
				}
			}
			cmd := exec.CommandContext(t.Context(), filepath.Join(harness.Root(), "deploy", "roll"), c.args...)
			if len(c.args) > 0 {
				cmd.Args = append(cmd.Args, dir)
			}
			cmd.Env = []string{"PATH=" + bin + ":/usr/bin:/bin", "ARAN_ROLL_SECONDS=0", "ARAN_CHAT_VERSION=of-the-shell"}
			out, err := cmd.CombinedOutput()
			if (err != nil) != c.fails {
				t.Fatalf("%v: %s", err, out)
			}
			started, _ := os.ReadFile(filepath.Join(dir, "started"))
			left, err := os.ReadFile(filepath.Join(dir, ".env"))
			if err != nil || string(started) != c.started || string(left) != c.left {
				t.Errorf("started %q, want %q; .env has %q, want %q\n%s", started, c.started, left, c.left, out)
			}
			if strings.Contains(string(out), "unbound") {
				t.Errorf("said %s", out)
			}
		})
	}
}
