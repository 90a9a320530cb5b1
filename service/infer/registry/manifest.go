package registry

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"regexp"
	"runtime"
	"slices"
	"strings"
)

// Kinds of models, and the engines that run them.
const (
	Embed    = "embed"
	Rerank   = "rerank"
	Classify = "classify"
	Generate = "generate"

	Builtin  = "builtin"   // the encoder inside this program; nothing to fetch
	Inside   = "inside"    // a file inside this program that another part of it computes with: listed here, not served
	LlamaCpp = "llama.cpp" // in a child process, with its own libraries in the pack
	Encoder  = "encoder"   // this program's own encoder, in a child process, on a file of packed weights
	Head     = "head"      // a small layer on top of an encoder: data, not a process
	Upstream = "upstream"  // a server that the settings name; there is no manifest of it
)

// ModelKinds lists what a model can do.
func ModelKinds() []string { return []string{Embed, Rerank, Classify, Generate} }

// Manifest says what a model is, of which files it consists, and where they can be had.
type Manifest struct {
	Name      string            `json:"name"`
	Version   string            `json:"version"`
	Title     string            `json:"title"`
	Kind      string            `json:"kind"`
	Engine    string            `json:"engine"`
	Licence   string            `json:"licence"` // SPDX expression
	Platforms []string          `json:"platforms,omitempty"`
	Dim       int               `json:"dim,omitempty"`
	Context   int               `json:"context,omitempty"` // tokens
	Defaults  Defaults          `json:"defaults,omitzero"`
	Weights   string            `json:"weights,omitempty"`   // path of the file that the engine opens
	Encoder   string            `json:"encoder,omitempty"`   // engine head: digest of the encoder that it belongs to
	Labels    []string          `json:"labels,omitempty"`    // kind classify: in the order of the outputs
	Libraries string            `json:"libraries,omitempty"` // folder of the engine's libraries
	Files     []File            `json:"files,omitempty"`
	Links     map[string]string `json:"links,omitempty"` // path to the name of a file beside it

	Provenance *Provenance  `json:"provenance,omitempty"` // who made it, of what
	Evaluation []Evaluation `json:"evaluation,omitempty"` // what was measured before
	Smoke      []Case       `json:"smoke,omitempty"`      // what it must answer before it gets any traffic
	Gate       *Gate        `json:"gate,omitempty"`       // what it must reach to take over
}

// Defaults are what the model's authors advise.
type Defaults struct {
	Temperature float64 `json:"temperature,omitempty"`
	TopP        float64 `json:"top_p,omitempty"`
	MaxTokens   int     `json:"max_tokens,omitempty"`
}

// File is one file of a model.
type File struct {
	Path    string   `json:"path"` // with slashes, below the model's folder
	Size    int64    `json:"size"`
	SHA256  string   `json:"sha256"`
	Sources []Source `json:"sources,omitempty"` // in the order in which they are tried
}

// Bounds of a manifest.
const (
	maxManifest = 1 << 20
	maxFiles    = 256
	maxSources  = 16
	maxFileSize = 64 << 30
)

