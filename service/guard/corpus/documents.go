package corpus

import (
	"fmt"
	"io/fs"
	"math/rand/v2"
	"regexp"
	"strings"
)

// Documents are carriers: each becomes a clean row, a row with a harmless sentence put into it, and rows with an
// attack put into it, so that nothing about the carrier tells the label. A file under data/documents holds
//
//	## source=own_doc_email family=email lang=en
//	%%%
//	the document
//	%%%
//
// and data/inserts.txt what is put in, as groups of a list file: label and language say which goes where, and
// "family=task" are instructions that would be harmless had the user given them.

// What a document gets.
const (
	harmlessPer = 3
	attacksPer  = 4
)

// One in wrapped documents stands in the prompt of a user who asks something about it: inserts of the "language" task.
const wrapped = 4

// One in carrierOf found documents of these families carries something as well.
const carrierOf = 3

var carries = map[string]bool{ //nolint:gochecknoglobals // a table
	"article": true, "code": true, "config": true, "docs": true, "email": true, "trigger_docs": true, "talks_about_attacks": true,
}

type insert struct {
	text, family string
}

type inserts map[string][2][]insert // by language

// documents makes the rows of the written documents, and of those of the found rows that can carry something.
func documents(found []Row) ([]Row, error) {
	s := slots{}
	if _, err := list("data/slots.txt", s); err != nil {
		return nil, err
	}
	rows, err := list("data/inserts.txt", s)
	if err != nil {
		return nil, err
	}
	into := inserts{}
	for _, r := range rows {
		by := into[r.Lang]
		by[r.Label] = append(by[r.Label], insert{r.Text, r.Family})
		into[r.Lang] = by
	}
	names, err := fs.Glob(files, "data/documents/*.txt")
	if err != nil {
		return nil, fmt.Errorf("list documents: %w", err)
	}
	var out []Row
	for _, n := range names {
		got, err := into.file(n)
		if err != nil {
			return nil, err
		}
		out = append(out, got...)
	}
	out = append(out, into.long(out)...)
	rows, err = generated(s, into)
	if err != nil {
		return nil, err
	}
	out = append(out, rows...)
	for _, r := range found {
		if rnd := seeded(r.Source, r.Text, 0); r.Label == 0 && carries[r.Family] && rnd.IntN(carrierOf) == 0 {
			out = append(out, into.twins(r)...)
		}
	}
	return out, nil
}

// twins makes a harmless and an injected sibling of a found document.
func (into inserts) twins(r Row) []Row {
	g := group{source: r.Source, family: r.Family, lang: r.Lang}
	all := into.pairs(g, r.Text)
	out := []Row{all[0], all[1], all[1+harmlessPer]}
	for i := range out {
		out[i].Source, out[i].Licence = r.Source, r.Licence
	}
	return out
}

func (into inserts) file(name string) ([]Row, error) {
	b, err := files.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("read documents: %w", err)
	}
	var out []Row
	err = sections(name, string(b), func(g group, d string) { out = append(out, into.pairs(g, d)...) })
	return out, err
}

// pairs makes the rows of one document.
func (into inserts) pairs(g group, doc string) []Row {
	row := Row{Text: doc, Source: g.source, Family: g.family, Lang: g.lang, Licence: own}
	row.Pair = fmt.Sprintf("%s/%x", g.source, hash(doc))
	out := []Row{row}
	with := into[g.lang]
	for k := range harmlessPer + attacksPer {
		rnd := seeded(g.source, doc, k)
		label := 0
		if k >= harmlessPer {
			label = 1
		}
		list := with[label]
		if len(list) == 0 || (label == 1 && g.lang != "en" && rnd.IntN(4) == 0) {
			list = into["en"][label] // an attack on a reader of any language is often in English
		}
		p := list[rnd.IntN(len(list))]
		r := row
		r.Label = label
		r.Text = strings.TrimSpace(place(g.family, doc, p.text, rnd))
		if label == 1 {
			r.Family = "indirect_" + p.family
		}
		if wraps := into["task"][0]; g.lang == "en" && rnd.IntN(wrapped) == 0 {
			r.Text = strings.ReplaceAll(wraps[rnd.IntN(len(wraps))].text, "DOCUMENT", r.Text)
		}
		out = append(out, r)
	}
	return out
}

var (
	jsonString = regexp.MustCompile(`": ?"[^"\n]{8,}"`)
	cell       = regexp.MustCompile(`[^|,;\t\n]{3,}`)
	sentence   = regexp.MustCompile(`[.!?।] `)
	comment    = regexp.MustCompile(`(?m)^\s*(//|#|--|;|%)`)
)

// place puts p into the document where text of strangers stands in a document of this kind.
func place(family, doc, p string, rnd *rand.Rand) string {
	switch family {
	case "json", "tool_output":
		if at := some(jsonString, doc, rnd); at != nil {
			p = strings.NewReplacer(`"`, `\"`, "\n", `\n`).Replace(p)
			return doc[:at[1]-1] + " " + p + doc[at[1]-1:]
		}
	case "table":
		if at := some(cell, doc[strings.Index(doc, "\n")+1:], rnd); at != nil {
			end := at[1] + strings.Index(doc, "\n") + 1
			return strings.TrimRight(doc[:end], " ") + " " + strings.NewReplacer("\n", " ", "|", "/", ",", " ").Replace(p) + doc[end:]
		}
	case "code", "config":
		mark := "#"
		if m := comment.FindStringSubmatch(doc); m != nil {
			mark = m[1]
		}
		return line(doc, mark+" "+strings.ReplaceAll(p, "\n", "\n"+mark+" "), rnd)
	case "html":
		wrapped := []string{
			"<!-- " + p + " -->", "<p>" + p + "</p>", `<span style="display:none">` + p + "</span>",
			`<img src="/i/3.png" alt="` + strings.ReplaceAll(p, `"`, "'") + `">`, `<div style="color:#fff;font-size:1px">` + p + "</div>",
			`<meta name="description" content="` + strings.ReplaceAll(p, `"`, "'") + `">`,
		}
		return line(doc, wrapped[rnd.IntN(len(wrapped))], rnd)
	case "log":
		return line(doc, []string{"", "INFO ", "WARN user_agent=", "msg="}[rnd.IntN(4)]+strings.ReplaceAll(p, "\n", " "), rnd)
	}
	switch rnd.IntN(5) {
	case 0:
		return p + "\n\n" + doc
	case 1:
		return doc + "\n\n" + p
	case 2:
		return doc + " " + p
	case 3:
		if at := some(sentence, doc, rnd); at != nil {
			return doc[:at[1]] + p + " " + doc[at[1]:]
		}
	}
	if paragraphs := strings.Split(doc, "\n\n"); len(paragraphs) > 1 {
		k := 1 + rnd.IntN(len(paragraphs)-1)
		return strings.Join(paragraphs[:k], "\n\n") + "\n\n" + p + "\n\n" + strings.Join(paragraphs[k:], "\n\n")
	}
	return doc + "\n" + p
}

// line puts p between two lines.
func line(doc, p string, rnd *rand.Rand) string {
	lines := strings.Split(doc, "\n")
	k := 1 + rnd.IntN(len(lines))
	return strings.Join(lines[:k], "\n") + "\n" + p + "\n" + strings.Join(lines[k:], "\n")
}

// some is one of the places where e matches.
func some(e *regexp.Regexp, doc string, rnd *rand.Rand) []int {
	all := e.FindAllStringIndex(doc, -1)
	if len(all) == 0 {
		return nil
	}
	return all[rnd.IntN(len(all))]
}
