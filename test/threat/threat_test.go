package threat_test

import (
	"context"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"aran/app"
	"aran/test/harness"
	"aran/test/threat"
)

func load(t *testing.T) threat.Model {
	t.Helper()
	m, err := threat.Load(filepath.Join(harness.Root(), "docs", "threat-model.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// exists reports whether a package of the repository has a test or fuzz test of that name.
func exists(t *testing.T) func(pkg, name string) bool {
	t.Helper()
	seen := map[string][]string{}
	return func(pkg, name string) bool {
		names, done := seen[pkg]
		if !done {
			files, err := filepath.Glob(filepath.Join(harness.Root(), pkg, "*_test.go"))
			if err != nil {
				t.Fatal(err)
			}
			for _, file := range files {
				names = append(names, testsIn(t, file)...)
			}
			seen[pkg] = names
		}
		return slices.Contains(names, name)
	}
}

func testsIn(t *testing.T, file string) (names []string) {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range f.Decls {
		if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil && (strings.HasPrefix(fn.Name.Name, "Test") || strings.HasPrefix(fn.Name.Name, "Fuzz")) {
			names = append(names, fn.Name.Name)
		}
	}
	return names
}

func TestTheModelHolds(t *testing.T) {
	m := load(t)
	for _, p := range m.Problems(exists(t)) {
		t.Error(p)
	}
	open := 0
	for _, th := range m.Threats {
		if len(th.Tests) == 0 {
			open++
		}
	}
	t.Logf("%d threats, %d of them open", len(m.Threats), open)
}

func TestEverythingServedHasAnEntry(t *testing.T) {
	m, served := load(t), routes(t)
	for _, r := range served {
		if !m.HasRoute(r) {
			t.Errorf("%s is served and has no entry in docs/threat-model.yaml", r)
		}
	}
	sent := events(t)
	for _, e := range sent {
		if !m.HasEvent(e) {
			t.Errorf("%s is sent and has no entry in docs/threat-model.yaml", e)
		}
	}
	for _, e := range m.Entries {
		for _, r := range e.Routes {
			if !slices.Contains(served, r) {
				t.Errorf("docs/threat-model.yaml has an entry for %s, which is not served", r)
			}
		}
		for _, name := range e.Events {
			if !slices.Contains(sent, name) {
				t.Errorf("docs/threat-model.yaml has an entry for %s, which nothing sends", name)
			}
		}
	}
}

func TestThePageIsCurrent(t *testing.T) {
	b, err := os.ReadFile(filepath.Join(harness.Root(), "docs", "threat-model.md"))
	if err != nil || string(b) != load(t).Page() {
		t.Errorf("docs/threat-model.md is not what docs/threat-model.yaml makes; run make generate (%v)", err)
	}
}

// TestItNotices plants what the tests above are there for.
func TestItNotices(t *testing.T) {
	m := load(t)
	m.Threats = append(m.Threats,
		threat.Threat{ID: "X1", Service: "chat", Title: "x", Stride: "T", Severity: "high", Mitigation: "x", Tests: []string{"service/chat TestThatNobodyWrote"}},
		threat.Threat{ID: "X2", Service: "chat", Title: "x", Stride: "T", Severity: "high", Mitigation: "x"},
		threat.Threat{ID: "X3", Service: "nobody", Title: "x", Stride: "Q", Severity: "dire", LLM: "LLM11"},
	)
	m.Entries = append(m.Entries, threat.Entry{Routes: []string{"GET /x"}, Threats: []string{"X9"}})
	problems := strings.Join(m.Problems(exists(t)), "\n")
	for _, want := range []string{"TestThatNobodyWrote", "X2 names no test", "X3: service", "stride", "severity", "LLM11", "X3 has no mitigation", "threat X9"} {
		if !strings.Contains(problems, want) {
			t.Errorf("not noticed: %s in\n%s", want, problems)
		}
	}
	if m.HasRoute("GET /api/v1/planted") || m.HasEvent("aran.chat.planted.v1") {
		t.Error("a route or event that nobody entered has an entry")
	}
}

// routes asks the handlers of the whole platform what they serve.
func routes(t *testing.T) (out []string) {
	t.Helper()
	cfg, err := app.Load("", map[string]string{"data.dir": filepath.Join(t.TempDir(), "data"), "gateway.listen": "127.0.0.1:0", "watch.listen": "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	a, err := app.Open(t.Context(), cfg, app.Options{Services: app.Names(), Log: io.Discard})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range a.Routes() {
		out = append(out, r.Method+" "+r.Pattern)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := a.Stop(ctx); err != nil {
		t.Error(err)
	}
	return out
}

var eventType = regexp.MustCompile(`"(aran\.[a-z]+\.[a-z_]+\.v\d+)"`)

// events lists the types that the services declare.
func events(t *testing.T) (out []string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(harness.Root(), "service", "*", "events.go"))
	if err != nil || len(files) < 5 {
		t.Fatalf("%d files of events: %v", len(files), err)
	}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range eventType.FindAllStringSubmatch(string(b), -1) {
			out = append(out, m[1])
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}
