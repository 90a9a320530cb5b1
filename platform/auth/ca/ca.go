// Package ca is the built-in certificate authority for calls between services.
//
// It speaks to nobody: it keeps a key in a directory of its own and writes short-lived certificates (X.509-SVIDs, as the
// SPIFFE standard has them) into the directories of services, where they read them. So whatever else writes such files
// can take its place: a SPIRE helper, cert-manager's CSI driver, an agent of a vault. A caller must know: who can read
// the authority's directory can be every service.
package ca

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/big"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"syscall"
	"time"

	"github.com/gofrs/flock"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

const (
	life     = 5 * 365 * 24 * time.Hour // of the authority's own certificate
	over     = 90 * 24 * time.Hour      // before its end, the authority makes a new key
	backdate = time.Minute              // clocks differ
	keyFile  = "ca.key"
	certFile = "ca.pem" // one of them is of the key; all are trusted
	lockFile = "ca.lock"
)

// The shortest and the longest life of a service's certificate.
const (
	MinLife = time.Second
	MaxLife = 30 * 24 * time.Hour
)

const (
	look   = time.Second // between looks for a new key of the authority; a tenth of a certificate's life when that is less
	retry  = 30 * time.Second
	settle = 3 * time.Second // or a quarter of a life: services look as often, and nobody signs with a new key before they did
)

// The files in a service's directory.
const (
	CertFile   = "svid.pem"
	KeyFile    = "svid.key"
	BundleFile = "bundle.pem"
)

var name = regexp.MustCompile(`^[a-z][a-z0-9-]{0,40}$`)

// Authority signs certificates for the services of one trust domain. Several processes may open the same directory: they
// write in turn. One Authority is not safe for concurrent use.
type Authority struct {
	dir    string
	domain spiffeid.TrustDomain
	key    *ecdsa.PrivateKey
	certs  []*x509.Certificate // the one that signs first; the others are trusted until they are over
	raw    []byte              // of the two files
}

// Open loads the authority in dir, making it at the first time.
func Open(dir, trustDomain string) (*Authority, error) {
	td, err := spiffeid.TrustDomainFromString(trustDomain)
	if err != nil {
		return nil, fmt.Errorf("trust domain %q: %w", trustDomain, err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("certificate authority: %w", err)
	}
	a := &Authority{dir: dir, domain: td}
	err = a.alone(func() error {
		err := a.load()
		if errors.Is(err, fs.ErrNotExist) {
			return a.rotate() // also when only the key is missing: what it signed stays trusted
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("certificate authority in %s: %w", dir, err)
	}
	return a, nil
}

// alone runs fn while no other process writes for this authority.
func (a *Authority) alone(fn func() error) error {
	l := flock.New(filepath.Join(a.dir, lockFile), flock.SetPermissions(0o600))
	if err := l.Lock(); err != nil {
		return err
	}
	return errors.Join(fn(), l.Unlock())
}

// load takes up the files, if they changed.
func (a *Authority) load() error {
	chain, err := os.ReadFile(filepath.Join(a.dir, certFile))
	if err != nil {
		return err
	}
	certs, err := parseCerts(chain)
	if err != nil {
		return err
	}
	for _, c := range certs {
		if len(c.URIs) != 1 || c.URIs[0].String() != a.domain.IDString() {
			return fmt.Errorf("it is of another trust domain than %s", a.domain)
		}
	}
	if a.key == nil {
		a.certs = certs
	}
	text, err := a.readKey()
	if err != nil {
		return err
	}
	raw := slices.Concat(chain, text)
	if bytes.Equal(raw, a.raw) {
		return nil
	}
	key, err := parseKey(text)
	if err != nil {
		return err
	}
	// A rotation that was cut short left the certificate of a key that nobody has: the former one signs on.
	i := slices.IndexFunc(certs, func(c *x509.Certificate) bool { return key.PublicKey.Equal(c.PublicKey) })
	if i < 0 {
		return fmt.Errorf("%s and %s do not belong together", keyFile, certFile)
	}
	signs := certs[i]
	a.key, a.certs, a.raw = key, append([]*x509.Certificate{signs}, slices.Delete(certs, i, i+1)...), raw
	return nil
}

func (a *Authority) readKey() ([]byte, error) {
	path := filepath.Join(a.dir, keyFile)
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("%s can be read by others (%v): run chmod 600 on it, and make a new authority if it was seen", keyFile, info.Mode().Perm())
	}
	return os.ReadFile(path) //nolint:gosec // the operator's own path
}

func parseKey(text []byte) (*ecdsa.PrivateKey, error) {
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, fmt.Errorf("%s holds no key", keyFile)
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", keyFile, err)
	}
	k, ok := key.(*ecdsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("%s holds another kind of key", keyFile)
	}
	return k, nil
}

func parseCerts(b []byte) ([]*x509.Certificate, error) {
	var out []*x509.Certificate
	for {
		var block *pem.Block
		if block, b = pem.Decode(b); block == nil {
			break
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", certFile, err)
		}
		out = append(out, c)
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("%s holds no certificate", certFile)
	}
	return out, nil
}

// Rotate makes a new key. Certificates of the former ones stay good: they are trusted until they are over. Whoever serves
// takes it up within seconds.
func (a *Authority) Rotate() error {
	return a.alone(func() error {
		if err := a.load(); err != nil {
			return err
		}
		return a.rotate()
	})
}

func (a *Authority) rotate() error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fmt.Errorf("make a key: %w", err)
	}
	now := time.Now()
	t := &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{CommonName: "Aran service authority"}, URIs: []*url.URL{a.domain.ID().URL()},
		NotBefore: now.Add(-backdate), NotAfter: now.Add(life), IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, PermittedURIDomains: []string{a.domain.Name()}, PermittedDNSDomainsCritical: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, t, t, &key.PublicKey, key)
	if err != nil {
		return fmt.Errorf("make a certificate: %w", err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return err
	}
	certs := []*x509.Certificate{c}
	for _, old := range a.certs {
		if now.Before(old.NotAfter) {
			certs = append(certs, old)
		}
	}
	k, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	// The certificates first: a crash between the two leaves a certificate without a key, and the former key works on.
	if err := write(filepath.Join(a.dir, certFile), bundle(certs), 0o644); err != nil {
		return err
	}
	if err := write(filepath.Join(a.dir, keyFile), block("PRIVATE KEY", k), 0o600); err != nil {
		return err
	}
	a.key, a.certs, a.raw = key, certs, slices.Concat(bundle(certs), block("PRIVATE KEY", k))
	return nil
}

