package pii

import (
	"crypto/sha256"
	"math/big"
	"strings"

	"golang.org/x/crypto/sha3"
)

// The functions here check one number each. What they are given has no marks between its characters any more.

// luhn checks ISO/IEC 7812-1 annex B.
func luhn(s string) bool {
	sum := 0
	for i := range len(s) {
		x := int(s[len(s)-1-i] - '0')
		if i%2 == 1 {
			if x *= 2; x > 9 {
				x -= 9
			}
		}
		sum += x
	}
	return sum%10 == 0
}

// isCard checks issuer, length and check digit of a payment card.
func isCard(s string) bool {
	if len(s) < 12 || len(s) > 19 || same(s) || !luhn(s) {
		return false
	}
	two, three, four, six := number(s[:2]), number(s[:3]), number(s[:4]), number(s[:6])
	switch n := len(s); {
	case s[0] == '4': // Visa
		return n == 13 || n == 16 || n == 19
	case two >= 51 && two <= 55, four >= 2221 && four <= 2720: // Mastercard
		return n == 16
	case two == 34 || two == 37: // American Express
		return n == 15
	case four == 6011, two == 65, three >= 644 && three <= 649, six >= 622126 && six <= 622925, two == 60, two == 81, two == 82, four == 5081: // Discover, UnionPay's shared range, RuPay
		return n >= 16
	case two == 62: // UnionPay
		return n >= 16
	case two == 36 || two == 38 || two == 39 || three >= 300 && three <= 305: // Diners
		return n >= 14
	case two == 35: // JCB has 3528 to 3589 of it
		return n >= 16
	case four == 1800 || four == 2131: // JCB
		return n == 15
	case two == 50 || two >= 56 && two <= 58 || two == 63 || two == 67 || two == 69: // Maestro
		return n >= 12
	}
	return false
}

func same(s string) bool { return strings.Count(s, s[:1]) == len(s) }

func number(s string) (n int) {
	for i := range len(s) {
		n = n*10 + int(s[i]-'0')
	}
	return n
}

// dihedral and permuted are the tables of J. Verhoeff, 1969.
var (
	dihedral = [10][10]uint8{{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}, {1, 2, 3, 4, 0, 6, 7, 8, 9, 5}, {2, 3, 4, 0, 1, 7, 8, 9, 5, 6}, {3, 4, 0, 1, 2, 8, 9, 5, 6, 7}, {4, 0, 1, 2, 3, 9, 5, 6, 7, 8}, {5, 9, 8, 7, 6, 0, 4, 3, 2, 1}, {6, 5, 9, 8, 7, 1, 0, 4, 3, 2}, {7, 6, 5, 9, 8, 2, 1, 0, 4, 3}, {8, 7, 6, 5, 9, 3, 2, 1, 0, 4}, {9, 8, 7, 6, 5, 4, 3, 2, 1, 0}} //nolint:gochecknoglobals // constant tables
	permuted = [8][10]uint8{{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}, {1, 5, 7, 6, 2, 8, 3, 0, 9, 4}, {5, 8, 0, 3, 7, 9, 6, 1, 4, 2}, {8, 9, 1, 6, 0, 4, 3, 5, 2, 7}, {9, 4, 5, 3, 1, 2, 6, 8, 7, 0}, {4, 2, 8, 6, 5, 7, 3, 9, 0, 1}, {2, 7, 9, 3, 8, 0, 6, 4, 1, 5}, {7, 0, 4, 6, 9, 1, 3, 2, 5, 8}}                                                                  //nolint:gochecknoglobals // as above
)

func verhoeff(s string) bool {
	c := uint8(0)
	for i := range len(s) {
		c = dihedral[c][permuted[i%8][s[len(s)-1-i]-'0']]
	}
	return c == 0
}

// isAadhaar: twelve digits, none of the first 0 or 1, and no palindrome (UIDAI).
func isAadhaar(s string) bool {
	return len(s) == 12 && s[0] >= '2' && verhoeff(s) && s[:6] != string([]byte{s[11], s[10], s[9], s[8], s[7], s[6]})
}

