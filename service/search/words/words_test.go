package words_test

import (
	"math"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"aran/service/search/words"
)

func TestTerms(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"lower case and stems", "Running RUNS runner", "run run runner"},
		{"stop words go", "the audit of the log", "audit log"},
		{"apostrophes", "Don't use the user’s 'quoted' words", "use user quot word"},
		{"digits and codes stay", "ISO27001 v2 a1b2 2024", "iso27001 v2 a1b2 2024"},
		{"dotted names split", "aran.search.document_indexed.v1", "aran search document index v1"},
		{"compatibility forms", "ﬁle ＡＢＣ ²", "file abc 2"},
		{"other languages keep their words", "Zuständigkeiten Événement", "zuständigkeiten événement"},
		{"tamil with its marks", "பாதுகாப்பான அரண்", "பாதுகாப்ப அரண"},
		{"chinese in pairs", "安全平台", "安全 全平 平台"},
		{"a lone character", "人 and 東京", "人 東京"},
		{"mixed scripts", "GPU加速 fast", "gpu 加速 fast"},
		{"nothing", " \t…—!", ""},
	} {
		if got := strings.Join(words.List("", c.text), " "); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

func TestLanguages(t *testing.T) {
	for _, c := range []struct{ language, text, want string }{
		{"de", "Die Zuständigkeiten der Häuser", "zustand haus"},
		{"fr", "Les événements de l'histoire qu’il raconte", "éven histoir racont"},
		{"ru", "Книги о безопасности, книгой", "книг безопасн книг"},
		{"en", "Événement stays, events are stemmed", "événement stay event stem"},
		{"de", "அரணில் und GPU2", "அரண gpu2"},
		{"xx", "running of the unknown", "run unknown"},
		{"ta", "வீடு வீட்டில் வீட்டிற்கு வீடுகளில் வீட்டிலிருந்து", "வீட வீட வீட வீட வீட"},
		{"ta", "மரம் மரத்தில் மரங்கள் மரங்களை மரத்துக்கு", "மர மர மர மர மர"},
		{"ta", "பள்ளி பள்ளிகள் பள்ளியில் பள்ளிக்கு", "பள்ளி பள்ளி பள்ளி பள்ளி"},
		{"ta", "பாதுகாப்பு பாதுகாப்பான பாதுகாப்பை மற்றும்", "பாதுகாப்ப பாதுகாப்ப பாதுகாப்ப"},
		{"ta", "மலை மலையில் கால் பால் நாய் நாய்கள்", "மலை மலை கால பால நாய நாய"},
	} {
		if got := strings.Join(words.List(c.language, c.text), " "); got != c.want {
			t.Errorf("%s, %s: %q, want %q", c.language, c.text, got, c.want)
		}
	}
	if got := strings.Join(words.Query("die Häuser", 9, "de", "en"), " "); got != "die haus häuser" {
		t.Errorf("a query in two languages: %q", got)
	}
}

func TestDetect(t *testing.T) {
	for text, want := range map[string]string{
		"": "en", "short": "en", "The log is kept for as long as it is needed, and no longer than that": "en",
		"Das ist ein Haus, und es ist nicht so groß wie die anderen":  "de",
		"Il est dans la maison avec les enfants et il ne veut pas":    "fr",
		"El perro está en la casa y no quiere salir con los otros":    "es",
		"Он не знает, что это такое, и не может ответить на вопрос о": "ru",
		"அரண் என்பது பாதுகாப்பான தளம்":                                "ta",
		"a database log with de and la in it":                         "en",
	} {
		if got := words.Detect(text); got != want {
			t.Errorf("Detect(%q) = %s, want %s", text, got, want)
		}
	}
	if !words.Current(words.Format("de")) || words.Current("0/de") || words.Current("") || words.LanguageOf(words.Format("xx")) != "en" {
		t.Error("formats")
	}
}

func TestSpansStandWhereTheWordIs(t *testing.T) {
	text := "The ﬁles’ Größe: e\u0301te\u0301, 安全平台 – மரத்தில் ＡＢＣ"
	want := []string{"ﬁles", "Größe", "e\u0301te\u0301", "安全", "全平", "平台", "மரத்தில்", "ＡＢＣ"}
	var got []string
	words.Spans("", text, func(_ string, start, end int) { got = append(got, text[start:end]) })
	if !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestLatin(t *testing.T) {
	for text, want := range map[string]bool{"what is this": true, "12 + 4": true, "அரண் என்றால் என்ன": false, "Что это": false, "the word அரண் in English": true} {
		if words.Latin(text) != want {
			t.Errorf("Latin(%q) = %v", text, !want)
		}
	}
}

func TestScores(t *testing.T) {
	if words.Weight(1, 100) <= words.Weight(50, 100) || words.Weight(100, 100) <= 0 || words.Weight(9, 3) <= 0 {
		t.Error("a rare term weighs more, and none weighs nothing")
	}
	if words.Score(2, 10, 10) <= words.Score(1, 10, 10) || words.Score(1, 5, 10) <= words.Score(1, 20, 10) {
		t.Error("more is better, longer is worse")
	}
	if s := words.Score(1, 0, 0); math.IsNaN(s) || math.IsInf(s, 0) {
		t.Errorf("empty collection: %v", s)
	}
}

func TestIDKeepsCollectionsApart(t *testing.T) {
	if words.ID("a", "word") == words.ID("b", "word") || words.ID("a", "word") != words.ID("a", strings.ToLower("WORD")) || words.ID("a", "bc") == words.ID("ab", "c") {
		t.Error("ids")
	}
}

func TestPostingsRoundTrip(t *testing.T) {
	want := []words.Posting{{0, 1, 10}, {1, 3, 200}, {70000, 2, 5}}
	var b []byte
	last := -1
	for _, p := range want {
		b = words.Append(b, last, p)
		last = p.Passage
	}
	var got []words.Posting
	if err := words.Postings(b, func(p words.Posting) { got = append(got, p) }); err != nil || !slices.Equal(got, want) {
		t.Errorf("%v, %v", got, err)
	}
	if words.Postings(b[:len(b)-1], func(words.Posting) {}) == nil {
		t.Error("a cut list was read")
	}
}

func FuzzTerms(f *testing.F) {
	f.Add("The audit log's entries — 安全 ﬁn அரண் don't")
	f.Add("'' ’ \u200d\u200c a\u0301")
	f.Add(strings.Repeat("x'", 100))
	f.Fuzz(func(t *testing.T, s string) {
		s = strings.ToValidUTF8(s, "\uFFFD")
		got := words.List("", s)
		for _, term := range got {
			if term == "" || len(term) > 80 || !utf8.ValidString(term) || strings.ContainsAny(term, " \t\n'.") {
				t.Fatalf("%q gives the term %q", s, term)
			}
		}
		last := 0
		words.Spans("", s, func(term string, start, end int) {
			if start < 0 || end > len(s) || start >= end || end < last {
				t.Fatalf("%q: %q stands at [%d,%d) after %d", s, term, start, end, last)
			}
			last = end
		})
		if again := words.List("", s+"\n"+s); len(again) != 2*len(got) {
			t.Fatalf("%q has %d terms, and twice it %d", s, len(got), len(again))
		}
	})
}

func FuzzPostings(f *testing.F) {
	f.Add([]byte{1, 1, 10, 1, 3, 5})
	f.Fuzz(func(t *testing.T, b []byte) {
		last := -1
		_ = words.Postings(b, func(p words.Posting) {
			if p.Passage <= last {
				t.Fatalf("passage %d after %d", p.Passage, last)
			}
			last = p.Passage
		})
	})
}

func BenchmarkList(b *testing.B) {
	text := strings.Repeat("The audit log holds every decision that the platform made, and proofs that nothing was changed. ", 10)
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		words.List("", text)
	}
}
