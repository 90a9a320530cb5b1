package registry

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

func newKey(t testing.TB) (private []byte, public Key) {
	t.Helper()
	private, public, err := NewSigningKey()
	if err != nil {
		t.Fatal(err)
	}
	return private, public
}

func signed(t testing.TB, document, key []byte) []byte {
	t.Helper()
	b, _, err := Sign(document, key)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// The example of the format's own specification (DSSE protocol.md, "Test vectors").
func TestPreAuthenticationEncoding(t *testing.T) {
	if got := string(pae("http://example.com/HelloWorld", []byte("hello world"))); got != "DSSEv1 29 http://example.com/HelloWorld 11 hello world" {
		t.Errorf("%q", got)
	}
}

func TestSignatures(t *testing.T) {
	mine, my := newKey(t)
	theirs, _ := newKey(t)
	m, _ := tinyVersion("1")
	plain := encode(t, m)
	good := signed(t, plain, mine)
	change := func(f func(e *envelope)) []byte {
		var e envelope
		if err := json.Unmarshal(good, &e); err != nil {
			t.Fatal(err)
		}
		f(&e)
		b, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	tampered := change(func(e *envelope) {
		e.Payload = base64.StdEncoding.EncodeToString(bytes.Replace(plain, []byte("Apache-2.0"), []byte("MIT"), 1))
	})
	for _, c := range []struct {
		name     string
		document []byte
		o        Options
		why      string // empty: used
	}{
		{"unsigned, where nobody asks", plain, Options{}, ""},
		{"unsigned, where a key is trusted", plain, Options{Keys: []Key{my}}, "not signed"},
		{"unsigned, where a signature is required", plain, Options{RequireSignature: true}, "no key is trusted"},
		{"signed, where a key is trusted", good, Options{Keys: []Key{my}}, ""},
		{"signed, where that is required", good, Options{Keys: []Key{my}, RequireSignature: true}, ""},
		{"signed by somebody else", signed(t, plain, theirs), Options{Keys: []Key{my}}, "no trusted key"},
		{"signed by both", signed(t, signed(t, plain, theirs), mine), Options{Keys: []Key{my}}, ""},
		{"changed after it was signed", tampered, Options{Keys: []Key{my}}, "no trusted key"},
		{"another's signature under my name", change(func(e *envelope) {
			var other envelope
			if err := json.Unmarshal(signed(t, plain, theirs), &other); err != nil {
				t.Fatal(err)
			}
			e.Signatures[0].Sig = other.Signatures[0].Sig
		}), Options{Keys: []Key{my}}, "no trusted key"},
		{"without a key's name", change(func(e *envelope) { e.Signatures[0].KeyID = "" }), Options{Keys: []Key{my}}, ""},
		{"in the other alphabet", change(func(e *envelope) {
			raw, err := base64.StdEncoding.DecodeString(e.Payload)
			if err != nil {
				t.Fatal(err)
			}
			e.Payload = base64.URLEncoding.EncodeToString(raw)
		}), Options{Keys: []Key{my}}, ""},
	} {
		c.o.Manifests = fstest.MapFS{"tiny" + SignedExt: {Data: c.document}}
		c.o.Folder = folder(t, files())
		r, err := Open(t.TempDir(), c.o)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		m, err := r.Version(t.Context(), "tiny", "1")
		if c.why == "" {
			if err != nil || m.Status != Missing || m.Signed != (c.name[:2] != "un") || m.Signed && len(c.o.Keys) > 0 && (len(m.SignedBy) != 1 || m.SignedBy[0] != my.ID()) {
				t.Errorf("%s: %+v, %v", c.name, m.SignedBy, err)
			}
			continue
		}
		_, used := r.Use(t.Context(), "tiny", "1", me)
		for what, err := range map[string]error{"model": err, "pull": r.Pull(t.Context(), "tiny", nil), "pull of the version": r.Pull(t.Context(), "tiny@1", nil), "verify": r.Verify(t.Context(), "tiny"), "use": used} {
			if !isCode(err, "model_not_trusted") && !isCode(err, "model_version_not_found") || what != "model" && err == nil {
				t.Errorf("%s: %s: %v", c.name, what, err)
			}
			if what == "model" && !strings.Contains(err.Error(), c.why) {
				t.Errorf("%s: %v; want an error with %q", c.name, err, c.why)
			}
		}
		if got := r.Names(); len(got) != 5 {
			t.Errorf("%s: models %v, want those of the program", c.name, got)
		}
		all, err := r.All(t.Context())
		if err != nil || len(all) != 6 || all[5].Status != Refused || !strings.Contains(all[5].Why, c.why) {
			t.Errorf("%s: listed as %+v, %v", c.name, all[len(all)-1].Status, err)
		}
		entries, err := filepath.Glob(filepath.Join(r.Dir(), "*", "*"))
		if err != nil || len(entries) > 0 {
			t.Errorf("%s: fetched %v", c.name, entries)
		}
	}
}

func TestSignedManifestsThatAreNone(t *testing.T) {
	mine, _ := newKey(t)
	m, _ := tinyVersion("1")
	good := string(signed(t, encode(t, m), mine))
	for name, b := range map[string]string{
		"another type":       strings.Replace(good, PayloadType, "application/vnd.in-toto+json", 1),
		"no type":            strings.Replace(good, PayloadType, "", 1),
		"no signature":       `{"payloadType":"` + PayloadType + `","payload":"e30=","signatures":[]}`,
		"short signature":    `{"payloadType":"` + PayloadType + `","payload":"e30=","signatures":[{"sig":"AAAA"}]}`,
		"payload not base64": `{"payloadType":"` + PayloadType + `","payload":"!","signatures":[{"sig":"AAAA"}]}`,
		"payload no manifest": func() string {
			b, _ := json.Marshal(envelope{PayloadType: PayloadType, Payload: "e30=", Signatures: []signature{{Sig: base64.StdEncoding.EncodeToString(make([]byte, 64))}}})
			return string(b)
		}(),
		"text after it": good + "{}",
	} {
		r, err := Open(t.TempDir(), Options{Manifests: fstest.MapFS{"m.json": {Data: []byte(b)}, "good.json": {Data: encode(t, m)}}})
		if err != nil {
			t.Fatalf("%s: one bad file ends all: %v", name, err)
		}
		all, err := r.All(t.Context())
		i := slices.IndexFunc(all, func(m Model) bool { return m.Name == "m" })
		if err != nil || i < 0 || all[i].Status != Refused || all[i].Why == "" {
			t.Errorf("%s: taken: %+v, %v", name, all, err)
		}
		if _, err := r.Model(t.Context(), "m"); err == nil {
			t.Errorf("%s: may be used", name)
		}
		if _, err := r.Model(t.Context(), m.Name); err != nil {
			t.Errorf("%s: the other one is gone: %v", name, err)
		}
	}
}

func TestCopyWithoutTheSignature(t *testing.T) {
	mine, my := newKey(t)
	m, _ := tinyVersion("1")
	plain := encode(t, m)
	docs := fstest.MapFS{"tiny.json": {Data: plain}, "tiny" + SignedExt: {Data: signed(t, plain, mine)}}
	if r, err := Open("", Options{Manifests: docs, Keys: []Key{my}}); err != nil || len(r.Names()) != 6 {
		t.Errorf("the same manifest with and without a signature: %v", err)
	}
	m.Licence = "MIT"
	docs["tiny.json"] = &fstest.MapFile{Data: encode(t, m)}
	if _, err := Open("", Options{Manifests: docs, Keys: []Key{my}}); err == nil {
		t.Error("two manifests of one version were taken")
	}
}

// What is in the models folder is trusted for a signature only, never for being there.
func TestInstalledWithoutItsManifest(t *testing.T) {
	mine, my := newKey(t)
	for _, sign := range []bool{true, false} {
		dir := t.TempDir()
		m1, b1 := tinyVersion("1")
		m2, b2 := tinyVersion("2")
		d1, d2 := encode(t, m1), encode(t, m2)
		o := Options{Folder: folder(t, map[string][]byte{sum(b1): b1, sum(b2): b2, sum(library): library})}
		if sign {
			d1, d2, o.Keys = signed(t, d1, mine), signed(t, d2, mine), []Key{my}
		}
		o.Manifests = fstest.MapFS{"1.json": {Data: d1}, "2.json": {Data: d2}}
		r, err := Open(dir, o)
		if err != nil {
			t.Fatal(err)
		}
		pullAll(t, r, "tiny@1", "tiny@2")
		if _, err := r.Use(t.Context(), "tiny", "2", me); err != nil {
			t.Fatal(err)
		}
		o.Manifests = fstest.MapFS{"2.json": {Data: d2}} // version 1 is taken out
		if r, err = Open(dir, o); err != nil {
			t.Fatal(err)
		}
		_, err = r.Rollback(t.Context(), "tiny", me)
		if sign && (err != nil || r.Active("tiny") != "1") {
			t.Errorf("rollback to a signed version that only the models folder has: %v", err)
		}
		if !sign && (!isCode(err, "model_not_trusted") || r.Active("tiny") != "2") {
			t.Errorf("rollback to an unsigned version that only the models folder has: %v", err)
		}
	}
}

func TestInstalledRecordIsChecked(t *testing.T) {
	mine, my := newKey(t)
	m, b := tinyVersion("1")
	o := Options{Keys: []Key{my}, Folder: folder(t, map[string][]byte{sum(b): b, sum(library): library}), Manifests: fstest.MapFS{"1.json": {Data: signed(t, encode(t, m), mine)}}}
	r, err := Open(t.TempDir(), o)
	if err != nil {
		t.Fatal(err)
	}
	pullAll(t, r, "tiny")
	m.Title = "changed in the folder"
	if err := os.Remove(filepath.Join(state(t, r).Dir, signedRecord)); err != nil {
		t.Fatal(err)
	}
	overwrite(t, filepath.Join(state(t, r).Dir, record), encode(t, m))
	o.Manifests = nil
	if r, err = Open(r.Dir(), o); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Model(t.Context(), "tiny@1"); !isCode(err, "model_not_trusted") {
		t.Errorf("a record without its signature: %v", err)
	}
}

func TestKeys(t *testing.T) {
	private, public := newKey(t)
	again, err := ParseKey(public.String())
	if err != nil || again.ID() != public.ID() {
		t.Errorf("%v", err)
	}
	priv, err := parsePrivate(private)
	if err != nil || !bytes.Equal(priv.Public().(ed25519.PublicKey), public.pub) {
		t.Errorf("%v", err)
	}
	// What `openssl genpkey -algorithm ed25519` and `openssl pkey -pubout` write (RFC 8410, section 10).
	const (
		rfcPrivate = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n-----END PRIVATE KEY-----\n"
		rfcPublic  = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n-----END PUBLIC KEY-----\n"
	)
	k, err := ParseKey(rfcPublic)
	if err != nil {
		t.Fatal(err)
	}
	m, _ := tinyVersion("1")
	if _, by, err := Sign(encode(t, m), []byte(rfcPrivate)); err != nil || by.ID() != k.ID() {
		t.Errorf("signed by %s (%v), want %s", by.ID(), err, k.ID())
	}
	for _, bad := range []string{"", "ed25519:AAAA", "rsa:AAAA", rfcPrivate, rfcPublic + rfcPublic, string(private)} {
		if _, err := ParseKey(bad); err == nil {
			t.Errorf("%.30q was taken for a public key", bad)
		}
	}
	if _, _, err := Sign(encode(t, m), []byte(rfcPublic)); err == nil {
		t.Error("signed with a public key")
	}
	if _, _, err := Sign([]byte(`{"name":"a"}`), []byte(rfcPrivate)); err == nil {
		t.Error("signed what is no manifest")
	}
}

// FuzzSigned: whatever is done to a signed manifest, it is the one that was signed, or it is not trusted.
func FuzzSigned(f *testing.F) {
	private, public := newKey(f)
	m, _ := tinyVersion("1")
	plain := encode(f, m)
	good := signed(f, plain, private)
	f.Add(good)
	f.Add(plain)
	f.Add([]byte(`{"payloadType":"a","payload":"","signatures":[{"sig":""}]}`))
	r, err := Open("", Options{Keys: []Key{public}})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		k, err := r.judge(b, OriginFolder, "x")
		if err == nil && k.refused == "" && !bytes.Equal(encode(t, k.Manifest), plain) {
			t.Errorf("trusted: %q", b)
		}
	})
}
