package search

import (
	"bytes"
	"mime/multipart"
	"strings"
	"testing"
	"unicode/utf8"
)

// acceptable states what holds for every document that is let in.
func acceptable(t *testing.T, in documentIn) {
	t.Helper()
	x, err := in.check("docs")
	if err != nil {
		return
	}
	if !utf8.ValidString(x.Text) || strings.ContainsRune(x.Text, 0) || x.Text == "" || x.ContentType != "" && x.ContentType != plainText && x.ContentType != markdown {
		t.Errorf("let in: %+v", x)
	}
	for _, a := range x.Access {
		if !strings.HasPrefix(a, "user:") && !strings.HasPrefix(a, "role:") {
			t.Errorf("access list %q", x.Access)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"id":"a","title":"t","text":"some text","metadata":{"k":"v"},"access":["user:ann"]}`))
	f.Add([]byte(`{"content":"# x","content_type":"text/markdown"} trailing`))
	f.Add([]byte("{\"text\":\"\xff\"}"))
	f.Add([]byte(`{"text":"\u0000\ud800"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		var in documentIn
		if decode(bytes.NewReader(b), &in) == nil {
			acceptable(t, in)
		}
	})
}

func FuzzForm(f *testing.F) {
	f.Add([]byte("--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"../a.md\"\r\n\r\n# x\r\n--b\r\nContent-Disposition: form-data; name=\"access\"\r\n\r\n[\"role:hr\"]\r\n--b--\r\n"))
	f.Add([]byte("--b\r\nContent-Disposition: form-data; name=\"file\"\r\nContent-Type: text/markdown; charset=\"\r\n\r\nx\r\n--b--"))
	f.Fuzz(func(t *testing.T, b []byte) {
		in, err := form(multipart.NewReader(bytes.NewReader(b), "b"))
		if err != nil {
			return
		}
		if strings.ContainsAny(in.Title, "/") && !strings.Contains(string(b), "title") {
			t.Errorf("the title is a path: %q", in.Title)
		}
		acceptable(t, in)
	})
}
