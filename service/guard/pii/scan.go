package pii

import (
	"strings"
	"unicode/utf8"

	"aran/service/guard/detect"
)

// token is a run of letters and digits. Every byte from 0x80 on counts as a letter, but for marks.
type token struct {
	start, end int32
	digits     uint8 // how many, up to 255
	letters    uint8
	wide       bool // has letters that are not ASCII
}

// scanner holds one text while it is looked at.
type scanner struct {
	s      string
	tokens []token
	opt    Options
	out    []detect.Finding
	words  []word // of tokens, as names; made as they are asked for
}

// split makes the tokens.
func split(s string) []token {
	out := make([]token, 0, len(s)/4+4)
	for i := 0; i < len(s); {
		k, size := classOf(s, i)
		if s[i] == '\\' && i+1 < len(s) && (s[i+1] == 'n' || s[i+1] == 'r' || s[i+1] == 't') { // a line's end, written as in JSON
			i += 2
			continue
		}
		if n := len(out); k == classMark || s[i] == 'x' && n > 0 && int(out[n-1].end) == i {
			i += size
			continue
		}
		t := token{start: int32(i)}
		for i < len(s) {
			k, size = classOf(s, i)
			if k == classMark || s[i] == 'x' && t.letters == 0 && t.digits >= 4 && i+1 < len(s) && s[i+1] >= '0' && s[i+1] <= '9' { // an extension
				break
			}
			if k == classDigit {
				t.digits += 1 - t.digits/255
			} else {
				t.letters += 1 - t.letters/255
				t.wide = t.wide || k == classWide
			}
			i += size
		}
		t.end = int32(i)
		out = append(out, t)
	}
	return out
}

const (
	classMark = iota
	classDigit
	classLetter
	classWide
)

func classOf(s string, i int) (class, size int) {
	switch c := s[i]; {
	case c >= '0' && c <= '9':
		return classDigit, 1
	case c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z':
		return classLetter, 1
	case c < utf8.RuneSelf:
		return classMark, 1
	case c == 0xC2: // Latin-1 signs, among them the no-break space
		return classMark, min(2, len(s)-i)
	case c == 0xE2 && i+2 < len(s) && s[i+1] <= 0x8F: // general punctuation, arrows, mathematical signs
		return classMark, 3
	}
	_, n := utf8.DecodeRuneInString(s[i:])
	return classWide, n
}

func (x *scanner) text(t token) string { return x.s[t.start:t.end] }

// between is what stands between token i and the next.
func (x *scanner) between(i int) string { return x.s[x.tokens[i].end:x.tokens[i+1].start] }

// Words that say what a number near them is.
const (
	cAadhaar uint64 = 1 << iota
	cVID
	cPAN
	cGST
	cIFSC
	cUPI
	cPassport
	cVoter
	cLicence
	cVehicle
	cSSN
	cTax
	cEIN
	cRouting
	cMedicare
	cNPI
	cVAT
	cIdentity
	cHealth
	cIMEI
	cBirth
	cAge
	cPlace
	cAddress
	cPost
	cPhone
	cCard
	cAccount
	cSecret
	cIBAN
	cWallet
	cDutch
	cMAC
	cTime
)