// ibanLengths are those of the IBAN registry (ISO 13616).
var ibanLengths = map[string]int{"AD": 24, "AE": 23, "AL": 28, "AT": 20, "AZ": 28, "BA": 20, "BE": 16, "BG": 22, "BH": 22, "BR": 29, "BY": 28, "CH": 21, "CR": 22, "CY": 28, "CZ": 24, "DE": 22, "DK": 18, "DO": 28, "EE": 20, "EG": 29, "ES": 24, "FI": 18, "FO": 18, "FR": 27, "GB": 22, "GE": 22, "GI": 23, "GL": 18, "GR": 27, "GT": 28, "HR": 21, "HU": 28, "IE": 22, "IL": 23, "IQ": 23, "IS": 26, "IT": 27, "JO": 30, "KW": 30, "KZ": 20, "LB": 28, "LC": 32, "LI": 21, "LT": 20, "LU": 20, "LV": 21, "LY": 25, "MC": 27, "MD": 24, "ME": 22, "MK": 19, "MR": 27, "MT": 31, "MU": 30, "NL": 18, "NO": 15, "PK": 24, "PL": 28, "PS": 29, "PT": 25, "QA": 29, "RO": 24, "RS": 22, "SA": 24, "SC": 31, "SE": 24, "SI": 19, "SK": 24, "SM": 27, "ST": 25, "SV": 28, "TL": 23, "TN": 24, "TR": 26, "UA": 29, "VA": 22, "VG": 24, "XK": 20} //nolint:gochecknoglobals // a constant table

// mod97 checks ISO 7064 MOD 97-10 after the first four characters went to the end.
func mod97(s string) bool {
	rest := 0
	for _, c := range []byte(s[4:] + s[:4]) {
		switch {
		case c >= '0' && c <= '9':
			rest = (rest*10 + int(c-'0')) % 97
		case c >= 'A' && c <= 'Z':
			rest = (rest*100 + int(c-'A') + 10) % 97
		default:
			return false
		}
	}
	return rest == 1
}

// weighed is the sum of digits times weights.
func weighed(s string, weights ...int) (sum int) {
	for i, w := range weights {
		sum += int(s[i]-'0') * w
	}
	return sum
}

// mod1110 checks ISO 7064 MOD 11,10.
func mod1110(s string) bool {
	p := 10
	for i := range len(s) - 1 {
		sum := (int(s[i]-'0') + p) % 10
		if sum == 0 {
			sum = 10
		}
		p = sum * 2 % 11
	}
	return (11-p)%10 == int(s[len(s)-1]-'0')
}

// isSteuerID: in the first ten digits one stands two or three times (German tax office, IdNr).
func isSteuerID(s string) bool {
	if len(s) != 11 || s[0] == '0' || !mod1110(s) {
		return false
	}
	var n [10]int
	for i := range 10 {
		n[s[i]-'0']++
	}
	twice, more := 0, 0
	for _, k := range n {
		switch {
		case k == 2:
			twice++
		case k == 3:
			more++
		case k > 3:
			return false
		}
	}
	return twice+more == 1
}

// isPESEL: date of birth with the century in its month, and a check digit.
func isPESEL(s string) bool {
	if len(s) != 11 || (10-weighed(s, 1, 3, 7, 9, 1, 3, 7, 9, 1, 3)%10)%10 != int(s[10]-'0') {
		return false
	}
	m, d := number(s[2:4])%20, number(s[4:6])
	return m >= 1 && m <= 12 && d >= 1 && d <= 31
}

// isBelgian: the national register number, with the birth before or after 2000.
func isBelgian(s string) bool {
	if len(s) != 11 || number(s[2:4]) > 12 || number(s[4:6]) > 31 {
		return false
	}
	check := number(s[9:])
	return check == 97-number(s[:9])%97 || check == 97-(2_000_000_000+number(s[:9]))%97
}

// isNIR: the French social security number with its key.
func isNIR(s string) bool {
	if len(s) != 15 || s[0] < '1' || s[0] > '4' {
		return false
	}
	if m := number(s[3:5]); m == 0 || m > 12 && m < 20 || m > 42 && m < 50 {
		return false
	}
	return number(s[13:]) == 97-number(s[:13])%97
}

// isBSN: the Dutch eleven test.
func isBSN(s string) bool {
	return len(s) == 9 && !same(s) && (weighed(s, 9, 8, 7, 6, 5, 4, 3, 2)-int(s[8]-'0'))%11 == 0
}

