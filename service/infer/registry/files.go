package registry

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"aran/platform/fault"
)

// The folder of the models:
//
//	blobs/<sha256>              every file once, read-only
//	partial/<sha256>[.json]     what is being fetched
//	models/<name>/<version>/    an installed version: hard links to its blobs, and model.json
//	models/<name>/<digest>/     the same, as it was before there were several versions; it stays where it is
//	active/<name>.json          which version is served; see State
//	lock                        held while something changes
const (
	record       = "model.json"
	signedRecord = "model" + SignedExt // beside it, when the manifest is signed
	dirMode      = 0o700
)

// DigestError says that a file is not the one that the manifest pins.
type DigestError struct {
	File, From string // From is empty for an installed file
	Want, Got  string // SHA-256, or sizes when those differ already
}

func (e *DigestError) Error() string {
	if e.From == "" {
		return fmt.Sprintf("%s: expected SHA-256 %s, got %s", e.File, e.Want, e.Got)
	}
	return fmt.Sprintf("%s from %s: expected SHA-256 %s, got %s; it was deleted", e.File, e.From, e.Want, e.Got)
}

func (r *Registry) blob(sum string) string { return filepath.Join(r.dir, "blobs", sum) }

func (r *Registry) partial(sum string) string { return filepath.Join(r.dir, "partial", sum) }

// installed is where a version's files are once it is installed.
func (r *Registry) installed(m *Manifest) string {
	return filepath.Join(r.dir, "models", m.Name, m.Version)
}

// places are where a version can be, in the order in which they are looked at.
func (r *Registry) places(m *Manifest) []string {
	if r.dir == "" {
		return nil
	}
	return []string{r.installed(m), filepath.Join(r.dir, "models", m.Name, m.Digest()[:16])}
}

// found is the first of the places that has all files, by names and sizes; or empty.
func (r *Registry) found(m *Manifest) string {
	for _, dir := range r.places(m) {
		if r.complete(m, dir) {
			return dir
		}
	}
	return ""
}

// complete looks at names and sizes.
func (r *Registry) complete(m *Manifest, dir string) bool {
	for _, f := range m.Files {
		info, err := os.Lstat(filepath.Join(dir, filepath.FromSlash(f.Path)))
		if err != nil || !info.Mode().IsRegular() || info.Size() != f.Size {
			return false
		}
	}
	for link, target := range m.Links {
		if got, err := os.Readlink(filepath.Join(dir, filepath.FromSlash(link))); err != nil || got != target {
			return false
		}
	}
	return true
}

// verifyDir hashes every file.
func (r *Registry) verifyDir(ctx context.Context, m *Manifest, dir string) error {
	if _, err := os.Stat(dir); err != nil {
		return fmt.Errorf("model %s: %w", m.Name, err)
	}
	var errs []error
	for _, f := range m.Files {
		got, err := hashFile(ctx, filepath.Join(dir, filepath.FromSlash(f.Path)))
		switch {
		case err != nil && ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, fs.ErrNotExist):
			errs = append(errs, &DigestError{File: f.Path, Want: f.SHA256, Got: "no file"})
		case err != nil:
			errs = append(errs, err)
		case got != f.SHA256:
			errs = append(errs, &DigestError{File: f.Path, Want: f.SHA256, Got: got})
		}
	}
	for link, target := range m.Links {
		if got, err := os.Readlink(filepath.Join(dir, filepath.FromSlash(link))); err != nil || got != target {
			errs = append(errs, fmt.Errorf("%s does not lead to %s", link, target))
		}
	}
	if len(errs) > 0 {
		return fmt.Errorf("model %s is damaged; `aran model pull %[1]s` repairs it: %w", m.Name, errors.Join(errs...))
	}
	return nil
}

