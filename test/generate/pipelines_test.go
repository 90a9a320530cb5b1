package main

import (
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"

	"aran/app"
)

const root = "../.."

// workflow is what a pipeline says.
type workflow struct {
	On struct {
		Push struct {
			Paths []string
			Tags  []string
		}
		PullRequest struct{ Paths []string } `yaml:"pull_request"`
	}
	Env  map[string]string
	Jobs map[string]struct {
		Steps []struct{ Uses, Run string }
	}
}

func readWorkflow(t *testing.T, service string) (w workflow, text string) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(root, pipelinesDir, service+".yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(b, &w); err != nil {
		t.Fatalf("%s: %v", service, err)
	}
	return w, string(b)
}

// missing lists the packages that a pipeline does not test, or whose changes do not start it.
func missing(w workflow, packages []string) (out []string) {
	tested := strings.Fields(w.Env["PACKAGES"])
	for _, p := range packages {
		dir := strings.TrimPrefix(p, module+"/")
		for _, paths := range [][]string{w.On.Push.Paths, w.On.PullRequest.Paths} {
			if !slices.ContainsFunc(paths, func(glob string) bool { return covers(glob, dir+"/x.go") }) {
				out = append(out, p+" does not start it")
			}
		}
		if !slices.Contains(tested, "./"+dir) {
			out = append(out, p+" is not tested")
		}
	}
	return out
}

// covers is the part of path filters that pipelines use: dir/** for all below, * within a name.
func covers(glob, file string) bool {
	if dir, ok := strings.CutSuffix(glob, "/**"); ok {
		return strings.HasPrefix(file, dir+"/")
	}
	ok, err := path.Match(glob, file)
	return err == nil && ok
}

// imported asks the go command what a service's packages import, all the way down.
func imported(t *testing.T, service string) (out []string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-tags", "grpcnotrace", "-deps", "./service/"+service+"/...", "./config")
	cmd.Dir = root
	b, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	for p := range strings.FieldsSeq(string(b)) {
		if strings.HasPrefix(p, module+"/") {
			out = append(out, p)
		}
	}
	return append(out, module+"/app", module+"/cmd/aran")
}

// TestPipelinesListWhatServicesAreBuiltFrom does not believe the generator: it asks the go command.
func TestPipelinesListWhatServicesAreBuiltFrom(t *testing.T) {
	wired, err := wiring(filepath.Join(root, "app"))
	if err != nil {
		t.Fatal(err)
	}
	for _, service := range app.Names() {
		w, _ := readWorkflow(t, service)
		packages := append(imported(t, service), wired[service]...)
		if lacks := missing(w, packages); len(lacks) > 0 {
			t.Errorf("%s: run make generate: %v", service, lacks)
		}
		for _, other := range app.Names() {
			if own := module + "/service/" + other; other != service && slices.Contains(strings.Fields(w.Env["PACKAGES"]), "./service/"+other) && !slices.Contains(packages, own) {
				t.Errorf("%s tests %s, which it is not built from", service, other)
			}
		}
		for _, planted := range packages {
			dir := strings.TrimPrefix(planted, module+"/")
			less := w
			less.Env = map[string]string{"PACKAGES": strings.Join(slices.DeleteFunc(strings.Fields(w.Env["PACKAGES"]), func(p string) bool { return p == "./"+dir }), " ")}
			if !slices.Contains(missing(less, packages), planted+" is not tested") {
				t.Errorf("%s without the test of %s is not found out", service, dir)
			}
			less.Env = w.Env
			less.On.Push.Paths = slices.DeleteFunc(slices.Clone(w.On.Push.Paths), func(glob string) bool { return covers(glob, dir+"/x.go") })
			if !slices.Contains(missing(less, packages), planted+" does not start it") {
				t.Errorf("%s without the path of %s is not found out", service, dir)
			}
		}
	}
}

// TestWiring: what app hands to a service is part of what the service is built from.
func TestWiring(t *testing.T) {
	wired, err := wiring(filepath.Join(root, "app"))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		service, uses string
		want          bool
	}{
		{"search", "aran/service/infer/minilm", true},
		{"search", "aran/app/handbook", true},
		{"search", "aran/platform/saga", true},
		{"chat", "aran/api/gen/aran/search/v1/searchv1connect", true},
		{"chat", "aran/platform/store", true}, // through parts.store
		{"user", "aran/platform/seal", true},  // through parts.box
		{"chat", "aran/service/infer/minilm", false},
		{"guard", "aran/app/handbook", false},
		{"audit", "aran/service/gateway", false},
	} {
		if got := slices.Contains(wired[c.service], c.uses); got != c.want {
			t.Errorf("%s is wired with %s: %v, want %v", c.service, c.uses, got, c.want)
		}
	}
}

var (
	pinned  = regexp.MustCompile(`^[a-z-]+/[a-z-]+@[0-9a-f]{40}$`)
	aHost   = regexp.MustCompile(`(?i)://|\b[a-z0-9-]+\.(com|org|io|dev|net|cloud)\b`)
	rolling = regexp.MustCompile(`deploy/roll ([a-z]+) `)
)

// TestPipelines: one for each service and no other, which rolls that one, pins what it runs, and knows no host.
func TestPipelines(t *testing.T) {
	found, err := filepath.Glob(filepath.Join(root, pipelinesDir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range found {
		names = append(names, strings.TrimSuffix(filepath.Base(f), ".yaml"))
	}
	want := app.Names()
	slices.Sort(want)
	if !slices.Equal(names, want) {
		t.Errorf("pipelines of %v; services %v", names, want)
	}
	for _, service := range app.Names() {
		w, text := readWorkflow(t, service)
		if host := aHost.FindString(text); host != "" {
			t.Errorf("%s names the host %q", service, host)
		}
		if !slices.Equal(w.On.Push.Tags, []string{service + "-v*"}) {
			t.Errorf("%s is released by %v", service, w.On.Push.Tags)
		}
		var rolled []string
		for _, job := range w.Jobs {
			for _, s := range job.Steps {
				if s.Uses != "" && !pinned.MatchString(s.Uses) {
					t.Errorf("%s uses %s, which is not pinned", service, s.Uses)
				}
				for _, m := range rolling.FindAllStringSubmatch(s.Run, -1) {
					rolled = append(rolled, m[1])
				}
				if strings.Contains(s.Run, "${{") {
					t.Errorf("%s puts an expression into a script: %s", service, s.Run)
				}
			}
		}
		if !slices.Equal(rolled, []string{service}) {
			t.Errorf("%s rolls %v", service, rolled)
		}
	}
}
