package policy_test

import (
	"encoding/json"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"

	"aran/service/guard/policy"
)

func TestErrorsNameTheField(t *testing.T) {
	for doc, want := range map[string]string{
		"thresholds: {user: {block: 1.2}}":                                   "thresholds.user.block",
		"thresholds: {user: {block: .nan}}":                                  "thresholds.user.block",
		"thresholds: {tool: {block: 0.5, flag: 0.6}}":                        "thresholds.tool.flag",
		"input: {secret: remove}":                                            "input.secret",
		"input: {injection: redact}":                                         "input.injection",
		"output: {kinds: {pii.card: maybe}}":                                 "output.kinds.pii.card",
		"output: {kinds: {'PII card': block}}":                               "output.kinds",
		"anonymise: sometimes":                                               "anonymise",
		"pii: {packs: [in, moon]}":                                           "pii.packs[1]",
		"layers: [compact]":                                                  "layers",
		"layers: [rules, magic]":                                             "layers[1]",
		"allow_hosts: ['*.example.co.uk', '*.co.uk']":                        "allow_hosts[1]",
		"allow_hosts: [docs.example, 'https://x.example/']":                  "allow_hosts[1]",
		"boundaries: [{name: a}]":                                            "boundaries[0]",
		"boundaries: [{name: a, phrases: [x]}, {name: a, phrases: [y]}]":     "boundaries[1].name",
		"boundaries: [{name: a, patterns: ['(']}]":                           "boundaries[0].patterns[0]",
		"boundaries: [{name: a, patterns: ['x*']}]":                          "boundaries[0].patterns[0]",
		"boundaries: [{name: a, phrases: [' ']}]":                            "boundaries[0].phrases[0]",
		"tools: {after_untrusted: {deny: ['rm -rf']}}":                       "tools.after_untrusted.deny[0]",
		"schemas: ['{']":                                                     "schemas[0]",
		"output: {secrets: block}":                                           "policy",
		"thresholds: {user: {block: high}}":                                  "policy",
		"allow_hosts: [" + strings.Repeat("a.example, ", 300) + "b.example]": "allow_hosts",
	} {
		_, err := policy.Parse([]byte(doc))
		if err == nil || !strings.HasPrefix(err.Error(), want+": ") {
			t.Errorf("%.60s: %v, want an error for %s", doc, err, want)
		}
	}
	if _, err := policy.Parse([]byte("output: {secrets: block}")); err == nil || !strings.Contains(err.Error(), "secrets") {
		t.Errorf("an unknown field is not named: %v", err)
	}
}

func TestBothFormatsHoldTheSame(t *testing.T) {
	p := policy.Default()
	p.AllowHosts = []string{"*.example.org"}
	p.Boundaries = []policy.Boundary{{Name: "no legal advice", Phrases: []string{"sue them"}, Action: policy.Flag}}
	p.Output.Kinds = map[string]string{"pii.passport": policy.Block}
	asJSON, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	asYAML, err := yaml.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range [][]byte{asJSON, asYAML} {
		got, err := policy.Parse(b)
		if err != nil || !reflect.DeepEqual(got, p) {
			t.Errorf("%s\nread back as %+v, %v", b, got, err)
		}
	}
	if b, err := json.Marshal(policy.Policy{}); err != nil || string(b) != "{}" {
		t.Errorf("the empty policy is %s, %v", b, err)
	}
}

func TestTheDefaultIsWhole(t *testing.T) {
	p := policy.Default()
	if err := p.Check(); err != nil {
		t.Fatal(err)
	}
	for _, kind := range []string{"injection", "jailbreak", "secret", "pii.card", "pii.email", "pii.url", "link", "canary", "leakage", "html", "code", "sql", "topic"} {
		for side, a := range map[string]policy.Actions{"input": p.Input, "document": p.Document, "output": p.Output} {
			if policy.Rank(a.For(kind)) < 0 {
				t.Errorf("%s.%s has no action", side, kind)
			}
		}
	}
	if got := (policy.Policy{}).Over(p); !reflect.DeepEqual(got, p) {
		t.Errorf("nothing over the default is %+v", got)
	}
}