var contextWords = map[string]uint64{ //nolint:gochecknoglobals // a constant table
	"aadhaar": cAadhaar, "aadhar": cAadhaar, "adhaar": cAadhaar, "adhar": cAadhaar, "uidai": cAadhaar, "uid": cAadhaar, "ஆதார்": cAadhaar, "आधार": cAadhaar,
	"vid": cVID, "virtual": cVID, "pan": cPAN, "gstin": cGST, "gst": cGST, "ifsc": cIFSC, "neft": cIFSC, "rtgs": cIFSC, "bank": cIFSC | cAccount, "branch": cIFSC,
	"upi": cUPI, "vpa": cUPI, "gpay": cUPI, "phonepe": cUPI, "paytm": cUPI, "bhim": cUPI,
	"passport": cPassport, "passports": cPassport, "reisepass": cPassport, "passeport": cPassport, "pasaporte": cPassport, "passaporto": cPassport, "paspoort": cPassport,
	"voter": cVoter, "epic": cVoter, "elector": cVoter, "election": cVoter,
	"licence": cLicence, "license": cLicence, "dl": cLicence, "driving": cLicence, "driver": cLicence, "drivers": cLicence, "führerschein": cLicence, "permis": cLicence,
	"vehicle": cVehicle, "car": cVehicle, "registration": cVehicle, "plate": cVehicle, "vin": cVehicle, "chassis": cVehicle, "bike": cVehicle, "truck": cVehicle,
	"ssn": cSSN, "ssns": cSSN, "social": cSSN, "itin": cTax | cSSN, "taxpayer": cTax, "tax": cTax, "tin": cTax, "steuer": cTax, "steuernummer": cTax, "identifikationsnummer": cTax, "idnr": cTax, "steueridentifikationsnummer": cTax, "fiscale": cTax, "fiscal": cTax,
	"ein": cEIN, "employer": cEIN, "fein": cEIN, "routing": cRouting, "aba": cRouting, "rtn": cRouting, "wire": cRouting,
	"medicare": cMedicare, "mbi": cMedicare, "beneficiary": cMedicare, "npi": cNPI, "provider": cNPI, "physician": cNPI,
	"vat": cVAT, "ust": cVAT, "ustid": cVAT, "tva": cVAT, "iva": cVAT, "btw": cVAT, "mwst": cVAT,
	"id": cIdentity, "identity": cIdentity, "national": cIdentity, "personalausweis": cIdentity, "ausweis": cIdentity, "ausweisnummer": cIdentity, "pesel": cIdentity, "dni": cIdentity, "nie": cIdentity, "nif": cIdentity | cTax, "insee": cIdentity, "nir": cIdentity, "sécurité": cIdentity, "rijksregisternummer": cIdentity, "registre": cIdentity, "rijksregister": cIdentity, "niss": cIdentity, "insurance": cIdentity, "nino": cIdentity, "ni": cIdentity, "codice": cTax, "cf": cTax,
	"bsn": cDutch, "burgerservicenummer": cDutch, "sofinummer": cDutch, "nhs": cHealth, "patient": cHealth, "health": cHealth,
	"imei": cIMEI, "handset": cIMEI, "device": cIMEI, "dob": cBirth, "birth": cBirth, "born": cBirth, "birthday": cBirth, "birthdate": cBirth, "geboren": cBirth, "geburtsdatum": cBirth, "né": cBirth, "née": cBirth, "naissance": cBirth, "nacimiento": cBirth, "nascita": cBirth, "nato": cBirth, "nata": cBirth, "geboortedatum": cBirth, "urodzenia": cBirth, "பிறந்த": cBirth, "जन्म": cBirth,
	"age": cAge, "aged": cAge, "years": cAge, "year": cAge, "yrs": cAge, "old": cAge, "yo": cAge,
	"lat": cPlace, "latitude": cPlace, "lon": cPlace, "lng": cPlace, "longitude": cPlace, "coordinates": cPlace, "gps": cPlace, "location": cPlace, "geo": cPlace, "coords": cPlace,
	"address": cAddress, "live": cAddress, "lives": cAddress, "living": cAddress, "reside": cAddress, "resides": cAddress, "residing": cAddress, "deliver": cAddress, "ship": cAddress, "shipping": cAddress, "located": cAddress, "adresse": cAddress, "dirección": cAddress, "indirizzo": cAddress, "visit": cAddress, "house": cAddress, "home": cAddress,
	"pin": cPost, "pincode": cPost, "zip": cPost, "zipcode": cPost, "postcode": cPost, "postal": cPost, "plz": cPost,
	"phone": cPhone, "phones": cPhone, "mobile": cPhone, "cell": cPhone, "tel": cPhone, "telephone": cPhone, "call": cPhone, "calling": cPhone, "whatsapp": cPhone, "contact": cPhone, "ph": cPhone, "fax": cPhone, "mob": cPhone, "ring": cPhone, "dial": cPhone, "text": cPhone, "sms": cPhone, "reach": cPhone, "telefon": cPhone, "téléphone": cPhone, "teléfono": cPhone, "telefono": cPhone, "telefoon": cPhone, "handy": cPhone, "hotline": cPhone, "message": cPhone, "messages": cPhone, "desk": cPhone, "callback": cPhone, "answering": cPhone, "office": cPhone | cAddress, "registered": cPhone, "extension": cPhone, "whats": cPhone, "number": 0, "தொலைபேசி": cPhone, "फोन": cPhone, "मोबाइल": cPhone,
	"card": cCard, "cc": cCard, "credit": cCard, "debit": cCard, "visa": cCard, "mastercard": cCard, "amex": cCard, "rupay": cCard, "cvv": cCard, "charge": cCard, "karte": cCard, "kreditkarte": cCard, "carte": cCard, "tarjeta": cCard, "carta": cCard,
	"account": cAccount, "acct": cAccount, "acc": cAccount, "iban": cIBAN, "konto": cAccount, "checking": cAccount, "savings": cAccount, "deposit": cAccount,
	"password": cSecret, "passwd": cSecret, "pwd": cSecret, "secret": cSecret, "token": cSecret, "key": cSecret, "apikey": cSecret, "credential": cSecret, "credentials": cSecret, "bearer": cSecret, "passphrase": cSecret, "kennwort": cSecret, "passwort": cSecret, "auth": cSecret, "authorization": cSecret, "access": cSecret,
	"wallet": cWallet, "bitcoin": cWallet, "btc": cWallet, "ethereum": cWallet, "eth": cWallet, "crypto": cWallet,
	"mac": cMAC, "am": cTime, "pm": cTime,
}

