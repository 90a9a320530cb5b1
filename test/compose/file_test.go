package compose_test

import (
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"

	"aran/app"
	"aran/test/harness"
)

// file is compose.yaml, as far as the rules look at it.
type file struct {
	Services map[string]container `yaml:"services"`
	Networks map[string]*struct {
		Internal bool `yaml:"internal"`
	} `yaml:"networks"`
	Volumes map[string]any `yaml:"volumes"`
}

type container struct {
	Image       string            `yaml:"image"`
	User        string            `yaml:"user"`
	Command     []string          `yaml:"command"`
	ReadOnly    bool              `yaml:"read_only"`
	CapDrop     []string          `yaml:"cap_drop"`
	CapAdd      []string          `yaml:"cap_add"`
	Privileged  bool              `yaml:"privileged"`
	SecurityOpt []string          `yaml:"security_opt"`
	MemLimit    string            `yaml:"mem_limit"`
	PidsLimit   int               `yaml:"pids_limit"`
	CPUs        string            `yaml:"cpus"`
	Restart     string            `yaml:"restart"`
	NetworkMode string            `yaml:"network_mode"`
	Networks    []string          `yaml:"networks"`
	Ports       []string          `yaml:"ports"`
	Volumes     []string          `yaml:"volumes"`
	Environment map[string]string `yaml:"environment"`
	HealthCheck *struct {
		Test []string `yaml:"test"`
	} `yaml:"healthcheck"`
	DependsOn map[string]struct {
		Condition string `yaml:"condition"`
	} `yaml:"depends_on"`
}

func load(t *testing.T) file {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(harness.Root(), "compose.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var f file
	if err := yaml.UnmarshalWithOptions(b, &f, yaml.AllowDuplicateMapKey()); err != nil {
		t.Fatal(err)
	}
	return f
}

// stores are the containers of others.
func stores() []string { return []string{"postgres", "nats", "redis"} }

// helpers do not serve: one makes secrets and ends, one renews certificates.
func helpers() []string { return []string{"secrets", "authority"} }

// coming are services that have a container before they are in the table.
func coming() []string { return []string{"notify", "recommend"} }

func TestEveryServiceHasAContainerOfItsOwn(t *testing.T) {
	f := load(t)
	want := slices.Concat(app.Names(), stores(), helpers())
	for _, n := range want {
		if _, there := f.Services[n]; !there {
			t.Errorf("compose.yaml has no container for %s", n)
		}
	}
	for n := range f.Services {
		if !slices.Contains(want, n) && !slices.Contains(coming(), n) {
			t.Errorf("compose.yaml has a container for %s, which the table does not know", n)
		}
	}
	for _, n := range app.Names() {
		c := f.Services[n]
		if want := "${ARAN_" + strings.ToUpper(n) + "_VERSION:-local}"; !strings.HasSuffix(c.Image, ":"+want) {
			t.Errorf("%s has image %s; it is rolled alone by the tag %s", n, c.Image, want)
		}
		if !slices.Equal(c.Command, []string{"run", n}) {
			t.Errorf("%s runs %v", n, c.Command)
		}
		if c.Environment["ARAN_DATA_KEYRING"] != "/run/aran/"+n+"/keyring.key" {
			t.Errorf("%s has the keyring %s", n, c.Environment["ARAN_DATA_KEYRING"])
		}
	}
}

func TestContainersAreConfined(t *testing.T) {
	f := load(t)
	for name, c := range f.Services {
		user, _, _ := strings.Cut(c.User, ":")
		switch {
		case user == "" || user == "0" || user == "root":
			t.Errorf("%s runs as %q", name, c.User)
		case !c.ReadOnly:
			t.Errorf("%s may write to its root", name)
		case !slices.Equal(c.CapDrop, []string{"ALL"}) || len(c.CapAdd) > 0 || c.Privileged:
			t.Errorf("%s has capabilities", name)
		case !slices.Contains(c.SecurityOpt, "no-new-privileges:true"):
			t.Errorf("%s may gain privileges", name)
		case c.MemLimit == "" || c.PidsLimit == 0:
			t.Errorf("%s has no limits", name)
		case name != "secrets" && (c.CPUs == "" || c.HealthCheck == nil || c.Restart != "unless-stopped"):
			t.Errorf("%s has no limit of processors, no health check, or is not restarted", name)
		case len(c.Ports) > 0 && name != "gateway":
			t.Errorf("%s is reached from outside: %v", name, c.Ports)
		}
		for _, v := range c.Volumes {
			if strings.Contains(v, "docker.sock") || strings.HasPrefix(v, "/") {
				t.Errorf("%s mounts %s", name, v)
			}
			if !slices.Contains(helpers(), name) && strings.HasPrefix(v, "secrets-") && v != "secrets-"+name+":/run/aran/"+name+":ro" {
				t.Errorf("%s mounts %s: its own secrets, read only, and no other's", name, v)
			}
		}
		for on, d := range c.DependsOn {
			want := "service_healthy"
			if on == "secrets" {
				want = "service_completed_successfully"
			}
			if d.Condition != want {
				t.Errorf("%s waits for %s by %q, not by %s", name, on, d.Condition, want)
			}
		}
	}
}

var byDigest = regexp.MustCompile(`^\$\{[A-Z]+_IMAGE:-[a-z]+:[a-z0-9.-]+@sha256:[0-9a-f]{64}\}$`)

func TestOfficialImagesAreByDigest(t *testing.T) {
	f := load(t)
	for _, n := range stores() {
		if !byDigest.MatchString(f.Services[n].Image) {
			t.Errorf("%s has the image %s", n, f.Services[n].Image)
		}
	}
	for _, d := range []string{"Dockerfile", "prebuilt.Dockerfile"} {
		b, err := os.ReadFile(filepath.Join(harness.Root(), "deploy", "compose", d))
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(b)) {
			if strings.HasPrefix(line, "ARG ") && strings.Contains(line, "_IMAGE=") && !strings.Contains(line, "@sha256:") {
				t.Errorf("%s: %s", d, line)
			}
		}
	}
}

