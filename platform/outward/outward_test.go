package outward_test

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"aran/platform/outward"
)

func TestLoopback(t *testing.T) {
	for host, want := range map[string]bool{
		"localhost": true, "127.0.0.1": true, "127.9.9.9": true, "::1": true, "::ffff:127.0.0.1": true,
		"": false, "localhost.": false, "localhost.example": false, "10.0.0.1": false, "0.0.0.0": false, "::": false, "[::1]": false, "::1%lo": false, "127.1": false,
	} {
		if got := outward.Loopback(host); got != want {
			t.Errorf("%q: %v", host, got)
		}
	}
}

func TestNothingIsFollowed(t *testing.T) {
	var asked []string
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.URL.Path+r.Header.Get("Accept-Encoding"))
		http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
	}))
	defer srv.Close()
	c := &http.Client{Transport: outward.Transport(time.Second, 1, 1), CheckRedirect: outward.Stay}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, srv.URL+"/asked", nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	if err := res.Body.Close(); err != nil {
		t.Error(err)
	}
	if res.StatusCode != http.StatusTemporaryRedirect || len(asked) != 1 || asked[0] != "/asked" {
		t.Errorf("status %d, asked %q", res.StatusCode, asked)
	}
}
