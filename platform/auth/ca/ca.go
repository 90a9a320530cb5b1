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
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

const (
	life     = 5 * 365 * 24 * time.Hour // of the authority's own certificate
	backdate = time.Minute              // clocks differ
	keyFile  = "ca.key"
	certFile = "ca.pem" // the newest certificate first; those after it are still trusted
)

// The files in a service's directory.
const (
	CertFile   = "svid.pem"
	KeyFile    = "svid.key"
	BundleFile = "bundle.pem"
)

var name = regexp.MustCompile(`^[a-z][a-z0-9-]{0,40}$`)

// Authority signs certificates for the services of one trust domain. Not safe for concurrent use.
type Authority struct {
	dir    string
	domain spiffeid.TrustDomain
	key    *ecdsa.PrivateKey
	certs  []*x509.Certificate // newest first
}

// Open loads the authority in dir, making it at the first time.
func Open(dir, trustDomain string) (*Authority, error) {
	td, err := spiffeid.TrustDomainFromString(trustDomain)
	if err != nil {
		return nil, fmt.Errorf("trust domain %q: %w", trustDomain, err)
	}
	a := &Authority{dir: dir, domain: td}
	switch err := a.load(); {
	case errors.Is(err, fs.ErrNotExist):
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, fmt.Errorf("certificate authority: %w", err)
		}
		return a, a.Rotate()
	case err != nil:
		return nil, fmt.Errorf("certificate authority in %s: %w", dir, err)
	}
	return a, nil
}

func (a *Authority) load() error {
	info, err := os.Stat(filepath.Join(a.dir, keyFile))
	if err != nil {
		return err
	}
	if info.Mode().Perm()&0o077 != 0 {
		return fmt.Errorf("%s can be read by others (%v): run chmod 600 on it, and make a new authority if it was seen", keyFile, info.Mode().Perm())
	}
	b, err := os.ReadFile(filepath.Join(a.dir, keyFile))
	if err != nil {
		return err
	}
	block, _ := pem.Decode(b)
	if block == nil {
		return fmt.Errorf("%s holds no key", keyFile)
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return fmt.Errorf("%s: %w", keyFile, err)
	}
	ok := false
	if a.key, ok = key.(*ecdsa.PrivateKey); !ok {
		return fmt.Errorf("%s holds another kind of key", keyFile)
	}
	if a.certs, err = readCerts(filepath.Join(a.dir, certFile)); err != nil {
		return err
	}
	if !a.key.PublicKey.Equal(a.certs[0].PublicKey) {
		return fmt.Errorf("%s and %s do not belong together", keyFile, certFile)
	}
	if len(a.certs[0].URIs) != 1 || a.certs[0].URIs[0].String() != a.domain.IDString() {
		return fmt.Errorf("it is of another trust domain than %s", a.domain)
	}
	return nil
}

func readCerts(path string) ([]*x509.Certificate, error) {
	b, err := os.ReadFile(path) //nolint:gosec // the operator's own path
	if err != nil {
		return nil, err
	}
	var out []*x509.Certificate
	for {
		var block *pem.Block
		if block, b = pem.Decode(b); block == nil {
			break
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", filepath.Base(path), err)
		}
		out = append(out, c)
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("%s holds no certificate", filepath.Base(path))
	}
	return out, nil
}

// Rotate makes a new key. Certificates of the former ones stay good: they are trusted until they are over.
func (a *Authority) Rotate() error {
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
	// The certificates first: a crash between the two leaves an authority that load refuses, not one that signs in vain.
	if err := errors.Join(write(filepath.Join(a.dir, certFile), bundle(certs), 0o644), write(filepath.Join(a.dir, keyFile), block("PRIVATE KEY", k), 0o600)); err != nil {
		return err
	}
	a.key, a.certs = key, certs
	return nil
}

// Issue writes a new key, a certificate for it, and what the service should trust into out/service. Each file is
// replaced whole; readers wait for a pair that fits.
func (a *Authority) Issue(out, service string, life time.Duration) error {
	if !name.MatchString(service) {
		return fmt.Errorf("service name %q", service)
	}
	id, err := spiffeid.FromSegments(a.domain, "service", service)
	if err != nil {
		return err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fmt.Errorf("make a key: %w", err)
	}
	now := time.Now()
	t := &x509.Certificate{
		SerialNumber: serial(), URIs: []*url.URL{id.URL()}, NotBefore: now.Add(-backdate), NotAfter: now.Add(life),
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
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return errors.Join( // what is trusted first, so that nobody shows what others do not know yet
		write(filepath.Join(dir, BundleFile), bundle(a.certs), 0o644),
		write(filepath.Join(dir, KeyFile), block("PRIVATE KEY", k), 0o600),
		write(filepath.Join(dir, CertFile), block("CERTIFICATE", der), 0o644),
	)
}

// Serve renews the certificates of services whenever a half of their life is over, until ctx ends. A failure is logged
// and tried again.
func (a *Authority) Serve(ctx context.Context, out string, services []string, life time.Duration, log *slog.Logger) error {
	wait := time.Duration(0)
	for {
		t := time.NewTimer(wait)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return nil
		}
		wait = life / 2
		for _, s := range services {
			if err := a.Issue(out, s, life); err != nil {
				log.LogAttrs(ctx, slog.LevelError, "certificate not renewed", slog.String("service", s), slog.String("error", err.Error()))
				wait = life / 10
			}
		}
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

// write replaces a file in one step. Its owner is that of the directory, so that an authority which runs as root can
// write for services that do not.
func write(path string, b []byte, mode fs.FileMode) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}
