package auth

import (
	"crypto/rand"
	"crypto/sha256"
	"hash/crc32"
	"strings"
)

const (
	livePrefix = "aran_live_"
	testPrefix = "aran_test_"
	base62     = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
	keyRandom  = 32
	keySum     = 6
)

// NewAPIKey makes a key: aran_live_ or aran_test_, 32 random base62 characters, 6 of CRC-32 in base62 (so that scanners and typos are told apart from keys).
func NewAPIKey(test bool) string { //nolint:revive // the kind of key
	prefix := livePrefix
	if test {
		prefix = testPrefix
	}
	body := make([]byte, 0, keyRandom)
	var b [64]byte
	for len(body) < keyRandom {
		_, _ = rand.Read(b[:]) // never fails (crypto/rand)
		for _, c := range b {
			// 248 is the largest multiple of 62 in a byte: no character is likelier than another.
			if c < 248 && len(body) < keyRandom {
				body = append(body, base62[c%62])
			}
		}
	}
	return prefix + string(body) + checksum(prefix+string(body))
}

func checksum(s string) string {
	n := crc32.ChecksumIEEE([]byte(s))
	var out [keySum]byte
	for i := keySum - 1; i >= 0; i-- {
		out[i] = base62[n%62]
		n /= 62
	}
	return string(out[:])
}

// CheckAPIKey reports whether the form and checksum are right, without looking it up.
func CheckAPIKey(key string) bool {
	if !IsAPIKey(key) || len(key) != len(livePrefix)+keyRandom+keySum {
		return false
	}
	body := key[:len(key)-keySum]
	for _, c := range body[len(livePrefix):] {
		if !strings.ContainsRune(base62, c) {
			return false
		}
	}
	return checksum(body) == key[len(key)-keySum:]
}

// IsAPIKey reports whether a credential claims to be an API key.
func IsAPIKey(key string) bool {
	return strings.HasPrefix(key, livePrefix) || strings.HasPrefix(key, testPrefix)
}

// HashAPIKey is what the database holds: SHA-256 of the key (it has 190 bits of its own, so no slow hash is needed).
func HashAPIKey(key string) []byte {
	h := sha256.Sum256([]byte(key))
	return h[:]
}
