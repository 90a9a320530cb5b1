// Package pii finds personal data and secrets.
//
// It is pure: no clock, no network, no state. One pass makes tokens, a few more look for marks that only some kinds have ("@",
// "://", a key's first letters), and a candidate is judged by its check digits, its issuer and the words around it. All of it takes
// linear time, whatever the text. A score is how sure it is, from the form and the words around; what is below the threshold is
// left out: nine digits alone are nobody's.
package pii

import (
	"slices"
	"strings"

	"aran/service/guard/detect"
)

// Packs of countries. What is used everywhere (e-mail addresses, cards, IBANs, keys) belongs to none and is always looked for.
const (
	India  = "in"
	Europe = "eu" // with the United Kingdom
	States = "us"
)

// Options choose what is looked for. The zero value looks for everything that can be told by its form: numbers, addresses, keys; not
// for names, which lists and context find with less certainty.
type Options struct {
	Packs     []string // of countries; empty: all
	Kinds     []string // as in findings; empty: all
	Names     bool     // persons, places, organisations, ages and street addresses as well
	Threshold float64  // findings below are left out, 0 to 1; 0 means 0.5
}

const defaultThreshold = 0.5

func (o Options) threshold() float64 {
	if o.Threshold > 0 {
		return o.Threshold
	}
	return defaultThreshold
}

func (o Options) has(pack string) bool { return len(o.Packs) == 0 || slices.Contains(o.Packs, pack) }

// wants reports whether a kind is asked for. Rules of a pack begin with its name and a point.
func (o Options) wants(kind, rule string) bool {
	if len(o.Kinds) > 0 && !slices.Contains(o.Kinds, kind) {
		return false
	}
	if len(o.Packs) == 0 {
		return true
	}
	pack, _, found := strings.Cut(rule, ".")
	return !found || pack != India && pack != Europe && pack != States || slices.Contains(o.Packs, pack)
}

// Find finds what the zero value of Options looks for. Safe for concurrent use.
func Find(s string) []detect.Finding { return Options{}.Find(s) }

// Find finds personal data and secrets. Findings are in order and do not overlap: of two, the more certain one stays.
func (o Options) Find(s string) []detect.Finding {
	x := &scanner{s: s, tokens: split(s), opt: o}
	x.keys()
	x.emails()
	x.urls()
	x.addresses()
	x.coordinates()
	x.assignments()
	x.randoms()
	for i := 0; i < len(x.tokens); {
		t := x.tokens[i]
		if t.digits > 0 && t.letters == 0 {
			next := x.numbers(i)
			for ; i < next; i++ {
				if x.lettersFollow(i) {
					x.code(i)
				}
			}
			continue
		}
		if t.digits > 0 || x.lettersAndDigits(i) {
			x.code(i)
		}
		i++
	}
	if o.Names {
		x.names()
	}
	return apart(x.out)
}

// lettersFollow reports whether digits may be the first group of a code with letters: "12345678-Z", "22 BH 1234 AA".
func (x *scanner) lettersFollow(i int) bool {
	if i+1 >= len(x.tokens) || x.tokens[i+1].letters == 0 {
		return false
	}
	n := x.tokens[i].end - x.tokens[i].start
	return (n == 8 || n == 2 || n == 4) && len(x.between(i)) == 1
}

// lettersAndDigits reports whether a token of few capitals may be the first group of a code: "TN 09 AB 1234".
func (x *scanner) lettersAndDigits(i int) bool {
	t := x.tokens[i]
	return t.end-t.start <= 6 && !t.wide && i+1 < len(x.tokens) && x.tokens[i+1].digits > 0 && len(x.between(i)) == 1 && upperCode(x.text(t))
}

func sortByStart(all []detect.Finding) {
	slices.SortStableFunc(all, func(a, b detect.Finding) int {
		if a.Start != b.Start {
			return a.Start - b.Start
		}
		return b.End - a.End
	})
}

