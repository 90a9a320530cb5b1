package pii_test

import (
	"testing"

	"aran/platform/auth"
	"aran/service/guard/pii"
)

func TestPrivate(t *testing.T) {
	key := auth.NewAPIKey(false)
	for _, c := range []struct{ text, kind, found string }{
		{"pay with 4111 1111 1111 1111 please", "pii.card", "4111 1111 1111 1111"},
		{"pay with 4111 1111 1111 1112 please", "", ""},
		{"order 0000000000000000", "", ""},
		{"IBAN GB82 WEST 1234 5698 7654 32.", "pii.iban", "GB82 WEST 1234 5698 7654 32"},
		{"IBAN GB82 WEST 1234 5698 7654 33.", "", ""},
		{"mail a.b@example.org now", "pii.email", "a.b@example.org"},
		{"aadhaar 2341 2341 2346", "pii.aadhaar", "2341 2341 2346"},
		{"aadhaar 2341 2341 2347", "", ""},
		{"ssn 078-05-1120", "pii.ssn", "078-05-1120"},
		{"ssn 666-05-1120", "", ""},
		{"call +91 98765 43210", "pii.phone", "+91 98765 43210"},
		{"version 1.2.3 of 2024-01-02", "", ""},
		{"key " + key + "!", "secret", key},
		{"key " + key[:47] + "x", "", ""},
		{"AKIAIOSFODNN7EXAMPLE", "secret", "AKIAIOSFODNN7EXAMPLE"},
		{"-----BEGIN PRIVATE KEY-----\nMIIE\n-----END PRIVATE KEY-----", "secret", "-----BEGIN PRIVATE KEY-----\nMIIE\n-----END PRIVATE KEY-----"},
	} {
		got := pii.Find(c.text)
		switch {
		case c.kind == "" && len(got) > 0:
			t.Errorf("%q: found %+v", c.text, got)
		case c.kind != "" && (len(got) != 1 || got[0].Kind != c.kind || c.text[got[0].Start:got[0].End] != c.found):
			t.Errorf("%q: found %+v, want %s %q", c.text, got, c.kind, c.found)
		}
	}
}
