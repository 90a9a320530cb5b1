package pii_test

import (
	"strings"
	"testing"

	"aran/service/guard/pii"
)

// TestNames: what lists and context find, and what they must leave alone.
func TestNames(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"My name is Karthik Raja and I live in Chennai.", "person: Karthik Raja; place: Chennai"},
		{"en peyar Murugan, naan Madurai la irukken", "person: Murugan; place: Madurai"},
		{"என் பெயர் கார்த்திக், நான் இங்கே இருக்கிறேன்", "person: கார்த்திக்"},
		{"मेरा नाम राजेश कुमार है", "person: राजेश कुमार"},
		{"my name is asha rao, please help", "person: asha rao"},
		{"Dear Mr. Subramanian, your loan at State Bank of India is due.", "person: Subramanian; organisation: State Bank of India"},
		{"From: Lakshmi Narayanan", "person: Lakshmi Narayanan"},
		{"Regards,\nAnitha S.", "person: Anitha S"},
		{"Meeting with Dr. A. P. J. Abdul Kalam at noon", "person: A. P. J. Abdul Kalam"},
		{`Name: Ravi\nCity: Salem`, "person: Ravi; place: Salem"},
		{"Angela Merkel met Ludwig van Beethoven in Berlin on Monday.", "person: Angela Merkel; person: Ludwig van Beethoven; place: Berlin"},
		{"She works at Kumaran Textiles Pvt Ltd in Erode.", "organisation: Kumaran Textiles Pvt Ltd; place: Erode"},
		{"Ship to 12 Gandhi Nagar, Coimbatore", "address: 12 Gandhi Nagar; place: Coimbatore"},
		{"Herr Müller wohnt Hauptstraße 12", "person: Müller; address: Hauptstraße 12"},
		{"He is 34 years old", "age: 34"},
		{"Patient, aged 61", "age: 61"},
		{"The quick brown fox. Python and Go are programming languages.", ""},
		{"Write a function in Python that prints the Total Amount.", ""},
		{"How do I reset my Password? I clicked Reset Password on the Settings page.", ""},
		{"Don't do it. I'll wait. May I ask in March?", ""},
		{"Dear Customer, thank you for your order of 34 lamps.", ""},
		{"The Supreme Court ruled on Friday that Section 66A is invalid.", ""},
		{"", ""},
	} {
		var got []string
		for _, f := range (pii.Options{Names: true}).Find(c.text) {
			got = append(got, strings.TrimPrefix(f.Kind, "pii.")+": "+c.text[f.Start:f.End])
		}
		if s := strings.Join(got, "; "); s != c.want {
			t.Errorf("%q: %s, want %s", c.text, s, c.want)
		}
		for _, f := range pii.Find(c.text) {
			t.Errorf("%q: without being asked for names: %+v", c.text, f)
		}
	}
}
