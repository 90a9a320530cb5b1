// Package seal encrypts content with a key per service and subject, so that erasing the key erases the content.
package seal

import (
	"context"
)

// Keyring holds the key-encryption key.
type Keyring struct{}

// Local reads the key-encryption key from a file (0600), making it at the first start.
func Local(path string) (*Keyring, error) { panic("not built") }

// Fingerprint names the key without telling it; stored in each key database, a mismatch refuses to open.
func (k *Keyring) Fingerprint() string { panic("not built") }

// Box seals for one service. Its data keys live in a database of their own, that ordinary backups leave out.
type Box struct{}

// Open opens the key database of a service at path.
func Open(ctx context.Context, k *Keyring, service, path string) (*Box, error) { panic("not built") }

// Seal encrypts for a subject (AES-256-GCM under the subject's data key; made at first use). aad binds the ciphertext to its place.
func (b *Box) Seal(ctx context.Context, subject string, plain, aad []byte) ([]byte, error) {
	panic("not built")
}

// Open decrypts; after Erase it returns a fault of kind Missing, code "erased".
func (b *Box) Open(ctx context.Context, subject string, sealed, aad []byte) ([]byte, error) {
	panic("not built")
}

// Pseudonym is a keyed hash of a subject, in hex: the same for the same subject of this service, unlinkable without the key; after Erase it cannot be computed again.
func (b *Box) Pseudonym(ctx context.Context, subject string) (string, error) { panic("not built") }

// Erase destroys the subject's key and remembers that it did: the subject cannot be sealed for again.
func (b *Box) Erase(ctx context.Context, subject string) error { panic("not built") }

// Close closes the key database.
func (b *Box) Close() error { panic("not built") }
