package pii

import "strings"

// code looks at a token of letters and digits, and at groups that follow it.
func (x *scanner) code(i int) { //nolint:gocyclo,cyclop,funlen // one case a code
	t := x.tokens[i]
	n := int(t.end - t.start)
	if t.wide || n > 100 {
		return
	}
	raw := x.text(t)
	start, end := int(t.start), int(t.end)
	before := len(x.out)
	ctx := func() uint64 { return x.context(i, i) }
	if n >= 26 {
		x.wallet(raw, start, end, ctx)
	}
	up := raw
	lower := raw == strings.ToLower(raw)
	if !upperCode(raw) {
		if !lower || n < 8 || n > 34 {
			return
		}
		up = strings.ToUpper(raw)
	}
	add := func(kind, rule string, score float64, end int) {
		if lower {
			score -= 0.05
		}
		x.add(kind, rule, score, start, end)
	}
	if n >= 4 && upper(up[:2]) && allDigits(up[2:4]) {
		if s, e := x.joined(i, 34, " "); ibanLengths[s[:2]] > 0 && len(s) >= ibanLengths[s[:2]] {
			want := ibanLengths[s[:2]]
			if cut, ok := e.at(want); ok && mod97(s[:want]) {
				add("pii.iban", "iban", 0.98, cut)
				return
			}
		}
	}
	switch n {
	case 8:
		if isShape(up, "A9999999") && !strings.ContainsAny(up[:1], "QXZ") {
			add("pii.passport", "in.passport", near(0.93, 0.3, ctx(), cPassport), end)
		}
	case 9:
		switch {
		case isDNI(up):
			if up[0] > '9' {
				add("pii.national_id", "eu.es.nie", near(0.97, 0.85, ctx(), cIdentity|cTax), end)
			} else {
				add("pii.national_id", "eu.es.dni", near(0.97, 0.75, ctx(), cIdentity|cTax), end)
			}
		case isNINO(up):
			add("pii.national_id", "eu.gb.nino", near(0.97, 0.75, ctx(), cIdentity), end)
		}
	case 10:
		switch {
		case isPAN(up):
			score := near(0.97, 0.85, ctx(), cPAN)
			if lower {
				score = near(0.9, 0.4, ctx(), cPAN)
			}
			add("pii.pan", "in.pan", score, end)
		case isShape(up, "AAA9999999"):
			add("pii.voter_id", "in.voter_id", near(0.93, 0.45, ctx(), cVoter), end)
		case isGermanID(up):
			add("pii.national_id", "eu.de.ausweis", near(0.95, 0.4, ctx(), cIdentity), end)
		}
	case 11:
		switch {
		case isMBI(up):
			add("pii.mbi", "us.mbi", near(0.95, 0.7, ctx(), cMedicare), end)
		case upper(up[:4]) && up[4] == '0' && strings.ContainsAny(up[5:], "0123456789"):
			score := near(0.95, 0.6, ctx(), cIFSC)
			if allDigits(up[5:]) {
				score = near(0.95, 0.75, ctx(), cIFSC)
			}
			add("pii.ifsc", "in.ifsc", score, end)
		}
	case 15:
		switch {
		case isGSTIN(up):
			add("pii.gstin", "in.gstin", 0.98, end)
		case up[5] == '2' && (up[6] == 'A' || up[6] == 'B') && allDigits(up[:6]) && allDigits(up[7:]): // born in Corsica
			if isNIR(up[:5] + map[byte]string{'A': "19", 'B': "18"}[up[6]] + up[7:]) {
				add("pii.national_id", "eu.fr.nir", 0.9, end)
			}
		}
	case 16:
		if isCodiceFiscale(up) {
			add("pii.tax_id", "eu.it.codice_fiscale", 0.97, end)
		}
	case 17:
		if isVIN(up) && strings.ContainsAny(up, "0123456789") {
			add("pii.vehicle", "vin", near(0.95, 0.7, ctx(), cVehicle), end)
		}
	}
	if len(x.out) > before {
		return
	}
	if n >= 2 && n <= 14 && upper(up[:2]) && vatCountries[up[:2]] && !lower {
		s, e := x.joined(i, 14, " .-")
		for _, want := range []int{14, 13, 12, 11, 10} {
			if cut, ok := e.at(want); ok && isVAT(s[:want]) {
				x.add("pii.vat", "eu.vat", near(0.95, 0.8, ctx(), cVAT|cTax), start, cut)
				return
			}
		}
	}
	x.grouped(i, up, add, ctx)
	if len(x.out) > before {
		return
	}
	if c := ctx(); t.digits >= 4 && n >= 6 && n <= 15 && c&(cPassport|cLicence|cIdentity) != 0 {
		switch {
		case c&cPassport != 0 && n <= 9:
			add("pii.passport", "passport", 0.8, end)
		case c&cLicence != 0:
			add("pii.driving_licence", "us.driving_licence", 0.75, end)
		}
	}
}

var vatCountries = map[string]bool{"DE": true, "FR": true, "IT": true, "BE": true, "NL": true, "PL": true, "GB": true, "XI": true, "AT": true, "DK": true, "FI": true, "PT": true, "SE": true, "LU": true, "EL": true, "ES": true} //nolint:gochecknoglobals // a constant table

// states whose letters Indian vehicles and licences begin with.
const states = " AN AP AR AS BR CG CH DD DL DN GA GJ HP HR JH JK KA KL LA LD MH ML MN MP MZ NL OD OR PB PY RJ SK TG TN TR TS UK UP UA WB "

