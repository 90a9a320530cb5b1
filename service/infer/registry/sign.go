package registry

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
)

// A signed manifest is a DSSE envelope (Dead Simple Signing Envelope 1.0.2, as in-toto and Sigstore use it) whose
// payload is the manifest, byte for byte. There is no canonical form: what was signed is what is read.
const (
	// PayloadType is the envelope's type of a manifest; it is part of what is signed.
	PayloadType = "application/vnd.aran.model-manifest.v1+json"

	// SignedExt is how the name of a signed manifest ends.
	SignedExt = ".dsse.json"

	maxEnvelope   = 2 * maxManifest
	maxSignatures = 16
	keyPrefix     = "ed25519:"
)

// envelope is DSSE's JSON form. Unknown members are allowed by the format and are ignored.
type envelope struct {
	PayloadType string      `json:"payloadType"`
	Payload     string      `json:"payload"` // base64, standard or URL-safe
	Signatures  []signature `json:"signatures"`
}

type signature struct {
	KeyID string `json:"keyid,omitempty"` // a hint; nothing is decided by it
	Sig   string `json:"sig"`
}

// Key is a public key that manifests are signed with (Ed25519, RFC 8032).
type Key struct{ pub ed25519.PublicKey }

// ParseKey reads `ed25519:` with the key in base64, or a public key in PEM (SubjectPublicKeyInfo, RFC 8410), as
// `openssl pkey -pubout` writes it.
func ParseKey(text string) (Key, error) {
	text = strings.TrimSpace(text)
	if raw, ok := strings.CutPrefix(text, keyPrefix); ok {
		b, err := base64.StdEncoding.DecodeString(raw)
		if err != nil || len(b) != ed25519.PublicKeySize {
			return Key{}, fmt.Errorf("key: after %s there must be 32 bytes in base64", keyPrefix)
		}
		return Key{b}, nil
	}
	block, rest := pem.Decode([]byte(text))
	if block == nil || len(bytes.TrimSpace(rest)) > 0 || block.Type != "PUBLIC KEY" {
		return Key{}, errors.New("key: use ed25519:<base64>, or one PUBLIC KEY in PEM")
	}
	pub, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return Key{}, fmt.Errorf("key: %w", err)
	}
	k, ok := pub.(ed25519.PublicKey)
	if !ok {
		return Key{}, fmt.Errorf("key: it is a %T, want Ed25519", pub)
	}
	return Key{k}, nil
}

// String is the form that goes into the settings.
func (k Key) String() string { return keyPrefix + base64.StdEncoding.EncodeToString(k.pub) }

// ID is the SHA-256 of the key's 32 bytes, in hexadecimal digits.
func (k Key) ID() string {
	sum := sha256.Sum256(k.pub)
	return hex.EncodeToString(sum[:])
}

