package pii_test

import (
	"strings"
	"testing"

	"aran/platform/auth"
	"aran/service/guard/pii"
)

// cases are texts with the one value that is to be found in each, or none.
func cases() []struct{ text, kind, found string } {
	key := auth.NewAPIKey(false)
	wrong := "x"
	if strings.HasSuffix(key, wrong) {
		wrong = "y"
	}
	return []struct{ text, kind, found string }{
		{"pay with 4111 1111 1111 1111 please", "pii.card", "4111 1111 1111 1111"},
		{"pay with 4111 1111 1111 1112 please", "", ""},
		{"pay with 4111111111111111 please", "pii.card", "4111111111111111"},
		{"amex 3782-822463-10005", "pii.card", "3782-822463-10005"},
		{"order 0000000000000000", "", ""},
		{"order 9999 9999 9999 9995", "", ""},
		{"IBAN GB82 WEST 1234 5698 7654 32.", "pii.iban", "GB82 WEST 1234 5698 7654 32"},
		{"IBAN GB82 WEST 1234 5698 7654 33.", "", ""},
		{"to DE89370400440532013000 by Monday", "pii.iban", "DE89370400440532013000"},
		{"mail a.b@example.org now", "pii.email", "a.b@example.org"},
		{"(mailto:First.Last+tag@sub.example.co.uk)", "pii.email", "First.Last+tag@sub.example.co.uk"},
		{"see @someone or a@b", "", ""},
		{"mail-k7f3a@redacted.example is a pseudonym", "", ""},
		{"aadhaar 2341 2341 2346", "pii.aadhaar", "2341 2341 2346"},
		{"aadhaar 2341 2341 2347", "", ""},
		{"my uid is 234123412346.", "pii.aadhaar", "234123412346"},
		{"PAN ABCPE1234F", "pii.pan", "ABCPE1234F"},
		{"part ABCXE1234F", "", ""},
		{"GSTIN 27AAPFU0939F1ZV", "pii.gstin", "27AAPFU0939F1ZV"},
		{"GSTIN 27AAPFU0939F1ZW", "", ""},
		{"IFSC HDFC0001234", "pii.ifsc", "HDFC0001234"},
		{"pay asha.rao@okhdfcbank", "pii.upi", "asha.rao@okhdfcbank"},
		{"Passport no. M1234567", "pii.passport", "M1234567"},
		{"gate M1234567", "", ""},
		{"voter id ABC1234567", "pii.voter_id", "ABC1234567"},
		{"driving licence TN09 20110012345", "pii.driving_licence", "TN09 20110012345"},
		{"DL-0420110149646 of Delhi", "pii.driving_licence", "DL-0420110149646"},
		{"my car TN 09 AB 1234 is red", "pii.vehicle", "TN 09 AB 1234"},
		{"KA01MJ2022", "pii.vehicle", "KA01MJ2022"},
		{"22 BH 1234 AA", "pii.vehicle", "22 BH 1234 AA"},
		{"ssn 078-05-1120", "pii.ssn", "078-05-1120"},
		{"ssn 666-05-1120", "", ""},
		{"number 078051120", "", ""},
		{"her social security number is 078051121", "pii.ssn", "078051121"},
		{"ITIN 912-70-1234", "pii.itin", "912-70-1234"},
		{"EIN 12-3456789", "pii.ein", "12-3456789"},
		{"routing number 021000021", "pii.routing", "021000021"},
		{"routing number 021000022", "", ""},
		{"Medicare 1EG4-TE5-MK73", "pii.mbi", "1EG4-TE5-MK73"},
		{"NPI 1234567893", "pii.npi", "1234567893"},
		{"VAT DE136695976", "pii.vat", "DE136695976"},
		{"VAT DE136695977", "", ""},
		{"Steuer-ID 86095742719", "pii.tax_id", "86095742719"},
		{"Steuer-ID 86095742718", "", ""},
		{"NIR 2 55 08 14 168 025 38", "pii.national_id", "2 55 08 14 168 025 38"},
		{"DNI 12345678Z", "pii.national_id", "12345678Z"},
		{"DNI 12345678-Z", "pii.national_id", "12345678-Z"},
		{"DNI 12345678A", "", ""},
		{"NIE X1234567L", "pii.national_id", "X1234567L"},
		{"codice fiscale RSSMRA85T10A562S", "pii.tax_id", "RSSMRA85T10A562S"},
		{"codice fiscale RSSMRA85T10A562T", "", ""},
		{"BSN 111222333", "pii.national_id", "111222333"},
		{"rijksregisternummer 85.07.30-033.28", "pii.national_id", "85.07.30-033.28"},
		{"PESEL 44051401359", "pii.national_id", "44051401359"},
		{"NI number AB 12 34 56 C", "pii.national_id", "AB 12 34 56 C"},
		{"NHS 943 476 5919", "pii.health_id", "943 476 5919"},
		{"IMEI 490154203237518", "pii.imei", "490154203237518"},
		{"call +91 98765 43210", "pii.phone", "+91 98765 43210"},
		{"call 98765 43210", "pii.phone", "98765 43210"},
		{"mobile: 9876543210", "pii.phone", "9876543210"},
		{"call (202) 456-1111", "pii.phone", "(202) 456-1111"},
		{"call 202-456-1111 today", "pii.phone", "202-456-1111"},
		{"ring 020 7946 0958", "pii.phone", "020 7946 0958"},
		{"Tel. +49 30 901820", "pii.phone", "+49 30 901820"},
		{"Tél. 01 42 68 53 00", "pii.phone", "01 42 68 53 00"},
		{"version 1.2.3 of 2024-01-02", "", ""},
		{"from 2024-01-02 12:30:45 to 2025-01-02", "", ""},
		{"host 10.1.2.3:8080", "pii.ip", "10.1.2.3"},
		{"host 2a00:1450:4001:81b::200e up", "pii.ip", "2a00:1450:4001:81b::200e"},
		{"at 12:30:45 sharp", "", ""},
		{"std::vector and a::b", "", ""},
		{"mac 00:1B:44:11:3A:B7", "pii.mac", "00:1B:44:11:3A:B7"},
		{"see https://example.org/a/b", "", ""},
		{"see https://example.org/a?user=7.", "pii.url", "https://example.org/a?user=7"},
		{"born on 14/05/1985 in", "pii.birth_date", "14/05/1985"},
		{"due on 14/05/1985 in", "", ""},
		{"{'birth': '1985-05-14', 'sent': '2022-02-22'}", "pii.birth_date", "1985-05-14"},
		{"a secret of ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789", "", ""},
		{"at 12.9716, 77.5946", "pii.coordinates", "12.9716, 77.5946"},
		{"send to 1BvBMSEYstWetqTFn5Au4m4GFg7xJaNVN2", "pii.wallet", "1BvBMSEYstWetqTFn5Au4m4GFg7xJaNVN2"},
		{"send to 1BvBMSEYstWetqTFn5Au4m4GFg7xJaNVN3", "", ""},
		{"send to bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4", "pii.wallet", "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4"},
		{"send to 0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed", "pii.wallet", "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"},
		{"send to 0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAeD", "", ""},
		{"PIN code 600 028", "pii.postcode", "600 028"},
		{"key " + key + "!", "secret", key},
		{"key " + key[:47] + wrong, "", ""},
		{"AKIAIOSFODNN7EXAMPLE", "secret", "AKIAIOSFODNN7EXAMPLE"},
		{"-----BEGIN PRIVATE KEY-----\nMIIE\n-----END PRIVATE KEY-----", "secret", "-----BEGIN PRIVATE KEY-----\nMIIE\n-----END PRIVATE KEY-----"},
		{"postgres://app:s3cr3tpw@db/app", "secret", "s3cr3tpw"},
		{"password: Tr0ub4dor&3", "secret", "Tr0ub4dor&3"},
		{`"password": "correcthorse"`, "secret", "correcthorse"},
		{"the password is required", "", ""},
		{"a password: your mother's name", "", ""},
		{"Authorization: Bearer 3f8Kq0ZpL2vXw9Tn5RbY", "secret", "3f8Kq0ZpL2vXw9Tn5RbY"},
		{"aws_secret_access_key = wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "secret", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"},
		{"commit 9fceb02d0ae598e95dc970b74767f19372d61af8", "", ""},
		{"id 123e4567-e89b-12d3-a456-426614174000", "", ""},
		{"sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=", "", ""},
		{"bot 110201543:AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw1", "secret", "110201543:AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw1"},
		{"sk-learn-tutorial-for-people-who-like-trees", "", ""},
	}
}