// grouped finds codes that are usually written in groups.
func (x *scanner) grouped(i int, up string, add func(kind, rule string, score float64, end int), ctx func() uint64) { //nolint:gocyclo,cyclop // one case a code
	state := len(up) >= 2 && strings.Contains(states, " "+up[:2]+" ")
	bharat := len(up) >= 2 && allDigits(up[:2])
	s, e := x.joined(i, 16, " -")
	s = strings.ToUpper(s)
	at := func(n int) (int, bool) { cut, ok := e.at(n); return cut, ok && len(s) >= n }
	if state {
		for _, n := range []int{15, 16} { // TN09 20110012345, also with a letter or not
			if cut, ok := at(n); ok && n == 15 && allDigits(s[2:15]) && (s[4:6] == "19" || s[4:6] == "20") {
				add("pii.driving_licence", "in.driving_licence", near(0.97, 0.85, ctx(), cLicence), cut)
				return
			}
		}
		for n := 10; n >= 8; n-- {
			if cut, ok := at(n); ok && isPlate(s[:n]) {
				add("pii.vehicle", "in.vehicle", near(0.95, 0.8, ctx(), cVehicle), cut)
				return
			}
		}
	}
	if bharat && len(s) >= 9 && s[2:4] == "BH" {
		for n := 10; n >= 9; n-- {
			if cut, ok := at(n); ok && allDigits(s[4:8]) && upper(s[8:n]) {
				add("pii.vehicle", "in.vehicle", 0.9, cut)
				return
			}
		}
	}
	if cut, ok := at(9); ok && len(up) <= 8 {
		switch {
		case isNINO(s[:9]):
			add("pii.national_id", "eu.gb.nino", near(0.97, 0.85, ctx(), cIdentity), cut)
		case isDNI(s[:9]) && len(up) == 8:
			add("pii.national_id", "eu.es.dni", near(0.97, 0.7, ctx(), cIdentity|cTax), cut)
		case isDNI(s[:9]) && up[0] > '9':
			add("pii.national_id", "eu.es.nie", near(0.97, 0.8, ctx(), cIdentity|cTax), cut)
		}
	}
	if cut, ok := at(11); ok && len(up) == 4 && isMBI(s[:11]) {
		add("pii.mbi", "us.mbi", near(0.97, 0.85, ctx(), cMedicare), cut)
	}
	if cut, ok := at(16); ok && len(up) < 16 && isCodiceFiscale(s[:16]) {
		add("pii.tax_id", "eu.it.codice_fiscale", 0.97, cut)
	}
	if cut, ok := at(10); ok && len(up) == 3 && isShape(s[:10], "AAA9999999") && ctx()&cVoter != 0 {
		add("pii.voter_id", "in.voter_id", 0.9, cut)
	}
	if n := len(up); n >= 2 && n <= 4 && isLetter(up[0]) && up[n-1] != 'O' && i+1 < len(x.tokens) && x.between(i) == " " { // NR14 9EH
		if in := x.text(x.tokens[i+1]); len(in) == 3 && isShape(in, "9AA") && upperCode(in) && strings.ContainsAny(up, "0123456789") {
			x.add("pii.postcode", "eu.postcode", 0.75, int(x.tokens[i].start), int(x.tokens[i+1].end))
			return
		}
	}
	if cut, ok := at(8); ok && len(up) == 1 && isShape(s[:8], "A9999999") && ctx()&cPassport != 0 {
		add("pii.passport", "in.passport", 0.9, cut)
	}
}

// isPlate: state, district, series, four digits.
func isPlate(s string) bool {
	n := len(s)
	if !allDigits(s[n-4:]) || !allDigits(s[2:3]) {
		return false
	}
	series := s[3 : n-4]
	if allDigits(series[:min(1, len(series))]) {
		series = series[1:]
	}
	return upper(series) && len(series) <= 3 && !strings.ContainsAny(series, "IO")
}

// joints are where in the text a code of each length ends; 0 where none does.
type joints [40]int32

func (j *joints) at(n int) (int, bool) { return int(j[n]), j[n] > 0 }

// joined is what token i and those after it read without marks, up to a length, and where each length ends.
func (x *scanner) joined(i, most int, marks string) (s string, ends joints) {
	var b [len(ends)]byte
	n := 0
	for j := i; j < len(x.tokens); j++ {
		t := x.tokens[j]
		if t.wide || n+int(t.end-t.start) > most {
			break
		}
		if j > i {
			if m := x.between(j - 1); len(m) != 1 || !strings.Contains(marks, m) {
				break
			}
		}
		n += copy(b[n:], x.text(t))
		ends[n] = t.end
	}
	return string(b[:n]), ends
}

// upperCode reports whether a token has capitals and digits only.
func upperCode(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < 'A' || c > 'Z') && (c < '0' || c > '9') {
			return false
		}
	}
	return true
}

// isShape compares with a form in which A stands for a letter and 9 for a digit.
func isShape(s, form string) bool {
	if len(s) != len(form) {
		return false
	}
	for i := range len(s) {
		digit := s[i] >= '0' && s[i] <= '9'
		if digit != (form[i] == '9') {
			return false
		}
	}
	return true
}

func (x *scanner) wallet(s string, start, end int, ctx func() uint64) {
	switch {
	case len(s) == 42 && isEthereum(s):
		x.add("pii.wallet", "wallet.ethereum", 0.97, start, end)
	case (strings.HasPrefix(s, "bc1") || strings.HasPrefix(s, "BC1") || strings.HasPrefix(s, "tb1") || strings.HasPrefix(s, "ltc1")) && isBech32(s):
		x.add("pii.wallet", "wallet.bech32", 0.98, start, end)
	case strings.IndexByte("13DLMT2mnA", s[0]) >= 0 && isBase58Check(s):
		x.add("pii.wallet", "wallet.base58", near(0.99, 0.95, ctx(), cWallet), start, end)
	}
}
