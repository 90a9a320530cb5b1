package main

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"aran/service/audit/ledger"
)

func TestAuditArguments(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "proof.json")
	if err := os.WriteFile(file, []byte(`{"event":"x"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		args []string
		want error // nil: any
	}{
		{"no subcommand", nil, errUsage},
		{"an unknown subcommand", []string{"check"}, errUsage},
		{"two exports to verify", []string{"verify", dir, dir}, errUsage},
		{"an export and a data directory", []string{"verify", "--data", dir, dir}, errUsage},
		{"a key for an export", []string{"verify", dir, "--key", file}, errUsage},
		{"a key for nothing", []string{"verify", "--key", file}, errUsage},
		{"an export to nowhere", []string{"export"}, errUsage},
		{"a proof of nothing", []string{"proof"}, errUsage},
		{"no log to verify", []string{"verify", "--data", dir}, os.ErrNotExist},
		{"no log to export", []string{"export", "--data", dir, filepath.Join(dir, "out")}, os.ErrNotExist},
		{"no log to prove from", []string{"proof", "--data", dir, "event"}, os.ErrNotExist},
		{"no export", []string{"verify", filepath.Join(dir, "nothing")}, os.ErrNotExist},
		{"an empty export", []string{"verify", t.TempDir()}, ledger.ErrBroken},
		{"no proof", []string{"verify", file}, ledger.ErrBroken},
		{"no key", []string{"verify", file, "--key", file}, ledger.ErrBroken},
		{"no checkpoint file", []string{"verify", "--checkpoint", filepath.Join(dir, "nothing")}, os.ErrNotExist},
	} {
		var out, errs bytes.Buffer
		err := audit(t.Context(), terminal{strings.NewReader(""), &out, &errs}, c.args)
		if !errors.Is(err, c.want) || err == nil || out.Len() > 0 {
			t.Errorf("%s: %v, printed %q", c.name, err, out.String())
		}
	}
}
