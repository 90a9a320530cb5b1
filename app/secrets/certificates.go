package secrets

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

const (
	serverCert = "server.pem"
	serverKey  = "server.key"
	edgeCert   = "tls.pem"
	edgeKey    = "tls.key"
)

const (
	certLife = 397 * 24 * time.Hour // what browsers take
	renewIn  = 60 * 24 * time.Hour  // before the end, the next start renews
	backdate = 5 * time.Minute
)

// server is somebody who shows a certificate.
type server struct {
	name  string
	hosts []string
	cert  string
	key   string
	mode  os.FileMode // of the key
}

// certificates makes those of the stores and of the edge, all at once, unless all are there and good for long.
func certificates(o Options, now time.Time) error {
	var servers []server
	for _, s := range []string{Postgres, Nats, Redis} {
		servers = append(servers, server{s, []string{s, "localhost", "127.0.0.1"}, filepath.Join(o.Dir, s, serverCert), filepath.Join(o.Dir, s, serverKey), group})
	}
	fresh := !o.Renew
	for _, p := range o.Parties {
		if p.Edge {
			dir := filepath.Join(o.Dir, p.Name)
			servers = append(servers, server{p.Name, append([]string{"localhost", "127.0.0.1", "::1", p.Name}, o.Hosts...), filepath.Join(dir, edgeCert), filepath.Join(dir, edgeKey), private})
		}
		_, err := os.Stat(filepath.Join(o.Dir, p.Name, trusted))
		fresh = fresh && err == nil
	}
	for _, s := range servers {
		fresh = fresh && s.good(now.Add(renewIn))
	}
	if fresh {
		return nil
	}
	a, err := newAuthority(now)
	if err != nil {
		return err
	}
	// What is trusted first: a stop in between leaves certificates that do not fit, and the next run sees that it is not done.
	for _, p := range o.Parties {
		if err := os.Remove(filepath.Join(o.Dir, p.Name, trusted)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	for _, s := range servers {
		if err := a.sign(s, now); err != nil {
			return fmt.Errorf("certificate of %s: %w", s.name, err)
		}
	}
	for _, p := range o.Parties {
		if err := write(filepath.Join(o.Dir, p.Name, trusted), a.pem, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// good reports whether the certificate is there at all, names its hosts, and is still good at a time.
func (s server) good(at time.Time) bool {
	c, err := read(s.cert)
	if err != nil || at.After(c.NotAfter) {
		return false
	}
	for _, h := range s.hosts {
		if c.VerifyHostname(h) != nil {
			return false
		}
	}
	_, err = os.Stat(s.key)
	return err == nil
}

// authority signs for one run and is then forgotten.
type authority struct {
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
	pem  []byte
}

func newAuthority(now time.Time) (*authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	t := &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{CommonName: "Aran stores " + now.UTC().Format("2006-01-02")}, NotBefore: now.Add(-backdate), NotAfter: now.Add(certLife),
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, t, t, &key.PublicKey, key)
	if err != nil {
		return nil, err
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	return &authority{key, c, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})}, nil
}

func (a *authority) sign(s server, now time.Time) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	t := &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{CommonName: s.name}, NotBefore: now.Add(-backdate), NotAfter: now.Add(certLife),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, BasicConstraintsValid: true,
	}
	for _, h := range s.hosts {
		if ip := net.ParseIP(h); ip != nil {
			t.IPAddresses = append(t.IPAddresses, ip)
			continue
		}
		t.DNSNames = append(t.DNSNames, h)
	}
	der, err := x509.CreateCertificate(rand.Reader, t, a.cert, &key.PublicKey, a.key)
	if err != nil {
		return err
	}
	k, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	var chain bytes.Buffer
	chain.Write(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	chain.Write(a.pem)
	if err := write(s.key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: k}), s.mode); err != nil {
		return err
	}
	return write(s.cert, chain.Bytes(), 0o644)
}

func read(path string) (*x509.Certificate, error) {
	b, err := os.ReadFile(path) //nolint:gosec // the operator's own path
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(b)
	if block == nil {
		return nil, fmt.Errorf("%s holds no certificate", path)
	}
	return x509.ParseCertificate(block.Bytes)
}

func valid(path string, now time.Time) error {
	c, err := read(path)
	if err != nil {
		return err
	}
	if now.Before(c.NotBefore) || now.After(c.NotAfter) {
		return fmt.Errorf("%s is good from %s to %s only", path, c.NotBefore.Format(time.RFC3339), c.NotAfter.Format(time.RFC3339))
	}
	return nil
}

func serial() *big.Int {
	b := make([]byte, 16)
	_, _ = rand.Read(b) // never fails
	return new(big.Int).SetBytes(b)
}
