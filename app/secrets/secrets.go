// Package secrets makes what services in different processes need to know each other's stores by: passwords, keyrings,
// and the certificates of the stores and of the edge.
//
// It writes files and nothing else, each service's into a directory of its own, and what a store must know into the
// store's; a store is told what a password hashes to, never the password. What is there stays, so that it may run at every
// start. A caller must know: the authority that signs the stores' certificates is made for one signing and then forgotten;
// there is no key of it to steal, and renewing one certificate renews all.
package secrets

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"aran/platform/bus"
	"aran/platform/seal"
)

// Party is a service that gets secrets.
type Party struct {
	Name    string
	Stores  bool // has a database
	Edge    bool // faces the network
	Roles   []bus.Role
	Foreign []string // durable names at the bus that are not its own
}

// Options of Make.
type Options struct {
	Dir     string // one directory a service and store below it
	Parties []Party
	Hosts   []string // names and addresses by which clients reach the edge, besides localhost
	Renew   bool     // make new passwords and certificates; keyrings stay, for they open what is stored
}

// The directories of the stores.
const (
	Postgres = "postgres"
	Nats     = "nats"
	Redis    = "redis"
)

// The files in a service's directory.
const (
	databasePassword = "database.password"
	busPassword      = "bus.password"
	redisURL         = "redis.url"
	keyring          = "keyring.key"
	trusted          = "authorities/stores.pem"
)

const (
	private = 0o600
	group   = 0o640 // a store's own user is in our group
)

// Make writes what is missing, and what stores must know of it. It is safe to be cut short: the next one completes it.
func Make(o Options) error {
	var accounts [3]bytes.Buffer // postgres, nats, redis
	begin(&accounts[1])
	for _, p := range o.Parties {
		dir := filepath.Join(o.Dir, p.Name)
		if err := os.MkdirAll(filepath.Join(dir, filepath.Dir(trusted)), 0o700); err != nil {
			return err
		}
		if _, err := seal.Local(filepath.Join(dir, keyring)); err != nil {
			return err
		}
		if p.Stores {
			w, err := password(filepath.Join(dir, databasePassword), o.Renew)
			if err != nil {
				return err
			}
			if err := role(&accounts[0], p.Name, w); err != nil {
				return err
			}
		}
		w, err := password(filepath.Join(dir, busPassword), o.Renew)
		if err != nil {
			return err
		}
		if err := user(&accounts[1], p, w); err != nil {
			return err
		}
		if w, err = redisLogin(filepath.Join(dir, redisURL), p.Name, o.Renew); err != nil {
			return err
		}
		acl(&accounts[2], p.Name, w)
	}
	end(&accounts[1])
	for i, file := range []string{Postgres + "/roles", Nats + "/users.conf", Redis + "/users.acl"} {
		if err := write(filepath.Join(o.Dir, file), accounts[i].Bytes(), group); err != nil {
			return err
		}
	}
	return certificates(o, time.Now())
}

// Check names what is missing or over, of the services' and stores' files and of what an authority wrote for the services.
func Check(dir string, parties []Party, now time.Time) error {
	var errs []error
	for _, p := range parties {
		files := []string{busPassword, redisURL, keyring, trusted}
		if p.Stores {
			files = append(files, databasePassword)
		}
		for _, f := range files {
			if info, err := os.Stat(filepath.Join(dir, p.Name, f)); err != nil {
				errs = append(errs, err)
			} else if info.Size() == 0 {
				errs = append(errs, fmt.Errorf("%s/%s is empty", p.Name, f))
			}
		}
		errs = append(errs, valid(filepath.Join(dir, p.Name, "svid.pem"), now))
		if p.Edge {
			errs = append(errs, valid(filepath.Join(dir, p.Name, edgeCert), now))
		}
	}
	for _, s := range []string{Postgres, Nats, Redis} {
		errs = append(errs, valid(filepath.Join(dir, s, serverCert), now))
	}
	return errors.Join(errs...)
}

const maxPut = 64 << 10

// Put stores what it reads, readable by its owner alone; one trailing newline is dropped. It replaces what was there.
func Put(path string, r io.Reader) error {
	b, err := io.ReadAll(io.LimitReader(r, maxPut+1))
	switch {
	case err != nil:
		return err
	case len(b) > maxPut:
		return fmt.Errorf("the secret is longer than %d bytes", maxPut)
	}
	if b = bytes.TrimSuffix(bytes.TrimSuffix(b, []byte("\n")), []byte("\r")); len(b) == 0 {
		return errors.New("nothing came on standard input; the secret is read from there")
	}
	return write(path, b, private)
}

// password reads one, or makes it: 256 random bits.
func password(path string, renew bool) (string, error) {
	b, err := os.ReadFile(path) //nolint:gosec // the operator's own path
	switch {
	case err == nil && len(b) > 0 && !renew:
		return strings.TrimSpace(string(b)), nil
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return "", err
	}
	w := random()
	return w, write(path, []byte(w), private)
}

func random() string {
	b := make([]byte, 32)
	_, _ = rand.Read(b) // never fails
	return base64.RawURLEncoding.EncodeToString(b)
}

// write replaces a file in one step.
func write(path string, b []byte, mode fs.FileMode) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		return err
	}
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