// reason says in a sentence what spoke for a finding.
func reason(rule string) string {
	if w := why[rule]; w != "" {
		return w
	}
	return "It has the form of a key that opens an account."
}

// why says for each rule what spoke for it.
var why = map[string]string{ //nolint:gochecknoglobals,gosec // a constant table; its words speak of passwords and hold none
	"email": "It has the form of an e-mail address.", "url": "It is a link, and its parameters may say whose.", "url.user": "It is a link with the name of a user.",
	"card": "Issuer, length and check digit are those of a payment card.", "iban": "Country, length and check digits are those of an IBAN.",
	"phone.international": "It begins with a country code and is a number that this country gives out.", "phone.national": "It has the form of a telephone number.",
	"in.aadhaar": "Twelve digits with the check digit of an Aadhaar number.", "in.vid": "Sixteen digits with the check digit of an Aadhaar virtual id.", "in.pan": "It has the form of a PAN, with a holder's letter.",
	"in.gstin": "State, PAN and check character are those of a GSTIN.", "in.ifsc": "It has the form of a bank branch's IFSC.", "in.upi": "It is an id at a payment app or bank.", "in.passport": "Words near it call it a passport.",
	"in.voter_id": "It has the form of a voter id.", "in.driving_licence": "State, year and length are those of a driving licence.", "in.vehicle": "It has the form of an Indian vehicle's number.", "in.postcode": "Words near it call it a PIN code.",
	"us.ssn": "Nine digits that may be a social security number.", "us.itin": "Nine digits in the range of taxpayer numbers.", "us.ein": "Words near it call it an employer's number.", "us.routing": "It has the check digit of a bank's routing number.",
	"us.mbi": "It has the form of a Medicare number.", "us.npi": "It has the check digit of a health provider's number.", "us.driving_licence": "Words near it call it a driving licence.", "eu.postcode": "Words near it call it a postcode, or it has the form of a British one.", "us.postcode": "Words near it call it a ZIP code.",
	"passport": "Words near it call it a passport.", "account": "Words near it call it an account.", "eu.vat": "Country and check digits are those of a VAT number.", "eu.de.steuer_id": "It has the check digit of a German tax id.",
	"eu.de.ausweis": "It has the check digit of a German identity card.", "eu.fr.nir": "It has the key of a French social security number.", "eu.es.dni": "It has the check letter of a Spanish identity number.", "eu.es.nie": "It has the check letter of a Spanish foreigner's number.",
	"eu.it.codice_fiscale": "It has the check letter of an Italian tax code.", "eu.nl.bsn": "It passes the test of a Dutch citizen's number.", "eu.be.national": "It has the check digits of a Belgian register number.", "eu.pl.pesel": "It has the check digit and date of a PESEL.",
	"eu.gb.nino": "It has the form of a British national insurance number.", "eu.gb.nhs": "It has the check digit of an NHS number.", "vin": "It has the check digit of a vehicle's number.", "imei": "It has the check digit of a telephone's IMEI.",
	"ip.v4": "It is an IP address.", "ip.v6": "It is an IP address.", "mac": "It is a network card's address.", "coordinates": "It is a place's latitude and longitude.", "birth_date": "Words near it call it a date of birth.", "age": "Words near it call it an age.",
	"wallet.ethereum": "It has the form or checksum of an Ethereum address.", "wallet.bech32": "It has the checksum of a Bitcoin address.", "wallet.base58": "It has the checksum of a coin's address.",
	"person.context": "The words before it announce a name.", "person.list": "First or family names that people have.", "person.known": "It is a part of a name that was found.", "place.list": "It is a place's name.", "place.context": "The words before it announce a place.",
	"organisation.suffix": "It ends like the name of an organisation.", "organisation.list": "It is an organisation's name.", "organisation.context": "The words before it announce an organisation.", "address": "It has the form of a street address.",
	"jwt": "It is a signed token.", "private_key": "It is a private key.", "secret.url": "It is a password in a link.", "secret.assigned": "It is called a password or key, and looks like one.", "secret.entropy": "It is random, and words near it call it secret.",
}
