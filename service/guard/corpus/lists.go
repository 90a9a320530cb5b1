package corpus

import (
	"embed"
	"fmt"
	"hash/fnv"
	"io/fs"
	"maps"
	"math/rand/v2"
	"regexp"
	"strconv"
	"strings"
)

//go:embed data
var files embed.FS

// A list file holds rows and templates, one a line:
//
//	# a comment
//	@city Paris | Rome                     a slot, for this file; slots.txt is for all
//	## source=own_x label=0 family=y lang=en times=3
//	How far is {city}?                     a template; it becomes up to `times` rows
//	<<<
//	several lines, one row
//	>>>
//
// With label=pair a line holds a benign text and an attack, parted by "|||"; slots are filled alike in both. `\n` in a
// line is a line break. A name in braces that is no slot stays as it is.
type group struct {
	source, family, lang string
	label                int // 2 is a pair
	times                int
}

const pairLabel = 2

type slots map[string][]string

var slotName = regexp.MustCompile(`\{[a-z][a-z0-9_]*\}`)

func lists() ([]Row, error) {
	shared := slots{}
	if _, err := list("data/slots.txt", shared); err != nil {
		return nil, err
	}
	names, err := fs.Glob(files, "data/own/*.txt")
	if err != nil {
		return nil, fmt.Errorf("list training files: %w", err)
	}
	var out []Row
	for _, n := range names {
		rows, err := list(n, maps.Clone(shared))
		if err != nil {
			return nil, err
		}
		out = append(out, rows...)
	}
	return out, nil
}

// list reads one file; slots it defines are added to s.
func list(name string, s slots) ([]Row, error) {
	b, err := files.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("read training file: %w", err)
	}
	var (
		out   []Row
		g     group
		block []string
		in    bool
	)
	take := func(at int, text string) error {
		if g.source == "" {
			return fmt.Errorf("training file %s, line %d: a row before its group", name, at)
		}
		rows, err := g.rows(text, s)
		if err != nil {
			return fmt.Errorf("training file %s, line %d: %w", name, at, err)
		}
		out = append(out, rows...)
		return nil
	}
	for i, line := range strings.Split(string(b), "\n") {
		var err error
		switch {
		case in && line == ">>>":
			in = false
			err = take(i+1, strings.Join(block, "\n"))
		case in:
			block = append(block, line)
		case line == "<<<":
			in, block = true, nil
		case strings.HasPrefix(line, "## source="):
			g, err = header(line)
			if err != nil {
				err = fmt.Errorf("training file %s, line %d: %w", name, i+1, err)
			}
		case strings.HasPrefix(line, "# ") || line == "#" || strings.TrimSpace(line) == "":
		case s.define(line):
		default:
			err = take(i+1, strings.ReplaceAll(line, `\n`, "\n"))
		}
		if err != nil {
			return nil, err
		}
	}
	if in {
		return nil, fmt.Errorf("training file %s: a block is not closed", name)
	}
	return out, nil
}

// define adds a slot if the line is one.
func (s slots) define(line string) bool {
	if !strings.HasPrefix(line, "@") || !strings.Contains(line, " | ") {
		return false
	}
	k, v, _ := strings.Cut(line[1:], " ")
	for x := range strings.SplitSeq(v, " | ") {
		s[k] = append(s[k], strings.ReplaceAll(strings.TrimSpace(x), `\n`, "\n"))
	}
	return true
}

func header(line string) (group, error) {
	g := group{times: 1}
	for f := range strings.FieldsSeq(line[3:]) {
		k, v, _ := strings.Cut(f, "=")
		var err error
		switch k {
		case "source":
			g.source = v
		case "family":
			g.family = v
		case "lang":
			g.lang = v
		case "times":
			g.times, err = strconv.Atoi(v)
		case "label":
			if v == "pair" {
				g.label = pairLabel
			} else if g.label, err = strconv.Atoi(v); err == nil && g.label != 0 && g.label != 1 {
				err = fmt.Errorf("label %d", g.label)
			}
		default:
			err = fmt.Errorf("unknown key %q", k)
		}
		if err != nil {
			return g, fmt.Errorf("group header: %w", err)
		}
	}
	if g.source == "" || g.family == "" || g.lang == "" {
		return g, fmt.Errorf("group header needs source, family and lang: %q", line)
	}
	return g, nil
}

// rows expands one line or block.
func (g group) rows(text string, s slots) ([]Row, error) {
	times := g.times
	if !s.in(text) {
		times = 1
	}
	var out []Row
	for k := range times {
		filled := s.fill(text, seeded(g.source, text, k))
		row := Row{Text: strings.TrimSpace(filled), Label: g.label, Source: g.source, Family: g.family, Lang: g.lang, Licence: own}
		if g.label != pairLabel {
			out = append(out, row)
			continue
		}
		benign, attack, ok := strings.Cut(filled, "|||")
		if !ok {
			return nil, fmt.Errorf("a pair needs |||: %q", text)
		}
		row.Text, row.Label = strings.TrimSpace(benign), 0
		row.Pair = fmt.Sprintf("%s/%x", g.source, hash(Key(benign))) // attacks of one benign text share it
		out = append(out, row)
		row.Text, row.Label = strings.TrimSpace(attack), 1
		out = append(out, row)
	}
	return out, nil
}

func (s slots) in(text string) bool {
	for _, m := range slotName.FindAllString(text, -1) {
		if len(s[m[1:len(m)-1]]) > 0 {
			return true
		}
	}
	return false
}

// fill puts one value into each slot; a slot that is named twice in a text gets the same value twice. Values may hold
// slots, four deep at most.
func (s slots) fill(text string, rnd *rand.Rand) string {
	chosen := map[string]string{}
	for range 4 {
		text = slotName.ReplaceAllStringFunc(text, func(m string) string {
			k := m[1 : len(m)-1]
			if v, ok := chosen[k]; ok {
				return v
			}
			if len(s[k]) == 0 {
				return m
			}
			chosen[k] = s[k][rnd.IntN(len(s[k]))]
			return chosen[k]
		})
	}
	return text
}

func hash(text string) uint64 {
	h := fnv.New64a()
	h.Write([]byte(text)) //nolint:gosec // a hash takes every write
	return h.Sum64()
}

// seeded is a generator that depends on nothing but its arguments.
func seeded(source, text string, k int) *rand.Rand {
	return rand.New(rand.NewPCG(hash(source+"\x00"+text), uint64(k))) //nolint:gosec // chosen to be repeatable
}
