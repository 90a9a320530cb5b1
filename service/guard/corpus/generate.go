package corpus

import (
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"strings"
)

// generated expands the patterns under data/patterns into documents: a pattern becomes `times` documents, and a line
// that begins with "* " stands three to nine times in each, filled anew every time.
func generated(shared slots, into inserts) ([]Row, error) {
	names, err := fs.Glob(files, "data/patterns/*.txt")
	if err != nil {
		return nil, fmt.Errorf("list patterns: %w", err)
	}
	var out []Row
	for _, n := range names {
		b, err := files.ReadFile(n)
		if err != nil {
			return nil, fmt.Errorf("read patterns: %w", err)
		}
		s := maps.Clone(shared)
		text := s.take(string(b))
		err = sections(n, text, func(g group, pattern string) {
			for k := range g.times {
				doc := s.pattern(pattern, seeded(g.source, pattern, k))
				all := into.pairs(g, doc)
				out = append(out, all[0], all[1], all[harmlessPer+1])
			}
		})
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}

// Long documents are several of one language one after another, as threads, exports and folders are.
const (
	longDocuments = 60
	partsOfLong   = 6
)

// long puts clean documents together and one sentence into them.
func (into inserts) long(rows []Row) (out []Row) {
	var clean []Row
	for _, r := range rows {
		if r.Label == 0 && r.Lang == "en" && len(r.Text) < 3000 {
			clean = append(clean, r)
		}
	}
	for k := range min(longDocuments, len(clean)) {
		rnd := seeded("own_doc_long", "", k)
		var parts []string
		for range partsOfLong {
			parts = append(parts, clean[rnd.IntN(len(clean))].Text)
		}
		doc := strings.Join(parts, []string{"\n\n", "\n---\n", "\n\n\n", "\n=====\n"}[rnd.IntN(4)])
		all := into.pairs(group{source: "own_doc_long", family: "long", lang: "en"}, doc)
		out = append(out, all[0], all[1], all[1+harmlessPer])
	}
	return out
}

// take reads the slots of a text and returns the rest.
func (s slots) take(text string) string {
	var rest []string
	for line := range strings.SplitSeq(text, "\n") {
		if !s.define(line) {
			rest = append(rest, line)
		}
	}
	return strings.Join(rest, "\n")
}

// pattern makes one document.
func (s slots) pattern(text string, rnd *rand.Rand) string {
	var out []string
	for line := range strings.SplitSeq(text, "\n") {
		row, many := strings.CutPrefix(line, "* ")
		if !many {
			out = append(out, s.fill(line, rnd))
			continue
		}
		for range 3 + rnd.IntN(7) {
			out = append(out, s.fill(row, rnd))
		}
	}
	return strings.TrimSpace(strings.Join(out, "\n"))
}

// sections calls f with each document of a file in the form of data/documents.
func sections(name, text string, f func(group, string)) error {
	for _, part := range strings.Split("\n"+text, "\n## source=")[1:] {
		head, body, _ := strings.Cut(part, "\n")
		g, err := header("## source=" + head)
		if err != nil {
			return fmt.Errorf("documents %s: %w", name, err)
		}
		for d := range strings.SplitSeq("\n"+body+"\n", "\n%%%\n") {
			if strings.TrimSpace(d) != "" {
				f(g, strings.TrimSpace(d))
			}
		}
	}
	return nil
}
