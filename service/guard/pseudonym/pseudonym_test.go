package pseudonym_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"aran/service/guard/detect"
	"aran/service/guard/pseudonym"
)

var key = []byte("a key of thirty-two bytes, really")

const limit = 1000

// mark finds values that a test lists by kind.
func mark(text string, values ...[2]string) (out []detect.Finding) {
	for _, v := range values {
		for _, at := range regexp.MustCompile(regexp.QuoteMeta(v[1])).FindAllStringIndex(text, -1) {
			out = append(out, detect.Finding{Kind: v[0], Start: at[0], End: at[1]})
		}
	}
	return out
}

func replace(t testing.TB, m *pseudonym.Map, text string, values ...[2]string) (string, *pseudonym.Map, []pseudonym.Pair) {
	t.Helper()
	out, fresh, err := m.Replace(key, []string{text}, [][]detect.Finding{mark(text, values...)}, limit)
	if err != nil {
		t.Fatal(err)
	}
	return out[0], pseudonym.New(fresh), fresh
}

const letter = "Dear Asha Rao, call +91 98765 43210 or write to Asha.Rao@example.org about card 4111 1111 1111 1111 at 10.1.2.3. ASHA RAO and asha rao are one; Rao's number is +919876543210."

var inLetter = [][2]string{{"pii.person", "Asha Rao"}, {"pii.person", "ASHA RAO"}, {"pii.phone", "+91 98765 43210"}, {"pii.phone", "+919876543210"}, {"pii.email", "Asha.Rao@example.org"}, {"pii.card", "4111 1111 1111 1111"}, {"pii.ip", "10.1.2.3"}}

func TestWhatIsReplacedComesBack(t *testing.T) {
	out, m, pairs := replace(t, pseudonym.New(nil), letter, inLetter...)
	for _, p := range pairs {
		if strings.Contains(out, p.Value) {
			t.Errorf("%s is still there: %s", p.Kind, out)
		}
		if !m.Known(p.Value) || !m.Known(strings.ToUpper(p.Value)) || !m.Pseudonym(p.Pseudonym) || m.Known(p.Pseudonym) {
			t.Errorf("what is known of %s is wrong", p.Kind)
		}
	}
	if strings.Contains(strings.ToLower(out), "rao") {
		t.Errorf("a name that no detector found again is still there: %s", out)
	}
	if back, hold := m.Restore(out, true); back != letter || hold != "" {
		t.Errorf("restored %q, %q", back, hold)
	}
}

func TestPseudonymsLookLikeWhatTheyStandFor(t *testing.T) {
	for _, c := range []struct{ kind, value, form string }{
		{"pii.person", "Asha Rao", `^Person-[A-Z][A-Z2-9]{4}$`},
		{"pii.email", "a@b.example", `^mail-[a-z][a-z2-9]{4}@redacted\.example$`},
		{"pii.phone", "+91 98765 43210", `^\+91 0\d{4} \d{5}$`},
		{"pii.phone", "(202) 456-1111", `^\([2-9][0-8]\d\) 555-01\d\d$`},
		{"pii.phone", "+1 202 456 1111", `^\+1 [2-9][0-8]\d 555 01\d\d$`},
		{"pii.phone", "+44 7911 123456", `^\+44 7700 900\d{3}$`},
		{"pii.phone", "9876543210", `^00\d{8}$`},
		{"pii.card", "4111-1111-1111-1111", `^0\d{3}-\d{4}-\d{4}-\d{4}$`},
		{"pii.ip", "8.8.8.8", `^(192\.0\.2|198\.51\.100|203\.0\.113)\.[12]\d\d$`},
		{"pii.ip", "2a00::1", `^2001:db8::[1-9a-f]{4}:[1-9a-f]{4}$`},
		{"pii.url", "https://a.example/?u=1", `^https://redacted\.example/[a-z][a-z2-9]{4}$`},
		{"pii.ssn", "078-05-1120", `^Ssn-[A-Z][A-Z2-9]{4}$`},
		{"secret", "hunter2hunter2", `^Secret-[A-Z][A-Z2-9]{4}$`},
	} {
		got, _, _ := replace(t, pseudonym.New(nil), c.value, [2]string{c.kind, c.value})
		if !regexp.MustCompile(c.form).MatchString(got) {
			t.Errorf("%s %q became %q", c.kind, c.value, got)
		}
	}
}

