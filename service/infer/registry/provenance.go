package registry

import (
	"errors"
	"fmt"
	"net/url"
	"time"
	"unicode/utf8"
)

// Provenance says where a model comes from and what it learned from. What the publisher does not say is said
// to be unknown: a reader must be able to tell "none" from "not stated".
type Provenance struct {
	Publisher  string     `json:"publisher"`            // who trained it
	Source     string     `json:"source,omitempty"`     // https address of its page
	Revision   string     `json:"revision,omitempty"`   // commit or release there
	Base       string     `json:"base,omitempty"`       // the model that it was trained from
	Data       []Dataset  `json:"data,omitempty"`       // what it was trained on
	Unknown    string     `json:"unknown,omitempty"`    // what is not known about the training data
	Made       string     `json:"made,omitempty"`       // how these files were made: tool, version, quantisation
	MadeFrom   []MadeFrom `json:"made_from,omitempty"`  // the files that went in
	Vetted     *Vetting   `json:"vetted,omitempty"`     // who looked at it before it came in
	References []string   `json:"references,omitempty"` // papers and model cards
}

// Dataset is one that a model was trained on.
type Dataset struct {
	Name    string `json:"name"`
	Source  string `json:"source,omitempty"` // https address
	Licence string `json:"licence,omitempty"`
	SHA256  string `json:"sha256,omitempty"` // of the data, where it is pinned
	Note    string `json:"note,omitempty"`   // share, filtering, personal data
}

// MadeFrom pins a file that was converted.
type MadeFrom struct {
	Name   string `json:"name"`
	SHA256 string `json:"sha256"`
}

// Vetting is a person's word for a model.
type Vetting struct {
	By   string `json:"by"`
	At   string `json:"at"` // 2006-01-02
	Note string `json:"note,omitempty"`
}

// Evaluation is a result that the publisher of the manifest measured or quotes.
type Evaluation struct {
	Dataset string  `json:"dataset"`
	Metric  string  `json:"metric"`
	Value   float64 `json:"value"`
	By      string  `json:"by,omitempty"`      // who measured it
	At      string  `json:"at,omitempty"`      // 2006-01-02
	Command string  `json:"command,omitempty"` // how to measure it again
	Note    string  `json:"note,omitempty"`
}

const (
	maxList = 64
	maxNote = 2000
)

func (p *Provenance) check() error {
	if p.Publisher == "" {
		return errors.New("publisher: say who trained the model")
	}
	if len(p.Data) == 0 && p.Unknown == "" {
		return errors.New("data: name what the model was trained on, or say in unknown what is not known")
	}
	if len(p.Data) > maxList || len(p.MadeFrom) > maxList || len(p.References) > maxList {
		return fmt.Errorf("more than %d entries in a list", maxList)
	}
	texts := []string{p.Publisher, p.Revision, p.Base, p.Unknown, p.Made}
	links := append([]string{p.Source}, p.References...)
	for _, d := range p.Data {
		if d.Name == "" {
			return errors.New("data: a data set has no name")
		}
		if d.SHA256 != "" && !isDigest(d.SHA256) {
			return fmt.Errorf("data %.100q: sha256: use 64 lower-case hexadecimal digits", d.Name)
		}
		texts, links = append(texts, d.Name, d.Licence, d.Note), append(links, d.Source)
	}
	for _, f := range p.MadeFrom {
		if f.Name == "" || !isDigest(f.SHA256) {
			return fmt.Errorf("made_from %.100q: needs a name and a sha256 of 64 lower-case hexadecimal digits", f.Name)
		}
		texts = append(texts, f.Name)
	}
	if p.Vetted != nil {
		if p.Vetted.By == "" || !isDay(p.Vetted.At) {
			return errors.New("vetted: say by whom, and when as 2006-01-02")
		}
		texts = append(texts, p.Vetted.By, p.Vetted.Note)
	}
	for _, l := range links {
		if l == "" {
			continue
		}
		if u, err := url.Parse(l); err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || len(l) > maxNote {
			return fmt.Errorf("address %.200q: use https", l)
		}
	}
	return checkNotes(texts)
}

func (e *Evaluation) check() error {
	if e.Dataset == "" || e.Metric == "" {
		return errors.New("name the data set and the metric")
	}
	if e.At != "" && !isDay(e.At) {
		return fmt.Errorf("at %.40q: use 2006-01-02", e.At)
	}
	return checkNotes([]string{e.Dataset, e.Metric, e.By, e.Command, e.Note})
}

func checkNotes(texts []string) error {
	for _, t := range texts {
		if len(t) > maxNote || !utf8.ValidString(t) {
			return fmt.Errorf("a text of more than %d bytes, or not UTF-8", maxNote)
		}
		for _, c := range t {
			if c < ' ' || c == 0x7f { // a terminal would obey it
				return errors.New("a text has control characters")
			}
		}
	}
	return nil
}

func isDay(s string) bool {
	_, err := time.Parse(time.DateOnly, s)
	return err == nil
}
