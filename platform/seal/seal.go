// Package seal encrypts content with a key per service and subject, so that erasing the key erases the content.
//
// It owns the key-encryption key (a Keyring) and, per service, a database of data keys wrapped by it (a Box),
// apart from the service's own, so that ordinary backups leave it out. It never hands out a key, and it never
// makes a second key for a subject that was erased. A caller must know: what was sealed for a subject is gone
// for good after Erase, in every copy, at once in this process and within a minute in its replicas.
package seal

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/tink"

	"aran/platform/cache"
	"aran/platform/fault"
	"aran/platform/secret"
	"aran/platform/store"
)

// CodeErased is the code of the fault for a subject whose keys were erased.
const CodeErased = "erased"

// Unwrapped keys are kept for a short time only: an unwrap takes about 0.2 ms.
const (
	cachedKeys = 1024
	cachedFor  = time.Minute
)

// Box seals for one service. Its data keys live in a database of their own, that ordinary backups leave out.
// Safe for concurrent use.
type Box struct {
	service string
	kek     tink.AEAD
	db      *store.DB
	namer   []byte // key of the hash under which a subject's row stands
	keys    *cache.Cache[string, subjectKeys]

	mu     sync.Mutex
	erases int // counts Erase calls, so that a load that ran beside one is not cached
}

type subjectKeys struct {
	data      tink.AEAD
	pseudonym string
}

// Open opens the key database of a service in a file. A database that another keyring or service made is refused.
func Open(ctx context.Context, k *Keyring, service, path string) (*Box, error) {
	return open(ctx, k, service, store.Options{Path: path, Log: slog.New(slog.DiscardHandler)})
}

// OpenURL is Open for a PostgreSQL database, which several replicas may have open.
func OpenURL(ctx context.Context, k *Keyring, service string, url secret.String, log *slog.Logger) (*Box, error) {
	return open(ctx, k, service, store.Options{URL: url, Log: log})
}

func open(ctx context.Context, k *Keyring, service string, o store.Options) (*Box, error) {
	m, err := migrations()
	if err != nil {
		return nil, err
	}
	o.Service, o.Migrations, o.Readers = service+"_keys", m, 1
	db, err := store.Open(ctx, o)
	if err != nil {
		return nil, fmt.Errorf("open keys of %s: %w", service, err)
	}
	b := &Box{service: service, kek: k.aead, db: db, keys: cache.New[string, subjectKeys](cachedKeys, cachedFor)}
	if err := b.unlock(ctx, k); err != nil {
		return nil, errors.Join(fmt.Errorf("open keys of %s: %w", service, err), db.Close())
	}
	return b, nil
}

func (b *Box) unlock(ctx context.Context, k *Keyring) error {
	aad := b.place("namer", nil)
	wrapped, err := k.aead.Encrypt(random(), aad)
	if err != nil {
		return fmt.Errorf("wrap: %w", err)
	}
	service, fingerprint, wrapped, err := b.keyring(ctx, k.fingerprint, wrapped)
	if err != nil {
		return err
	}
	if service != b.service {
		return fmt.Errorf("the database belongs to service %s", service)
	}
	if fingerprint != k.fingerprint {
		return fmt.Errorf("the database was made with keyring %s, and this is %s: put the right keyring file in place", fingerprint, k.fingerprint)
	}
	if b.namer, err = k.aead.Decrypt(wrapped, aad); err != nil {
		return fmt.Errorf("unwrap: %w", err)
	}
	return nil
}

// Seal encrypts for a subject (AES-256-GCM under the subject's data key; made at first use). aad binds the ciphertext to its place.
func (b *Box) Seal(ctx context.Context, subject string, plain, aad []byte) ([]byte, error) {
	k, err := b.need(ctx, subject)
	if err != nil {
		return nil, err
	}
	sealed, err := k.data.Encrypt(plain, aad)
	if err != nil {
		return nil, fmt.Errorf("seal: %w", err)
	}
	return sealed, nil
}

// Open decrypts; after Erase it returns a fault of kind Missing, code "erased". Text that was changed, or sealed
// for another subject or place, is an error.
func (b *Box) Open(ctx context.Context, subject string, sealed, aad []byte) ([]byte, error) {
	k, err := b.load(ctx, subject)
	if errors.Is(err, errUnknown) {
		return nil, errors.New("open: nothing was ever sealed for this subject")
	}
	if err != nil {
		return nil, err
	}
	return k.open(sealed, aad)
}

// OpenFor is Open for who knows only the subject's pseudonym. One that is not known, or not any more, is erased.
func (b *Box) OpenFor(ctx context.Context, pseudonym string, sealed, aad []byte) ([]byte, error) {
	k, err := b.cached(byPseudonym+pseudonym, func() (row, error) { return b.findByPseudonym(ctx, pseudonym) })
	if errors.Is(err, errUnknown) {
		return nil, errErased()
	}
	if err != nil {
		return nil, err
	}
	return k.open(sealed, aad)
}

func (k subjectKeys) open(sealed, aad []byte) ([]byte, error) {
	plain, err := k.data.Decrypt(sealed, aad)
	if err != nil {
		return nil, fmt.Errorf("open: %w", err)
	}
	return plain, nil
}

