package cache //nolint:testpackage // the parser of what Redis holds is not exported

import (
	"bytes"
	"testing"
	"time"
)

// FuzzOpen: what was sealed opens at its place only, and nothing else opens anywhere.
func FuzzOpen(f *testing.F) {
	s, err := newSealer("gateway", make([]byte, keySize))
	if err != nil {
		f.Fatal(err)
	}
	f.Add("n", "a", "generation", []byte("value"), []byte{})
	f.Add("", "", "", []byte{}, make([]byte, saltSize+nonceSize+timeSize+tagSize))
	f.Add("n", "an", "generation", []byte("v"), make([]byte, saltSize+nonceSize))
	end := time.UnixMicro(time.Now().UnixMicro())
	f.Fuzz(func(t *testing.T, namespace, name, generation string, value, other []byte) {
		k := Key{namespace, name}
		if v, _, ok := s.open(k, generation, other); ok {
			t.Errorf("%q opens to %q", other, v)
		}
		sealed, err := s.seal(k, generation, value, end)
		if err != nil {
			t.Fatal(err)
		}
		if v, expires, ok := s.open(k, generation, sealed); !ok || !bytes.Equal(v, value) || !expires.Equal(end) {
			t.Errorf("opens to %q, %s, %v", v, expires, ok)
		}
		if len(name) > 0 { // the same bytes, divided elsewhere
			if _, _, ok := s.open(Key{namespace + name[:1], name[1:]}, generation, sealed); ok {
				t.Error("it opens at another place")
			}
		}
	})
}
