// Package secret resolves references to secrets, and keeps them out of logs.
package secret

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"strings"
)

// String is a secret value. It prints, logs and marshals as ***; Reveal is the only way to its content.
type String struct{ value string }

// New wraps a value that is in memory already.
func New(v string) String { return String{v} }

// Reveal returns the content.
func (s String) Reveal() string { return s.value }

// Empty reports whether there is none.
func (s String) Empty() bool { return s.value == "" }

// Visible reports whether it is made of visible characters of ASCII only, as every key is that travels in a header.
func (s String) Visible() bool {
	return !strings.ContainsFunc(s.value, func(r rune) bool { return r <= ' ' || r > '~' })
}

// String hides the content.
func (s String) String() string {
	if s.value == "" {
		return ""
	}
	return "***"
}

// GoString hides the content from %#v.
func (s String) GoString() string { return s.String() }

// LogValue hides the content from slog.
func (s String) LogValue() slog.Value { return slog.StringValue(s.String()) }

// MarshalJSON hides the content.
func (s String) MarshalJSON() ([]byte, error) { return json.Marshal(s.String()) }

// UnmarshalText takes a value or a reference: `env:NAME`, `file:/path` (one trailing newline is dropped).
func (s *String) UnmarshalText(b []byte) error {
	v, err := Resolve(string(b))
	if err != nil {
		return err
	}
	*s = v
	return nil
}

const maxFile = 64 << 10

// Resolve reads a reference. A plain value stands for itself.
func Resolve(ref string) (String, error) {
	if name, ok := strings.CutPrefix(ref, "env:"); ok {
		v, set := os.LookupEnv(name)
		if !set {
			return String{}, fmt.Errorf("secret env:%s: the variable is not set", name)
		}
		return String{v}, nil
	}
	if path, ok := strings.CutPrefix(ref, "file:"); ok {
		info, err := os.Stat(path)
		if err != nil {
			return String{}, fmt.Errorf("secret file: %w", err)
		}
		if info.Size() > maxFile {
			return String{}, fmt.Errorf("secret file:%s: larger than %d bytes", path, maxFile)
		}
		b, err := os.ReadFile(path) //nolint:gosec // the operator's own path
		if err != nil {
			return String{}, fmt.Errorf("secret file: %w", err)
		}
		return String{strings.TrimSuffix(strings.TrimSuffix(string(b), "\n"), "\r")}, nil
	}
	return String{ref}, nil
}
