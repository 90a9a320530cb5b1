package search

import (
	"context"
	"encoding/json"

	"aran/platform/auth"
	"aran/platform/fault"
)

// What becomes of a text that a collection has already under another id.
const (
	KeepDuplicates   = "keep"   // it is stored; the answer names the other one
	SkipDuplicates   = "skip"   // it is not stored; the answer is the other one
	RefuseDuplicates = "refuse" // 409
)

// AnyLanguage leaves the language of texts to what they look like.
const AnyLanguage = "auto"

const keptVersions = 10 // unless the collection says otherwise

// Weights say how much each list counts where they are fused.
type Weights struct {
	Words, Meaning float64
}

// Settings are what a collection's owner chooses.
type Settings struct {
	Description string
	Fields      []Field
	Language    string // ISO 639, or AnyLanguage
	Model       string // what embeds its texts; empty: the default encoder
	Weights     Weights
	Duplicates  string
	Versions    int // of a document that stay readable, the latest among them
}

// DefaultSettings are those of a collection whose owner chose nothing.
func DefaultSettings() Settings {
	return Settings{Fields: []Field{}, Language: AnyLanguage, Weights: Weights{1, 1}, Duplicates: KeepDuplicates, Versions: keptVersions}
}

// check refuses settings that say nothing sensible together.
func (s Settings) check() error {
	if s.Weights.Words == 0 && s.Weights.Meaning == 0 {
		return invalid("weights", "are both 0: nothing would be found")
	}
	if err := checkText("description", s.Description); err != nil {
		return err
	}
	return checkFields(s.Fields)
}

// CreateCollection makes a collection of the caller's tenant. key makes it safe to repeat; it may be empty.
func (s *Service) CreateCollection(ctx context.Context, c Collection, key string) (Collection, error) {
	v := viewerOf(auth.From(ctx))
	if c.Public {
		return Collection{}, fault.New(fault.Unsupported, "unsupported", "Public collections belong to the platform; a collection is readable in its own tenant.")
	}
	if err := c.check(); err != nil {
		return Collection{}, err
	}
	c.tenant, c.Owner, c.Created = v.tenant, v.subject, now()
	request, err := json.Marshal(c.Settings)
	if err != nil {
		return Collection{}, err
	}
	w := write{scope: v.tenant + "/" + v.subject + "/create_collection", key: key, request: digest(c.Name + "\x00" + string(request))}
	if c.Model != "" { // one that nobody serves is refused now, and not when the first document comes
		active, err := s.active(ctx, c.Model)
		if err != nil {
			return Collection{}, err
		}
		c.Encoder = active
	}
	return s.db.createCollection(ctx, c, s.cfg.Collections, w)
}

// Change is what a PATCH gives; nil: it stays.
type Change struct {
	Description, Language, Model, Duplicates *string
	Fields                                   *[]Field
	Words, Meaning                           *float64
	Versions                                 *int
}

func (ch Change) apply(s Settings) Settings {
	set(&s.Description, ch.Description)
	set(&s.Language, ch.Language)
	set(&s.Duplicates, ch.Duplicates)
	set(&s.Fields, ch.Fields)
	set(&s.Weights.Words, ch.Words)
	set(&s.Weights.Meaning, ch.Meaning)
	set(&s.Versions, ch.Versions)
	return s
}

func set[T any](to, from *T) {
	if from != nil {
		*to = *from
	}
}

// ChangeCollection changes settings of a collection. Another model begins a re-embedding: until that is done, searches
// go by the vectors of before. The model it has already ends one that is in work.
func (s *Service) ChangeCollection(ctx context.Context, name string, ch Change) (Collection, error) {
	v := viewerOf(auth.From(ctx))
	c, err := s.db.own(ctx, s.db, v.tenant, name)
	if err != nil {
		return Collection{}, err
	}
	encoder := ""
	if ch.Model != nil {
		if encoder, err = s.active(ctx, *ch.Model); err != nil {
			return Collection{}, err
		}
		if *ch.Model == c.Model && c.Encoder != "" {
			encoder = c.Encoder // as it is: whether its model has a newer version is for Reembed
		}
	}
	if err := s.db.changeCollection(ctx, v, name, ch, encoder); err != nil {
		return Collection{}, err
	}
	fault.Point("search.collection_changed")
	s.nudge()
	return s.Collection(ctx, name)
}
