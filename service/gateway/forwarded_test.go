package gateway

import (
	"net/http"
	"strings"
	"testing"
)

func TestClient(t *testing.T) {
	for _, c := range []struct {
		name, remote, forwarded, want string
	}{
		{"nobody in front", "198.51.100.7:1234", "", "198.51.100.7:1234"},
		{"a stranger's word is not taken", "198.51.100.7:1234", "203.0.113.9", "198.51.100.7:1234"},
		{"a balancer's word is", "10.0.0.2:1234", "203.0.113.9", "203.0.113.9:0"},
		{"what the client wrote stands before it", "10.0.0.2:1234", "192.0.2.1, 203.0.113.9", "203.0.113.9:0"},
		{"two balancers", "10.0.0.2:1234", "192.0.2.1, 203.0.113.9, 10.0.0.3", "203.0.113.9:0"},
		{"several header lines", "10.0.0.2:1234", "192.0.2.1\n203.0.113.9", "203.0.113.9:0"},
		{"nonsense", "10.0.0.2:1234", "203.0.113.9, unknown", "10.0.0.2:1234"},
		{"balancers only", "10.0.0.2:1234", "10.0.0.3", "10.0.0.2:1234"},
		{"IPv4 in IPv6", "[::ffff:10.0.0.2]:1234", "::ffff:203.0.113.9", "203.0.113.9:0"},
		{"with a port", "10.0.0.2:1234", "192.0.2.1, 203.0.113.9:5678", "203.0.113.9:0"},
		{"in brackets, with a port", "10.0.0.2:1234", "[2001:db8::1]:5678, 10.0.0.3:80", "[2001:db8::1]:0"},
		{"in brackets", "10.0.0.2:1234", "[2001:db8::1]", "[2001:db8::1]:0"},
		{"an address of the other family", "10.0.0.2:1234", "2001:db8::1", "[2001:db8::1]:0"},
	} {
		trusted, err := proxiesOf([]string{"10.0.0.0/24"})
		if err != nil {
			t.Fatal(err)
		}
		r := &http.Request{RemoteAddr: c.remote, Header: http.Header{}}
		for line := range strings.SplitSeq(c.forwarded, "\n") {
			r.Header.Add("X-Forwarded-For", line)
		}
		if got := client(r, trusted); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
	if _, err := proxiesOf([]string{"10.0.0.300"}); err == nil {
		t.Error("a network that is none was taken")
	}
}