func TestPrivate(t *testing.T) {
	for _, c := range cases() {
		got := pii.Find(c.text)
		switch {
		case c.kind == "" && len(got) > 0:
			t.Errorf("%q: found %+v", c.text, got)
		case c.kind != "" && (len(got) != 1 || got[0].Kind != c.kind || c.text[got[0].Start:got[0].End] != c.found):
			t.Errorf("%q: found %+v, want %s %q", c.text, got, c.kind, c.found)
		case c.kind != "" && (got[0].Why == "" || strings.Contains(got[0].Why, c.found)):
			t.Errorf("%q: why: %q", c.text, got[0].Why)
		}
	}
}

func TestPacksAndKinds(t *testing.T) {
	const text = "PAN ABCPE1234F, DNI 12345678Z, ssn 078-05-1120, mail a@example.org"
	for _, c := range []struct {
		options pii.Options
		want    string
	}{
		{pii.Options{}, "pii.pan pii.national_id pii.ssn pii.email"},
		{pii.Options{Packs: []string{pii.India}}, "pii.pan pii.email"},
		{pii.Options{Packs: []string{pii.Europe, pii.States}}, "pii.national_id pii.ssn pii.email"},
		{pii.Options{Kinds: []string{"pii.ssn"}}, "pii.ssn"},
		{pii.Options{Threshold: 0.98}, "pii.email"},
	} {
		var kinds []string
		for _, f := range c.options.Find(text) {
			kinds = append(kinds, f.Kind)
		}
		if got := strings.Join(kinds, " "); got != c.want {
			t.Errorf("%+v: %s, want %s", c.options, got, c.want)
		}
	}
}