// NewSigningKey makes a key pair: the private one in PEM (PKCS #8), which belongs on no server.
func NewSigningKey() (private []byte, public Key, err error) {
	pub, priv, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, Key{}, fmt.Errorf("make key: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(priv)
	if err != nil {
		return nil, Key{}, fmt.Errorf("make key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), Key{pub}, nil
}

func parsePrivate(text []byte) (ed25519.PrivateKey, error) {
	block, _ := pem.Decode(text)
	if block == nil || block.Type != "PRIVATE KEY" {
		return nil, errors.New("signing key: use an unencrypted PRIVATE KEY in PEM (PKCS #8)")
	}
	k, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("signing key: %w", err)
	}
	priv, ok := k.(ed25519.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("signing key: it is a %T, want Ed25519", k)
	}
	return priv, nil
}

// Sign checks a manifest and returns it in an envelope. Given an envelope, it adds a signature to those that are
// there, or replaces the one of the same key. The key is a PRIVATE KEY in PEM.
func Sign(document, key []byte) (signed []byte, by Key, err error) {
	priv, err := parsePrivate(key)
	if err != nil {
		return nil, Key{}, err
	}
	pub, ok := priv.Public().(ed25519.PublicKey)
	if !ok {
		return nil, Key{}, errors.New("signing key: it has no public half")
	}
	by = Key{pub}
	payload, env, err := unwrap(document)
	if err != nil {
		return nil, Key{}, err
	}
	if _, err := ParseManifest(payload); err != nil {
		return nil, Key{}, err
	}
	if env == nil {
		env = &envelope{PayloadType: PayloadType, Payload: base64.StdEncoding.EncodeToString(payload)}
	}
	env.Signatures = slices.DeleteFunc(env.Signatures, func(s signature) bool { return s.KeyID == by.ID() })
	if len(env.Signatures) >= maxSignatures {
		return nil, Key{}, fmt.Errorf("sign: there are %d signatures, at most %d", len(env.Signatures), maxSignatures)
	}
	sig := ed25519.Sign(priv, pae(PayloadType, payload))
	env.Signatures = append(env.Signatures, signature{KeyID: by.ID(), Sig: base64.StdEncoding.EncodeToString(sig)})
	signed, err = json.MarshalIndent(env, "", "  ")
	if err != nil {
		return nil, Key{}, fmt.Errorf("sign: %w", err)
	}
	return append(signed, '\n'), by, nil
}

// pae is what is signed: DSSE's pre-authentication encoding of type and payload.
func pae(kind string, payload []byte) []byte {
	b := []byte("DSSEv1 " + strconv.Itoa(len(kind)) + " " + kind + " " + strconv.Itoa(len(payload)) + " ")
	return append(b, payload...)
}

// unwrap returns the manifest in a document: the document itself, or what is in its envelope.
func unwrap(document []byte) (payload []byte, env *envelope, err error) {
	if len(document) > maxEnvelope {
		return nil, nil, fmt.Errorf("manifest: %d bytes, at most %d", len(document), maxEnvelope)
	}
	var e envelope
	d := json.NewDecoder(bytes.NewReader(document))
	if err := d.Decode(&e); err != nil {
		return nil, nil, fmt.Errorf("manifest: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, nil, errors.New("manifest: text after the object")
	}
	if e.PayloadType == "" && e.Payload == "" && e.Signatures == nil {
		return document, nil, nil
	}
	switch {
	case e.PayloadType != PayloadType:
		return nil, nil, fmt.Errorf("signed manifest: payloadType %.100q, want %s", e.PayloadType, PayloadType)
	case len(e.Signatures) == 0 || len(e.Signatures) > maxSignatures:
		return nil, nil, fmt.Errorf("signed manifest: %d signatures, want 1 to %d", len(e.Signatures), maxSignatures)
	}
	payload, err = decode64(e.Payload)
	if err != nil {
		return nil, nil, errors.New("signed manifest: the payload is not base64")
	}
	for _, s := range e.Signatures {
		if sig, err := decode64(s.Sig); err != nil || len(sig) != ed25519.SignatureSize {
			return nil, nil, fmt.Errorf("signed manifest: the signature of key %.16q is not one of Ed25519", s.KeyID)
		}
	}
	return payload, &e, nil
}

// decode64 takes both alphabets, as the format wants it.
func decode64(s string) ([]byte, error) {
	if strings.ContainsAny(s, "-_") {
		return base64.URLEncoding.DecodeString(s)
	}
	return base64.StdEncoding.DecodeString(s)
}

// signers returns the ids of the keys that signed the payload. A signature that is wrong counts for nothing.
func (e *envelope) signers(payload []byte, keys []Key) (by []string) {
	if e == nil {
		return nil
	}
	text := pae(e.PayloadType, payload)
	for _, k := range keys {
		for _, s := range e.Signatures {
			if sig, err := decode64(s.Sig); err == nil && ed25519.Verify(k.pub, text, sig) {
				by = append(by, k.ID())
				break
			}
		}
	}
	return by
}

// claims are the ids that the envelope gives; nothing is known about them.
func (e *envelope) claims() (ids []string) {
	if e != nil {
		for _, s := range e.Signatures {
			ids = append(ids, strings.ToValidUTF8(fmt.Sprintf("%.64q", s.KeyID), "?"))
		}
	}
	return ids
}
