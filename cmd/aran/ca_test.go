package main

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"aran/app"
)

func TestAuthorityArguments(t *testing.T) {
	dir := t.TempDir()
	for _, c := range []struct {
		name string
		args []string
		says string
	}{
		{"no subcommand", nil, "serve"},
		{"an unknown subcommand", []string{"sign"}, "serve"},
		{"no directory", []string{"issue", "--out", dir}, "--dir"},
		{"nowhere to write", []string{"issue", "--dir", dir}, "--out"},
		{"an unknown service", []string{"issue", "--dir", dir, "--out", dir, "mail"}, "mail"},
		{"a life that is too short", []string{"serve", "--dir", dir, "--out", dir, "--life", "10ms"}, "--life"},
		{"a life that is too long", []string{"serve", "--dir", dir, "--out", dir, "--life", "8760h"}, "--life"},
		{"a life that is none", []string{"issue", "--dir", dir, "--out", dir, "--life", "soon"}, "life"},
		{"a key for one service", []string{"rotate", "--dir", dir, "chat"}, "chat"},
	} {
		var out, errs bytes.Buffer
		err := authority(t.Context(), terminal{strings.NewReader(""), &out, &errs}, c.args)
		if !errors.Is(err, errUsage) || !strings.Contains(err.Error(), c.says) || out.Len() > 0 {
			t.Errorf("%s: %v, printed %q", c.name, err, out.String())
		}
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("a mistake left %v %v", left, err)
	}
}

func TestAuthorityIssuesForAllServices(t *testing.T) {
	dir, out := filepath.Join(t.TempDir(), "ca"), filepath.Join(t.TempDir(), "new", "out")
	run := func(args ...string) {
		t.Helper()
		var o, e bytes.Buffer
		if err := authority(t.Context(), terminal{strings.NewReader(""), &o, &e}, args); err != nil {
			t.Fatal(err)
		}
	}
	run("issue", "--dir", dir, "--out", out, "chat")
	if _, err := os.Stat(filepath.Join(out, "user")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a service that was not named has a directory: %v", err)
	}
	t.Setenv("ARAN_MESH_CERTIFICATES", out)
	run("issue", "--dir", dir)
	for _, s := range app.Names() {
		if _, err := os.Stat(filepath.Join(out, s, "svid.pem")); err != nil {
			t.Error(err)
		}
	}
	run("rotate", "--dir", dir)
	b, err := os.ReadFile(filepath.Join(dir, "ca.pem"))
	if err != nil || strings.Count(string(b), "BEGIN CERTIFICATE") != 2 {
		t.Errorf("after a rotation: %v\n%s", err, b)
	}
}
