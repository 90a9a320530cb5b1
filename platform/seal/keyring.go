package seal

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/aead/aesgcm"
	"github.com/tink-crypto/tink-go/v2/insecurecleartextkeyset"
	"github.com/tink-crypto/tink-go/v2/insecuresecretdataaccess"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/tink"

	"aran/platform/fault"
)

// Keyring holds the key-encryption key. Safe for concurrent use.
type Keyring struct {
	aead        tink.AEAD
	fingerprint string
}

const maxKeyring = 64 << 10

// Local reads the key-encryption key from a file (0600), making it at the first start. The file is a Tink
// keyset in JSON; one that others may read is refused.
func Local(path string) (*Keyring, error) {
	k, err := readKeyring(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return k, err
	}
	if err := makeKeyring(path); err != nil {
		return nil, fmt.Errorf("make keyring %s: %w", path, err)
	}
	fault.Point("seal.keyring_made")
	return readKeyring(path)
}

func readKeyring(path string) (*Keyring, error) {
	info, err := os.Lstat(path)
	if err != nil {
		return nil, fmt.Errorf("keyring: %w", err)
	}
	switch {
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("keyring %s: not a regular file", path)
	case info.Mode().Perm()&0o077 != 0:
		return nil, fmt.Errorf("keyring %s: others may read it (%v): run chmod 600 on it, and replace the key if it was seen", path, info.Mode().Perm())
	case info.Size() > maxKeyring:
		return nil, fmt.Errorf("keyring %s: larger than %d bytes", path, maxKeyring)
	}
	b, err := os.ReadFile(path) //nolint:gosec // the operator's own path
	if err != nil {
		return nil, fmt.Errorf("keyring: %w", err)
	}
	k, err := parseKeyring(b)
	if err != nil {
		return nil, fmt.Errorf("keyring %s: %w: put the file back from its backup; a new key cannot open what the old one sealed", path, err)
	}
	return k, nil
}

// parseKeyring takes a cleartext Tink keyset with one AES-256-GCM key.
func parseKeyring(b []byte) (*Keyring, error) {
	h, err := insecurecleartextkeyset.Read(keyset.NewJSONReader(bytes.NewReader(b)))
	if err != nil {
		return nil, fmt.Errorf("not a keyset: %w", err)
	}
	primary, err := h.Primary()
	if err != nil {
		return nil, fmt.Errorf("no primary key: %w", err)
	}
	key, ok := primary.Key().(*aesgcm.Key)
	if !ok || key.KeyBytes().Len() != 32 || h.Len() != 1 {
		return nil, errors.New("not one AES-256-GCM key")
	}
	a, err := aead.New(h)
	if err != nil {
		return nil, fmt.Errorf("use the key: %w", err)
	}
	// The key has 256 random bits: a plain hash tells nothing about it.
	sum := sha256.Sum256(append([]byte("aran keyring fingerprint v1\x00"), key.KeyBytes().Data(insecuresecretdataaccess.Token{})...))
	return &Keyring{aead: a, fingerprint: hex.EncodeToString(sum[:16])}, nil
}

// makeKeyring writes a new key and never replaces one: of two processes that start together, one wins.
func makeKeyring(path string) error {
	h, err := keyset.NewHandle(aead.AES256GCMKeyTemplate())
	if err != nil {
		return fmt.Errorf("make a key: %w", err)
	}
	var b bytes.Buffer
	if err := insecurecleartextkeyset.Write(h, keyset.NewJSONWriter(&b)); err != nil {
		return fmt.Errorf("write the key: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	temp := path + ".new-" + rand.Text()
	f, err := os.OpenFile(temp, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600) //nolint:gosec // the operator's own path
	if err != nil {
		return err
	}
	_, err = f.Write(b.Bytes())
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		if err = os.Link(temp, path); errors.Is(err, fs.ErrExist) {
			err = nil
		}
	}
	return errors.Join(err, os.Remove(temp), syncDir(filepath.Dir(path)))
}

func syncDir(path string) error {
	d, err := os.Open(path) //nolint:gosec // the operator's own path
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Fingerprint names the key without telling it; stored in each key database, a mismatch refuses to open.
func (k *Keyring) Fingerprint() string { return k.fingerprint }