// hashFile refuses what is not a regular file.
func hashFile(ctx context.Context, name string) (string, error) {
	info, err := os.Lstat(name)
	if err != nil {
		return "", fmt.Errorf("hash: %w", err)
	}
	if !info.Mode().IsRegular() {
		return "", fmt.Errorf("hash %s: not a regular file", name)
	}
	f, err := os.Open(name) //nolint:gosec // a file of the registry
	if err != nil {
		return "", fmt.Errorf("hash: %w", err)
	}
	defer f.Close() //nolint:errcheck // only read
	h := sha256.New()
	if _, err := io.Copy(h, &reader{ctx: ctx, r: f}); err != nil {
		return "", fmt.Errorf("hash %s: %w", filepath.Base(name), err)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// reader stops when its context ends.
type reader struct {
	ctx context.Context //nolint:containedctx // the life of one copy
	r   io.Reader
}

func (r *reader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.r.Read(p)
}

// keep moves a fetched file to the blobs, if it is the one that the manifest pins; else it is deleted.
func (r *Registry) keep(ctx context.Context, part string, f File, from string) error {
	if err := r.inspect(ctx, part, f, from); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return errors.Join(err, remove(part), remove(part+".json"))
	}
	if err := syncFile(part); err != nil {
		return err
	}
	fault.Point("registry.file_checked")
	if err := os.Chmod(part, 0o400); err != nil {
		return fmt.Errorf("keep %s: %w", f.Path, err)
	}
	if err := os.Rename(part, r.blob(f.SHA256)); err != nil {
		return fmt.Errorf("keep %s: %w", f.Path, err)
	}
	fault.Point("registry.blob_kept")
	if err := remove(part + ".json"); err != nil {
		return err
	}
	return syncDir(filepath.Join(r.dir, "blobs"))
}

func (r *Registry) inspect(ctx context.Context, part string, f File, from string) error {
	got, err := hashFile(ctx, part)
	if err != nil {
		return err
	}
	if got != f.SHA256 {
		return &DigestError{File: f.Path, From: from, Want: f.SHA256, Got: got}
	}
	file, err := os.Open(part) //nolint:gosec // a file of the registry
	if err != nil {
		return fmt.Errorf("inspect: %w", err)
	}
	defer file.Close() //nolint:errcheck // only read
	return checkContent(file, f.Path, f.Size)
}

// install builds the model's folder beside its place and moves it there at once.
func (r *Registry) install(ctx context.Context, k *known) error {
	m := &k.Manifest
	parent, final := filepath.Join(r.dir, "models", m.Name), r.installed(m)
	if err := os.MkdirAll(parent, dirMode); err != nil {
		return fmt.Errorf("install %s: %w", m.Name, err)
	}
	if err := sweep(parent); err != nil {
		return err
	}
	tmp := filepath.Join(parent, ".new-"+rand.Text())
	if err := r.build(ctx, k, tmp); err != nil {
		return errors.Join(err, os.RemoveAll(tmp))
	}
	fault.Point("registry.model_built")
	if err := os.RemoveAll(final); err != nil { // a damaged one
		return fmt.Errorf("install %s: %w", m.Name, err)
	}
	if err := os.Rename(tmp, final); err != nil {
		return fmt.Errorf("install %s: %w", m.Name, err)
	}
	fault.Point("registry.model_installed")
	return syncDir(parent)
}

// sweep removes what an interrupted install left behind.
func sweep(parent string) error {
	entries, err := os.ReadDir(parent)
	if err != nil {
		return fmt.Errorf("sweep: %w", err)
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".new-") {
			if err := os.RemoveAll(filepath.Join(parent, e.Name())); err != nil {
				return fmt.Errorf("sweep: %w", err)
			}
		}
	}
	return nil
}

func (r *Registry) build(ctx context.Context, k *known, tmp string) error {
	m := &k.Manifest
	dirs := map[string]bool{tmp: true}
	for _, f := range m.Files {
		to := filepath.Join(tmp, filepath.FromSlash(f.Path))
		if err := os.MkdirAll(filepath.Dir(to), dirMode); err != nil {
			return fmt.Errorf("install %s: %w", f.Path, err)
		}
		dirs[filepath.Dir(to)] = true
		if err := linkOrCopy(ctx, r.blob(f.SHA256), to); err != nil {
			return fmt.Errorf("install %s: %w", f.Path, err)
		}
	}
	for link, target := range m.Links {
		to := filepath.Join(tmp, filepath.FromSlash(link))
		if err := os.MkdirAll(filepath.Dir(to), dirMode); err != nil {
			return fmt.Errorf("install %s: %w", link, err)
		}
		if err := os.Symlink(target, to); err != nil {
			return fmt.Errorf("install %s: %w", link, err)
		}
	}
	b, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return fmt.Errorf("install %s: %w", record, err)
	}
	records := map[string][]byte{record: b}
	if k.signed {
		records[signedRecord] = k.document
	}
	for name, b := range records {
		if err := os.WriteFile(filepath.Join(tmp, name), b, 0o400); err != nil {
			return fmt.Errorf("install %s: %w", name, err)
		}
		if err := syncFile(filepath.Join(tmp, name)); err != nil {
			return err
		}
	}
	for dir := range dirs {
		if err := syncDir(dir); err != nil {
			return err
		}
	}
	return nil
}

// linkOrCopy makes a hard link, and a copy on file systems that have none.
func linkOrCopy(ctx context.Context, from, to string) error {
	if err := os.Link(from, to); err == nil {
		return nil
	}
	in, err := os.Open(from) //nolint:gosec // a blob
	if err != nil {
		return fmt.Errorf("copy: %w", err)
	}
	defer in.Close()                                                      //nolint:errcheck // only read
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o400) //nolint:gosec // below the model's new folder
	if err != nil {
		return fmt.Errorf("copy: %w", err)
	}
	if _, err := io.Copy(out, &reader{ctx: ctx, r: in}); err != nil {
		return errors.Join(fmt.Errorf("copy: %w", err), out.Close())
	}
	if err := out.Sync(); err != nil {
		return errors.Join(fmt.Errorf("copy: %w", err), out.Close())
	}
	return out.Close()
}

func syncFile(name string) error {
	f, err := os.Open(name) //nolint:gosec // a file of the registry
	if err != nil {
		return fmt.Errorf("sync: %w", err)
	}
	if err := f.Sync(); err != nil {
		return errors.Join(fmt.Errorf("sync %s: %w", filepath.Base(name), err), f.Close())
	}
	return f.Close()
}

func syncDir(name string) error { return syncFile(name) }

// remove deletes a file; it may be gone already.
func remove(name string) error {
	if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("delete: %w", err)
	}
	return nil
}