// isNHS: the British health service's number (modulus 11).
func isNHS(s string) bool {
	if len(s) != 10 || same(s) {
		return false
	}
	c := 11 - weighed(s, 10, 9, 8, 7, 6, 5, 4, 3, 2)%11
	return c%11 == int(s[9]-'0') && c != 10
}

// isABA: a US bank's routing number.
func isABA(s string) bool {
	if len(s) != 9 {
		return false
	}
	two := number(s[:2])
	return (two <= 12 && two > 0 || two >= 21 && two <= 32 || two >= 61 && two <= 72 || two == 80) && weighed(s, 3, 7, 1, 3, 7, 1, 3, 7, 1)%10 == 0
}

// isSSN refuses numbers that the US administration never issues, and two that were printed in advertisements.
func isSSN(s string) bool {
	return len(s) == 9 && s[:3] != "000" && s[:3] != "666" && s[0] != '9' && s[3:5] != "00" && s[5:] != "0000"
}

// isITIN: the US tax office's numbers for those who have no other.
func isITIN(s string) bool {
	two := number(s[3:5])
	return len(s) == 9 && s[0] == '9' && (two >= 50 && two <= 65 || two >= 70 && two <= 88 || two >= 90 && two <= 92 || two >= 94)
}

// isNPI: a US health provider's number; ISO/IEC 7812 with the prefix 80840.
func isNPI(s string) bool { return len(s) == 10 && (s[0] == '1' || s[0] == '2') && luhn("80840"+s) }

const dniLetters = "TRWAGMYFPDXBNJZSQVHLCKE"

// isDNI: a Spanish identity number, or a foreigner's that begins with X, Y or Z.
func isDNI(s string) bool {
	if len(s) != 9 {
		return false
	}
	if i := strings.IndexByte("XYZ", s[0]); i >= 0 {
		s = "012"[i:i+1] + s[1:]
	}
	return allDigits(s[:8]) && dniLetters[number(s[:8])%23] == s[8]
}

func allDigits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return s != ""
}

// isCodiceFiscale: shape and check letter of the Italian tax code (decree of 23 December 1976).
func isCodiceFiscale(s string) bool {
	if len(s) != 16 {
		return false
	}
	odd := [26]int{1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24, 23}
	sum := 0
	for i := range 15 {
		c := s[i]
		isDigit := c >= '0' && c <= '9'
		digitPlace := i == 6 || i == 7 || i == 9 || i == 10 || i >= 12
		if isDigit && !digitPlace || !isDigit && (c < 'A' || c > 'Z') || !isDigit && digitPlace && !strings.ContainsRune("LMNPQRSTUV", rune(c)) {
			return false
		}
		v := int(c - 'A')
		if isDigit {
			v = int(c - '0')
		}
		if i%2 == 0 {
			v = odd[v]
		}
		sum += v
	}
	return strings.IndexByte("ABCDEHLMPRST", s[8]) >= 0 && s[15] == 'A'+byte(sum%26)
}

// isNINO: a British national insurance number; there is no check digit, but letters that are not used.
func isNINO(s string) bool {
	return len(s) == 9 && allDigits(s[2:8]) && s[8] >= 'A' && s[8] <= 'D' &&
		upper(s[:2]) && !strings.ContainsAny(s[:1], "DFIQUV") && !strings.ContainsAny(s[1:2], "DFIQUVO") &&
		!strings.Contains(" BG GB NK KN TN NT ZZ ", " "+s[:2]+" ")
}

func upper(s string) bool {
	for i := range len(s) {
		if s[i] < 'A' || s[i] > 'Z' {
			return false
		}
	}
	return s != ""
}

// isMBI: a US Medicare number's form (CMS): no letter that looks like a digit.
func isMBI(s string) bool {
	if len(s) != 11 || s[0] < '1' || s[0] > '9' {
		return false
	}
	const l = "ACDEFGHJKMNPQRTUVWXY"
	for i := range len(s) {
		c := s[i]
		digit, letter := c >= '0' && c <= '9', strings.IndexByte(l, c) >= 0
		switch i {
		case 1, 4, 7, 8:
			if !letter {
				return false
			}
		case 2, 5:
			if !digit && !letter {
				return false
			}
		default:
			if !digit {
				return false
			}
		}
	}
	return true
}

