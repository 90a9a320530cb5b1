package pii

import (
	_ "embed"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"
)

//go:embed data/first.txt
var firstFile string

//go:embed data/last.txt
var lastFile string

//go:embed data/family.txt
var familyFile string

//go:embed data/common.txt
var commonFile string

//go:embed data/places.txt
var placesFile string

//go:embed data/countries.txt
var countriesFile string

//go:embed data/cities.txt
var citiesFile string

//go:embed data/organisations.txt
var organisationsFile string

// lists are read at first use: who looks for numbers only never pays for them.
type lists struct {
	first, last, family, common map[string]bool
	well                        map[string]bool    // places that are better known as such than as names
	places, firms               map[string]phrases // by their first word
}

// phrases are what may follow a first word, as whole names in small letters.
type phrases []string

var readLists = sync.OnceValue(func() *lists { //nolint:gochecknoglobals // made once, never changed
	l := &lists{first: lines(firstFile), last: lines(lastFile), family: lines(familyFile), common: lines(commonFile), well: lines(countriesFile), places: map[string]phrases{}, firms: map[string]phrases{}}
	for _, file := range []string{placesFile, countriesFile, citiesFile} {
		for name := range strings.Lines(file) {
			addPhrase(l.places, strings.TrimSpace(name))
		}
	}
	for name := range strings.Lines(citiesFile) {
		l.well[strings.TrimSpace(name)] = true
	}
	for name := range strings.Lines(organisationsFile) {
		addPhrase(l.firms, strings.TrimSpace(name))
	}
	return l
})

func lines(file string) map[string]bool {
	out := make(map[string]bool, len(file)/8)
	for w := range strings.Lines(file) {
		out[strings.TrimSpace(w)] = true
	}
	return out
}

func addPhrase(to map[string]phrases, name string) {
	if name == "" {
		return
	}
	first := split(name)
	if len(first) == 0 {
		return
	}
	w := name[first[0].start:first[0].end]
	to[w] = append(to[w], name)
}

// Words around names.
var (
	titles   = set("mr mrs ms miss mx dr prof professor sir madam lady lord shri sri smt kumari thiru thirumathi selvi pandit herr frau mme mlle monsieur madame señor señora signor signora rev father sister captain capt major colonel judge justice senator president minister chancellor officer detective sergeant engr adv")                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                      //nolint:gochecknoglobals // constant tables
	announce = set("name named called dear hi hello hey regards sincerely signed from attn attention patient client employee contact contacted spoke met asked told said cc bcc mother father brother sister wife husband son daughter friend colleague boss manager author by beneficiary guardian nominee holder sender recipient naam peyar")                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                         //nolint:gochecknoglobals // as above
	leads    = set("in from at to near visit visiting visited live lives living lived born located location city town village district state country moved moving travel travelling traveling travelled trip flight based reside resides residing into around across leaving reached via through outside")                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                               //nolint:gochecknoglobals // as above
	suffixes = set("inc llc ltd limited corp corporation co company gmbh ag kg se sa sas sarl srl spa bv nv plc llp pvt oy ab bank university college school institute hospital clinic foundation association group holdings partners solutions technologies technology systems industries consulting enterprises services laboratories labs motors airlines airways insurance studios pharmaceuticals trust council ministry department agency club federation union society museum church")                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                            //nolint:gochecknoglobals // as above
	works    = set("work works worked working joined employed employer company firm organisation organization ceo cto cfo founder")                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                      //nolint:gochecknoglobals // as above
	linking  = set("van von der den de del della di da dos du la le bin ibn al el ben ap bint ter ten zu")                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                               //nolint:gochecknoglobals // as above
	noName   = set("united nations ancient super write id note notes title subject box suite apt unit floor flat building i i'm a the this that it he she we you they my your his her our their there here who what when where why how yes no not and or but if then so because all any some one two three please thank thanks hello hi hey dear sir madam customer team everyone everybody folks support service sales help manager user bot agent admin assistant system order account card number phone email address date name street road bank company great good bad happy sad sorry sure fine okay glad just very really also with for from to at in on of by as is are was were be been am do does did can could will would shall should may might must have has had get got go going want need know like new old first last next today tomorrow yesterday monday tuesday wednesday thursday friday saturday sunday january february march april june july august september october november december mr mrs ms dr english french german spanish italian dutch polish indian american british hindi tamil chinese japanese russian christmas easter diwali pongal god internet") //nolint:gochecknoglobals // as above
)

// wasThere stand before "in" or "from" when a place follows.
var wasThere = set("am m is are was were here originally come comes came flew returned returning stay stays staying stayed arrived arrive weather settled grew up") //nolint:gochecknoglobals // as above