func TestTheSameValueHasTheSamePseudonymInItsConversationOnly(t *testing.T) {
	name := [2]string{"pii.person", "Asha Rao"}
	out, m, _ := replace(t, pseudonym.New(nil), "Asha Rao and Asha Rao", name)
	a, b, _ := strings.Cut(out, " and ")
	if a != b {
		t.Errorf("one value has two pseudonyms: %s", out)
	}
	again, _, fresh := replace(t, m, "once more Asha Rao", name)
	if again != "once more "+a || len(fresh) > 0 {
		t.Errorf("later in the conversation: %s, %v", again, fresh)
	}
	shout, _, _ := replace(t, m, "ASHA RAO", [2]string{"pii.person", "ASHA RAO"})
	if shout != strings.ToUpper(a) {
		t.Errorf("in capitals: %s, and before: %s", shout, a)
	}
	other, _, err := pseudonym.New(nil).Replace([]byte("another key"), []string{"Asha Rao"}, [][]detect.Finding{{{Kind: "pii.person", End: 8}}}, limit)
	if err != nil || other[0] == a {
		t.Errorf("another conversation has the same pseudonym: %v, %v", other, err)
	}
}

// TestWhatModelsDoToPseudonyms: they are found again all the same.
func TestWhatModelsDoToPseudonyms(t *testing.T) {
	_, m, pairs := replace(t, pseudonym.New(nil), letter, inLetter...)
	at := map[string]pseudonym.Pair{}
	for _, p := range pairs {
		if _, ok := at[p.Kind]; !ok {
			at[p.Kind] = p
		}
	}
	person, phone, mail, card := at["pii.person"].Pseudonym, at["pii.phone"].Pseudonym, at["pii.email"].Pseudonym, at["pii.card"].Pseudonym
	mixed := "pERSON-" + person[len("Person-"):]
	for said, want := range map[string]string{
		person + "'s card":                          "Asha Rao's card",
		"**" + person + "** and _" + person + "_":   "**Asha Rao** and _Asha Rao_",
		"`" + person + "`":                          "`Asha Rao`",
		"the " + person + "s":                       "the Asha Raos",
		mixed:                                       "Asha Rao",
		strings.ToUpper(person):                     "ASHA RAO",
		strings.ReplaceAll(person, "-", "\u2011"):   "Asha Rao",
		strings.ReplaceAll(person, "-", `\-`):       "Asha Rao",
		strings.ReplaceAll(person, "-", " "):        "Asha Rao",
		"[" + mail + "](mailto:" + mail + ")":       "[Asha.Rao@example.org](mailto:Asha.Rao@example.org)",
		strings.ToLower(mail):                       "Asha.Rao@example.org",
		strings.ReplaceAll(phone, " ", "-"):         "+91 98765 43210",
		strings.ReplaceAll(phone, " ", ""):          "+919876543210",
		"tel:" + phone + ".":                        "tel:+91 98765 43210.",
		strings.ReplaceAll(card, " ", ""):           "4111 1111 1111 1111",
		"nothing of it":                             "nothing of it",
		"Person-" + strings.Repeat("B", 5) + " who": "Person-" + strings.Repeat("B", 5) + " who",
	} {
		if got, _ := m.Restore(said, true); got != want {
			t.Errorf("%q became %q, want %q", said, got, want)
		}
	}
}

func TestTextThatLooksLikeAPseudonymComesBackAsItWas(t *testing.T) {
	_, m, pairs := replace(t, pseudonym.New(nil), letter, inLetter...)
	for _, p := range pairs {
		for _, s := range []string{p.Pseudonym, "x" + strings.ToLower(p.Pseudonym) + "y", strings.ReplaceAll(p.Pseudonym, "-", "\u2011"), p.Pseudonym + p.Pseudonym, p.Pseudonym + " of " + p.Value} {
			out, fresh, err := m.Replace(key, []string{s}, [][]detect.Finding{nil}, limit)
			if err != nil {
				t.Fatal(err)
			}
			if back, _ := pseudonym.New(append(append([]pseudonym.Pair{}, pairs...), fresh...)).Restore(out[0], true); back != s {
				t.Errorf("%q went as %q and came back as %q", s, out[0], back)
			}
		}
	}
}

