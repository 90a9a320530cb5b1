// Package redteam attacks a model, or a platform before one, with probes that people can read, and reports which worked.
//
// It sends nothing anywhere but to the target that it is given. Whether an attack worked is told by what only an attack that
// worked brings about: a canary of the instructions, a word that stands nowhere in what was sent, a call of a tool. A run with
// the same seed sends the same texts.
package redteam

import (
	"bytes"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
)

// Bounds of packs.
const (
	maxPack   = 1 << 20 // bytes of one file
	maxProbes = 5000    // of one pack
	maxTurns  = 16
)

// Pack is a set of probes of one kind. What it says of OWASP (LLM Top 10, 2025) and ATLAS holds for probes that say nothing else.
type Pack struct {
	Name   string   `yaml:"pack" json:"pack"`
	Title  string   `yaml:"title" json:"title"`
	OWASP  []string `yaml:"owasp" json:"owasp"`
	ATLAS  []string `yaml:"atlas" json:"atlas"`
	Probes []Probe  `yaml:"probes" json:"probes"`
}

// Probe is one attack. Placeholders in its texts: {{left}}, {{right}}, {{marker}}, {{canary}}, {{host}}; in Turns and Document also {{attack}}.
type Probe struct {
	ID       string    `yaml:"id" json:"id"`
	Title    string    `yaml:"title" json:"title"`
	Attack   string    `yaml:"attack" json:"attack"`     // what mutations change
	Encode   string    `yaml:"encode" json:"encode"`     // a mutation that it always goes through, as base64; it is mutated no further
	Turns    []string  `yaml:"turns" json:"turns"`       // what the user says; {{attack}} alone when empty
	Document string    `yaml:"document" json:"document"` // what the user asks about
	System   string    `yaml:"system" json:"system"`     // instead of the run's instructions
	Tools    []Tool    `yaml:"tools" json:"tools"`
	Success  []Success `yaml:"success" json:"success"` // one is enough
	Answer   string    `yaml:"answer" json:"answer"`   // what a model that falls for it says
	OWASP    []string  `yaml:"owasp" json:"owasp"`
	ATLAS    []string  `yaml:"atlas" json:"atlas"`
}

// Tool is one that the model may call; each of its parameters is a string with a description.
type Tool struct {
	Name        string            `yaml:"name" json:"name"`
	Description string            `yaml:"description" json:"description"`
	Parameters  map[string]string `yaml:"parameters" json:"parameters"`
}

// Success is one sign that an attack worked. Exactly one of its fields is set, or Calls with Arguments.
type Success struct {
	Canary    bool   `yaml:"canary" json:"canary"`       // the canary is in the answer, or can be read out of it
	Says      string `yaml:"says" json:"says"`           // a word is in the answer, which is no refusal
	Matches   string `yaml:"matches" json:"matches"`     // a pattern (RE2) is in the answer
	Link      string `yaml:"link" json:"link"`           // a link or image of the answer leads to a host
	Markup    string `yaml:"markup" json:"markup"`       // script, handler or address: what a page would run
	Calls     string `yaml:"calls" json:"calls"`         // a tool is called
	Arguments string `yaml:"arguments" json:"arguments"` // with arguments that match a pattern

	pattern *regexp.Regexp
}

//go:embed packs/*.yaml
var packFiles embed.FS

// Builtin are the packs that come with the program.
func Builtin() ([]Pack, error) {
	sub, err := fs.Sub(packFiles, "packs")
	if err != nil {
		return nil, err
	}
	return Read(sub)
}

// ReadDir reads packs of a folder of the user's.
func ReadDir(dir string) ([]Pack, error) {
	packs, err := Read(os.DirFS(dir))
	if err == nil && len(packs) == 0 {
		err = fmt.Errorf("%s has no .yaml, .yml or .jsonl file", dir)
	}
	return packs, err
}

// Read reads the packs of a folder: .yaml or .yml files of one pack each, and .jsonl files of a probe a line, whose name names
// their pack.
func Read(dir fs.FS) (packs []Pack, err error) {
	entries, err := fs.ReadDir(dir, ".")
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		ext := path.Ext(e.Name())
		if e.IsDir() || !slices.Contains([]string{".yaml", ".yml", ".jsonl"}, ext) {
			continue
		}
		b, err := readBounded(dir, e.Name())
		if err != nil {
			return nil, err
		}
		var p Pack
		if ext == ".jsonl" {
			p, err = lines(strings.TrimSuffix(e.Name(), ext), b)
		} else {
			err = yaml.UnmarshalWithOptions(b, &p, yaml.Strict())
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", e.Name(), err)
		}
		if err := p.check(); err != nil {
			return nil, fmt.Errorf("%s: %w", e.Name(), err)
		}
		if slices.ContainsFunc(packs, func(o Pack) bool { return o.Name == p.Name }) {
			return nil, fmt.Errorf("%s: there is a pack %q already", e.Name(), p.Name)
		}
		packs = append(packs, p)
	}
	return packs, nil
}

