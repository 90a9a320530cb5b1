package ca_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"

	"aran/platform/auth/ca"
)

const domain = "test.example"

var silent = slog.New(slog.DiscardHandler)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func open(t *testing.T, dir string) *ca.Authority {
	t.Helper()
	a, err := ca.Open(dir, domain)
	must(t, err)
	return a
}

// holding is what a service has in its directory.
type holding struct {
	svid   *x509svid.SVID
	bundle *x509bundle.Bundle
}

// read loads a service's files as a service does; the error says what does not fit.
func read(out, service string) (h holding, err error) {
	dir := filepath.Join(out, service)
	if h.svid, err = x509svid.Load(filepath.Join(dir, ca.CertFile), filepath.Join(dir, ca.KeyFile)); err != nil {
		return h, err
	}
	h.bundle, err = x509bundle.Load(spiffeid.RequireTrustDomainFromString(domain), filepath.Join(dir, ca.BundleFile))
	return h, err
}

func holds(t *testing.T, out, service string) holding {
	t.Helper()
	h, err := read(out, service)
	must(t, err)
	return h
}

// trusts reports whether who holds h accepts a certificate at a time.
func (h holding) trusts(other holding, at time.Time) error {
	_, _, err := x509svid.Verify(other.svid.Certificates, h.bundle, x509svid.WithTime(at))
	return err
}

func TestACertificateIsOfOneServiceForAShortTime(t *testing.T) {
	dir, out := filepath.Join(t.TempDir(), "ca"), t.TempDir()
	a := open(t, dir)
	must(t, a.Issue(out, "chat", time.Hour))
	must(t, a.Issue(out, "user", time.Hour))
	chat, user := holds(t, out, "chat"), holds(t, out, "user")
	leaf := chat.svid.Certificates[0]
	if chat.svid.ID.String() != "spiffe://test.example/service/chat" || len(leaf.URIs) != 1 || len(leaf.DNSNames) > 0 || leaf.IsCA || leaf.Subject.String() != "" {
		t.Errorf("the certificate is of %s %v %v", chat.svid.ID, leaf.DNSNames, leaf.Subject)
	}
	if left := time.Until(leaf.NotAfter); left > time.Hour || left < 59*time.Minute {
		t.Errorf("it is good for %v", left)
	}
	must(t, user.trusts(chat, time.Now()))
	if user.trusts(chat, leaf.NotAfter.Add(time.Second)) == nil || user.trusts(chat, leaf.NotBefore.Add(-time.Second)) == nil {
		t.Error("it is trusted outside its life")
	}
	if leaf.PublicKey == nil || user.svid.Certificates[0].SerialNumber.Cmp(leaf.SerialNumber) == 0 {
		t.Error("two services share a serial number")
	}
	for path, mode := range map[string]fs.FileMode{
		dir: 0o700, filepath.Join(dir, "ca.key"): 0o600, filepath.Join(out, "chat"): 0o700, filepath.Join(out, "chat", ca.KeyFile): 0o600,
		filepath.Join(out, "chat", ca.CertFile): 0o644, filepath.Join(out, "chat", ca.BundleFile): 0o644,
	} {
		info, err := os.Stat(path)
		must(t, err)
		if info.Mode().Perm() != mode {
			t.Errorf("%s has mode %v, want %v", path, info.Mode().Perm(), mode)
		}
	}
}

func TestTheAuthorityStaysTheSame(t *testing.T) {
	dir, out := t.TempDir(), t.TempDir()
	must(t, open(t, dir).Issue(out, "chat", time.Hour))
	must(t, open(t, dir).Issue(out, "user", time.Hour))
	must(t, holds(t, out, "chat").trusts(holds(t, out, "user"), time.Now()))
	must(t, open(t, t.TempDir()).Issue(out, "search", time.Hour))
	if holds(t, out, "chat").trusts(holds(t, out, "search"), time.Now()) == nil {
		t.Error("a certificate of another authority is trusted")
	}
}

