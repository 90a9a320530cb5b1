package registry

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"unicode"

	"aran/platform/fault"
)

// Origin says where a manifest comes from, which decides how far it is trusted.
type Origin string

// The origins. A manifest that is part of the program is trusted like the program. One of the operator's folder is
// trusted unless signatures are required. What is only in the models folder is trusted when a trusted key signed
// it, never by being there: other programs write to that folder.
const (
	OriginProgram   Origin = "program"
	OriginFolder    Origin = "folder"
	OriginInstalled Origin = "installed"
)

// known is a manifest with what speaks for it.
type known struct {
	Manifest
	origin   Origin
	file     string   // where it stands
	document []byte   // as it stands there, with its signatures
	digest   string   // SHA-256 of the manifest's bytes, which is what is signed
	signed   bool     // there is a signature
	by       []string // ids of trusted keys that signed it
	refused  string   // why it is not used; empty: it is
}

// catalogue is all manifests, by name and then version. It is never changed, only replaced.
type catalogue struct{ models []*known }

func (c *catalogue) find(name, version string) *known {
	for _, k := range c.models {
		if k.Name == name && k.Version == version {
			return k
		}
	}
	return nil
}

// versions of a name, oldest first.
func (c *catalogue) versions(name string) (out []*known) {
	for _, k := range c.models {
		if k.Name == name {
			out = append(out, k)
		}
	}
	return out
}

// names that have a version that may be used: those of the program first, so that what is the default does not
// depend on how somebody calls a further model.
func (c *catalogue) names() (out []string) {
	var further []string
	for _, k := range c.models {
		switch {
		case k.refused != "" || slices.Contains(out, k.Name):
		case slices.ContainsFunc(c.versions(k.Name), func(v *known) bool { return v.origin == OriginProgram }):
			out = append(out, k.Name)
		case !slices.Contains(further, k.Name):
			further = append(further, k.Name)
		}
	}
	return append(out, further...)
}

// read makes the catalogue of what the program, the operator's folder and the models folder have.
func (r *Registry) read() (*catalogue, error) {
	c := &catalogue{}
	if err := r.readFolder(c, builtin, "manifests", OriginProgram); err != nil {
		return nil, err
	}
	if r.o.Manifests != nil {
		if err := r.readFolder(c, r.o.Manifests, ".", OriginFolder); err != nil {
			return nil, err
		}
	}
	r.readInstalled(c)
	slices.SortStableFunc(c.models, func(a, b *known) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), compareVersions(a.Version, b.Version))
	})
	return c, nil
}

func (r *Registry) readFolder(c *catalogue, from fs.FS, dir string, origin Origin) error {
	names, err := fs.Glob(from, path.Join(dir, "*.json"))
	if err != nil {
		return fmt.Errorf("list manifests: %w", err)
	}
	// The signed ones first: a copy without the signature beside one with it is the same manifest.
	slices.SortStableFunc(names, func(a, b string) int {
		return -cmp.Compare(suffix(a), suffix(b))
	})
	for _, name := range names {
		b, err := fs.ReadFile(from, name)
		if err != nil {
			return fmt.Errorf("read manifest: %w", err)
		}
		k, err := r.judge(b, origin, name)
		if err != nil && origin == OriginProgram {
			return fmt.Errorf("%s: %w", name, err)
		}
		if err != nil { // one bad file takes nothing away from the others
			k = unreadable(name, err)
		}
		switch other := c.find(k.Name, k.Version); {
		case other == nil:
			c.models = append(c.models, k)
		case other.digest == k.digest && other.origin == origin && !k.signed:
		default:
			return fmt.Errorf("%s: there is a model %q with version %q already", name, k.Name, k.Version)
		}
	}
	return nil
}

// unreadable stands for a file that is no manifest, under the file's name.
func unreadable(file string, why error) *known {
	name := strings.TrimSuffix(strings.TrimSuffix(path.Base(file), SignedExt), ".json")
	return &known{Manifest: Manifest{Name: name, Version: "unreadable"}, origin: OriginFolder, refused: why.Error()}
}

// suffix is SignedExt of the name of a signed manifest, else empty.
func suffix(name string) string {
	if strings.HasSuffix(name, SignedExt) {
		return SignedExt
	}
	return ""
}

