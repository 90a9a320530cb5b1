package mutate

import (
	_ "embed"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"unicode"

	"github.com/goccy/go-yaml"
)

//go:embed words.yaml
var wordsFile []byte

// wordsOf is the contents of words.yaml.
type wordsOf struct {
	Synonyms  map[string][]string `yaml:"synonyms"`
	Frames    map[string][]string `yaml:"frames"`
	Languages map[string]struct {
		Carriers []string          `yaml:"carriers"`
		Words    map[string]string `yaml:"words"`
	} `yaml:"languages"`
}

// known is words.yaml.
var known = sync.OnceValue(func() (w wordsOf) { //nolint:gochecknoglobals // constant data, read on first use
	if err := yaml.UnmarshalWithOptions(wordsFile, &w, yaml.Strict()); err != nil {
		panic(fmt.Errorf("words.yaml: %w", err)) // a bug in this program
	}
	return w
})

// framed says a text inside of one of some sentences.
func framed(frames []string) func(string, *rand.Rand) string {
	return func(s string, r *rand.Rand) string {
		return strings.Replace(frames[r.IntN(len(frames))], "{}", s, 1)
	}
}

// swap exchanges words; those of two words first. The case of a first letter stays.
func swap(pick func(word string, r *rand.Rand) string) func(string, *rand.Rand) string {
	one := func(w string, r *rand.Rand) string {
		o := pick(strings.ToLower(w), r)
		if o == "" {
			return w
		}
		if c := []rune(w); unicode.IsUpper(c[0]) {
			d := []rune(o)
			d[0] = unicode.ToUpper(d[0])
			return string(d)
		}
		return o
	}
	return words(one)
}

func paraphrases() []Mutation {
	out := []Mutation{
		{Name: "paraphrase.synonyms", Family: Paraphrase, apply: swap(func(w string, r *rand.Rand) string {
			if o := known().Synonyms[w]; len(o) > 0 {
				return o[r.IntN(len(o))]
			}
			return ""
		})},
		{Name: "paraphrase.some-synonyms", Family: Paraphrase, apply: swap(func(w string, r *rand.Rand) string {
			if o := known().Synonyms[w]; len(o) > 0 && r.IntN(2) == 0 {
				return o[r.IntN(len(o))]
			}
			return ""
		})},
	}
	for _, name := range slices.Sorted(maps.Keys(known().Frames)) {
		out = append(out, Mutation{Name: "paraphrase." + name, Family: Paraphrase, apply: framed(known().Frames[name])})
	}
	return out
}

// pairs exchanges phrases of two words before single ones.
func mixed(dictionary map[string]string) func(string, *rand.Rand) string {
	single := swap(func(w string, _ *rand.Rand) string { return dictionary[w] })
	var phrases []string
	for _, p := range slices.Sorted(maps.Keys(dictionary)) {
		if strings.Contains(p, " ") {
			phrases = append(phrases, p, dictionary[p])
		}
	}
	double := strings.NewReplacer(phrases...)
	return func(s string, r *rand.Rand) string { return single(double.Replace(s), r) }
}

func languages() []Mutation {
	var out []Mutation
	for _, name := range slices.Sorted(maps.Keys(known().Languages)) {
		l := known().Languages[name]
		carry := framed(l.Carriers)
		mix := mixed(l.Words)
		out = append(out,
			Mutation{Name: "language." + name, Family: Language, apply: carry},
			Mutation{Name: "language." + name + "-mixed", Family: Language, apply: mix},
		)
	}
	return out
}