func TestWhatCannotBeUsedIsRefused(t *testing.T) {
	whole := t.TempDir()
	open(t, whole)
	other := t.TempDir()
	open(t, other)
	for what, c := range map[string]struct {
		spoil func(dir string) error
		says  string
	}{
		"a key that others may read":   {func(dir string) error { return os.Chmod(filepath.Join(dir, "ca.key"), 0o640) }, "chmod 600"},
		"no certificate in its file":   {func(dir string) error { return os.WriteFile(filepath.Join(dir, "ca.pem"), []byte("x"), 0o600) }, "no certificate"},
		"no key in its file":           {func(dir string) error { return os.WriteFile(filepath.Join(dir, "ca.key"), []byte("x"), 0o600) }, "no key"},
		"a key of another authority":   {func(dir string) error { return copyFile(filepath.Join(other, "ca.key"), filepath.Join(dir, "ca.key")) }, "belong together"},
		"an authority of other people": {func(string) error { return nil }, "another trust domain"},
	} {
		dir := t.TempDir()
		for _, f := range []string{"ca.key", "ca.pem"} {
			must(t, copyFile(filepath.Join(whole, f), filepath.Join(dir, f)))
		}
		must(t, c.spoil(dir))
		td := domain
		if c.says == "another trust domain" {
			td = "other.example"
		}
		before, err := os.ReadFile(filepath.Join(dir, "ca.key"))
		must(t, err)
		if _, err := ca.Open(dir, td); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", what, err)
		}
		if after, err := os.ReadFile(filepath.Join(dir, "ca.key")); err != nil || !bytes.Equal(before, after) {
			t.Errorf("%s: the key was changed", what)
		}
	}
	if _, err := ca.Open(t.TempDir(), "not a domain"); err == nil {
		t.Error("a trust domain with spaces is taken")
	}
	a := open(t, whole)
	for _, name := range []string{"", "..", "../x", "a/b", "Chat", "chat\n", "1st", strings.Repeat("x", 60)} {
		if err := a.Issue(t.TempDir(), name, time.Hour); err == nil {
			t.Errorf("the name %q is taken", name)
		}
		if err := a.Serve(t.Context(), t.TempDir(), []string{name}, time.Hour, silent); err == nil {
			t.Errorf("the name %q is served", name)
		}
	}
	for _, life := range []time.Duration{0, -time.Hour, ca.MinLife - 1, ca.MaxLife + 1} {
		if err := a.Issue(t.TempDir(), "chat", life); err == nil {
			t.Errorf("a life of %v is taken", life)
		}
	}
}

func copyFile(from, to string) error {
	b, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, b, 0o600)
}

// TestTheAuthorityIsOfItsDomainAlone: what is signed with its key for another domain, or for an authority below, is worthless.
func TestTheAuthorityIsOfItsDomainAlone(t *testing.T) {
	dir := t.TempDir()
	open(t, dir)
	text, err := os.ReadFile(filepath.Join(dir, "ca.pem"))
	must(t, err)
	block, _ := pem.Decode(text)
	c, err := x509.ParseCertificate(block.Bytes)
	must(t, err)
	if !c.IsCA || !c.MaxPathLenZero || c.MaxPathLen != 0 || len(c.PermittedURIDomains) != 1 || c.PermittedURIDomains[0] != domain {
		t.Errorf("the authority may sign for %v, %d levels deep", c.PermittedURIDomains, c.MaxPathLen)
	}
}

// TestRotation: before and after, and while half of the services have new certificates, all trust each other.
func TestRotation(t *testing.T) {
	dir, out := t.TempDir(), t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		a := open(t, dir)
		services := []string{"user", "chat"}
		must(t, a.IssueAll(t.Context(), out, services, time.Hour))
		before := map[string]holding{"user": holds(t, out, "user"), "chat": holds(t, out, "chat")}
		must(t, open(t, dir).Rotate()) // another process
		must(t, a.IssueAll(t.Context(), out, services, time.Hour))
		after := map[string]holding{"user": holds(t, out, "user"), "chat": holds(t, out, "chat")}
		if before["chat"].trusts(after["chat"], time.Now()) == nil {
			t.Error("the new certificate is not of the new key")
		}
		must(t, after["user"].trusts(before["chat"], time.Now()))
		must(t, after["user"].trusts(after["chat"], time.Now()))
		for range 3 {
			must(t, a.Rotate())
		}
		must(t, a.Issue(out, "user", time.Hour))
		must(t, holds(t, out, "user").trusts(before["chat"], time.Now()))
		must(t, holds(t, out, "user").trusts(after["chat"], time.Now()))
	})
}