func TestANarrowKindGoesBeforeItsGroupAndClass(t *testing.T) {
	a := policy.Actions{PII: policy.Flag, Kinds: map[string]string{"pii.in.*": policy.Redact, "pii.in.pan": policy.Block}}
	for kind, want := range map[string]string{"pii.card": policy.Flag, "pii.in.voter": policy.Redact, "pii.in.pan": policy.Block, "pii.email": ""} {
		if got := a.For(kind); got != want {
			t.Errorf("%s: %q, want %q", kind, got, want)
		}
	}
}

func TestTools(t *testing.T) {
	for _, c := range []struct {
		name  string
		rules policy.ToolRules
		tool  string
		want  string
	}{
		{"nothing set allows all", policy.ToolRules{}, "mail.send", "allow"},
		{"deny alone", policy.ToolRules{Deny: []string{"mail.*"}}, "mail.send", "deny"},
		{"deny alone leaves the rest", policy.ToolRules{Deny: []string{"mail.*"}}, "search", "allow"},
		{"allow lists", policy.ToolRules{Allow: []string{"search.*"}}, "mail.send", "deny"},
		{"allow goes before ask", policy.ToolRules{Allow: []string{"search.*"}, Ask: []string{"*"}}, "search.docs", "allow"},
		{"ask for the rest", policy.ToolRules{Allow: []string{"search.*"}, Ask: []string{"*"}}, "mail.send", "ask"},
		{"deny goes first", policy.ToolRules{Allow: []string{"*"}, Deny: []string{"*.delete"}}, "files.delete", "deny"},
		{"an empty list allows nothing", policy.ToolRules{Allow: []string{}}, "search", "deny"},
	} {
		if got := c.rules.Decide(c.tool); got != c.want {
			t.Errorf("%s: %s", c.name, got)
		}
	}
}

func TestHosts(t *testing.T) {
	p := policy.Policy{AllowHosts: []string{"docs.example", "*.cdn.example"}}
	for host, want := range map[string]bool{"docs.example": true, "DOCS.example": true, "a.cdn.example": true, "cdn.example": false, "evilcdn.example": false, "docs.example.evil": false} {
		if p.Host(host) != want {
			t.Errorf("%s: %v", host, !want)
		}
	}
}

func TestLooserNamesTheFields(t *testing.T) {
	floor := policy.Policy{
		Thresholds: policy.Thresholds{User: policy.Threshold{Block: 0.8}}, Output: policy.Actions{Secret: policy.Redact, Kinds: map[string]string{"pii.card": policy.Redact}},
		AllowHosts: []string{"*.example.org"}, Tools: policy.Tools{AfterUntrusted: policy.ToolRules{Allow: []string{"search.*"}, Ask: []string{"*"}}}, Anonymise: policy.Providers,
	}
	loose, err := policy.Parse([]byte(`{thresholds: {user: {block: 0.9}}, output: {secret: flag, kinds: {pii.card: allow}}, allow_hosts: [evil.example, a.example.org], tools: {after_untrusted: {allow: ["*"]}}, anonymise: never}`))
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"thresholds.user.block", "output.secret", "output.kinds.pii.card", "anonymise", "allow_hosts", "tools.after_untrusted.allow"}
	if got := policy.Looser(loose, floor); !reflect.DeepEqual(got, want) {
		t.Errorf("looser in %v, want %v", got, want)
	}
	stricter, err := policy.Parse([]byte(`{thresholds: {user: {block: 0.7}}, output: {secret: block}, allow_hosts: [a.example.org], tools: {after_untrusted: {allow: [search.docs]}}, anonymise: always}`))
	if err != nil {
		t.Fatal(err)
	}
	if got := policy.Looser(stricter, floor); len(got) != 0 {
		t.Errorf("stricter, but looser in %v", got)
	}
	if got := policy.Looser(policy.Policy{}, floor); len(got) != 0 {
		t.Errorf("an empty policy is looser in %v", got)
	}
}

