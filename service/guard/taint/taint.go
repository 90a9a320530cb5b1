// Package taint follows what a conversation has read, and says which tools it may use after that.
//
// It is pure: no clock, no network, no storage. A level only rises: nothing that a text says lowers it, makes its source a
// trusted one, or opens a tool. Texts are not kept, only keyed digests of the values in them that a tool could be aimed at.
package taint

import (
	"fmt"
	"slices"
	"strings"

	"aran/service/guard/detect"
)

// Level says how much of what a conversation has read could be somebody else's wish.
type Level int

// The levels, from the safest up. Never is below all of them: what is allowed up to it is not allowed at all.
const (
	Never     Level = iota - 1
	Clean           // nothing was read
	User            // only what the user wrote
	Document        // documents of trusted sources, too
	Untrusted       // documents and tool results that anybody could have written
	Flagged         // a text in which an attack was found
)

var levels = []string{"never", "clean", "user", "document", "untrusted", "flagged"} //nolint:gochecknoglobals // a constant table

// String is the level's word in policies, events and answers.
func (l Level) String() string {
	if l < Never || l > Flagged {
		return fmt.Sprintf("level(%d)", int(l))
	}
	return levels[l+1]
}

// MarshalText writes the word.
func (l Level) MarshalText() ([]byte, error) { return []byte(l.String()), nil }

// UnmarshalText reads the word.
func (l *Level) UnmarshalText(b []byte) error {
	i := slices.Index(levels, string(b))
	if i < 0 {
		return fmt.Errorf("level %q: use %s", b, strings.Join(levels, ", "))
	}
	*l = Level(i) - 1
	return nil
}

// Source is where a text came from, and the level to which it raised a conversation.
type Source struct {
	Level Level  `json:"level"`
	Name  string `json:"name"`
}

// Bounds of a state.
const (
	maxSources = 16
	maxSource  = 200 // bytes of a name
)

// State is what is known of a conversation. Its zero value is a new one.
type State struct {
	Level   Level
	Sources []Source // that raised it, the most dangerous first
	Foreign Values   // stand in untrusted texts
	Vouched Values   // stand in what the user or a trusted document says
}

// Read is a text that enters a conversation.
type Read struct {
	Text   string
	Origin detect.Origin
	Source string // trust and place: `builtin:handbook/a`, `outside:mail/7`, `tool:search_web`
	Attack bool   // the text reads like an attack
}

// Level is how far a text raises a conversation. A user's text that reads like an attack may be pasted from anywhere: it
// counts as untrusted, and vouches for nothing.
func (p Policy) Level(r Read) Level {
	switch {
	case r.Origin == detect.User && r.Attack:
		return Untrusted
	case r.Origin == detect.User:
		return User
	case r.Attack:
		return Flagged
	case matchesAny(p.Trusted, r.Source):
		return Document
	default:
		return Untrusted
	}
}

// Mark adds texts that the conversation reads, and reports whether that changed anything. key makes digests of one
// conversation useless for another.
func (s *State) Mark(ps Policies, key string, reads ...Read) (changed bool) {
	for _, r := range reads {
		level := ps.Level(r)
		if level > s.Level {
			s.Level, changed = level, true
		}
		if level >= Document && s.source(Source{level, clip(r.Source, maxSource)}) {
			changed = true
		}
		into := &s.Vouched
		if level >= Untrusted {
			into = &s.Foreign
		}
		values, all := valuesIn(r.Text)
		digests := make([]uint64, len(values))
		for i, v := range values {
			digests[i] = v.digest(key)
		}
		// That not all of the user's values are known is no reason to trust the rest.
		if into.add(digests, all || level < Untrusted) {
			changed = true
		}
	}
	return changed
}

// source notes a source; of too many, the least dangerous is left out.
func (s *State) source(src Source) bool {
	if slices.Contains(s.Sources, src) {
		return false
	}
	at := len(s.Sources)
	for i, have := range s.Sources {
		if have.Level < src.Level {
			at = i
			break
		}
	}
	if at >= maxSources {
		return false
	}
	s.Sources = slices.Insert(s.Sources, at, src)
	s.Sources = s.Sources[:min(len(s.Sources), maxSources)]
	return true
}

// Join adds what another replica knows of the same conversation.
func (s *State) Join(o State) {
	s.Level = max(s.Level, o.Level)
	for _, src := range o.Sources {
		s.source(src)
	}
	s.Foreign.join(o.Foreign)
	s.Vouched.join(o.Vouched)
}

func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "")
}
