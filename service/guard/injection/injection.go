// Package injection judges whether a text tries to give instructions where it may not: it combines the layers that
// look for that into one score.
package injection

import (
	"aran/service/guard/detect"
)

// Detector holds what is needed to judge. Safe for concurrent use.
type Detector struct{ rules *detect.Rules }

// Builtin is the detector that comes with the program.
func Builtin() (*Detector, error) {
	rules, err := detect.Builtin()
	if err != nil {
		return nil, err
	}
	return &Detector{rules}, nil
}

// Judgement is what was found in one text.
type Judgement struct {
	Score    float64 // 0 to 1
	Findings []detect.Finding
}

// Judge looks at a text of an origin.
func (d *Detector) Judge(text string, origin detect.Origin) Judgement {
	found := d.rules.Scan(text, origin)
	return Judgement{Score: detect.Combine(found), Findings: found}
}