var (
	reference = regexp.MustCompile(`^(file:/run/aran/|\$\{ARAN_[A-Z_]+:-\}$)`)
	secretive = regexp.MustCompile(`(PASSWORD|SECRET|TOKEN|API_KEY|REDIS_URL)$`)
)

func TestNoSecretIsInTheFile(t *testing.T) {
	for name, c := range load(t).Services {
		for key, value := range c.Environment {
			if secretive.MatchString(key) && !reference.MatchString(value) {
				t.Errorf("%s: %s is %q, which is no file", name, key, value)
			}
		}
	}
}

// TestZones: who is confined has no way out, and meets only those that it works with.
func TestZones(t *testing.T) {
	f := load(t)
	out := map[string][]string{"edge": {"gateway"}, "providers": {"chat"}, "webhooks": {"notify"}}
	for name, n := range f.Networks {
		var members []string
		for s, c := range f.Services {
			if slices.Contains(c.Networks, name) {
				members = append(members, s)
			}
		}
		slices.Sort(members)
		if n != nil && n.Internal {
			continue
		}
		if !slices.Equal(members, out[name]) {
			t.Errorf("%v reach the world through %s", members, name)
		}
	}
	for _, c := range []struct {
		who   string
		meets []string
	}{
		{"infer", []string{"chat", "gateway", "guard", "nats", "postgres", "recommend", "search", "user"}},
		{"audit", []string{"gateway", "nats", "postgres", "user"}},
		{"notify", []string{"gateway", "nats", "postgres", "user"}},
	} {
		met := map[string]bool{}
		for other, o := range f.Services {
			for _, n := range o.Networks {
				if other != c.who && slices.Contains(f.Services[c.who].Networks, n) {
					met[other] = true
				}
			}
		}
		if got := slices.Sorted(maps.Keys(met)); !slices.Equal(got, c.meets) {
			t.Errorf("%s meets %v, and should meet %v", c.who, got, c.meets)
		}
	}
	for _, h := range helpers() {
		if f.Services[h].NetworkMode != "none" {
			t.Errorf("%s has a network", h)
		}
	}
}
