package words

import (
	"embed"
	"maps"
	"slices"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"

	"github.com/blevesearch/snowballstem"
	"github.com/blevesearch/snowballstem/arabic"
	"github.com/blevesearch/snowballstem/danish"
	"github.com/blevesearch/snowballstem/dutch"
	"github.com/blevesearch/snowballstem/english"
	"github.com/blevesearch/snowballstem/finnish"
	"github.com/blevesearch/snowballstem/french"
	"github.com/blevesearch/snowballstem/german"
	"github.com/blevesearch/snowballstem/hungarian"
	"github.com/blevesearch/snowballstem/italian"
	"github.com/blevesearch/snowballstem/norwegian"
	"github.com/blevesearch/snowballstem/portuguese"
	"github.com/blevesearch/snowballstem/romanian"
	"github.com/blevesearch/snowballstem/russian"
	"github.com/blevesearch/snowballstem/spanish"
	"github.com/blevesearch/snowballstem/swedish"
	"github.com/blevesearch/snowballstem/turkish"
)

// English is the language of texts that are not known to be in another one.
const English = "en"

// stemmers are the Snowball algorithms (Porter 2001, snowballstem.org/algorithms), by ISO 639-1. Tamil has our own.
var stemmers = map[string]func(*snowballstem.Env) bool{ //nolint:gochecknoglobals // never changed
	"ar": arabic.Stem, "da": danish.Stem, "de": german.Stem, English: english.Stem, "es": spanish.Stem, "fi": finnish.Stem,
	"fr": french.Stem, "hu": hungarian.Stem, "it": italian.Stem, "nl": dutch.Stem, "no": norwegian.Stem, "pt": portuguese.Stem,
	"ro": romanian.Stem, "ru": russian.Stem, "sv": swedish.Stem, Tamil: nil, "tr": turkish.Stem,
}

// Tamil is told by its script, in texts of any language.
const Tamil = "ta"

// Stop words: those of Snowball, for ro and ar of J. Savoy, both under the BSD licence; for ta a list
// of our own: pronouns, postpositions, conjunctions and forms of to be.
//
//go:embed stop/*.txt
var stopFiles embed.FS

// Languages lists the languages that have an analyzer, as ISO 639-1 codes.
func Languages() []string { return slices.Sorted(maps.Keys(stemmers)) }

// analyzer makes terms of words in one language. Safe for concurrent use.
type analyzer struct {
	language string
	stop     map[string]bool
	stem     func(*snowballstem.Env) bool // nil: Tamil
	envs     sync.Pool                    // of *snowballstem.Env
}

var analyzers = sync.OnceValue(func() map[string]*analyzer { //nolint:gochecknoglobals // read once, never changed
	out := map[string]*analyzer{}
	for language, stem := range stemmers {
		a := &analyzer{language: language, stop: map[string]bool{}, stem: stem}
		b, err := stopFiles.ReadFile("stop/" + language + ".txt")
		if err != nil {
			panic(err) // it is built in
		}
		for w := range strings.FieldsSeq(string(b)) {
			a.stop[w] = true
		}
		out[language] = a
	}
	return out
})

// analyzerOf returns a language's analyzer, and English for others.
func analyzerOf(language string) *analyzer {
	all := analyzers()
	if a := all[language]; a != nil {
		return a
	}
	return all[English]
}

// term is what a word in lower case is found by; empty for a stop word.
func (a *analyzer) term(w string) string {
	if a.language != Tamil && isTamil(w) {
		return analyzers()[Tamil].term(w)
	}
	if i := strings.IndexByte(w, '\''); i > 0 && i <= longestElision && a.elides() {
		w = w[i+1:]
	}
	if !a.writes(w) {
		return strings.ReplaceAll(w, "'", "")
	}
	if a.stop[w] {
		return ""
	}
	if utf8.RuneCountInString(w) < 3 {
		return w
	}
	if a.stem == nil {
		return stemTamil(w)
	}
	env, _ := a.envs.Get().(*snowballstem.Env)
	if env == nil {
		env = snowballstem.NewEnv("")
	}
	env.SetCurrent(w)
	a.stem(env)
	out := strings.ReplaceAll(env.Current(), "'", "")
	a.envs.Put(env)
	if out == "" {
		return w
	}
	return out
}

// writes reports whether a word is in letters of the language. English words of other letters, and words with digits, stay as they are.
func (a *analyzer) writes(w string) bool {
	script := unicode.Latin
	switch a.language {
	case "ru":
		script = unicode.Cyrillic
	case "ar":
		script = unicode.Arabic
	case Tamil:
		script = unicode.Tamil
	}
	for _, r := range w {
		switch {
		case r < utf8.RuneSelf:
			if r >= '0' && r <= '9' || script != unicode.Latin {
				return false
			}
		case a.language == English:
			return false
		case !unicode.Is(script, r) && !unicode.IsMark(r):
			return false
		}
	}
	return true
}

const longestElision = 2 // l'histoire, qu'il

func (a *analyzer) elides() bool { return a.language == "fr" || a.language == "it" }

func isTamil(w string) bool {
	r, _ := utf8.DecodeRuneInString(w)
	return r >= 0x0B80 && r <= 0x0BFF
}

const (
	detectBytes = 8 << 10 // of a text that are looked at
	detectWords = 5       // stop words that make a language known
)

// Detect tells the language of a text by its stop words: the one with the most of them, if it has at least five and a
// fifth more than English, else English. Tamil by its script.
func Detect(text string) string {
	text = strings.ToValidUTF8(text[:min(len(text), detectBytes)], "")
	counts := map[string]int{}
	tamils, others := 0, 0
	s := splitter{yield: func(w string, _, _ int) {
		if isTamil(w) {
			tamils++
			return
		}
		others++
		for language, a := range analyzers() {
			if a.stop[w] {
				counts[language]++
			}
		}
	}}
	s.text(text)
	if tamils > others {
		return Tamil
	}
	best := English
	for _, language := range Languages() {
		if counts[language] >= detectWords && counts[language]*5 > counts[English]*6 && (best == English || counts[language] > counts[best]) {
			best = language
		}
	}
	return best
}

// rules names how texts become terms: it changes with them, so that what was made by others is made anew.
const rules = "1"

// Format names the rules for texts of a language, for what is stored of them.
func Format(language string) string { return rules + "/" + analyzerOf(language).language }

// Current reports whether a stored format is one of today's.
func Current(format string) bool {
	language, ok := strings.CutPrefix(format, rules+"/")
	_, known := stemmers[language]
	return ok && known
}

// LanguageOf is the language of a format.
func LanguageOf(format string) string {
	_, language, _ := strings.Cut(format, "/")
	return language
}
