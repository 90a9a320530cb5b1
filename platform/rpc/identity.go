package rpc

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/spiffetls/tlsconfig"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"

	"aran/platform/fault"
)

// The files of a service's identity, as an authority writes them.
const (
	certFile   = "svid.pem"
	keyFile    = "svid.key"
	bundleFile = "bundle.pem"
)

const (
	identityLook  = time.Second // between looks at the files; a tenth of the certificate's life when that is less
	identityTries = 10          // a key and its certificate may be replaced one after the other
	identityPause = 50 * time.Millisecond
)

// Identity is a service's X.509-SVID and what it trusts, read from files that are renewed in place. Safe for concurrent use.
type Identity struct {
	service string
	dir     string
	domain  spiffeid.TrustDomain
	log     *slog.Logger
	stop    context.CancelFunc
	done    sync.WaitGroup

	mu     sync.RWMutex
	raw    [3][]byte
	svid   *x509svid.SVID
	bundle *x509bundle.Bundle
}

// OpenIdentity loads <dir>/<service> and follows it until Close. ctx bounds only the set-up.
func OpenIdentity(ctx context.Context, dir, service, trustDomain string, log *slog.Logger) (*Identity, error) {
	td, err := spiffeid.TrustDomainFromString(trustDomain)
	if err != nil {
		return nil, fmt.Errorf("trust domain %q: %w", trustDomain, err)
	}
	i := &Identity{service: service, dir: filepath.Join(dir, service), domain: td, log: log}
	for try := 0; ; try++ {
		if err = i.load(); err == nil {
			break
		}
		if try == identityTries || errors.Is(err, os.ErrNotExist) || ctx.Err() != nil {
			return nil, fault.New(fault.Invalid, "identity", "The certificate of %s in %s can't be used: %v.", service, i.dir, err).Because(err)
		}
		<-time.After(identityPause)
	}
	life, stop := context.WithCancel(context.WithoutCancel(ctx))
	i.stop = stop
	i.done.Go(func() { i.follow(life) })
	return i, nil
}

// Close stops following the files.
func (i *Identity) Close() error {
	i.stop()
	i.done.Wait()
	return nil
}

func (i *Identity) follow(ctx context.Context) {
	failed := 0
	for {
		t := time.NewTimer(i.pause(failed))
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return
		}
		err := i.load()
		if err == nil {
			failed = 0
			continue
		}
		if failed++; failed == identityTries {
			i.log.LogAttrs(ctx, slog.LevelWarn, "renewed certificate not usable; the one in hand is kept", slog.String("service", i.service), slog.String("error", err.Error()))
		}
	}
}

// pause is the time until the next look: short while the files may be amid a renewal.
func (i *Identity) pause(failed int) time.Duration {
	if failed > 0 && failed < identityTries {
		return identityPause
	}
	i.mu.RLock()
	defer i.mu.RUnlock()
	c := i.svid.Certificates[0]
	return max(identityPause, min(identityLook, c.NotAfter.Sub(c.NotBefore)/10))
}

// load takes the files up when they changed and belong together.
func (i *Identity) load() error {
	var raw [3][]byte
	for n, f := range []string{certFile, keyFile, bundleFile} {
		path := filepath.Join(i.dir, f)
		if info, err := os.Stat(path); err == nil && f == keyFile && info.Mode().Perm()&0o077 != 0 {
			return fmt.Errorf("%s can be read by others (%v): run chmod 600 on it", f, info.Mode().Perm())
		}
		b, err := os.ReadFile(path) //nolint:gosec // the operator's own path
		if err != nil {
			return err
		}
		raw[n] = b
	}
	i.mu.RLock()
	same := bytes.Equal(raw[0], i.raw[0]) && bytes.Equal(raw[1], i.raw[1]) && bytes.Equal(raw[2], i.raw[2])
	i.mu.RUnlock()
	if same {
		return nil
	}
	svid, err := x509svid.Parse(raw[0], raw[1])
	if err != nil {
		return err
	}
	bundle, err := x509bundle.Parse(i.domain, raw[2])
	if err != nil {
		return err
	}
	if err := i.check(svid, bundle); err != nil {
		return err
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.raw, i.svid, i.bundle = raw, svid, bundle
	return nil
}

func (i *Identity) check(svid *x509svid.SVID, bundle *x509bundle.Bundle) error {
	if want := identityOf(i.domain, i.service); svid.ID != want {
		return fmt.Errorf("it is of %s, not of %s", svid.ID, want)
	}
	if _, _, err := x509svid.Verify(svid.Certificates, bundle); err != nil {
		return fmt.Errorf("its own bundle does not trust it: %w", err)
	}
	return nil
}

// GetX509SVID implements x509svid.Source.
func (i *Identity) GetX509SVID() (*x509svid.SVID, error) {
	i.mu.RLock()
	defer i.mu.RUnlock()
	return i.svid, nil
}

// GetX509BundleForTrustDomain implements x509bundle.Source.
func (i *Identity) GetX509BundleForTrustDomain(td spiffeid.TrustDomain) (*x509bundle.Bundle, error) {
	i.mu.RLock()
	defer i.mu.RUnlock()
	return i.bundle.GetX509BundleForTrustDomain(td)
}

// Expires is when the certificate in hand is over.
func (i *Identity) Expires() time.Time {
	i.mu.RLock()
	defer i.mu.RUnlock()
	return i.svid.Certificates[0].NotAfter
}

// ClientTLS shows this identity to a server that is no service of ours and has an ordinary certificate of the same authority.
func (i *Identity) ClientTLS() *tls.Config {
	return tlsconfig.MTLSWebClientConfig(i, nil)
}

// identityOf is the SPIFFE ID of a service.
func identityOf(td spiffeid.TrustDomain, service string) spiffeid.ID {
	return spiffeid.RequireFromSegments(td, "service", service)
}

// serviceOf is the service that a SPIFFE ID of the trust domain names; empty when it names none.
func serviceOf(td spiffeid.TrustDomain, id spiffeid.ID) string {
	const prefix = "/service/"
	if !id.MemberOf(td) || len(id.Path()) <= len(prefix) || id.Path()[:len(prefix)] != prefix {
		return ""
	}
	name := id.Path()[len(prefix):]
	for _, c := range name {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return ""
		}
	}
	return name
}