// TestStrictestIsNeverLooser draws policies at random and compares what they decide.
func TestStrictestIsNeverLooser(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	kinds := []string{"injection", "secret", "pii.card", "pii.in.pan", "pii.email", "pii.phone", "pii.ip", "link", "canary", "html"}
	tools := []string{"search.docs", "search", "mail.send", "files.delete", "x"}
	hosts := []string{"docs.example", "a.example.org", "example.org", "evil.example"}
	order := []string{policy.ToolAllowed, policy.ToolAsk, policy.ToolDenied}
	for range 3000 {
		a, b := draw(r), draw(r)
		s := policy.Strictest(a, b)
		for _, p := range []policy.Policy{a, b} {
			for _, k := range kinds {
				if policy.Rank(s.Output.For(k)) < policy.Rank(p.Output.For(k)) {
					t.Fatalf("%s: %q, one says %q\n%+v\n%+v", k, s.Output.For(k), p.Output.For(k), a.Output, b.Output)
				}
			}
			for _, x := range tools {
				got, one := s.Tools.AfterUntrusted.Decide(x), p.Tools.AfterUntrusted.Decide(x)
				if slices.Index(order, got) < slices.Index(order, one) {
					t.Fatalf("%s: %s, one says %s\n%+v\n%+v", x, got, one, a.Tools, b.Tools)
				}
			}
			for _, h := range hosts {
				if p.AllowHosts != nil && s.Host(h) && !p.Host(h) {
					t.Fatalf("%s is allowed by %v of %v and %v", h, s.AllowHosts, a.AllowHosts, b.AllowHosts)
				}
			}
			if p.Thresholds.User.Block != 0 && s.Thresholds.User.Block > p.Thresholds.User.Block {
				t.Fatalf("threshold %v of %v", s.Thresholds.User, p.Thresholds.User)
			}
		}
		if got := policy.Looser(s, a); len(got) > 0 {
			t.Fatalf("the strictest is looser in %v\n%+v\n%+v", got, s, a)
		}
	}
}

func draw(r *rand.Rand) policy.Policy {
	action := func() string { return []string{"", policy.Allow, policy.Flag, policy.Redact, policy.Block}[r.IntN(5)] }
	some := func(from ...string) []string {
		if r.IntN(3) == 0 {
			return nil
		}
		out := []string{}
		for _, s := range from {
			if r.IntN(2) == 0 {
				out = append(out, s)
			}
		}
		return out
	}
	var p policy.Policy
	p.Thresholds.User.Block = float64(r.IntN(10)) / 10
	p.Output = policy.Actions{Secret: action(), PII: action(), Contact: action(), Links: action(), Canary: action()}
	for _, k := range []string{"pii.*", "pii.card", "pii.in.*", "pii.in.pan", "pii.email", "secret"} {
		if x := action(); x != "" && r.IntN(2) == 0 {
			if p.Output.Kinds == nil {
				p.Output.Kinds = map[string]string{}
			}
			p.Output.Kinds[k] = x
		}
	}
	p.AllowHosts = some("docs.example", "*.example.org", "a.example.org", "evil.example")
	p.Tools.AfterUntrusted = policy.ToolRules{Allow: some("search.*", "search.docs", "*", "x"), Ask: some("*", "mail.*", "files.delete"), Deny: some("*.delete", "x")}
	return p
}

func FuzzParse(f *testing.F) {
	f.Add("output: {secret: block}\nboundaries: [{name: a, patterns: ['x+']}]")
	f.Add(`{"thresholds": {"user": {"block": 0.8}}}`)
	f.Fuzz(func(t *testing.T, s string) {
		p, err := policy.Parse([]byte(s))
		if err != nil {
			return
		}
		b, err := json.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := policy.Parse(b); err != nil || !reflect.DeepEqual(again.Over(policy.Default()), p.Over(policy.Default())) {
			t.Errorf("%q became %s: %v", s, b, err)
		}
	})
}
