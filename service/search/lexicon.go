package search

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"

	"aran/service/search/words"
)

// lexicons holds the words indexes of the collections that were searched last. They are derived from the
// database and catch up with it before each search, so that every replica ranks the same.
// Safe for concurrent use.
type lexicons struct {
	db          db
	terms       func(ctx context.Context, collection, edition int64) ([]storedTerms, error) // makes those that are not stored
	maxIndexes  int
	maxPassages int

	mu    sync.Mutex
	byID  map[int64]*lexicon
	clock int64
}

// lexicon is the words index of one collection.
type lexicon struct {
	collection int64
	used       int64 // guarded by lexicons.mu

	mu         sync.RWMutex
	generation int64
	index      *words.Index
	languages  map[string]int        // language → editions in it
	of         map[int64]indexedText // edition → how much of it is in the index
	views      map[string]words.View // of this generation, by who asks for what
	viewBytes  int
}

// maxViewBytes bounds the views that a lexicon keeps: rights of a viewer, as bits.
const maxViewBytes = 8 << 20

func newLexicons(d db, c Config, terms func(ctx context.Context, collection, edition int64) ([]storedTerms, error)) *lexicons {
	return &lexicons{db: d, terms: terms, maxIndexes: c.LoadedIndexes, maxPassages: c.LoadedPassages, byID: map[int64]*lexicon{}}
}

// search ranks a collection's passages by the words of a text, among what the viewer may read and the filter lets through.
func (x *lexicons) search(ctx context.Context, sc scope, text string, k int) (out lexical, err error) {
	l := x.use(sc.id)
	for {
		if err := l.catchUp(ctx, x, sc.generation); err != nil {
			return out, fmt.Errorf("load words of %s: %w", sc.Name, err)
		}
		x.evict(l)
		var done bool
		if out, done, err = l.search(ctx, x.db, sc, text, k); err != nil || done {
			return out, err
		}
	}
}

// lexical is a ranking by words, with the weight of each term of the query in the collection.
type lexical struct {
	found     []words.Found
	languages []string
	weights   map[string]float64
}

// search is done unless the index went on while the view was made.
func (l *lexicon) search(ctx context.Context, d db, sc scope, text string, k int) (out lexical, done bool, err error) {
	key := sc.key()
	l.mu.RLock()
	generation := l.generation
	view, there := l.views[key]
	l.mu.RUnlock()
	if generation < 0 {
		return out, false, nil
	}
	if !there {
		readable, wanted, err := d.readers(ctx, sc)
		if err != nil {
			return out, false, err
		}
		l.mu.Lock()
		if l.generation == generation {
			view = l.index.View(readable, wanted)
			l.keep(key, view)
		}
		l.mu.Unlock()
	}
	l.mu.RLock()
	defer l.mu.RUnlock()
	if l.generation != generation {
		return out, false, nil
	}
	for language := range l.languages {
		out.languages = append(out.languages, language)
	}
	slices.Sort(out.languages)
	terms := words.Query(text, maxTerms, out.languages...)
	found, weights := l.index.Search(termIDs(sc.Collection, terms), view, k)
	out.found, out.weights = found, make(map[string]float64, len(terms))
	for i, t := range terms {
		out.weights[t] = weights[i]
	}
	return out, true, nil
}

// keep remembers a view; when there are too many, the others are forgotten.
func (l *lexicon) keep(key string, v words.View) {
	if v.Bytes() > maxViewBytes {
		return // it would be alone: it is made again when it is asked for again
	}
	if l.viewBytes += v.Bytes() + len(key); l.viewBytes > maxViewBytes {
		clear(l.views)
		l.viewBytes = v.Bytes() + len(key)
	}
	l.views[key] = v
}

// key is who asks for what: two scopes with the same key see the same of a collection in one generation.
func (s scope) key() string {
	var sb strings.Builder
	part := func(s string) {
		sb.WriteString(strconv.Itoa(len(s)))
		sb.WriteByte(':')
		sb.WriteString(s)
	}
	part(s.viewer.tenant)
	part(s.subject)
	roles := slices.Clone(s.roles)
	slices.Sort(roles)
	for _, r := range roles {
		part(r)
	}
	sb.WriteByte('|')
	for _, c := range s.filter {
		c.describe(part)
	}
	return sb.String()
}