// Issue writes a new key, a certificate for it that is good for life, and what the service should trust into
// out/service. Each file is replaced whole; readers wait for a pair that fits.
func (a *Authority) Issue(out, service string, life time.Duration) error {
	if err := check([]string{service}, life); err != nil {
		return err
	}
	return a.alone(func() error { return a.issue(out, service, life) })
}

func check(services []string, life time.Duration) error {
	for _, s := range services {
		if !name.MatchString(s) {
			return fmt.Errorf("service name %q: use small letters, digits and hyphens", s)
		}
	}
	if life < MinLife || life > MaxLife {
		return fmt.Errorf("a life of %v: use %v to %v", life, MinLife, MaxLife)
	}
	return nil
}

func (a *Authority) issue(out, service string, life time.Duration) error {
	id, err := spiffeid.FromSegments(a.domain, "service", service)
	if err != nil {
		return err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fmt.Errorf("make a key: %w", err)
	}
	now := time.Now()
	if now.Add(life).After(a.certs[0].NotAfter) {
		return fmt.Errorf("the authority's own certificate ends on %s: run aran ca rotate", a.certs[0].NotAfter.Format(time.DateOnly))
	}
	t := &x509.Certificate{
		SerialNumber: serial(), URIs: []*url.URL{id.URL()}, NotBefore: now.Add(-min(backdate, life/10)), NotAfter: now.Add(life),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, t, a.certs[0], &key.PublicKey, a.key)
	if err != nil {
		return fmt.Errorf("sign for %s: %w", service, err)
	}
	k, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	dir := filepath.Join(out, service)
	if _, err := a.trust(dir); err != nil { // first, so that nobody shows what others do not know yet
		return err
	}
	if err := write(filepath.Join(dir, KeyFile), block("PRIVATE KEY", k), 0o600); err != nil {
		return err
	}
	return write(filepath.Join(dir, CertFile), block("CERTIFICATE", der), 0o644)
}