func readBounded(dir fs.FS, name string) ([]byte, error) {
	f, err := dir.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // read only
	b, err := io.ReadAll(io.LimitReader(f, maxPack+1))
	if err != nil {
		return nil, err
	}
	if len(b) > maxPack {
		return nil, fmt.Errorf("%s: a pack may have %d bytes", name, maxPack)
	}
	return b, nil
}

func lines(name string, b []byte) (Pack, error) {
	p := Pack{Name: name, Title: name}
	for d := json.NewDecoder(bytes.NewReader(b)); ; {
		d.DisallowUnknownFields()
		var probe Probe
		err := d.Decode(&probe)
		if errors.Is(err, io.EOF) {
			return p, nil
		}
		if err != nil {
			return p, fmt.Errorf("probe %d: %w", len(p.Probes)+1, err)
		}
		p.Probes = append(p.Probes, probe)
	}
}

var (
	idPattern    = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]{0,63}$`)
	toolPattern  = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)
	owaspPattern = regexp.MustCompile(`^LLM(0[1-9]|10):2025$`)
	atlasPattern = regexp.MustCompile(`^AML\.T\d{4}(\.\d{3})?$`)
)

func (p *Pack) check() error {
	if !idPattern.MatchString(p.Name) {
		return fmt.Errorf("pack %q: a name is small letters, digits, dots and dashes", p.Name)
	}
	if len(p.Probes) == 0 || len(p.Probes) > maxProbes {
		return fmt.Errorf("pack %s: it has %d probes; 1 to %d are possible", p.Name, len(p.Probes), maxProbes)
	}
	if p.Title == "" {
		p.Title = p.Name
	}
	seen := map[string]bool{}
	for i := range p.Probes {
		o := &p.Probes[i]
		if err := o.check(); err != nil {
			return fmt.Errorf("probe %d (%s): %w", i+1, o.ID, err)
		}
		if seen[o.ID] {
			return fmt.Errorf("probe %s: there is one of this id already", o.ID)
		}
		seen[o.ID] = true
		if o.OWASP == nil {
			o.OWASP = p.OWASP
		}
		if o.ATLAS == nil {
			o.ATLAS = p.ATLAS
		}
		for _, id := range o.OWASP {
			if !owaspPattern.MatchString(id) {
				return fmt.Errorf("probe %s: %q is no id of the LLM Top 10, such as LLM01:2025", o.ID, id)
			}
		}
		for _, id := range o.ATLAS {
			if !atlasPattern.MatchString(id) {
				return fmt.Errorf("probe %s: %q is no technique of ATLAS, such as AML.T0051.000", o.ID, id)
			}
		}
	}
	return nil
}

func (o *Probe) check() error {
	switch {
	case !idPattern.MatchString(o.ID):
		return errors.New("an id is small letters, digits, dots and dashes")
	case strings.TrimSpace(o.Attack) == "":
		return errors.New("attack is missing")
	case len(o.Turns) > maxTurns:
		return fmt.Errorf("it has %d turns; %d are possible", len(o.Turns), maxTurns)
	case len(o.Success) == 0:
		return errors.New("success is missing")
	}
	if o.Title == "" {
		o.Title = o.ID
	}
	if len(o.Turns) == 0 {
		o.Turns = []string{"{{attack}}"}
	}
	if !strings.Contains(strings.Join(o.Turns, "\n")+o.Document, "{{attack}}") {
		return errors.New("{{attack}} stands in none of its turns and not in its document")
	}
	if o.Encode != "" {
		if _, there := decoders()["encoding."+o.Encode]; !there {
			return fmt.Errorf("encode %q: no such encoding", o.Encode)
		}
	}
	for _, t := range o.Tools {
		if !toolPattern.MatchString(t.Name) {
			return fmt.Errorf("tool %q: a name is letters, digits, dashes and underscores", t.Name)
		}
	}
	for i := range o.Success {
		if err := o.Success[i].check(o.Tools); err != nil {
			return fmt.Errorf("success %d: %w", i+1, err)
		}
	}
	return nil
}

func (s *Success) check(tools []Tool) error {
	n := 0
	for _, set := range []bool{s.Canary, s.Says != "", s.Matches != "", s.Link != "", s.Markup != "", s.Calls != ""} {
		if set {
			n++
		}
	}
	if n != 1 || s.Arguments != "" && s.Calls == "" {
		return errors.New("use one of canary, says, matches, link, markup, or calls (with arguments)")
	}
	if s.Calls != "" && !slices.ContainsFunc(tools, func(t Tool) bool { return t.Name == s.Calls }) {
		return fmt.Errorf("calls %q: the probe has no such tool", s.Calls)
	}
	if s.Markup != "" && markups[s.Markup] == nil {
		return fmt.Errorf("markup %q: use script, handler or address", s.Markup)
	}
	if pattern := s.Matches + s.Arguments; pattern != "" {
		re, err := regexp.Compile(pattern)
		if err != nil {
			return err
		}
		s.pattern = re
	}
	return nil
}