func (x *lexicons) use(collection int64) *lexicon {
	x.mu.Lock()
	defer x.mu.Unlock()
	l, ok := x.byID[collection]
	if !ok {
		l = &lexicon{collection: collection, generation: -1}
		x.byID[collection] = l
	}
	x.clock++
	l.used = x.clock
	return l
}

// evict drops the lexicons that were used longest ago until the bounds hold, but never the one in hand.
func (x *lexicons) evict(inHand *lexicon) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for len(x.byID) > 1 {
		total := 0
		var oldest *lexicon
		for _, l := range x.byID {
			total += l.len()
			if l != inHand && (oldest == nil || l.used < oldest.used) {
				oldest = l
			}
		}
		if oldest == nil || len(x.byID) <= x.maxIndexes && total <= x.maxPassages {
			return
		}
		delete(x.byID, oldest.collection)
	}
}

// refresh brings what is loaded of a collection up to date, so that what was deleted leaves the memory too.
func (x *lexicons) refresh(ctx context.Context, collection int64) error {
	x.mu.Lock()
	l, ok := x.byID[collection]
	x.mu.Unlock()
	if !ok {
		return nil
	}
	generation, gone, err := x.db.generation(ctx, collection)
	if err != nil {
		return err
	}
	if !gone {
		return l.catchUp(ctx, x, generation)
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	delete(x.byID, collection)
	return nil
}

// all lists the collections that are loaded.
func (x *lexicons) all() []int64 {
	x.mu.Lock()
	defer x.mu.Unlock()
	out := make([]int64, 0, len(x.byID))
	for id := range x.byID {
		out = append(out, id)
	}
	return out
}

func (l *lexicon) len() int {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if l.index == nil {
		return 0
	}
	return l.index.Passages()
}

// catchUp brings the lexicon to a generation of its collection, or to a later one.
func (l *lexicon) catchUp(ctx context.Context, x *lexicons, generation int64) error {
	l.mu.RLock()
	current := l.generation >= generation
	l.mu.RUnlock()
	if current {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.generation >= generation {
		return nil
	}
	index, of, after := l.index, l.of, l.generation
	if index == nil || generation-after > keptGenerations {
		index, of, after = words.NewIndex(), map[int64]indexedText{}, -1
		l.languages = map[string]int{}
	}
	// What is half done is begun anew.
	l.index, l.generation = nil, -1
	var missing []int64
	// First what came, then what went: an edition that came and went meanwhile is gone in the end.
	err := x.db.changedTerms(ctx, l.collection, after, func(edition int64, t storedTerms) error {
		if t.packed == nil || !words.Current(t.format) {
			if n := len(missing); n == 0 || missing[n-1] != edition {
				missing = append(missing, edition)
			}
			return nil
		}
		return l.put(index, of, edition, t)
	})
	if err != nil {
		return err
	}
	for _, edition := range missing {
		parts, err := x.terms(ctx, l.collection, edition)
		if err != nil {
			return err
		}
		for _, t := range parts {
			if err := l.put(index, of, edition, t); err != nil {
				return err
			}
		}
	}
	gone, err := x.db.gone(ctx, l.collection, after)
	if err != nil {
		return err
	}
	index.Delete(gone...)
	for _, e := range gone {
		if language := of[e].language; language != "" {
			if l.languages[language]--; l.languages[language] == 0 {
				delete(l.languages, language)
			}
		}
		delete(of, e)
	}
	l.index, l.of, l.generation, l.views, l.viewBytes = index, of, generation, map[string]words.View{}, 0
	return nil
}

// put adds the terms of a part, unless it is there: its document changed otherwise then.
func (l *lexicon) put(index *words.Index, of map[int64]indexedText, edition int64, t storedTerms) error {
	in := of[edition]
	if in.passages > t.part {
		return nil
	}
	f, err := words.Unpack(t.packed)
	if err != nil {
		return fmt.Errorf("edition %d, part %d: %w", edition, t.part, err)
	}
	if in.language == "" {
		in.language = words.LanguageOf(t.format)
		l.languages[in.language]++
	}
	in.passages = t.part + len(f.Passages)
	of[edition] = in
	return index.Add(edition, func(i int) int64 { return int64(passageOf(edition, t.part+i)) }, f)
}

// indexedText is how much of an edition an index holds: passages from the first on.
type indexedText struct {
	passages int
	language string
}

// storedTerms are the terms of a part as they stand in the database.
type storedTerms struct {
	part, passages int
	format         string
	packed         []byte // nil: not there
}

func byPart(a, b storedTerms) int { return cmp.Compare(a.part, b.part) }
