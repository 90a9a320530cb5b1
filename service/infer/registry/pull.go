package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gofrs/flock"
)

// Progress is told how many bytes of how many are there. It is called from one goroutine at a time.
type Progress func(done, total int64)

// SourcesError says why no source gave a file.
type SourcesError struct {
	Model, File string
	Errs        []error // in the order of the sources
}

func (e *SourcesError) Error() string {
	if len(e.Errs) == 0 {
		return fmt.Sprintf("%s of %s: none of the sources in use has it", e.File, e.Model)
	}
	texts := make([]string, len(e.Errs))
	for i, err := range e.Errs {
		texts[i] = err.Error()
	}
	return fmt.Sprintf("%s of %s could not be fetched: %s", e.File, e.Model, strings.Join(texts, "; "))
}

// Unwrap returns the reasons.
func (e *SourcesError) Unwrap() []error { return e.Errs }

// Pull fetches what is missing or damaged of a model, and installs it: the version of `name@version`, the newest
// one that may be used for a `name`. It never changes which version is served, but for the first one. What is whole
// already is not fetched again, and a transfer over https that broke off goes on where it stopped. An error of type
// *SourcesError means that no source had a file; it is one line that says what is missing on this machine.
func (r *Registry) Pull(ctx context.Context, ref string, progress Progress) error {
	k, err := r.newest(ref)
	if err != nil {
		return err
	}
	m := &k.Manifest
	if progress == nil {
		progress = func(int64, int64) {}
	}
	switch {
	case m.inProgram():
		return nil
	case !m.Runs():
		return unsupported(m)
	case r.dir == "":
		return errors.New("there is no folder for models: set ARAN_MODELS")
	}
	unlock, err := r.lock(ctx, filesLock)
	if err != nil {
		return err
	}
	defer unlock()
	for _, dir := range r.places(m) {
		if r.verifyDir(ctx, m, dir) == nil {
			progress(m.Size(), m.Size())
			return nil
		}
	}
	p := &pull{r: r, m: m, bar: bar{total: m.Size(), show: progress}, packages: map[Source]error{}, away: map[string]error{}}
	if err := p.run(ctx); err != nil {
		return err
	}
	if err := r.keepActive(ctx, k); err != nil {
		return err
	}
	return r.install(ctx, k)
}

// newest finds what a pull is about.
func (r *Registry) newest(ref string) (*known, error) {
	if name, version := SplitRef(ref); version == "" {
		for _, k := range slices.Backward(r.known.Load().versions(name)) {
			if k.refused == "" {
				return k, nil
			}
		}
	}
	return r.resolve(ref)
}

// Locks in the folder. They are two, so that a rollback does not wait for a pull.
const (
	filesLock  = "lock"        // while models are fetched and installed
	activeLock = "active.lock" // while a version is chosen; may be taken under the other
)

// lock makes the folder and waits until no other process changes it.
func (r *Registry) lock(ctx context.Context, name string) (unlock func(), err error) {
	for _, d := range []string{"blobs", "partial", "models", "active"} {
		if err := os.MkdirAll(filepath.Join(r.dir, d), dirMode); err != nil {
			return nil, fmt.Errorf("models folder: %w", err)
		}
	}
	l := flock.New(filepath.Join(r.dir, name), flock.SetPermissions(0o600))
	if _, err := l.TryLockContext(ctx, 50*time.Millisecond); err != nil {
		return nil, fmt.Errorf("lock the models folder: %w", err)
	}
	return func() {
		if err := l.Unlock(); err != nil {
			r.o.Log.LogAttrs(context.WithoutCancel(ctx), slog.LevelWarn, "models folder not unlocked", slog.String("error", err.Error()))
		}
	}, nil
}

// pull is one Pull at work.
type pull struct {
	r        *Registry
	m        *Manifest
	bar      bar
	packages map[Source]error // packages that were tried (without Inside), and how that went
	away     map[string]error // hosts that could not be reached
}

func (p *pull) run(ctx context.Context) error {
	p.bar.add(0)
	for _, f := range p.m.Files {
		got, err := hashFile(ctx, p.r.blob(f.SHA256))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err == nil && got != f.SHA256 {
			if err := remove(p.r.blob(f.SHA256)); err != nil {
				return err
			}
		}
		if got == f.SHA256 {
			p.bar.add(f.Size)
		}
	}
	for _, f := range p.m.Files {
		if p.there(f) {
			continue
		}
		if err := p.fetch(ctx, f); err != nil {
			return err
		}
	}
	return nil
}

