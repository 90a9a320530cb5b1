package cache

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"time"
)

// sealer seals values for a place where others can read and write: AES-256-GCM, with a key of its own for each
// value (HKDF-SHA-256 from the store's key and a random salt), so that random nonces never run out.
type sealer struct {
	service      string
	values, keys []byte // keys: of values, of names
}

const (
	keySize   = 32
	saltSize  = 32
	nonceSize = 12
	tagSize   = 16
	timeSize  = 8
	// sealedSize is the most that a sealed value takes.
	sealedSize = saltSize + nonceSize + timeSize + MaxValue + tagSize
)

func newSealer(service string, key []byte) (sealer, error) {
	if len(key) != keySize {
		return sealer{}, fmt.Errorf("cache: the key has %d bytes; use %d", len(key), keySize)
	}
	values, err := hkdf.Key(sha256.New, key, nil, "aran cache values", keySize)
	if err != nil {
		return sealer{}, fmt.Errorf("cache: derive a key: %w", err)
	}
	keys, err := hkdf.Key(sha256.New, key, nil, "aran cache names", keySize)
	if err != nil {
		return sealer{}, fmt.Errorf("cache: derive a key: %w", err)
	}
	return sealer{service, values, keys}, nil
}

// seal returns salt, nonce and what is sealed: the end in microseconds, and the value.
func (s sealer) seal(k Key, generation string, value []byte, expires time.Time) ([]byte, error) {
	out := make([]byte, saltSize+nonceSize, saltSize+nonceSize+timeSize+len(value)+tagSize)
	_, _ = rand.Read(out) // never fails
	gcm, err := s.gcm(out[:saltSize])
	if err != nil {
		return nil, err
	}
	plain := make([]byte, timeSize, timeSize+len(value))
	binary.BigEndian.PutUint64(plain, uint64(expires.UnixMicro())) // after 1970
	return gcm.Seal(out, out[saltSize:], append(plain, value...), s.place(k, generation)), nil
}

// open returns what was sealed for this very place, or not ok.
func (s sealer) open(k Key, generation string, sealed []byte) (value []byte, expires time.Time, ok bool) {
	if len(sealed) < saltSize+nonceSize {
		return nil, time.Time{}, false
	}
	gcm, err := s.gcm(sealed[:saltSize])
	if err != nil {
		return nil, time.Time{}, false
	}
	plain, err := gcm.Open(nil, sealed[saltSize:saltSize+nonceSize], sealed[saltSize+nonceSize:], s.place(k, generation))
	if err != nil || len(plain) < timeSize {
		return nil, time.Time{}, false
	}
	return plain[timeSize:], time.UnixMicro(int64(binary.BigEndian.Uint64(plain))), true //nolint:gosec // as it was sealed
}

func (s sealer) gcm(salt []byte) (cipher.AEAD, error) {
	key, err := hkdf.Key(sha256.New, s.values, salt, "value", keySize)
	if err != nil {
		return nil, fmt.Errorf("derive a key: %w", err)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// place is where a value belongs; lengths keep its parts apart.
func (s sealer) place(k Key, generation string) []byte {
	var out []byte
	for _, part := range []string{s.service, k.Namespace, k.Name, generation} {
		out = binary.BigEndian.AppendUint32(out, uint32(len(part))) //nolint:gosec // bounded by check
		out = append(out, part...)
	}
	return out
}

// name is what stands in Redis for a key, or, without Name, for a namespace.
func (s sealer) name(k Key) []byte {
	h := hmac.New(sha256.New, s.keys)
	_, _ = h.Write(s.place(k, "")) // never fails
	return h.Sum(nil)
}