func FuzzFind(f *testing.F) {
	for _, c := range cases() {
		f.Add(c.text)
	}
	f.Add("\xff@\xc2 +(1) \xe2\x80 a@\x80.b ://@: 1x2 ::::: =\"")
	all := pii.Options{Names: true, Threshold: 0.01}
	f.Fuzz(func(t *testing.T, s string) {
		end := 0
		for _, x := range all.Find(s) {
			if x.Start < end || x.End > len(s) || x.Start >= x.End || x.Score <= 0 || x.Score > 1 || x.Why == "" {
				t.Errorf("finding %+v in %d bytes", x, len(s))
			}
			end = x.End
		}
	})
}

const kilobyte = "Dear Ms Rao, thank you for your order 4711 of 12 May. We will send it to 12 Lake View Road, Chennai 600 028, by Friday. If you have questions, write to help@example.org or call +91 44 2345 6789 between 9 and 17 o'clock. The invoice of Rs. 12,345.00 was charged to the card ending in 1111; the GSTIN is on the second page. "

func BenchmarkFind(b *testing.B) {
	for name, s := range map[string]string{"1KB": strings.Repeat(kilobyte, 4)[:1024], "50KB": strings.Repeat(kilobyte, 170)[:50<<10], "digits": strings.Repeat("1234 5678 9012 ", 4000)[:50<<10], "marks": strings.Repeat("a@://:-+(", 6000)[:50<<10]} {
		for kind, o := range map[string]pii.Options{"numbers": {}, "names": {Names: true}} {
			b.Run(name+"/"+kind, func(b *testing.B) {
				b.SetBytes(int64(len(s)))
				for b.Loop() {
					o.Find(s)
				}
			})
		}
	}
}
