package app

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/gofrs/flock"

	"aran/platform/fault"
)

// dataDir is a locked data directory. Nothing in it is opened before the lock is held.
type dataDir struct {
	path    string
	lock    *flock.Flock
	unclean bool // the last process here did not stop by itself
}

const running = "running" // there while a process works here, gone after a clean stop

// openData makes the directory if needed and locks it.
func openData(path string) (*dataDir, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, fault.New(fault.Unavailable, "data_directory", "The data directory %s can't be made; choose another with --data.", path).Because(err)
	}
	d := &dataDir{path: path, lock: flock.New(filepath.Join(path, "lock"), flock.SetPermissions(0o600))}
	ok, err := d.lock.TryLock()
	if err != nil {
		return nil, fault.New(fault.Unavailable, "data_directory", "The data directory %s can't be written; choose another with --data.", path).Because(err)
	}
	if !ok {
		return nil, fault.New(fault.Conflict, "data_directory_in_use", "The data directory %s is in use by another aran; stop that one, or choose another with --data.", path)
	}
	if _, err := os.Stat(filepath.Join(path, running)); err == nil {
		d.unclean = true
	}
	if err := os.WriteFile(filepath.Join(path, running), nil, 0o600); err != nil {
		return nil, errors.Join(fmt.Errorf("mark the data directory as in use: %w", err), d.lock.Unlock())
	}
	return d, nil
}

// service makes a service's own folder.
func (d *dataDir) service(name string) (string, error) {
	dir := filepath.Join(d.path, name)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("folder of %s: %w", name, err)
	}
	return dir, nil
}

// release gives the directory up; clean says that everything was stopped in order.
func (d *dataDir) release(clean bool) error { //nolint:revive // a fact, not a mode
	var err error
	if clean {
		err = os.Remove(filepath.Join(d.path, running))
	}
	return errors.Join(err, d.lock.Unlock())
}