// trust writes what a service should trust, and says whether it trusted something else before.
func (a *Authority) trust(dir string) (changed bool, err error) {
	if err := makeDir(dir); err != nil {
		return false, err
	}
	path, now := filepath.Join(dir, BundleFile), bundle(a.certs)
	before, err := os.ReadFile(path) //nolint:gosec // the operator's own path
	switch {
	case err == nil && bytes.Equal(before, now):
		return false, nil
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return false, err
	}
	return err == nil, write(path, now, 0o644)
}

// IssueAll issues for several services. After a rotation they all learn of the new key before anyone shows a certificate
// of it, which takes some seconds; so give all services of a directory together.
func (a *Authority) IssueAll(ctx context.Context, out string, services []string, life time.Duration) error {
	if err := check(services, life); err != nil {
		return err
	}
	changed := false
	err := a.alone(func() error {
		if err := a.load(); err != nil {
			return err
		}
		if time.Now().Add(over).After(a.certs[0].NotAfter) {
			if err := a.rotate(); err != nil {
				return err
			}
		}
		for _, s := range services {
			c, _ := a.trust(filepath.Join(out, s)) // issue meets the same error
			changed = changed || c
		}
		return nil
	})
	if err != nil {
		return err
	}
	if changed && !sleep(ctx, min(settle, life/4)) {
		return ctx.Err()
	}
	return a.alone(func() error {
		var errs []error
		for _, s := range services {
			errs = append(errs, a.issue(out, s, life))
		}
		return errors.Join(errs...)
	})
}

// Serve renews the certificates of services whenever a half of their life is over or the authority has a new key, until
// ctx ends. A failure is logged and tried again.
func (a *Authority) Serve(ctx context.Context, out string, services []string, life time.Duration, log *slog.Logger) error {
	if err := check(services, life); err != nil {
		return err
	}
	for {
		wait, failed := life/2, false
		err := a.IssueAll(ctx, out, services, life)
		if ctx.Err() != nil {
			return nil //nolint:nilerr // it was told to end
		}
		if err != nil {
			log.LogAttrs(ctx, slog.LevelError, "certificates not renewed", slog.String("error", err.Error()))
			wait, failed = min(life/10, retry), true
		}
		for until := time.Now().Add(wait); time.Now().Before(until) && (failed || !a.changed()); {
			if !sleep(ctx, min(look, life/10, time.Until(until))) {
				return nil
			}
		}
	}
}

// changed reports whether another process rotated the key.
func (a *Authority) changed() bool {
	chain, err := os.ReadFile(filepath.Join(a.dir, certFile))
	return err == nil && !bytes.HasPrefix(a.raw, chain)
}

// sleep waits and reports whether all of the time passed.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

func serial() *big.Int {
	b := make([]byte, 16)
	_, _ = rand.Read(b) // never fails
	return new(big.Int).SetBytes(b)
}

func block(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

func bundle(certs []*x509.Certificate) []byte {
	var b bytes.Buffer
	for _, c := range certs {
		b.Write(block("CERTIFICATE", c.Raw))
	}
	return b.Bytes()
}

// makeDir makes a service's directory, with the owner of the directory that it is in.
func makeDir(path string) error {
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil { //nolint:gosec // what is in it is for its owners
		return err
	}
	if err := os.Mkdir(path, 0o700); err != nil {
		return err
	}
	uid, gid, err := ownerFor(filepath.Dir(path))
	if err != nil {
		return err
	}
	return os.Lchown(path, uid, gid)
}

// ownerFor is who should own what is made in a directory: its owner, when this process may give things away.
func ownerFor(dir string) (uid, gid int, err error) {
	if os.Geteuid() != 0 {
		return -1, -1, nil
	}
	info, err := os.Stat(dir)
	if err != nil {
		return 0, 0, err
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return int(st.Uid), int(st.Gid), nil
	}
	return -1, -1, nil
}

// write replaces a file in one step. When this process is root, its owner is that of the directory, so that an authority
// which runs as root can write for services that do not.
func write(path string, b []byte, mode fs.FileMode) error {
	dir := filepath.Dir(path)
	uid, gid, err := ownerFor(dir)
	if err != nil {
		return err
	}
	left, err := filepath.Glob(filepath.Join(dir, ".new-*"))
	if err != nil {
		return err
	}
	for _, l := range left { // of a process that was killed: writers take turns
		if err := os.Remove(l); err != nil {
			return err
		}
	}
	f, err := os.CreateTemp(dir, ".new-*")
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err = errors.Join(err, f.Chown(uid, gid), f.Chmod(mode), f.Sync(), f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}