func errErased() error {
	return fault.New(fault.Missing, CodeErased, "The keys of this subject were erased.")
}

// Pseudonym stands for a subject where its name must not: 64 hex digits, the same for the same subject of this
// service and unlinkable without the key database and keyring. It is drawn at random with the data key (a keyed
// hash under a secret that nobody has), so that after Erase nothing can compute it again.
func (b *Box) Pseudonym(ctx context.Context, subject string) (string, error) {
	k, err := b.need(ctx, subject)
	if err != nil {
		return "", err
	}
	return k.pseudonym, nil
}

// Known is Pseudonym for who only looks: it makes none. Empty: nothing was ever sealed for, or named after, this subject.
// An erased one is the fault of Open.
func (b *Box) Known(ctx context.Context, subject string) (string, error) {
	k, err := b.load(ctx, subject)
	if errors.Is(err, errUnknown) {
		return "", nil
	}
	return k.pseudonym, err
}

// Erase destroys the subject's key and remembers that it did: the subject cannot be sealed for again. Erasing
// twice, or a subject that was never seen, is no error.
func (b *Box) Erase(ctx context.Context, subject string) error {
	if err := b.erase(ctx, b.name(subject)); err != nil {
		return fmt.Errorf("erase keys: %w", err)
	}
	b.mu.Lock()
	b.erases++
	b.keys.DeleteFunc(func(string, subjectKeys) bool { return true })
	b.mu.Unlock()
	fault.Point("seal.erased")
	if err := b.scrub(ctx); err != nil {
		return fmt.Errorf("scrub erased keys: %w", err)
	}
	return nil
}

// Close closes the key database.
func (b *Box) Close() error { return b.db.Close() }

// need returns a subject's keys, made when there are none.
func (b *Box) need(ctx context.Context, subject string) (subjectKeys, error) {
	k, err := b.load(ctx, subject)
	if !errors.Is(err, errUnknown) {
		return k, err
	}
	fresh, err := b.fresh(subject)
	if err != nil {
		return subjectKeys{}, err
	}
	return b.cached(bySubject+subject, func() (row, error) { return b.keep(ctx, fresh) })
}

func (b *Box) load(ctx context.Context, subject string) (subjectKeys, error) {
	return b.cached(bySubject+subject, func() (row, error) { return b.find(ctx, b.name(subject)) })
}

// The cache holds keys under both names of a subject.
const (
	bySubject   = "s"
	byPseudonym = "p"
)

// cached returns what the cache holds; else it unwraps what get returns and keeps it, unless something was
// erased meanwhile.
func (b *Box) cached(name string, get func() (row, error)) (subjectKeys, error) {
	if k, ok := b.keys.Get(name); ok {
		return k, nil
	}
	b.mu.Lock()
	before := b.erases
	b.mu.Unlock()
	r, err := get()
	if err != nil {
		return subjectKeys{}, err
	}
	k, err := b.unwrap(r)
	if err != nil {
		return subjectKeys{}, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.erases == before {
		b.keys.Put(name, k)
	}
	return k, nil
}

func (b *Box) fresh(subject string) (row, error) {
	r := row{id: b.name(subject), pseudonym: hex.EncodeToString(random())}
	h, err := keyset.NewHandle(aead.AES256GCMKeyTemplate())
	if err != nil {
		return row{}, fmt.Errorf("make a data key: %w", err)
	}
	var w bytes.Buffer
	if err := h.WriteWithAssociatedData(keyset.NewBinaryWriter(&w), b.kek, b.rowPlace(r)); err != nil {
		return row{}, fmt.Errorf("wrap a data key: %w", err)
	}
	r.dataKey = w.Bytes()
	return r, nil
}

func (b *Box) unwrap(r row) (subjectKeys, error) {
	h, err := keyset.ReadWithAssociatedData(keyset.NewBinaryReader(bytes.NewReader(r.dataKey)), b.kek, b.rowPlace(r))
	if err != nil {
		return subjectKeys{}, fmt.Errorf("unwrap a data key: %w", err)
	}
	data, err := aead.New(h)
	if err != nil {
		return subjectKeys{}, fmt.Errorf("use a data key: %w", err)
	}
	return subjectKeys{data, r.pseudonym}, nil
}

// name is the id of a subject's row: a keyed hash, so that the database tells nobody's name, and an erased
// subject is remembered without one.
func (b *Box) name(subject string) []byte {
	h := hmac.New(sha256.New, b.namer)
	h.Write(b.place("subject", []byte(subject)))
	return h.Sum(nil)
}

// place says what a wrapped key or hash is for, so that it is worth nothing in another place.
func (b *Box) place(use string, id []byte) []byte {
	return fmt.Appendf(nil, "aran/seal/v1/%s/%s/%s", b.service, use, id)
}

// rowPlace binds a data key to its row: keys and pseudonyms cannot be swapped between subjects.
func (b *Box) rowPlace(r row) []byte { return b.place("data/"+r.pseudonym, r.id) }

func random() []byte {
	b := make([]byte, 32)
	_, _ = rand.Read(b) // never fails (crypto/rand)
	return b
}