func (p *pull) there(f File) bool {
	_, err := os.Stat(p.r.blob(f.SHA256))
	return err == nil
}

// fetch tries the file's sources in order.
func (p *pull) fetch(ctx context.Context, f File) error {
	failed := &SourcesError{Model: p.m.Name, File: f.Path}
	for _, s := range p.sources(f) {
		err := p.from(ctx, f, s)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		level := slog.LevelInfo
		if _, wrong := errors.AsType[*DigestError](err); wrong {
			level = slog.LevelWarn
		}
		p.r.o.Log.LogAttrs(ctx, level, "model source failed", slog.String("model", p.m.Name), slog.String("file", f.Path), slog.String("source", s.String()), slog.String("error", err.Error()))
		failed.Errs = append(failed.Errs, fmt.Errorf("%s: %w", s, err))
	}
	return failed
}

// sources are the operator's own first, then the manifest's, as far as their kinds are in use.
func (p *pull) sources(f File) (out []Source) {
	for _, kind := range p.r.o.Sources {
		if kind == HTTPS && p.r.o.Mirror != "" {
			out = append(out, Source{HTTPS: strings.TrimSuffix(p.r.o.Mirror, "/") + "/" + f.SHA256})
		}
		if kind == LocalFile && p.r.o.Folder != "" {
			out = append(out, Source{File: filepath.Join(p.r.o.Folder, f.SHA256)}, Source{File: filepath.Join(p.r.o.Folder, path.Base(f.Path))})
		}
		for _, s := range f.Sources {
			if s.kind() == kind {
				out = append(out, s)
			}
		}
	}
	return out
}

func (p *pull) from(ctx context.Context, f File, s Source) error {
	switch s.kind() {
	case HTTPS:
		return p.https(ctx, f, s)
	case LocalFile:
		return p.local(ctx, f, s)
	default:
		return p.fromPackage(ctx, f, s)
	}
}

func (p *pull) local(ctx context.Context, f File, s Source) error {
	info, err := os.Stat(s.File)
	if err != nil {
		return errors.New("not there")
	}
	if !info.Mode().IsRegular() || info.Size() != f.Size {
		return &DigestError{File: f.Path, From: s.String(), Want: fmt.Sprintf("%s (%d bytes)", f.SHA256, f.Size), Got: fmt.Sprintf("%d bytes", info.Size())}
	}
	in, err := os.Open(s.File)
	if err != nil {
		return fmt.Errorf("open: %w", err)
	}
	defer in.Close() //nolint:errcheck // only read
	return p.save(ctx, f, in, s.String())
}

// save takes exactly the file's bytes from r and keeps them.
func (p *pull) save(ctx context.Context, f File, r io.Reader, from string) error {
	part := p.r.partial(f.SHA256)
	if err := errors.Join(remove(part), remove(part+".json")); err != nil {
		return err
	}
	out, err := os.OpenFile(part, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600) //nolint:gosec // named by a digest
	if err != nil {
		return fmt.Errorf("save: %w", err)
	}
	n, err := io.Copy(io.MultiWriter(out, &p.bar), io.LimitReader(&reader{ctx: ctx, r: r}, f.Size+1))
	if err = errors.Join(err, out.Close()); err == nil && n != f.Size {
		err = &DigestError{File: f.Path, From: from, Want: fmt.Sprintf("%s (%d bytes)", f.SHA256, f.Size), Got: fmt.Sprintf("%d bytes or more", n)}
	}
	if err == nil {
		err = p.r.keep(ctx, part, f, from)
	}
	if err != nil {
		p.bar.add(-n)
		return errors.Join(err, remove(part))
	}
	return nil
}

// bar counts bytes. What it shows never goes back, also when a transfer begins again.
type bar struct {
	total int64
	show  Progress

	mu    sync.Mutex
	done  int64
	shown int64
}

func (b *bar) add(n int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.done += n
	b.shown = max(b.shown, min(b.done, b.total))
	b.show(b.shown, b.total)
}

// Write counts what is written.
func (b *bar) Write(p []byte) (int, error) {
	b.add(int64(len(p)))
	return len(p), nil
}
