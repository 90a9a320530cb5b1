package words

import (
	"strings"
	"unicode"
)

// A light stemmer for Tamil nouns: it takes off clitics, case endings and the plural, undoes what they do to the
// noun's end, and nothing else. After Lehmann, A Grammar of Modern Tamil (1989), §2: noun inflection; the oblique
// stems of nouns in -m, -ṭu and -ṟu: §2.1. Snowball's algorithm for Tamil takes so much off that words without
// relation become one (பாதுகாப்பான, secure → பா, song), and leaves plurals of nouns in -m apart (மரங்).

// tamilEndings are endings as they are written behind a consonant, longer ones first where one ends in another.
var tamilEndings = []string{ //nolint:gochecknoglobals // never changed
	"ிலிருந்தும்", "ிடமிருந்து", "ிலிருந்து", "ினுடைய", "ுக்காக", "ிற்காக", "க்காக", "ுடைய", "ினால்", "ுக்கும்", "ிற்கும்",
	"ுக்கு", "ிற்கு", "க்கும்", "க்கு", "ிலும்", "ிடம்", "ுடன்", "ோடு", "ில்", "ின்", "ால்", "ினை", "ாக", "ான", "ும்", "ை",
}

// tamilPlurals are endings of the plural, whole and before another ending, longer ones first.
var tamilPlurals = []string{"ங்கள்", "ங்கள", "க்கள்", "க்கள", "கள்", "கள"} //nolint:gochecknoglobals // never changed

const (
	tamilLetters = 2 // that are left at least
	tamilRounds  = 4 // endings stand behind one another
)

func stemTamil(w string) string {
	for range tamilRounds {
		s, ok := withoutEnding(w)
		if !ok {
			break
		}
		w = unglided(s)
	}
	for _, p := range tamilPlurals {
		if s, ok := strings.CutSuffix(w, p); ok && letters(s) >= tamilLetters {
			w = s
			break
		}
	}
	// Nouns in -m have -tt- before an ending; -ṭu and -ṟu are doubled there.
	for _, end := range []string{"த்து", "த்த", "ம்"} {
		if s, ok := strings.CutSuffix(w, end); ok && letters(s) >= tamilLetters {
			return s
		}
	}
	w = strings.TrimSuffix(strings.TrimSuffix(w, "ு"), "்")
	for _, c := range []string{"ட", "ற"} {
		if s, ok := strings.CutSuffix(w, c+"்"+c); ok {
			return s + c
		}
	}
	return w
}

func withoutEnding(w string) (string, bool) {
	for _, end := range tamilEndings {
		s, ok := strings.CutSuffix(w, end)
		if !ok {
			continue
		}
		least := tamilLetters
		if end == "ை" {
			least++ // many short nouns end so themselves
		}
		if letters(s) >= least && !strings.HasSuffix(s, "்") {
			return s, true
		}
	}
	return w, false
}

// unglided takes off the y or v that joins an ending to a vowel.
func unglided(w string) string {
	for _, g := range []struct{ glide, after string }{{"ய", "ிீை"}, {"வ", "ுூாோ"}} {
		s, ok := strings.CutSuffix(w, g.glide)
		if ok && strings.ContainsAny(lastRune(s), g.after) {
			return s
		}
	}
	return w
}

func lastRune(s string) string {
	r := []rune(s)
	if len(r) == 0 {
		return ""
	}
	return string(r[len(r)-1])
}

// letters counts characters without vowel signs and the mark of a bare consonant.
func letters(s string) (n int) {
	for _, r := range s {
		if !unicode.IsMark(r) {
			n++
		}
	}
	return n
}
