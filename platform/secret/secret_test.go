package secret_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"aran/platform/secret"
)

func TestNothingPrintsIt(t *testing.T) {
	const value = "correct horse"
	s := secret.New(value)
	var out bytes.Buffer
	slog.New(slog.NewJSONHandler(&out, nil)).Info("m", slog.Any("s", s), slog.Any("in", struct{ S secret.String }{s}))
	j, err := json.Marshal(map[string]any{"s": s})
	if err != nil {
		t.Fatal(err)
	}
	out.Write(j)
	fmt.Fprintf(&out, "%v %+v %#v %s %q", s, s, s, s, s)
	if strings.Contains(out.String(), value) {
		t.Errorf("the secret shows: %s", out.String())
	}
	if s.Reveal() != value {
		t.Error("Reveal does not return it")
	}
}

func TestResolve(t *testing.T) {
	t.Setenv("ARAN_TEST_SECRET", "from env")
	path := filepath.Join(t.TempDir(), "s")
	if err := os.WriteFile(path, []byte("from file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	big := filepath.Join(t.TempDir(), "big")
	if err := os.WriteFile(big, make([]byte, 70<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ ref, want, fails string }{
		{"env:ARAN_TEST_SECRET", "from env", ""},
		{"file:" + path, "from file", ""},
		{"plain", "plain", ""},
		{"env:ARAN_TEST_ABSENT", "", "ARAN_TEST_ABSENT"},
		{"file:/does/not/exist", "", "/does/not/exist"},
		{"file:" + big, "", "larger than"},
	} {
		got, err := secret.Resolve(c.ref)
		if c.fails != "" {
			if err == nil || !strings.Contains(err.Error(), c.fails) {
				t.Errorf("Resolve(%q): %v does not say %q", c.ref, err, c.fails)
			}
			continue
		}
		if err != nil || got.Reveal() != c.want {
			t.Errorf("Resolve(%q) = %q, %v", c.ref, got.Reveal(), err)
		}
	}
}

func TestVisible(t *testing.T) {
	for value, want := range map[string]bool{"": true, "sk-Ab.9_~!": true, "two words": false, "end\n": false, "\x00": false, "schlüssel": false, "\x7f": false} {
		if got := secret.New(value).Visible(); got != want {
			t.Errorf("%q: %v", value, got)
		}
	}
}