const (
	longestName = 5 // words
	personLow   = 0.55
)

// word is a token as a name would have it.
type word struct {
	low     string
	capital bool // begins with a capital
	shout   bool // capitals only, more than one
	first   bool
	last    bool
	family  bool // only behind a first name
	common  bool
	bare    bool // of a script without capitals
}

// word is token i as a name would have it; one with digits has nothing of a name.
func (x *scanner) word(l *lists, i int) word {
	if i < 0 || i >= len(x.tokens) || x.tokens[i].digits > 0 {
		return word{}
	}
	if x.words == nil {
		x.words = make([]word, len(x.tokens))
	}
	if x.words[i].low == "" {
		x.words[i] = l.word(x.text(x.tokens[i]))
	}
	return x.words[i]
}

func (l *lists) word(s string) (w word) {
	r, n := utf8.DecodeRuneInString(s)
	w.low = strings.ToLower(s)
	w.capital = unicode.IsUpper(r)
	w.shout = len(s) > n && s == strings.ToUpper(s) && s != w.low
	w.first, w.last = l.first[w.low], l.last[w.low]
	if unicode.IsLetter(r) && !unicode.IsUpper(r) && !unicode.IsLower(r) { // of a script without capitals
		w.bare = true
		w.capital = w.first || w.last || len(l.places[w.low]) > 0
	}
	w.family = w.capital && (w.last || l.family[w.low] || familyEnd(w.low))
	w.common = l.common[w.low] || noName[w.low]
	return w
}

// shortened reports whether a token is the first half of "Don't" or "I'll".
func (x *scanner) shortened(i int) bool {
	if i+1 >= len(x.tokens) {
		return false
	}
	if m := x.between(i); m != "'" && m != "’" {
		return false
	}
	switch strings.ToLower(x.text(x.tokens[i+1])) {
	case "t", "ll", "re", "ve", "m":
		return true
	}
	return false
}

// familyEnd reports whether a word ends as family names do.
func familyEnd(low string) bool {
	if len(low) < 6 {
		return false
	}
	for _, end := range familyEnds {
		if strings.HasSuffix(low, end) {
			return true
		}
	}
	return false
}

var familyEnds = strings.Fields("ova ov ev eva sson sen ski ska ský ská vić vic berg mann stein dóttir nen escu yan oglu oğlu idis poulos akis enko chuk kar rajan swamy murthy appa nathan veld huis stra") //nolint:gochecknoglobals // a constant table

// sticks reports whether the words i and i+1 may belong to one name.
func (x *scanner) sticks(i int) bool {
	switch x.between(i) {
	case " ", "-", "'", "’", ". ", "\u00a0", ".":
		return true
	}
	return false
}

// names finds persons, places, organisations, ages and street addresses.
func (x *scanner) names() {
	l := readLists()
	for i := 0; i < len(x.tokens); i++ {
		x.age(i)
		if x.tokens[i].digits > 0 {
			x.street(i)
			continue
		}
		w := x.word(l, i)
		if !w.capital {
			if titles[w.low] || announce[w.low] {
				x.smallName(l, i)
			}
			if b := x.word(l, i-1).low; w.bare && (b == "பெயர்" || b == "नाम") {
				end := i
				if n := x.word(l, i+1); n.first || n.last {
					end++
				}
				x.add("pii.person", "person.context", 0.8, int(x.tokens[i].start), int(x.tokens[end].end))
				i = end
			}
			continue
		}
		x.phrase(l.places, i, "pii.place", "place.list", w) // a person may begin here as well: the more certain one stays
		x.phrase(l.firms, i, "pii.organisation", "organisation.list", w)
		if end := x.streetName(i); end > i {
			i = end
			continue
		}
		if end := x.organisation(l, i); end > i {
			i = end
			continue
		}
		if end := x.person(l, i, w); end >= i {
			i = end
			continue
		}
		x.placeByContext(l, i, w)
	}
}