// TestARotationThatWasCutShort, at each of its steps, leaves an authority that works and services that trust each other.
func TestARotationThatWasCutShort(t *testing.T) {
	dir, out := t.TempDir(), t.TempDir()
	a := open(t, dir)
	must(t, a.Issue(out, "user", time.Hour))
	must(t, copyFile(filepath.Join(dir, "ca.key"), filepath.Join(dir, "kept")))
	must(t, a.Rotate())
	must(t, os.Rename(filepath.Join(dir, "kept"), filepath.Join(dir, "ca.key"))) // the certificates are new, the key is not
	must(t, os.WriteFile(filepath.Join(dir, ".new-1"), []byte("left"), 0o600))
	a = open(t, dir)
	must(t, a.Issue(out, "chat", time.Hour))
	must(t, holds(t, out, "user").trusts(holds(t, out, "chat"), time.Now()))
	must(t, a.Rotate())
	must(t, a.Issue(out, "search", time.Hour))
	must(t, holds(t, out, "search").trusts(holds(t, out, "user"), time.Now()))
	if _, err := os.Stat(filepath.Join(dir, ".new-1")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("what a killed process left is still there: %v", err)
	}

	// The very first start, cut short: there is a certificate and no key.
	must(t, os.Remove(filepath.Join(dir, "ca.key")))
	a = open(t, dir)
	must(t, a.Issue(out, "guard", time.Hour))
	must(t, holds(t, out, "guard").trusts(holds(t, out, "user"), time.Now()))
	must(t, holds(t, out, "guard").trusts(holds(t, out, "guard"), time.Now()))
}

// TestServe renews at half of a life, takes up a new key within seconds, and ends when it is told.
func TestServe(t *testing.T) {
	dir, out := t.TempDir(), t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- open(t, dir).Serve(ctx, out, []string{"user", "chat"}, time.Hour, silent) }()
		synctest.Wait()
		first := holds(t, out, "chat")
		<-time.After(29 * time.Minute)
		if now := holds(t, out, "chat"); now.svid.Certificates[0].SerialNumber.Cmp(first.svid.Certificates[0].SerialNumber) != 0 {
			t.Error("it was renewed before half of its life was over")
		}
		<-time.After(2 * time.Minute)
		synctest.Wait()
		second := holds(t, out, "chat")
		if second.svid.Certificates[0].SerialNumber.Cmp(first.svid.Certificates[0].SerialNumber) == 0 {
			t.Error("it was not renewed at half of its life")
		}
		must(t, open(t, dir).Rotate())
		<-time.After(2 * time.Second)
		synctest.Wait()
		// All trust the new key before anybody shows a certificate of it.
		for _, s := range []string{"user", "chat"} {
			h := holds(t, out, s)
			if len(h.bundle.X509Authorities()) != 2 {
				t.Errorf("%s does not know the new key after 2 s", s)
			}
			must(t, second.trusts(h, time.Now()))
		}
		<-time.After(5 * time.Second)
		synctest.Wait()
		third := holds(t, out, "chat")
		if second.trusts(third, time.Now()) == nil {
			t.Error("the new key is not used after 7 s")
		}
		must(t, third.trusts(second, time.Now()))
		stop()
		must(t, <-done)
	})
}

// TestServeOutlivesTroubles: one service's directory that cannot be written does not keep the others from theirs, and is
// written when it can be.
func TestServeOutlivesTroubles(t *testing.T) {
	dir, out := t.TempDir(), t.TempDir()
	must(t, os.WriteFile(filepath.Join(out, "chat"), []byte("a file in the way"), 0o600))
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		var log bytes.Buffer
		done := make(chan error, 1)
		go func() {
			done <- open(t, dir).Serve(ctx, out, []string{"chat", "user"}, time.Hour, slog.New(slog.NewTextHandler(&log, nil)))
		}()
		synctest.Wait()
		holds(t, out, "user")
		must(t, os.Remove(filepath.Join(out, "chat")))
		<-time.After(time.Minute)
		synctest.Wait()
		holds(t, out, "chat")
		stop()
		must(t, <-done)
		if !strings.Contains(log.String(), "certificates not renewed") {
			t.Errorf("nothing was said: %s", log.String())
		}
	})
}

