// Command pii compares what guard finds, and what a peer found, with what is there.
//
//	go run ./test/bench/pii FILE
//
// FILE is JSONL of {"text", "spans": [{"kind", "start", "end"}], "found": [...]}; spans are what is there and found what the peer
// found (presidio.py), in characters. A span is found when a finding of its kind overlaps it, and by anything when a finding of any
// kind does; a finding is right when it overlaps a span of its kind.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"aran/service/guard/pii"
)

type span struct {
	Kind       string
	Start, End int
}

type sample struct {
	Text  string
	Spans []span
	Found []span
}

// kinds maps those of Presidio's sets and findings to ours. What is not here is of no kind that both know.
var kinds = map[string]string{ //nolint:gochecknoglobals // a constant table
	"PERSON": "person", "pii.person": "person",
	"GPE": "place", "LOCATION": "place", "pii.place": "place",
	"ORGANIZATION": "organisation", "pii.organisation": "organisation",
	"STREET_ADDRESS": "address", "pii.address": "address",
	"CREDIT_CARD": "card", "pii.card": "card",
	"EMAIL_ADDRESS": "email", "pii.email": "email",
	"PHONE_NUMBER": "phone", "pii.phone": "phone",
	"IBAN_CODE": "iban", "pii.iban": "iban",
	"US_SSN": "ssn", "pii.ssn": "ssn",
	"IP_ADDRESS": "ip", "pii.ip": "ip",
	"DOMAIN_NAME": "url", "URL": "url", "pii.url": "url",
	"AGE": "age", "pii.age": "age",
	"ZIP_CODE": "postcode", "pii.postcode": "postcode",
	"US_DRIVER_LICENSE": "licence", "pii.driving_licence": "licence",
}

// kindOf is the kind that both sides know; what is named as we name it is its own.
func kindOf(s string) string {
	if k := kinds[s]; k != "" {
		return k
	}
	if k, found := strings.CutPrefix(s, "pii."); found && k != "birth_date" { // theirs are among dates of all sorts
		return k
	}
	return ""
}

// score counts one side's findings of a kind.
type score struct{ there, found, byAny, said, right int }

func main() {
	if err := run(os.Args[1:], os.Stdout); err != nil {
		_, _ = fmt.Fprintln(os.Stderr, "pii:", err)
		os.Exit(1)
	}
}

func run(args []string, out io.Writer) error {
	if len(args) == 0 {
		return errors.New("usage: pii FILE [KIND]; with a kind it prints what was missed or made up")
	}
	samples, err := read(args[0])
	if err != nil {
		return err
	}
	options := pii.Options{Names: true}                 // as Anonymize looks
	for _, s := range samples[:min(len(samples), 50)] { // lists are read
		options.Find(s.Text)
	}
	ours, theirs := map[string]*score{}, map[string]*score{}
	var took time.Duration
	size := 0
	for _, s := range samples {
		begin := time.Now()
		found := options.Find(s.Text)
		took += time.Since(begin)
		size += len(s.Text)
		var mine []span
		for _, f := range found {
			mine = append(mine, span{f.Kind, utf8.RuneCountInString(s.Text[:f.Start]), utf8.RuneCountInString(s.Text[:f.End])})
		}
		count(ours, s, mine)
		count(theirs, s, s.Found)
		if len(args) > 1 {
			explain(out, s, mine, args[1])
		}
	}
	_, _ = fmt.Fprintf(out, "%d texts, %d KB; guard took %v, %.0f µs for a KB\n\n", len(samples), size>>10, took.Round(time.Millisecond), float64(took.Microseconds())/(float64(size)/1024))
	_, _ = fmt.Fprintf(out, "| kind | there | guard recall | precision | found as anything | peer recall | precision | found as anything |\n|---|---|---|---|---|---|---|---|\n")
	names := []string{}
	all := score{}
	for k, x := range ours {
		if !slices.Contains(softKinds, k) {
			all.there, all.found, all.said, all.right = all.there+x.there, all.found+x.found, all.said+x.said, all.right+x.right
		}
		names = append(names, k)
	}
	slices.Sort(names)
	for _, k := range names {
		a, b := ours[k], theirs[k]
		if b == nil {
			b = &score{}
		}
		if a.there > 0 || a.said > 0 && !slices.Contains(softKinds, k) {
			_, _ = fmt.Fprintf(out, "| %s | %d | %s | %s | %s | %s | %s | %s |\n", k, a.there, part(a.found, a.there), part(a.right, a.said), part(a.byAny, a.there), part(b.found, a.there), part(b.right, b.said), part(b.byAny, a.there))
		}
	}
	_, _ = fmt.Fprintf(out, "\nstructured kinds together: recall %s, precision %s\n", part(all.found, all.there), part(all.right, all.said))
	return nil
}

// softKinds are found by lists and context; all others have a form.
var softKinds = []string{"person", "place", "organisation", "address", "age", "postcode", "url"} //nolint:gochecknoglobals // a constant table

func part(n, of int) string {
	if of == 0 {
		return "–"
	}
	return fmt.Sprintf("%.3f", float64(n)/float64(of))
}

func overlap(a, b span) bool { return a.Start < b.End && b.Start < a.End }

func count(to map[string]*score, s sample, found []span) {
	at := func(k string) *score {
		if to[k] == nil {
			to[k] = &score{}
		}
		return to[k]
	}
	for _, want := range s.Spans {
		k := kindOf(want.Kind)
		if k == "" {
			continue
		}
		x := at(k)
		x.there++
		if slices.ContainsFunc(found, func(f span) bool { return kindOf(f.Kind) == k && overlap(f, want) }) {
			x.found++
		}
		if slices.ContainsFunc(found, func(f span) bool { return overlap(f, want) }) {
			x.byAny++
		}
	}
	for _, f := range found {
		k := kindOf(f.Kind)
		if k == "" {
			continue
		}
		x := at(k)
		x.said++
		// A street address holds places, postcodes and numbers: to find those in it is right as well.
		if slices.ContainsFunc(s.Spans, func(w span) bool {
			return overlap(f, w) && (kindOf(w.Kind) == k || kindOf(w.Kind) == "address" && (k == "place" || k == "postcode") || kindOf(w.Kind) == "place" && k == "address")
		}) {
			x.right++
		}
	}
}

// explain prints what one kind missed or made up.
func explain(out io.Writer, s sample, found []span, kind string) {
	r := []rune(s.Text)
	for _, w := range s.Spans {
		if kindOf(w.Kind) == kind && !slices.ContainsFunc(found, func(f span) bool { return kindOf(f.Kind) == kind && overlap(f, w) }) {
			_, _ = fmt.Fprintf(out, "missed %q in %q\n", string(r[w.Start:w.End]), s.Text)
		}
	}
	for _, f := range found {
		if kindOf(f.Kind) == kind && !slices.ContainsFunc(s.Spans, func(w span) bool { return overlap(f, w) && kindOf(w.Kind) == kind }) {
			_, _ = fmt.Fprintf(out, "made up %q in %q\n", string(r[f.Start:f.End]), s.Text)
		}
	}
}

func read(name string) (out []sample, err error) {
	f, err := os.Open(name) //nolint:gosec // the caller's own file
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for n := 1; lines.Scan(); n++ {
		var s sample
		if err := json.Unmarshal(lines.Bytes(), &s); err != nil {
			return nil, fmt.Errorf("%s, line %d: %w", name, n, err)
		}
		out = append(out, s)
	}
	return out, lines.Err()
}