// phrase finds the longest name of a list that begins at a word.
func (x *scanner) phrase(list map[string]phrases, i int, kind, rule string, w word) {
	best := 0
	for _, p := range list[w.low] {
		at := int(x.tokens[i].start)
		end := at + len(p)
		if len(p) > best && end <= len(x.s) && strings.EqualFold(x.s[at:end], p) && (end == len(x.s) || !continues(x.s[end:])) {
			best = len(p)
		}
	}
	if best == 0 {
		return
	}
	single := best == len(w.low)
	before := x.word(readLists(), i-1)
	led := leads[before.low]
	score := 0.75
	if kind == "pii.organisation" && !single {
		score = 0.9
	}
	switch {
	case single && w.common, single && len(w.low) < 3 && !w.shout:
		score = near(0.55, 0.2, bit(led && kind == "pii.place"), 1)
	case single && kind == "pii.place" && readLists().well[w.low]:
		score = near(0.75, 0.6, bit(led || !w.first), 1)
	case single && kind == "pii.place" && (w.first || w.last):
		score = near(0.75, 0.45, bit(led), 1)
	case single && len(w.low) == 2: // UK, US
		score = 0.6
	}
	start := int(x.tokens[i].start)
	x.add(kind, rule, score, start, start+best)
}

func bit(yes bool) uint64 { //nolint:revive // it is made a mask
	if yes {
		return 1
	}
	return 0
}

func continues(s string) bool {
	r, _ := utf8.DecodeRuneInString(s)
	return unicode.IsLetter(r) || unicode.IsDigit(r) || unicode.IsMark(r)
}

// announced says how much the words before a name announce one: 0 no, 1 perhaps, 2 surely.
func (x *scanner) announced(l *lists, i int) int {
	if i == 0 {
		return 0
	}
	b := x.word(l, i-1)
	between := x.between(i - 1)
	if titles[b.low] && (between == " " || between == ". ") {
		return 2
	}
	if len(between) > 3 || strings.ContainsAny(between, "!?") {
		return 0
	}
	two := x.word(l, i-2)
	switch b.low {
	case "is":
		if two.low == "name" || two.low == "naam" {
			return 2
		}
		if two.low == "this" {
			return 1
		}
	case "am", "m":
		if two.low == "i" {
			return 1
		}
	case "to":
		if two.low == "speak" || two.low == "spoke" || two.low == "belongs" || two.low == "married" || two.low == "talk" {
			return 1
		}
	case "with":
		if two.low == "spoke" || two.low == "speak" || two.low == "met" || two.low == "meeting" {
			return 1
		}
	case "name", "dear", "attn", "named", "peyar", "naam", "பெயர்", "नाम":
		return 2
	case "hi", "hello", "hey":
		if i+1 == len(x.tokens) || strings.HasPrefix(x.between(i), ",") || strings.HasPrefix(x.between(i), "!") || strings.HasPrefix(x.between(i), "\n") {
			return 2
		}
	}
	if announce[b.low] && b.low != "from" && b.low != "by" || (b.low == "from" || b.low == "by") && strings.Contains(between, ":") {
		return 1
	}
	return 0
}

// person finds a name that begins at a word. It returns the last word of it, or one before i when there is none.
func (x *scanner) person(l *lists, i int, w word) int {
	if x.shortened(i) {
		return i - 1
	}
	sure := x.announced(l, i)
	if titles[w.low] && !w.shout && sure < 2 && i+1 < len(x.tokens) && (x.between(i) == " " || x.between(i) == ". ") {
		return i - 1 // the name begins behind it
	}
	initial := utf8.RuneCountInString(w.low) == 1
	pointed := initial && i+1 < len(x.tokens) && strings.HasPrefix(x.between(i), ".")
	if !pointed && (noName[w.low] || w.common && sure < 2 && !w.first && !w.last) {
		return i - 1
	}
	end := i
	listed := 0 // how many words the lists know
	clear := 0  // of them, those that are nothing else
	count := func(w word, leading bool) {
		if leading && w.first || !leading && (w.family || w.first) {
			listed++
			if !w.common {
				clear++
			}
		}
	}
	count(w, true)
	if !w.first && w.last && !w.common {
		listed++
	}
	for n := 1; n < longestName && end+1 < len(x.tokens) && x.sticks(end); n++ {
		next := x.word(l, end+1)
		if x.between(end) == ". " && utf8.RuneCountInString(x.text(x.tokens[end])) > 1 || x.between(end) == "." && utf8.RuneCountInString(x.text(x.tokens[end])) > 1 {
			break
		}
		if linking[next.low] && !next.capital && end+2 < len(x.tokens) && x.between(end+1) == " " && x.word(l, end+2).capital && x.tokens[end+2].digits == 0 {
			end++
			continue
		}
		single := utf8.RuneCountInString(next.low) == 1
		if next.low == "s" && x.between(end) != " " || next.low == "" || !next.capital || w.shout != next.shout && !single && !initial || noName[next.low] || titles[next.low] && !next.last {
			break
		}
		if next.common && !next.family && !next.first {
			break
		}
		if single && x.between(end) == "'" {
			break
		}
		count(next, false)
		end++
	}
	for end > i && linking[strings.ToLower(x.text(x.tokens[end]))] {
		end--
	}
	words := end - i + 1
	score := 0.0
	rule := "person.list"
	switch {
	case sure == 2 && (!initial || words > 1):
		score, rule = 0.9, "person.context"
	case sure == 1 && (listed > 0 && !initial || words > 1):
		score, rule = 0.85, "person.context"
	case w.first && words > 1 && (clear > 0 || listed > 1):
		score = 0.85
	case initial && words > 1 && listed > 0:
		score = 0.75
	case words > 1 && listed > 0 && clear > 0:
		score = 0.6
	case w.first && !w.common && !w.shout && len(w.low) > 2:
		score = 0.65
	case w.last && !w.common && !w.shout && len(w.low) > 3:
		score = personLow
	}
	if score < x.opt.threshold() {
		return i - 1
	}
	x.add("pii.person", rule, score, int(x.tokens[i].start), int(x.tokens[end].end))
	return end
}