// TestAnAuthorityThatEnds makes its next key long before.
func TestAnAuthorityThatEnds(t *testing.T) {
	dir, out := t.TempDir(), t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		a := open(t, dir)
		must(t, a.Issue(out, "user", time.Hour))
		<-time.After(5*365*24*time.Hour - 10*24*time.Hour)
		if err := a.Issue(out, "user", 11*24*time.Hour); err == nil || !strings.Contains(err.Error(), "aran ca rotate") {
			t.Errorf("a certificate that outlives its authority: %v", err)
		}
		must(t, a.IssueAll(t.Context(), out, []string{"user"}, 11*24*time.Hour))
		h := holds(t, out, "user")
		must(t, h.trusts(h, time.Now().Add(10*24*time.Hour+time.Hour)))
		<-time.After(11 * 24 * time.Hour)
		must(t, a.Rotate())
		must(t, a.Issue(out, "user", time.Hour))
		if n := len(holds(t, out, "user").bundle.X509Authorities()); n != 2 {
			t.Errorf("%d authorities are trusted; one of three is over", n)
		}
	})
}

// TestTwoThatServe the same directories take turns: at any time a certificate and its key fit, or soon do.
func TestTwoThatServe(t *testing.T) {
	dir, out := t.TempDir(), t.TempDir()
	a, b := open(t, dir), open(t, dir)
	var wg sync.WaitGroup
	for i, a := range []*ca.Authority{a, b} {
		wg.Go(func() {
			for n := range 40 {
				if i == 0 && n%10 == 9 {
					if err := a.Rotate(); err != nil {
						t.Error(err)
					}
				}
				if err := a.Issue(out, "chat", time.Hour); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	h := holds(t, out, "chat") // loading checks that the two fit
	must(t, h.trusts(h, time.Now()))
	must(t, open(t, dir).Issue(out, "chat", time.Hour))
}

const childVariable = "ARAN_TEST_CA_CHILD"

// TestKilled: an authority that is killed at any time leaves files that the next one works with, and a service's
// certificate that fits its key or is mended at once.
func TestKilled(t *testing.T) {
	if at := os.Getenv(childVariable); at != "" { //nolint:forbidigo // from its parent, this test
		a := open(t, filepath.Join(at, "ca"))
		for {
			must(t, a.Issue(filepath.Join(at, "out"), "chat", time.Hour))
			must(t, a.Rotate())
		}
	}
	at := t.TempDir()
	for life := range 12 {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run", "^TestKilled$")
		cmd.Env = append(os.Environ(), childVariable+"="+at) //nolint:forbidigo // for its child, this test
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		must(t, cmd.Start())
		time.AfterFunc(time.Duration(40+life*11)*time.Millisecond, func() { _ = cmd.Process.Kill() })
		_ = cmd.Wait()
		if state := cmd.ProcessState; state.Exited() {
			t.Fatalf("life %d ended by itself: %v", life, state)
		}
		must(t, open(t, filepath.Join(at, "ca")).Issue(filepath.Join(at, "out"), "chat", time.Hour))
		h := holds(t, filepath.Join(at, "out"), "chat")
		must(t, h.trusts(h, time.Now()))
	}
	left, err := filepath.Glob(filepath.Join(at, "*", "*", ".new-*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left over: %v %v", left, err)
	}
}

// TestOwner: an authority that runs as root writes for services that do not.
func TestOwner(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root gives files away")
	}
	const uid, gid = 61234, 61235
	owner := func(path string) (int, int) {
		info, err := os.Lstat(path)
		must(t, err)
		st := info.Sys().(*syscall.Stat_t)
		return int(st.Uid), int(st.Gid)
	}
	dir, out := t.TempDir(), t.TempDir()
	must(t, os.Chown(out, uid, gid))
	a := open(t, dir)
	must(t, a.Issue(out, "chat", time.Hour))
	must(t, os.Mkdir(filepath.Join(out, "user"), 0o700)) // this one is of another user
	must(t, os.Chown(filepath.Join(out, "user"), uid+7, gid+7))
	must(t, a.Issue(out, "user", time.Hour))
	for path, shift := range map[string]int{"chat": 0, "user": 7} {
		for _, f := range []string{"", ca.CertFile, ca.KeyFile, ca.BundleFile} {
			if u, g := owner(filepath.Join(out, path, f)); u != uid+shift || g != gid+shift {
				t.Errorf("%s/%s is owned by %d:%d", path, f, u, g)
			}
		}
	}
	if u, g := owner(filepath.Join(dir, "ca.key")); u != 0 || g != os.Getegid() {
		t.Errorf("the authority's key is owned by %d:%d", u, g)
	}
}