// isGSTIN: state, PAN, and a check character to base 36 (GSTN).
func isGSTIN(s string) bool {
	if len(s) != 15 || !allDigits(s[:2]) || number(s[:2]) == 0 || number(s[:2]) > 38 && number(s[:2]) < 97 || !isPAN(s[2:12]) || s[13] != 'Z' {
		return false
	}
	const symbols = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
	sum := 0
	for i := range 14 {
		v := strings.IndexByte(symbols, s[i]) * (1 + i%2)
		sum += v/36 + v%36
	}
	return symbols[(36-sum%36)%36] == s[14]
}

// isPAN: an Indian tax number; its fourth letter says what kind of holder.
func isPAN(s string) bool {
	return len(s) == 10 && upper(s[:5]) && allDigits(s[5:9]) && upper(s[9:]) && strings.IndexByte("PCHFATBLJGE", s[3]) >= 0
}

// isGermanID: letters and digits of an identity card's number with its check digit (ICAO 9303).
func isGermanID(s string) bool {
	const symbols = "CFGHJKLMNPRTVWXYZ0123456789"
	if len(s) != 10 || strings.IndexByte("LMNPRTVWXY", s[0]) < 0 || !allDigits(s[9:]) {
		return false
	}
	sum := 0
	for i := range 9 {
		c := s[i]
		if strings.IndexByte(symbols, c) < 0 {
			return false
		}
		v := int(c - '0')
		if c >= 'A' {
			v = int(c-'A') + 10
		}
		sum += v * []int{7, 3, 1}[i%3]
	}
	return sum%10 == int(s[9]-'0')
}

// isVIN: a vehicle's number (ISO 3779) with the check digit of North America.
func isVIN(s string) bool {
	if len(s) != 17 {
		return false
	}
	const values = "0123456789.ABCDEFGH..JKLMN.P.R..STUVWXYZ"
	sum := 0
	for i := range 17 {
		v := strings.IndexByte(values, s[i])
		if v < 0 || s[i] == '.' {
			return false
		}
		sum += v % 10 * []int{8, 7, 6, 5, 4, 3, 2, 10, 0, 9, 8, 7, 6, 5, 4, 3, 2}[i]
	}
	return "0123456789X"[sum%11] == s[8]
}

// isVAT checks a VAT number of the EU or the United Kingdom (forms and check digits as the commission publishes them).
func isVAT(s string) bool {
	if len(s) < 4 {
		return false
	}
	country, n := s[:2], s[2:]
	digitsOf := func(k int) bool { return len(n) == k && allDigits(n) }
	switch country {
	case "DE":
		return digitsOf(9) && mod1110(n)
	case "FR":
		return len(n) == 11 && allDigits(n[2:]) && allDigits(n[:2]) && number(n[:2]) == (12+3*(number(n[2:])%97))%97
	case "IT":
		return digitsOf(11) && luhn(n)
	case "BE":
		return digitsOf(10) && n[0] <= '1' && number(n[8:]) == 97-number(n[:8])%97
	case "NL":
		return len(n) == 12 && n[9] == 'B' && allDigits(n[:9]) && allDigits(n[10:]) && (weighed(n, 9, 8, 7, 6, 5, 4, 3, 2)%11 == int(n[8]-'0') || mod97("0000"+s))
	case "PL":
		return digitsOf(10) && weighed(n, 6, 5, 7, 2, 3, 4, 5, 6, 7)%11 == int(n[9]-'0')
	case "GB", "XI":
		if !digitsOf(9) && !digitsOf(12) {
			return false
		}
		sum := weighed(n, 8, 7, 6, 5, 4, 3, 2) + number(n[7:9])
		return sum%97 == 0 || (sum+55)%97 == 0
	case "AT":
		if len(n) != 9 || n[0] != 'U' || !allDigits(n[1:]) {
			return false
		}
		sum := 4
		for i := 1; i < 8; i++ {
			x := int(n[i] - '0')
			if i%2 == 0 {
				x = x*2/10 + x*2%10
			}
			sum += x
		}
		return (10-sum%10)%10 == int(n[8]-'0')
	case "DK":
		return digitsOf(8) && weighed(n, 2, 7, 6, 5, 4, 3, 2, 1)%11 == 0
	case "FI":
		return digitsOf(8) && weighed(n, 7, 9, 10, 5, 8, 4, 2, 1)%11 == 0
	case "PT":
		return digitsOf(9) && (11-weighed(n, 9, 8, 7, 6, 5, 4, 3, 2)%11)%11%10 == int(n[8]-'0')
	case "SE":
		return digitsOf(12) && n[10:] == "01" && luhn(n[:10])
	case "LU":
		return digitsOf(8) && number(n[:6])%89 == number(n[6:])
	case "EL":
		return digitsOf(9) && weighed(n, 256, 128, 64, 32, 16, 8, 4, 2)%11%10 == int(n[8]-'0')
	case "ES":
		return len(n) == 9 && isDNI(n) || len(n) == 9 && strings.IndexByte("ABCDEFGHJNPQRSUVW", n[0]) >= 0 && allDigits(n[1:8]) && isCIF(n)
	}
	return false
}

