package user

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"strings"
	"time"

	"golang.org/x/crypto/argon2"

	"aran/platform/fault"
)

// hasher computes Argon2id hashes (RFC 9106), few at once: each takes memory. Safe for concurrent use.
type hasher struct {
	memory, time uint32
	slots        chan struct{} // one per hash that may run
	queue        chan struct{} // one per hash that may run or wait
	dummy        string        // what is checked for an account that does not exist
}

const (
	hashLength = 32
	saltLength = 16
	waiting    = 32
)

func newHasher(c Config) *hasher {
	h := &hasher{memory: c.HashMemory, time: c.HashTime, slots: make(chan struct{}, c.HashParallel), queue: make(chan struct{}, c.HashParallel+waiting)}
	// It has the cost of a real one and fits no password.
	h.dummy = h.format(make([]byte, saltLength), make([]byte, hashLength))
	return h
}

func (h *hasher) enter(ctx context.Context) (leave func(), err error) {
	select {
	case h.queue <- struct{}{}:
	default:
		return nil, fault.New(fault.Exhausted, "sign_in_busy", "Too many people sign in just now; try again.").After(2 * time.Second)
	}
	select {
	case h.slots <- struct{}{}:
		return func() { <-h.slots; <-h.queue }, nil
	case <-ctx.Done():
		<-h.queue
		return nil, ctx.Err()
	}
}

// hash returns a PHC string with its parameters, so that they can be raised later.
func (h *hasher) hash(ctx context.Context, password string) (string, error) {
	leave, err := h.enter(ctx)
	if err != nil {
		return "", err
	}
	defer leave()
	salt := make([]byte, saltLength)
	_, _ = rand.Read(salt) // never fails (crypto/rand)
	return h.format(salt, argon2.IDKey([]byte(password), salt, h.time, h.memory, 1, hashLength)), nil
}

func (h *hasher) format(salt, sum []byte) string {
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=1$%s$%s", argon2.Version, h.memory, h.time, base64.RawStdEncoding.EncodeToString(salt), base64.RawStdEncoding.EncodeToString(sum))
}

// matches compares a password with a stored hash. An empty one (no such account) costs the same and never fits.
func (h *hasher) matches(ctx context.Context, password, stored string) (bool, error) {
	known := stored != ""
	if !known {
		stored = h.dummy
	}
	var memory, passes uint32
	parts := strings.Split(stored, "$")
	if len(parts) != 6 {
		return false, fmt.Errorf("password hash of an unknown form")
	}
	if _, err := fmt.Sscanf(parts[3], "m=%d,t=%d,p=1", &memory, &passes); err != nil {
		return false, fmt.Errorf("password hash: %w", err)
	}
	salt, err := base64.RawStdEncoding.DecodeString(parts[4])
	if err != nil {
		return false, fmt.Errorf("password hash: %w", err)
	}
	want, err := base64.RawStdEncoding.DecodeString(parts[5])
	if err != nil {
		return false, fmt.Errorf("password hash: %w", err)
	}
	leave, err := h.enter(ctx)
	if err != nil {
		return false, err
	}
	defer leave()
	got := argon2.IDKey([]byte(password), salt, passes, memory, 1, hashLength)
	return subtle.ConstantTimeCompare(got, want) == 1 && known, nil
}
