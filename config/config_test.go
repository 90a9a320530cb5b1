package config_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"aran/config"
	"aran/platform/secret"
)

type limits struct {
	Rate  int           `yaml:"rate" doc:"requests a second"`
	Every time.Duration `yaml:"every" doc:"how often"`
}

type section struct {
	Listen string         `yaml:"listen" doc:"address"`
	Key    secret.String  `yaml:"key" doc:"credential"`
	Limits limits         `yaml:"limits"`
	Names  []string       `yaml:"names" doc:"who"`
	Tiers  map[string]int `yaml:"tiers" doc:"by name"`
	Open   bool           `yaml:"open" doc:"anyone"`
	Inner  string         `yaml:"-"`
}

func (s section) Check() error {
	if s.Limits.Rate < 0 {
		return errors.New("edge.limits.rate: use 0 or more")
	}
	return nil
}

func sections(s *section) []config.Section {
	return []config.Section{{Name: "edge", Doc: "The edge.", Into: s}}
}

func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "aran.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestLaterSourcesWin(t *testing.T) {
	s := section{Listen: "default", Limits: limits{Rate: 1, Every: time.Second}}
	err := config.Load(config.Source{
		File:    write(t, "edge:\n  listen: file\n  names: [a, b]\n  tiers: {free: 3}\n  limits:\n    rate: 2\n    every: 3m\n"),
		Env:     []string{"ARAN_EDGE_LIMITS_RATE=5", "ARAN_EDGE_NAMES=c,d", "OPENAI_API_KEY=sk-1", "ARAN_FAULT_KILL=x", "HOME=/root"},
		Flags:   map[string]string{"edge.listen": "flag"},
		Aliases: map[string]string{"OPENAI_API_KEY": "edge.key"},
		Ignore:  []string{"ARAN_FAULT_"},
	}, sections(&s))
	if err != nil {
		t.Fatal(err)
	}
	if s.Listen != "flag" || s.Limits.Rate != 5 || s.Limits.Every != 3*time.Minute || s.Key.Reveal() != "sk-1" || strings.Join(s.Names, "") != "cd" || s.Tiers["free"] != 3 {
		t.Errorf("loaded %+v (key %q)", s, s.Key.Reveal())
	}
}

func TestMistakesAreNamed(t *testing.T) {
	for _, c := range []struct {
		name, file string
		env        []string
		flags      map[string]string
		want       string
	}{
		{"a typo names the nearest key", "edge:\n  lisen: x\n", nil, nil, `unknown key "edge.lisen"; did you mean "edge.listen"?`},
		{"in a group too", "edge:\n  limits:\n    raet: 1\n", nil, nil, `did you mean "edge.limits.rate"?`},
		{"and the line", "edge:\n  listen: x\n  opne: true\n", nil, nil, ":3:"},
		{"a section", "egde:\n  listen: x\n", nil, nil, `did you mean "edge"?`},
		{"a variable", "", []string{"ARAN_EDGE_LISTN=x"}, nil, `did you mean "ARAN_EDGE_LISTEN"?`},
		{"far from everything", "zzzzzzzz: 1\n", nil, nil, "aran config docs"},
		{"a flag", "", nil, map[string]string{"edge.listn": "x"}, `did you mean "edge.listen"?`},
		{"a wrong type", "edge:\n  limits: {rate: many}\n", nil, nil, "edge.limits.rate"},
		{"a wrong duration", "", []string{"ARAN_EDGE_LIMITS_EVERY=often"}, nil, "duration"},
		{"a value for a group", "edge: 3\n", nil, nil, "holds settings of its own"},
		{"a failed check", "edge: {limits: {rate: -1}}\n", nil, nil, "edge.limits.rate: use 0 or more"},
		{"broken YAML", "edge: [\n", nil, nil, "aran.yaml"},
		{"a missing secret", "edge: {key: 'env:ARAN_NOT_THERE'}\n", nil, nil, "not set"},
		{"twice", "edge: {listen: a, listen: b}\n", nil, nil, "listen"},
	} {
		var s section
		src := config.Source{Env: c.env, Flags: c.flags}
		if c.file != "" {
			src.File = write(t, c.file)
		}
		if err := config.Load(src, sections(&s)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %q does not say %q", c.name, err, c.want)
		}
	}
}

func TestErrorsAndPrintHideSecrets(t *testing.T) {
	var s section
	err := config.Load(config.Source{File: write(t, "edge:\n  key: hunter2\n  limits: {rate: x}\n")}, sections(&s))
	if err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("error %v", err)
	}
	s = section{Key: secret.New("hunter2"), Listen: ":1"}
	var out bytes.Buffer
	if err := errors.Join(config.Print(&out, sections(&s)), config.Reference(&out, sections(&s))); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(out.String(), "hunter2") || !strings.Contains(out.String(), "edge.listen: :1") || !strings.Contains(out.String(), "ARAN_EDGE_KEY") {
		t.Errorf("printed %s", out.String())
	}
}

func FuzzParse(f *testing.F) {
	f.Add("edge: {listen: a}")
	f.Add("edge:\n  limits:\n    rate: 2\n")
	f.Fuzz(func(t *testing.T, text string) {
		var s section
		sec := sections(&s)
		config.Parse("fuzz", []byte(text), config.Settings(sec), sec) // returns; never panics
	})
}
