package ledger

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path"
	"path/filepath"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// The files of an export, beside its tiles.
const (
	fileKey        = "verifier.key"
	fileCheckpoint = "checkpoint"
	fileEntries    = "entries.jsonl"
)

// Report is what was found.
type Report struct {
	Origin      string    `json:"origin"`
	Key         string    `json:"key"`         // verifier key
	Entries     int64     `json:"entries"`     // that were checked
	Size        int64     `json:"size"`        // of the newest checkpoint
	Root        tlog.Hash `json:"root"`        // of the newest checkpoint
	Checkpoints int       `json:"checkpoints"` // that were checked, the newest among them
	Unsigned    int64     `json:"unsigned"`    // entries after the newest checkpoint
}

// Export writes the log of a data directory, as its newest checkpoint holds it, into the new directory out: one
// that is there and not empty is refused. The log is checked while it is written.
func Export(ctx context.Context, place Place, out string) (Report, error) {
	if names, err := os.ReadDir(out); err == nil && len(names) > 0 {
		return Report{}, fmt.Errorf("export to %s: the directory is not empty; name a new one", out)
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return Report{}, fmt.Errorf("export: %w", err)
	}
	src, err := openSource(ctx, place)
	if err != nil {
		return Report{}, err
	}
	defer src.close()
	temp := filepath.Clean(out) + ".partial-" + rand.Text()[:8]
	r, err := src.export(ctx, temp)
	if err == nil {
		err = putInPlace(temp, filepath.Clean(out))
	}
	if err != nil {
		return Report{}, errors.Join(fmt.Errorf("export to %s: %w", out, err), os.RemoveAll(temp))
	}
	return r, nil
}

// putInPlace gives a finished directory its name; an empty one that has it is replaced.
func putInPlace(temp, out string) error {
	if err := os.Remove(out); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return os.Rename(temp, out)
}

func (s *source) export(ctx context.Context, dir string) (Report, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return Report{}, err
	}
	signed, err := s.newest(ctx)
	if err != nil {
		return Report{}, err
	}
	c, err := OpenCheckpoint(signed, s.key)
	if err != nil {
		return Report{}, err
	}
	entries, err := os.OpenFile(filepath.Join(dir, fileEntries), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600) //nolint:gosec // the operator's own path
	if err != nil {
		return Report{}, err
	}
	w := bufio.NewWriterSize(entries, 1<<16)
	t := &tiler{put: func(name string, content []byte) error { return writeFile(dir, name, content) }}
	err = errors.Join(s.copy(ctx, c.Size, w, t), w.Flush(), entries.Sync(), entries.Close())
	if err != nil {
		return Report{}, err
	}
	if err := t.closeAt(c); err != nil {
		return Report{}, err
	}
	err = errors.Join(writeFile(dir, fileKey, []byte(s.keyLine+"\n")), writeFile(dir, fileCheckpoint, signed))
	return report(c, s.keyLine), err
}

func (s *source) copy(ctx context.Context, size int64, w *bufio.Writer, t *tiler) error {
	for e, err := range s.entries(ctx, size) {
		if err != nil {
			return err
		}
		if _, err := ParseLeaf(e.leaf); err != nil {
			return fmt.Errorf("entry %d: %w", e.seq, err)
		}
		if _, err := w.Write(e.leaf); err != nil {
			return err
		}
		if err := w.WriteByte('\n'); err != nil {
			return err
		}
		if err := t.add(e.leaf); err != nil {
			return err
		}
	}
	return nil
}

// closeAt puts the last tiles and holds the tree against the checkpoint.
func (t *tiler) closeAt(c Checkpoint) error {
	if err := t.finish(); err != nil {
		return err
	}
	root, err := t.front.Root()
	if err != nil {
		return err
	}
	if t.front.Size() != c.Size || root != c.Root {
		return broken("%d entries with the root %s, the checkpoint signs %d with %s", t.front.Size(), root, c.Size, c.Root)
	}
	return nil
}

func report(c Checkpoint, key string) Report {
	return Report{Origin: c.Origin, Key: key, Entries: c.Size, Size: c.Size, Root: c.Root, Checkpoints: 1}
}

