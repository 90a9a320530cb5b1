// Package outgoing finds what an answer may not carry out: links that carry data away, and marks of the instructions.
//
// It is pure: no clock, no network, no state. Every function takes linear time (RE2), whatever the text.
package outgoing

import (
	"net/url"
	"regexp"
	"slices"
	"strings"

	"aran/service/guard/detect"
)

var link = regexp.MustCompile(`(!?)\[([^\]\n]*)\]\(\s*<?([a-zA-Z][a-zA-Z0-9+.-]*:[^)\s>]+)>?[^)\n]*\)`)

const longQuery = 48 // bytes of query or fragment: enough to carry something away

// Links finds Markdown that could carry data away when it is shown: images of other hosts, links with long queries, and
// links that are no web address. Hosts of the allow list pass.
func Links(s string, allow []string) []detect.Finding {
	var out []detect.Finding
	for _, m := range link.FindAllStringSubmatchIndex(s, -1) {
		u, err := url.Parse(s[m[6]:m[7]])
		if err == nil && slices.Contains(allow, u.Hostname()) && (u.Scheme == "https" || u.Scheme == "http") {
			continue
		}
		image := m[2] != m[3]
		switch {
		case image:
			out = append(out, detect.Finding{Kind: "link", Rule: "image", Score: 1, Start: m[0], End: m[1]})
		case err != nil || u.Scheme != "https" && u.Scheme != "http" && u.Scheme != "mailto":
			out = append(out, detect.Finding{Kind: "link", Rule: "scheme", Score: 1, Start: m[0], End: m[1]})
		case u.User != nil || len(u.RawQuery)+len(u.Fragment) > longQuery:
			out = append(out, detect.Finding{Kind: "link", Rule: "query", Score: 1, Start: m[0], End: m[1]})
		}
	}
	return out
}

// Canaries finds the marks that stand only in the instructions.
func Canaries(s string, canaries []string) []detect.Finding {
	var out []detect.Finding
	lower := strings.ToLower(s)
	for _, c := range canaries {
		if i := strings.Index(lower, strings.ToLower(c)); i >= 0 && len(lower) == len(s) {
			out = append(out, detect.Finding{Kind: "canary", Rule: "canary", Score: 1, Start: i, End: i + len(c)})
		} else if i := strings.Index(s, c); i >= 0 {
			out = append(out, detect.Finding{Kind: "canary", Rule: "canary", Score: 1, Start: i, End: i + len(c)})
		}
	}
	return out
}
