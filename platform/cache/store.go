package cache

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Bounds of every Store.
const (
	MaxValue = 1 << 20        // bytes of a value
	MaxKey   = 1 << 10        // bytes of a namespace, and of a name
	MaxTTL   = 24 * time.Hour // how long a value may be kept
)

// ErrTooLarge answers a value of more than MaxValue bytes.
var ErrTooLarge = errors.New("cache: the value is larger than a cache keeps")

// Key names a value. All values of a namespace can be forgotten at once; what belongs to a tenant carries the
// tenant in one of the two. Neither is empty or longer than MaxKey.
type Key struct{ Namespace, Name string }

// Store holds bytes for a time. It may forget at any time. cachetest.Run says what every Store holds to.
//
// An error never comes with a value, and a caller may go on without either: no value is there then. But after an
// error of Delete or Forget, other processes may go on to find the old values, at most until their time is over.
// Safe for concurrent use.
type Store interface {
	// Get returns a value that was put and is neither over nor forgotten. The value is the caller's own.
	Get(ctx context.Context, k Key) ([]byte, bool, error)
	// Put keeps a value for ttl, which is above 0 and at most MaxTTL.
	Put(ctx context.Context, k Key, value []byte, ttl time.Duration) error
	// Generation names what is between two Forgets of a namespace. Who computes a value from what may change asks
	// for it first, and hands it to PutIn.
	Generation(ctx context.Context, namespace string) (Generation, error)
	// PutIn is Put unless the namespace was forgotten since: then the value may be an old one, and is not kept.
	PutIn(ctx context.Context, g Generation, k Key, value []byte, ttl time.Duration) error
	// Delete forgets values. Who computed one before may still put it; Forget and PutIn keep that from happening.
	Delete(ctx context.Context, keys ...Key) error
	// Forget forgets all values of a namespace: once it returned nil, nobody finds one that was put before.
	Forget(ctx context.Context, namespace string) error
}

// Generation is a Store's own; the zero value is of none, and nothing is kept in it.
type Generation struct{ namespace, id string }

func checkNamespace(namespace string) error {
	if namespace == "" || len(namespace) > MaxKey {
		return fmt.Errorf("cache: a namespace of %d bytes; use 1 to %d", len(namespace), MaxKey)
	}
	return nil
}

func (k Key) check() error {
	if k.Name == "" || len(k.Name) > MaxKey {
		return fmt.Errorf("cache: a name of %d bytes; use 1 to %d", len(k.Name), MaxKey)
	}
	return checkNamespace(k.Namespace)
}

func checkPut(k Key, value []byte, ttl time.Duration) error {
	switch {
	case ttl <= 0 || ttl > MaxTTL:
		return fmt.Errorf("cache: a time to live of %s; use more than 0 and at most %s", ttl, MaxTTL)
	case len(value) > MaxValue:
		return fmt.Errorf("%w: %d bytes", ErrTooLarge, len(value))
	}
	return k.check()
}