func writeFile(dir, name string, content []byte) error {
	full := filepath.Join(dir, filepath.FromSlash(name))
	if err := os.MkdirAll(filepath.Dir(full), 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(full, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600) //nolint:gosec // the operator's own path
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	return errors.Join(err, f.Close())
}

// VerifyExport checks an export without anything else: it makes every file anew from the entries and refuses any
// byte that differs, a missing file, and one that does not belong there.
func VerifyExport(ctx context.Context, dir string) (Report, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return Report{}, fmt.Errorf("verify export: %w", err)
	}
	defer func() { _ = root.Close() }() // only read
	x := &exported{root: root, seen: map[string]bool{".": true}}
	r, err := x.verify(ctx)
	if err != nil {
		return Report{}, fmt.Errorf("verify export %s: %w", dir, err)
	}
	return r, nil
}

// exported is an export that is read back. What it has seen is all that may be there.
type exported struct {
	root *os.Root
	seen map[string]bool
}

func (x *exported) verify(ctx context.Context) (Report, error) {
	key, v, err := x.key()
	if err != nil {
		return Report{}, err
	}
	signed, err := x.small(fileCheckpoint, maxCheckpoint)
	if err != nil {
		return Report{}, err
	}
	c, err := OpenCheckpoint(signed, v)
	if err != nil {
		return Report{}, err
	}
	t := &tiler{put: x.same}
	for leaf, err := range x.leaves() {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return Report{}, err
		}
		if t.front.Size() == c.Size {
			return Report{}, broken("there are more entries than the %d that the checkpoint signs", c.Size)
		}
		if err := t.add(leaf); err != nil {
			return Report{}, err
		}
	}
	if err := t.closeAt(c); err != nil {
		return Report{}, err
	}
	return report(c, key), x.nothingElse()
}

func (x *exported) key() (string, note.Verifier, error) {
	b, err := x.small(fileKey, maxKey)
	if err != nil {
		return "", nil, err
	}
	v, err := ParseKey(b)
	return string(bytes.TrimSuffix(b, []byte("\n"))), v, err
}

// open opens a regular file of the export; a link is none.
func (x *exported) open(name string) (*os.File, error) {
	info, err := x.root.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, broken("%s is missing", name)
	}
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, broken("%s is not a regular file", name)
	}
	for at := name; at != "."; at = path.Dir(at) {
		x.seen[at] = true
	}
	return x.root.Open(name)
}

func (x *exported) small(name string, limit int) ([]byte, error) {
	f, err := x.open(name)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(io.LimitReader(f, int64(limit)+1))
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, err
	}
	if len(b) > limit {
		return nil, broken("%s has more than %d bytes", name, limit)
	}
	return b, nil
}

func (x *exported) same(name string, want []byte) error {
	got, err := x.small(name, len(want))
	if err != nil {
		return err
	}
	if !bytes.Equal(got, want) {
		return broken("%s is not what the entries make it", name)
	}
	return nil
}

// leaves reads the lines of the entries' file. Each ends in a newline, the last one too.
func (x *exported) leaves() iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		f, err := x.open(fileEntries)
		if err != nil {
			yield(nil, err)
			return
		}
		defer func() { _ = f.Close() }() // only read
		r := bufio.NewReaderSize(f, MaxLeaf+1)
		for n := 0; ; n++ {
			line, err := r.ReadSlice('\n')
			if errors.Is(err, io.EOF) && len(line) == 0 {
				return
			}
			if errors.Is(err, io.EOF) || errors.Is(err, bufio.ErrBufferFull) {
				err = broken("%s line %d has no end", fileEntries, n+1)
			}
			if err == nil {
				line = line[:len(line)-1]
				if _, err = ParseLeaf(line); err != nil {
					err = fmt.Errorf("%s line %d: %w", fileEntries, n+1, err)
				}
			}
			if !yield(line, err) || err != nil {
				return
			}
		}
	}
}

// nothingElse refuses every file and directory that verifying did not need.
func (x *exported) nothingElse() error {
	return fs.WalkDir(x.root.FS(), ".", func(name string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if !x.seen[name] {
			return broken("%s does not belong to the export", name)
		}
		return nil
	})
}
