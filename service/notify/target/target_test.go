package target_test

import (
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"

	"aran/platform/fault"
	"aran/service/notify/target"
)

func TestCheck(t *testing.T) {
	for _, good := range []string{
		"https://example.com", "https://example.com/hook?x=1&y=%20", "https://EXAMPLE.com:443/", "https://example.com:8443/a", "https://1.1.1.1/x", "https://[2606:4700::1111]/x", "https://xn--bcher-kva.example/", "https://a_b.example.com/",
	} {
		if err := (target.Policy{}).Check(good); err != nil {
			t.Errorf("%s is refused: %v", good, err)
		}
	}
	for _, bad := range []string{
		"", "example.com", "https://", "https:///x", "https:example.com", "http://example.com/", "ftp://example.com/", "file:///etc/passwd", "gopher://example.com/", "HTTP://example.com",
		"https://user@example.com/", "https://user:pass@example.com/", "https://example.com/#x", "https://example.com/#", "https://example.com:/", "https://example.com:0/", "https://example.com:22/", "https://example.com:25/", "https://example.com:65536/", "https://example.com:x/",
		"https://localhost/", "https://LOCALHOST./", "https://a.localhost/", "https://intranet/", "https://printer.local/", "https://metadata.google.internal/",
		"https://127.0.0.1/", "https://127.1/", "https://2130706433/", "https://0x7f000001/", "https://0x7f.1/", "https://0177.0.0.1/", "https://1.2.3.4.5.6/", "https://10.0.0.1/", "https://172.31.255.255/", "https://192.168.0.1/",
		"https://169.254.169.254/latest/meta-data", "https://168.63.129.16/", "https://100.100.100.200/", "https://0.0.0.0/", "https://255.255.255.255/", "https://224.0.0.1/",
		"https://[::1]/", "https://[::]/", "https://[::ffff:127.0.0.1]/", "https://[::ffff:8.8.8.8]/", "https://[64:ff9b::7f00:1]/", "https://[64:ff9b:1::1]/", "https://[fe80::1]/", "https://[fe80::1%25eth0]/", "https://[fd00:ec2::254]/", "https://[2002:7f00:1::]/", "https://[2001::1]/", "https://[ff02::1]/", "https://[100::1]/",
		"https://exa mple.com/", "https://bücher.example/", "https://example.com\\@127.0.0.1/", "https://example.com/\n", "https://" + strings.Repeat("a", 254) + ".com/", "https://example.com/" + strings.Repeat("a", 2048),
	} {
		err := (target.Policy{}).Check(bad)
		f := fault.From(err)
		if f == nil || f.Kind != fault.Invalid || len(f.Fields) != 1 || f.Fields[0].Path != "url" || f.Fields[0].Message == "" {
			t.Errorf("%.80q: %v", bad, err)
		}
	}
	for _, unsafe := range []string{"http://127.0.0.1:8080/x", "http://localhost:3000", "https://[::1]:8443/", "http://intranet/"} {
		if err := (target.Policy{UnsafePrivate: true}).Check(unsafe); err != nil {
			t.Errorf("%s with the unsafe setting: %v", unsafe, err)
		}
	}
	if (target.Policy{UnsafePrivate: true}).Check("https://user:pass@127.0.0.1/") == nil {
		t.Error("credentials are never taken")
	}
}

func FuzzCheck(f *testing.F) {
	for _, s := range []string{"https://example.com/x", "https://127.0.0.1", "https://[::ffff:10.0.0.1]:443/", "https://a@b#c"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		if (target.Policy{}).Check(raw) != nil {
			return
		}
		u, err := url.Parse(raw)
		if err != nil || u.Scheme != "https" || u.User != nil || u.Fragment != "" || u.Hostname() == "" {
			t.Fatalf("%q is taken", raw)
		}
		if ip := net.ParseIP(u.Hostname()); ip != nil {
			a, _ := netip.AddrFromSlice(ip)
			if !target.Public(a.Unmap()) {
				t.Errorf("%q is taken and %s is not public", raw, a)
			}
		}
		if _, err := http.NewRequestWithContext(t.Context(), http.MethodPost, raw, http.NoBody); err != nil {
			t.Errorf("%q is taken and makes no request: %v", raw, err)
		}
	})
}

// Whatever a name resolves to, and whenever, is judged when the connection is made.
func TestTheAddressIsJudgedWhenDialled(t *testing.T) {
	var reached atomic.Int32
	s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached.Add(1) }))
	defer s.Close()
	t.Setenv("HTTPS_PROXY", s.URL)
	t.Setenv("HTTP_PROXY", s.URL)
	_, port, err := net.SplitHostPort(s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	safe, unsafe := target.Policy{}.Client(nil), target.Policy{UnsafePrivate: true}.Client(nil)
	for _, host := range []string{"127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "[::1]", "0.0.0.0", "[::]"} {
		for _, scheme := range []string{"http", "https"} {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, scheme+"://"+host+":"+port, http.NoBody)
			if err != nil {
				t.Fatal(err)
			}
			res, err := safe.Do(req)
			if err == nil {
				_ = res.Body.Close()
			}
			if !errors.Is(err, target.ErrRefused) {
				t.Errorf("%s://%s: %v", scheme, host, err)
			}
		}
	}
	if reached.Load() != 0 {
		t.Errorf("it was reached %d times", reached.Load())
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.URL, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	res, err := unsafe.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	if reached.Load() != 1 {
		t.Error("with the unsafe setting it is not reached: the test shows nothing")
	}
}

func TestPublic(t *testing.T) {
	for text, want := range map[string]bool{
		"8.8.8.8": true, "100.63.255.255": true, "100.64.0.0": false, "100.127.255.255": false, "100.128.0.0": true, "172.15.0.1": true, "172.16.0.0": false, "172.32.0.0": true, "198.17.255.255": true, "198.19.0.1": false,
		"2606:4700::1": true, "2001:db8::1": false, "2001:4860::1": true, "2001:1ff::1": false, "3fff::1": false, "4000::1": false, "fc00::1": false, "fec0::1": false,
	} {
		if got := target.Public(netip.MustParseAddr(text)); got != want {
			t.Errorf("%s is public: %v, want %v", text, got, want)
		}
	}
	if target.Public(netip.Addr{}) {
		t.Error("no address is public")
	}
}