// ParseManifest reads and checks a manifest. Unknown fields, paths that leave the model's folder, files
// without a digest, and formats that can run code when they are loaded are refused.
func ParseManifest(b []byte) (Manifest, error) {
	var m Manifest
	if len(b) > maxManifest {
		return m, fmt.Errorf("manifest: %d bytes, at most %d", len(b), maxManifest)
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&m); err != nil {
		return Manifest{}, fmt.Errorf("manifest: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return Manifest{}, errors.New("manifest: text after the object")
	}
	if err := m.check(); err != nil {
		return Manifest{}, fmt.Errorf("manifest of %.100q: %w", m.Name, err)
	}
	return m, nil
}

var (
	namePattern   = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,63}$`)
	legacyPattern = regexp.MustCompile(`^[0-9a-f]{16}$`)
	pathPattern   = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}(/[A-Za-z0-9_][A-Za-z0-9._-]{0,127}){0,3}$`)
	pipPattern    = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9._-]{0,99}[A-Za-z0-9])?==[0-9][A-Za-z0-9.!+]{0,63}$`)
	npmPattern    = regexp.MustCompile(`^(@[a-z0-9~][a-z0-9._~-]{0,99}/)?[a-z0-9~][a-z0-9._~-]{0,99}@[0-9]+\.[0-9]+\.[0-9]+([-+][0-9A-Za-z.-]+)?$`)
)

func (m *Manifest) check() error {
	switch {
	case !namePattern.MatchString(m.Name):
		return errors.New("name: use up to 64 of a-z, 0-9, dot, dash and underscore")
	case !namePattern.MatchString(m.Version):
		return fmt.Errorf("version %.100q: use up to 64 of a-z, 0-9, dot, dash and underscore", m.Version)
	case legacyPattern.MatchString(m.Version):
		return fmt.Errorf("version %.100q: 16 hexadecimal digits are how folders were called before there were versions", m.Version)
	case !slices.Contains(ModelKinds(), m.Kind):
		return fmt.Errorf("kind %.100q: use one of %s", m.Kind, strings.Join(ModelKinds(), ", "))
	case m.Licence == "":
		return errors.New("licence: say under which licence the model may be used")
	case m.Dim < 0 || m.Context < 0 || m.Dim > 1<<16 || m.Context > 1<<24:
		return errors.New("dim or context is out of range")
	case m.Defaults.Temperature < 0 || m.Defaults.Temperature > 2 || m.Defaults.TopP < 0 || m.Defaults.TopP > 1 || m.Defaults.MaxTokens < 0:
		return errors.New("defaults are out of range")
	}
	if err := m.checkAbout(); err != nil {
		return err
	}
	if err := m.checkProof(); err != nil {
		return err
	}
	if m.Engine == Builtin {
		if len(m.Files)+len(m.Links) > 0 {
			return errors.New("a built-in model has no files")
		}
		return nil
	}
	if m.Engine == Inside {
		return m.checkInside()
	}
	if err := m.checkEngine(); err != nil {
		return err
	}
	return m.checkFiles()
}

// inProgram says that nothing has to be fetched.
func (m *Manifest) inProgram() bool { return m.Engine == Builtin || m.Engine == Inside }

// checkInside: such a model is one file, whose digest is the model's.
func (m *Manifest) checkInside() error {
	if len(m.Files) != 1 || m.Weights != m.Files[0].Path || len(m.Files[0].Sources)+len(m.Links) > 0 {
		return errors.New("a model that is a file of the program has one file, which is its weights and has no sources")
	}
	return m.checkFiles()
}

// checkAbout checks what a manifest tells people.
func (m *Manifest) checkAbout() error {
	if m.Provenance != nil {
		if err := m.Provenance.check(); err != nil {
			return fmt.Errorf("provenance: %w", err)
		}
	}
	if len(m.Evaluation) > maxList || len(m.Labels) > maxCases {
		return errors.New("too many evaluations or labels")
	}
	for i := range m.Evaluation {
		if err := m.Evaluation[i].check(); err != nil {
			return fmt.Errorf("evaluation %d: %w", i, err)
		}
	}
	return checkNotes(append([]string{m.Title, m.Licence}, m.Labels...))
}

// checkEngine checks that the engine can do what the kind says, with the files that it needs.
func (m *Manifest) checkEngine() error {
	var kinds, formats []string
	switch m.Engine {
	case LlamaCpp:
		kinds, formats = []string{Generate}, []string{".gguf"}
		if !pathPattern.MatchString(m.Libraries) || !slices.ContainsFunc(m.Files, func(f File) bool { return path.Dir(f.Path) == m.Libraries }) {
			return fmt.Errorf("libraries %.200q: name a folder of the list", m.Libraries)
		}
	case Encoder:
		kinds, formats = []string{Embed, Rerank}, []string{PackedExt, ".safetensors"}
		if m.Kind == Embed && m.Dim == 0 {
			return errors.New("dim: say how many numbers a vector has")
		}
	case Head:
		kinds, formats = []string{Rerank, Classify}, []string{PackedExt, ".safetensors", ".json"}
		if !isDigest(m.Encoder) {
			return fmt.Errorf("encoder %.100q: name the digest of the encoder that the head belongs to", m.Encoder)
		}
	default:
		return fmt.Errorf("engine %.100q: use %s, %s, %s or %s", m.Engine, Builtin, LlamaCpp, Encoder, Head)
	}
	switch {
	case !slices.Contains(kinds, m.Kind):
		return fmt.Errorf("engine %s runs models of kind %s", m.Engine, strings.Join(kinds, " and "))
	case !m.has(m.Weights) || !slices.Contains(formats, path.Ext(m.Weights)):
		return fmt.Errorf("weights %.200q: name a %s file of the list", m.Weights, strings.Join(formats, " or "))
	case m.Engine != Head && m.Encoder != "":
		return errors.New("encoder: only a head belongs to one")
	case m.Kind != Classify && len(m.Labels) > 0 || m.Kind == Classify && len(m.Labels) < 2:
		return errors.New("labels: a classifier has two or more, other models none")
	case m.Engine != LlamaCpp && (m.Libraries != "" || slices.ContainsFunc(m.Files, func(f File) bool { return strings.EqualFold(path.Ext(f.Path), ".so") })):
		return fmt.Errorf("engine %s has no libraries; native code belongs to %s only", m.Engine, LlamaCpp)
	}
	return nil
}

func (m *Manifest) checkFiles() error {
	if len(m.Files) == 0 || len(m.Files) > maxFiles || len(m.Links) > maxFiles {
		return fmt.Errorf("files: %d and %d links, want 1 to %d", len(m.Files), len(m.Links), maxFiles)
	}
	seen := map[string]bool{} // in lower case: some file systems know no other
	for i := range m.Files {
		f := &m.Files[i]
		if err := f.check(); err != nil {
			return err
		}
		if seen[strings.ToLower(f.Path)] {
			return fmt.Errorf("file %q stands there twice", f.Path)
		}
		seen[strings.ToLower(f.Path)] = true
	}
	for link, target := range m.Links {
		if !pathPattern.MatchString(link) || seen[strings.ToLower(link)] {
			return fmt.Errorf("link %.200q: not a new path below the model's folder", link)
		}
		if !m.has(path.Join(path.Dir(link), target)) || strings.Contains(target, "/") {
			return fmt.Errorf("link %q: %.200q is no file beside it", link, target)
		}
		seen[strings.ToLower(link)] = true
	}
	for p := range seen {
		for dir := path.Dir(p); dir != "."; dir = path.Dir(dir) {
			if seen[dir] || dir == record || dir == signedRecord {
				return fmt.Errorf("%q is a file and a folder", dir)
			}
		}
	}
	return nil
}

func (m *Manifest) has(p string) bool {
	return slices.ContainsFunc(m.Files, func(f File) bool { return f.Path == p })
}

func (f *File) check() error {
	if !pathPattern.MatchString(f.Path) || f.Path == record || f.Path == signedRecord {
		return fmt.Errorf("file %.200q: not a path below the model's folder", f.Path)
	}
	if err := checkFormat(f.Path); err != nil {
		return fmt.Errorf("file %q: %w", f.Path, err)
	}
	if f.Size <= 0 || f.Size > maxFileSize {
		return fmt.Errorf("file %q: size %d, want 1 to %d", f.Path, f.Size, int64(maxFileSize))
	}
	if !isDigest(f.SHA256) {
		return fmt.Errorf("file %q: sha256 %.100q: use 64 lower-case hexadecimal digits", f.Path, f.SHA256)
	}
	if len(f.Sources) > maxSources {
		return fmt.Errorf("file %q: %d sources, at most %d", f.Path, len(f.Sources), maxSources)
	}
	for _, s := range f.Sources {
		if err := s.check(); err != nil {
			return fmt.Errorf("file %q: %w", f.Path, err)
		}
	}
	return nil
}

// isDigest accepts one way to write a SHA-256.
func isDigest(s string) bool {
	b, err := hex.DecodeString(s)
	return err == nil && len(b) == sha256.Size && strings.ToLower(s) == s
}

// Digest identifies the model's content: SHA-256 over the lines "<sha256>  <path>\n" of its files and
// "<target>  <path>\n" of its links, sorted, as `sha256sum` would write them. Empty for built-in models.
func (m *Manifest) Digest() string {
	if len(m.Files) == 0 {
		return ""
	}
	lines := make([]string, 0, len(m.Files)+len(m.Links))
	for _, f := range m.Files {
		lines = append(lines, f.SHA256+"  "+f.Path+"\n")
	}
	for link, target := range m.Links {
		lines = append(lines, target+"  "+link+"\n")
	}
	slices.Sort(lines)
	sum := sha256.Sum256([]byte(strings.Join(lines, "")))
	return hex.EncodeToString(sum[:])
}

// Size is the sum of the files, in bytes.
func (m *Manifest) Size() (n int64) {
	for _, f := range m.Files {
		n += f.Size
	}
	return n
}

// Runs reports whether the model works on this platform.
func (m *Manifest) Runs() bool {
	return len(m.Platforms) == 0 || slices.Contains(m.Platforms, runtime.GOOS+"/"+runtime.GOARCH)
}