// readInstalled adds versions that only the models folder knows. What can't be read there is passed over: an
// unfinished or damaged folder takes nothing away from others.
func (r *Registry) readInstalled(c *catalogue) {
	if r.dir == "" {
		return
	}
	records, err := filepath.Glob(filepath.Join(r.dir, "models", "*", "*", record))
	if err != nil {
		return
	}
	for _, plain := range records {
		file := filepath.Join(filepath.Dir(plain), signedRecord)
		b, err := readSmall(file)
		if errors.Is(err, fs.ErrNotExist) {
			file = plain
			b, err = readSmall(file)
		}
		if err != nil {
			continue
		}
		k, err := r.judge(b, OriginInstalled, file)
		if err != nil || k.Name != filepath.Base(filepath.Dir(filepath.Dir(plain))) || c.find(k.Name, k.Version) != nil {
			continue
		}
		c.models = append(c.models, k)
	}
}

// readSmall reads a regular file of at most the size of a signed manifest.
func readSmall(name string) ([]byte, error) {
	info, err := os.Lstat(name)
	if err != nil {
		return nil, fmt.Errorf("read: %w", err)
	}
	if !info.Mode().IsRegular() || info.Size() > maxEnvelope {
		return nil, fmt.Errorf("read %s: not a small regular file", filepath.Base(name))
	}
	return os.ReadFile(name) //nolint:gosec // a file of the registry
}

// judge parses a document and decides whether its manifest may be used.
func (r *Registry) judge(document []byte, origin Origin, file string) (*known, error) {
	payload, env, err := unwrap(document)
	if err != nil {
		return nil, err
	}
	m, err := ParseManifest(payload)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(payload)
	k := &known{
		Manifest: m, origin: origin, file: file, document: document, digest: hex.EncodeToString(sum[:]),
		signed: env != nil, by: env.signers(payload, r.o.Keys),
	}
	if m.inProgram() && origin != OriginProgram {
		return nil, fmt.Errorf("manifest of %.100q: engine %s is for models that are part of the program", m.Name, m.Engine)
	}
	need := len(r.o.Keys) > 0 || r.o.RequireSignature
	switch {
	case origin == OriginProgram || len(k.by) > 0:
	case origin == OriginInstalled && !k.signed && !need:
		k.refused = "its manifest is neither part of the program nor in the folder of manifests, and nobody signed it"
	case origin == OriginFolder && !need:
	case len(r.o.Keys) == 0:
		k.refused = "a signature is needed, and no key is trusted: set infer.trusted_keys"
	case !k.signed:
		k.refused = "it is not signed, and a signature is required: `aran model sign` adds one"
	default:
		k.refused = "no trusted key signed it, or it was changed after that; its signatures name " + strings.Join(env.claims(), ", ")
	}
	return k, nil
}

// refusal is the error of a manifest that is not used.
func (k *known) refusal() error {
	if k.refused == "" {
		return nil
	}
	return fault.New(fault.Conflict, "model_not_trusted", "Model %s@%s is not used: %s.", k.Name, k.Version, k.refused)
}

// compareVersions orders versions as people do: numbers by their value, so that 1.10 comes after 1.9.
func compareVersions(a, b string) int {
	for a != "" && b != "" {
		x, y := part(a), part(b)
		a, b = a[len(x):], b[len(y):]
		if n, m := strings.TrimLeft(x, "0"), strings.TrimLeft(y, "0"); digit(x) && digit(y) {
			if c := cmp.Or(cmp.Compare(len(n), len(m)), strings.Compare(n, m)); c != 0 {
				return c
			}
			continue
		}
		if c := strings.Compare(x, y); c != 0 {
			return c
		}
	}
	return cmp.Compare(len(a), len(b))
}

func digit(s string) bool { return unicode.IsDigit(rune(s[0])) }

// part is the digits, or the rest up to the next digit, that s begins with.
func part(s string) string {
	n := strings.IndexFunc(s, func(c rune) bool { return unicode.IsDigit(c) != digit(s) })
	if n < 0 {
		return s
	}
	return s[:n]
}

// SplitRef splits `name@version`; version is empty when there is none.
func SplitRef(ref string) (name, version string) {
	name, version, _ = strings.Cut(ref, "@")
	return name, version
}