// smallName finds names in small letters, where the words before say that one comes: "my name is asha rao".
func (x *scanner) smallName(l *lists, i int) {
	j := i + 1
	if j < len(x.tokens) && strings.EqualFold(x.text(x.tokens[i]), "name") && strings.EqualFold(x.text(x.tokens[j]), "is") {
		j++
	} else {
		return
	}
	end := -1
	for k := j; k < min(j+3, len(x.tokens)); k++ {
		w := x.word(l, k)
		if w.capital && k == j {
			return // found as others are
		}
		if w.low == "" || k > j && x.between(k-1) != " " || noName[w.low] || w.common || !w.first && !w.last && k > j {
			break
		}
		end = k
	}
	if end >= j {
		x.add("pii.person", "person.context", 0.75, int(x.tokens[j].start), int(x.tokens[end].end))
	}
}

// organisation finds capitals that end like a company's name. It returns its last word, or i when there is none.
func (x *scanner) organisation(l *lists, i int) int {
	end, found := i, -1
	for n := 0; n < 6; n++ {
		w := x.word(l, end)
		if w.low == "" || !w.capital && w.low != "of" && w.low != "and" && w.low != "for" {
			break
		}
		if n == 0 && noName[w.low] {
			break
		}
		if n > 0 && suffixes[w.low] && (len(w.low) > 2 || x.text(x.tokens[end]) != w.low) {
			found = end
		}
		if end+1 >= len(x.tokens) {
			break
		}
		switch x.between(end) {
		case " ", "-", ", ", " & ", ".", ". ":
			if x.between(end) == ", " && !suffixes[x.word(l, end+1).low] && x.word(l, end+2).low != "and" || strings.HasPrefix(x.between(end), ".") && found != end {
				n = 6
				continue
			}
		default:
			n = 6
			continue
		}
		end++
	}
	if found > i {
		stop := int(x.tokens[found].end)
		x.add("pii.organisation", "organisation.suffix", 0.86, int(x.tokens[i].start), stop)
		return found
	}
	b, c := x.word(l, i-1), x.word(l, i-2)
	if (b.low == "at" || b.low == "for" || b.low == "by" || b.low == "with") && works[c.low] && x.between(i-1) == " " {
		w := x.word(l, i)
		if !noName[w.low] && !w.common && !w.first {
			end := i
			for end+1 < len(x.tokens) && end-i < 3 && (x.between(end) == " " || x.between(end) == " & ") && x.word(l, end+1).capital && !noName[x.word(l, end+1).low] {
				end++
			}
			x.add("pii.organisation", "organisation.context", 0.7, int(x.tokens[i].start), int(x.tokens[end].end))
			return max(end, i)
		}
	}
	return i
}

// placeByContext finds places that no list has, by the word before: "lives in Vaniyambadi".
func (x *scanner) placeByContext(l *lists, i int, w word) {
	if i == 0 || w.common || w.shout || len(w.low) < 4 || noName[w.low] || x.between(i-1) != " " || w.first || w.last {
		return
	}
	b := x.word(l, i-1)
	switch b.low {
	case "in", "from", "near", "visit", "visiting", "to", "around", "outside":
	default:
		return
	}
	c := x.word(l, i-2)
	if !leads[c.low] && !wasThere[c.low] && b.low != "near" && b.low != "visit" && b.low != "visiting" {
		return
	}
	end := i
	for end+1 < len(x.tokens) && end-i < 2 && x.between(end) == " " && x.word(l, end+1).capital && !noName[x.word(l, end+1).low] {
		end++
	}
	x.add("pii.place", "place.context", 0.55, int(x.tokens[i].start), int(x.tokens[end].end))
}
