package pii

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// age finds how old somebody is said to be.
func (x *scanner) age(i int) {
	t := x.tokens[i]
	if t.letters > 0 || t.digits < 1 || t.digits > 3 || number(x.text(t)) > 120 {
		return
	}
	low := func(k int) string {
		if k < 0 || k >= len(x.tokens) {
			return ""
		}
		return strings.ToLower(x.text(x.tokens[k]))
	}
	next, after := low(i+1), low(i+2)
	last, before := low(i-1), low(i-2)
	switch {
	case (next == "years" || next == "year" || next == "yrs" || next == "yr") && (after == "old" || after == "of" && low(i+3) == "age"), next == "yo", next == "y" && after == "o",
		last == "aged", last == "age", last == "age" || before == "age" && (last == "is" || last == "of"), last == "turned", last == "turning", last == "turn",
		(last == "was" || last == "is" || last == "am") && (before == "he" || before == "she" || before == "i") && x.sentenceEnds(i):
		x.add("pii.age", "age", 0.85, int(t.start), int(t.end))
	}
}

// sentenceEnds reports whether nothing follows a token in its sentence.
func (x *scanner) sentenceEnds(i int) bool {
	end := int(x.tokens[i].end)
	return end == len(x.s) || strings.IndexByte(".,;!\n", x.s[end]) >= 0 && (end+1 == len(x.s) || x.s[end+1] < '0' || x.s[end+1] > '9')
}

// street finds a house number with the name of a street behind it.
func (x *scanner) street(i int) {
	t := x.tokens[i]
	if t.digits > 5 || t.letters > 1 {
		return
	}
	for k := i + 1; k < min(i+6, len(x.tokens)); k++ {
		if m := x.between(k - 1); m != " " && m != ", " && m != "/" && m != "-" && m != ". " {
			return
		}
		w := strings.ToLower(x.text(x.tokens[k]))
		if k > i+1 && streets[w] {
			end := int(x.tokens[k].end)
			x.add("pii.address", "address", 0.75, int(t.start), end)
			return
		}
		r, _ := utf8.DecodeRuneInString(x.text(x.tokens[k]))
		if x.tokens[k].digits == 0 && !unicode.IsUpper(r) {
			return
		}
	}
}

var (
	streets     = set("street st road rd avenue ave lane ln drive dr boulevard blvd court ct place pl square sq way terrace highway hwy parkway pkwy circle crescent close nagar colony marg salai theru vihar enclave layout chowk bazaar cross main extension") //nolint:gochecknoglobals // as above
	streetFirst = set("rue via viale calle avenida praça rua plaza plac ulica ul piazza allée chemin corso carrer camino paseo rúa travessa quai place boulevard no house flat plot door unit suite apt apartment postbox pobox")                                 //nolint:gochecknoglobals // constant tables
	streetEnds  = strings.Fields("straße strasse straat weg gasse platz gade vej vägen gatan gata vegen veien katu kuja utca laan steenweg plein dreef singel gracht stræde ulice allee")                                                                         //nolint:gochecknoglobals // as above
)

// streetName finds a street's name with a house number behind it, as in most of Europe, and flats. It returns its last token, or i.
func (x *scanner) streetName(i int) int {
	first := strings.TrimRight(strings.ToLower(x.text(x.tokens[i])), ".")
	found := streetFirst[first]
	for k := i; k < min(i+6, len(x.tokens)); k++ {
		if k > i {
			if m := x.between(k - 1); m != " " && m != ". " && m != "-" && m != "'" && m != " #" {
				return i
			}
		}
		t := x.tokens[k]
		low := strings.ToLower(x.text(t))
		if k > i && found && t.digits > 0 && t.end-t.start <= 6 {
			x.add("pii.address", "address", 0.7, int(x.tokens[i].start), int(t.end))
			return k
		}
		if t.digits > 0 {
			return i
		}
		for _, end := range streetEnds {
			found = found || strings.HasSuffix(low, end) && (len(low) > len(end) || k > i)
		}
		r, _ := utf8.DecodeRuneInString(x.text(t))
		if !unicode.IsUpper(r) && k > i && !linking[low] && low != "des" && low != "las" && low != "los" {
			return i
		}
	}
	return i
}