const (
	wordsBefore = 8
	wordsAfter  = 4
	contextSpan = 90 // bytes
)

// context is what the words around tokens i to j say. A line's end does not matter: tables put labels above.
func (x *scanner) context(i, j int) (c uint64) {
	from, to := int(x.tokens[i].start), int(x.tokens[j].end)
	for k := i - 1; k >= max(0, i-wordsBefore) && from-int(x.tokens[k].end) < contextSpan; k-- {
		c |= x.meaning(x.tokens[k])
	}
	for k := j + 1; k < min(len(x.tokens), j+1+wordsAfter) && int(x.tokens[k].start)-to < contextSpan; k++ {
		c |= x.meaning(x.tokens[k])
	}
	return c
}

func (x *scanner) meaning(t token) uint64 {
	n := t.end - t.start
	if t.letters == 0 || n < 2 || n > 30 {
		return 0
	}
	if t.wide {
		return contextWords[strings.ToLower(x.text(t))]
	}
	var buf [30]byte
	for i := range n {
		c := x.s[t.start+i]
		if c >= 'A' && c <= 'Z' {
			c += 'a' - 'A'
		}
		buf[i] = c
	}
	return contextWords[string(buf[:n])]
}

func (x *scanner) add(kind, rule string, score float64, start, end int) {
	if score >= x.opt.threshold() && x.opt.wants(kind, rule) {
		x.out = append(x.out, detect.Finding{Kind: kind, Rule: rule, Score: score, Start: start, End: end, Why: reason(rule)})
	}
}

// near is a score that rises when the context says what it is.
func near(with, without float64, c, want uint64) float64 {
	if c&want != 0 {
		return with
	}
	return without
}

// apart leaves of findings that overlap the more certain one, or the longer one of two that are equally so.
func apart(all []detect.Finding) []detect.Finding {
	sortByStart(all)
	out := all[:0]
	for _, f := range all {
		for {
			n := len(out)
			if n == 0 || f.Start >= out[n-1].End {
				out = append(out, f)
				break
			}
			last := out[n-1]
			if f.Score < last.Score || f.Score == last.Score && f.End-f.Start <= last.End-last.Start {
				break
			}
			out = out[:n-1]
		}
	}
	return out
}