// inPieces restores a text cut at random.
func inPieces(t testing.TB, m *pseudonym.Map, text string, r *rand.Rand) string {
	t.Helper()
	var out strings.Builder
	hold := ""
	for text != "" {
		n := 1 + r.IntN(min(9, len(text)))
		release, held := m.Restore(hold+text[:n], false)
		if utf8.RuneCountInString(held) > m.Longest()+64 {
			t.Errorf("%d characters are held back: %q", utf8.RuneCountInString(held), held)
		}
		out.WriteString(release)
		hold, text = held, text[n:]
	}
	release, hold := m.Restore(hold, true)
	if hold != "" {
		t.Errorf("held back at the end: %q", hold)
	}
	return out.String() + release
}

func TestHoweverItIsCutTheSameIsRestored(t *testing.T) {
	out, m, pairs := replace(t, pseudonym.New(nil), letter, inLetter...)
	r := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		text := out
		for range r.IntN(6) { // pseudonyms, whole and in parts, at odd places
			p := pairs[r.IntN(len(pairs))].Pseudonym
			at := r.IntN(len(text) + 1)
			text = text[:at] + []string{p, p[:r.IntN(len(p))], p[r.IntN(len(p)):], strings.ToUpper(p), strings.ReplaceAll(p, "-", "\u2011"), `\`, "(+", "é"}[r.IntN(8)] + text[at:]
		}
		whole, _ := m.Restore(text, true)
		if got := inPieces(t, m, text, r); got != whole {
			t.Fatalf("in pieces %q\nwhole     %q\nof        %q", got, whole, text)
		}
	}
}

func TestAConversationIsBounded(t *testing.T) {
	_, _, err := pseudonym.New(nil).Replace(key, []string{"Asha and Ravi"}, [][]detect.Finding{{{Kind: "pii.person", Start: 0, End: 4}, {Kind: "pii.person", Start: 9, End: 13}}}, 1)
	if err != pseudonym.ErrFull { //nolint:errorlint // returned as it is
		t.Errorf("two values where one may be: %v", err)
	}
}

// TestTooManyValuesAreCountedFirst: no pseudonym is made when not all can be. Here none could be, for the text has them all.
func TestTooManyValuesAreCountedFirst(t *testing.T) {
	var text strings.Builder
	for n := range 1000 {
		fmt.Fprintf(&text, "07700900%03d\n", n)
	}
	text.WriteString("07911123456\n07911123457\n")
	all := [][]detect.Finding{mark(text.String(), [2]string{"pii.phone", "07911123456"}, [2]string{"pii.phone", "07911123457"})}
	for most, want := range map[int]bool{1: true, 2: false} {
		_, _, err := pseudonym.New(nil).Replace(key, []string{text.String()}, all, most)
		if err == nil || errors.Is(err, pseudonym.ErrFull) != want {
			t.Errorf("two values where %d may be: %v", most, err)
		}
	}
}

// TestAFullConversationGoesOn: what has a pseudonym already is no new value.
func TestAFullConversationGoesOn(t *testing.T) {
	out, m, fresh := replace(t, pseudonym.New(nil), letter, inLetter...)
	again, more, err := m.Replace(key, []string{letter}, [][]detect.Finding{mark(letter, inLetter...)}, len(fresh)-1)
	if err != nil || len(more) > 0 || again[0] != out {
		t.Errorf("%q, %v, %v", again, more, err)
	}
}

// TestPseudonymsOfWhatIsInTheTextAreNotMade: neither contains the other, in whatever form the text has it.
func TestPseudonymsOfWhatIsInTheTextAreNotMade(t *testing.T) {
	for kind, value := range map[string]string{"pii.person": "Asha Rao", "pii.email": "a@b.example", "pii.phone": "+91 98765 43210", "pii.card": "4111 1111 1111 1111", "pii.ip": "8.8.8.8", "secret": "hunter2hunter2", "pii.url": "https://a.example/?u=1"} {
		first, _, _ := replace(t, pseudonym.New(nil), value, [2]string{kind, value})
		for _, form := range []string{first, strings.ToUpper(first), strings.ReplaceAll(first, "-", "\u2011"), strings.ReplaceAll(first, "-", `\-`), strings.ReplaceAll(first, ".", `\.`), "x" + first + "y", strings.ReplaceAll(first, " ", "(."), "9" + first + "9"} {
			text := form + " / " + value
			out, m, fresh := replace(t, pseudonym.New(nil), text, [2]string{kind, value})
			if back, _ := m.Restore(out, true); back != text || len(fresh) != 1 || strings.EqualFold(fresh[0].Pseudonym, first) {
				t.Errorf("%s: %q went as %q and came back as %q", kind, text, out, back)
			}
		}
	}
}

// many values of a kind, one on a line.
func many(n int, kind, form string) (text string, found []detect.Finding) {
	var b strings.Builder
	for i := range n {
		start := b.Len()
		fmt.Fprintf(&b, form, i)
		found = append(found, detect.Finding{Kind: kind, Start: start, End: b.Len()})
		b.WriteByte('\n')
	}
	return b.String(), found
}

var forms = map[string]string{"pii.email": "user%d@example.org", "pii.phone": "+91 98765 4%04d", "pii.card": "4111 1111 1111 %04d"}

// TestTheWorkGrowsAsTheValuesDo: four times as many take four times as many pieces of memory, not sixteen times.
func TestTheWorkGrowsAsTheValuesDo(t *testing.T) {
	for kind, form := range forms {
		work := func(n int) float64 {
			text, found := many(n, kind, form)
			return testing.AllocsPerRun(1, func() {
				out, fresh, err := pseudonym.New(nil).Replace(key, []string{text}, [][]detect.Finding{found}, n)
				if err != nil || len(fresh) != n {
					t.Errorf("%d of %d values, %v", len(fresh), n, err)
					return
				}
				if back, _ := pseudonym.New(fresh).Restore(out[0], true); back != text {
					t.Errorf("%d values of %s did not come back", n, kind)
				}
			})
		}
		if few, more := work(200), work(800); more > 6*few {
			t.Errorf("%s: 200 values take %.0f allocations, 800 take %.0f", kind, few, more)
		}
	}
}

func BenchmarkReplace(b *testing.B) {
	for kind, form := range forms {
		for _, n := range []int{500, 1000, 2000, 4000} {
			text, found := many(n, kind, form)
			b.Run(fmt.Sprintf("%s/%d", kind, n), func(b *testing.B) {
				for b.Loop() {
					if _, _, err := pseudonym.New(nil).Replace(key, []string{text}, [][]detect.Finding{found}, n); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

// BenchmarkReplaceAmongDigits has one number, and a text of which all could be one.
func BenchmarkReplaceAmongDigits(b *testing.B) {
	text := "+91 98765 43210\n" + strings.Repeat("31415926 5358979.", 1_000_000/17)
	for b.Loop() {
		if _, _, err := pseudonym.New(nil).Replace(key, []string{text}, [][]detect.Finding{{{Kind: "pii.phone", End: 15}}}, 1); err != nil {
			b.Fatal(err)
		}
	}
}

func FuzzReplace(f *testing.F) {
	f.Add(letter, "Asha Rao", "98765", uint64(1))
	f.Add("Person-BBBBB person-bbbbb", "Person", "b", uint64(2))
	f.Add("\xff\xe2\x80 (+1 \\", "\xe2", "1", uint64(3))
	f.Fuzz(func(t *testing.T, text, one, two string, seed uint64) {
		var found []detect.Finding
		for kind, v := range map[string]string{"pii.person": one, "pii.phone": two} {
			if i := strings.Index(text, v); v != "" && i >= 0 {
				found = append(found, detect.Finding{Kind: kind, Start: i, End: i + len(v)})
			}
		}
		first, pairs, err := pseudonym.New(nil).Replace(key, []string{text}, [][]detect.Finding{found}, limit)
		if err != nil {
			t.Skip()
		}
		m := pseudonym.New(pairs)
		// What was made is itself a text of the conversation that may come in again.
		second, more, err := m.Replace(key, []string{first[0] + text}, [][]detect.Finding{nil}, limit)
		if err != nil {
			t.Skip()
		}
		m = pseudonym.New(append(pairs, more...))
		if got := inPieces(t, m, first[0], rand.New(rand.NewPCG(seed, 1))); got != text {
			t.Errorf("%q came back as %q", text, got)
		}
		if got := inPieces(t, m, second[0], rand.New(rand.NewPCG(seed, 2))); got != first[0]+text {
			t.Errorf("%q came back as %q", first[0]+text, got)
		}
	})
}