// isCIF: a Spanish company's number.
func isCIF(s string) bool {
	sum := 0
	for i := 1; i < 8; i++ {
		x := int(s[i] - '0')
		if i%2 == 1 {
			x = x*2/10 + x*2%10
		}
		sum += x
	}
	c := (10 - sum%10) % 10
	return s[8] == byte('0'+c) || s[8] == "JABCDEFGHI"[c]
}

const base58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"

// isBase58Check checks the form of Bitcoin's and many other addresses: a version, 20 bytes, and four of a double SHA-256.
func isBase58Check(s string) bool {
	if len(s) < 26 || len(s) > 35 {
		return false
	}
	n, radix := new(big.Int), big.NewInt(58)
	for i := range len(s) {
		d := strings.IndexByte(base58, s[i])
		if d < 0 {
			return false
		}
		n.Add(n.Mul(n, radix), big.NewInt(int64(d)))
	}
	b := make([]byte, 25)
	if n.BitLen() > 200 {
		return false
	}
	n.FillBytes(b)
	first := sha256.Sum256(b[:21])
	second := sha256.Sum256(first[:])
	return string(second[:4]) == string(b[21:])
}

// isBech32 checks BIP 173 and BIP 350.
func isBech32(s string) bool {
	const symbols = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
	s = strings.ToLower(s)
	i := strings.LastIndexByte(s, '1')
	if i < 1 || len(s)-i < 7 || len(s) > 90 {
		return false
	}
	sum := uint32(1)
	add := func(v uint32) {
		top := sum >> 25
		sum = sum&0x1ffffff<<5 ^ v
		for j, g := range [5]uint32{0x3b6a57b2, 0x26508e6d, 0x1ea119fa, 0x3d4233dd, 0x2a1462b3} {
			if top>>j&1 == 1 {
				sum ^= g
			}
		}
	}
	for _, c := range []byte(s[:i]) {
		add(uint32(c) >> 5)
	}
	add(0)
	for _, c := range []byte(s[:i]) {
		add(uint32(c) & 31)
	}
	for _, c := range []byte(s[i+1:]) {
		v := strings.IndexByte(symbols, c)
		if v < 0 {
			return false
		}
		add(uint32(v)) //nolint:gosec // below 32
	}
	return sum == 1 || sum == 0x2bc830a3
}

// isEthereum: forty hex digits; when their case is mixed it is a checksum (EIP-55).
func isEthereum(s string) bool {
	if len(s) != 42 || s[0] != '0' || s[1] != 'x' {
		return false
	}
	s = s[2:]
	low := strings.ToLower(s)
	if strings.Trim(low, "0123456789abcdef") != "" {
		return false
	}
	if s == low || s == strings.ToUpper(s) {
		return true
	}
	h := sha3.NewLegacyKeccak256()
	_, _ = h.Write([]byte(low)) // never fails
	sum := h.Sum(nil)
	for i := range len(s) {
		if low[i] >= 'a' && (sum[i/2]>>(4*(1-i%2))&8 != 0) != (s[i] < 'a') {
			return false
		}
	}
	return true
}
