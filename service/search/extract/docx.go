package extract

import (
	"archive/zip"
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"strconv"
	"strings"

	"aran/platform/fault"
)

const (
	documentXML = "word/document.xml"
	stylesXML   = "word/styles.xml"
	coreXML     = "docProps/core.xml"

	maxEntries  = 5000
	maxXML      = 64 << 20                           // bytes of one part, unpacked
	maxNesting  = 500                                // open elements
	encryptedID = "\xD0\xCF\x11\xE0\xA1\xB1\x1A\xE1" // a compound file: what Office makes of an encrypted document
)

// readDOCX makes Markdown of a Word document (ECMA-376, Office Open XML): headings, paragraphs, lists and tables. What
// was deleted under change tracking is not text; hidden runs are left out and named.
func readDOCX(file []byte) (Result, error) {
	z, err := zip.NewReader(bytes.NewReader(file), int64(len(file)))
	if err != nil {
		return Result{}, malformed("DOCX", err)
	}
	if len(z.File) > maxEntries {
		return Result{}, malformed("DOCX", errors.New("too many entries"))
	}
	d := &document{levels: map[string]int{}}
	if err := each(z, stylesXML, d.style); err != nil {
		return Result{}, err
	}
	if err := each(z, coreXML, d.core); err != nil {
		return Result{}, err
	}
	d.pages = []int{0}
	if err := each(z, documentXML, d.token); err != nil {
		return Result{}, err
	}
	d.endParagraph()
	if d.out.full {
		return Result{}, tooLarge()
	}
	out := Result{Text: d.out.sb.String(), ContentType: Markdown, Title: clean(d.title.String())}
	if len(d.pages) > 1 {
		out.Pages = d.pages
	}
	if d.hidden {
		out.Findings = []string{HiddenText}
	}
	return out, nil
}

// each hands the tokens of a part on, with the names of the open elements. A part that is not there has none.
func each(z *zip.Reader, name string, yield func(open []string, t xml.Token)) error {
	for _, f := range z.File {
		if f.Name != name {
			continue
		}
		if f.Flags&1 != 0 {
			return fault.New(fault.Invalid, "encrypted", "The DOCX file is encrypted; send it without a password.")
		}
		r, err := f.Open()
		if err != nil {
			return malformed("DOCX", err)
		}
		defer r.Close() //nolint:errcheck // read only
		limited := &io.LimitedReader{R: r, N: maxXML}
		err = tokens(limited, yield)
		if limited.N <= 0 {
			return tooLarge() // a bomb, or a book
		}
		return err
	}
	return nil
}

func tokens(r io.Reader, yield func(open []string, t xml.Token)) error {
	dec := xml.NewDecoder(r) // knows no entities but its own five, and reads nothing else
	var open []string
	for {
		t, err := dec.RawToken()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return malformed("DOCX", err)
		}
		switch e := t.(type) {
		case xml.StartElement:
			if len(open) >= maxNesting {
				return malformed("DOCX", errors.New("nested too deep"))
			}
			open = append(open, e.Name.Local)
			yield(open, t)
		case xml.EndElement:
			if len(open) == 0 || open[len(open)-1] != e.Name.Local {
				return malformed("DOCX", errors.New("elements cross"))
			}
			yield(open, t)
			open = open[:len(open)-1]
		case xml.CharData:
			yield(open, t)
		case xml.Directive:
			return malformed("DOCX", errors.New("a document type"))
		}
	}
}

// document is a walk through its parts.
type document struct {
	out    writer
	title  strings.Builder
	levels map[string]int // of headings, by style
	pages  []int
	hidden bool

	styleID string

	line      strings.Builder
	level     int // of the paragraph's heading; 0: none
	listed    bool
	indent    int
	vanished  bool // the run in hand is hidden
	deleted   int  // open deletions of change tracking
	fallbacks int  // open alternatives to what was taken already
	tables    int
	cells     []string
	rows      int
	broken    bool // a page break stands in the paragraph
}

func value(e xml.StartElement, name string) string {
	for _, a := range e.Attr {
		if a.Name.Local == name {
			return a.Value
		}
	}
	return ""
}

// style learns which styles are headings: ids depend on the language, names do not.
func (d *document) style(_ []string, t xml.Token) {
	e, ok := t.(xml.StartElement)
	if !ok {
		return
	}
	switch e.Name.Local {
	case "style":
		d.styleID = value(e, "styleId")
	case "name":
		name := strings.ToLower(value(e, "val"))
		if n, found := strings.CutPrefix(name, "heading "); found {
			if level, err := strconv.Atoi(n); err == nil && len(d.levels) < maxEntries {
				d.levels[d.styleID] = min(max(level, 1), levels)
			}
		} else if name == "title" {
			d.levels[d.styleID] = 1
		}
	}
}

func (d *document) core(open []string, t xml.Token) {
	if s, ok := t.(xml.CharData); ok && len(open) > 0 && open[len(open)-1] == "title" && d.title.Len() < 1000 {
		d.title.Write(s)
	}
}

func (d *document) token(open []string, t xml.Token) {
	switch e := t.(type) {
	case xml.StartElement:
		d.start(e)
	case xml.EndElement:
		d.end(e.Name.Local)
	case xml.CharData:
		if len(open) > 0 && open[len(open)-1] == "t" && d.deleted == 0 && d.fallbacks == 0 {
			if d.vanished {
				d.hidden = d.hidden || strings.TrimSpace(string(e)) != ""
				return
			}
			if d.line.Len()+len(e) <= MaxText {
				d.line.Write(e)
			} else {
				d.out.full = true
			}
		}
	}
}

func (d *document) start(e xml.StartElement) {
	switch e.Name.Local {
	case "pStyle":
		if level, ok := d.levels[value(e, "val")]; ok {
			d.level = level
		}
	case "outlineLvl":
		if n, err := strconv.Atoi(value(e, "val")); err == nil && n < levels && d.level == 0 {
			d.level = n + 1
		}
	case "numPr":
		d.listed = true
	case "ilvl":
		d.indent, _ = strconv.Atoi(value(e, "val")) // a wrong one is none
	case "r":
		d.vanished = false
	case "vanish", "webHidden":
		v := value(e, "val")
		d.vanished = v != "0" && v != "false"
	case "del", "moveFrom":
		d.deleted++
	case "Fallback":
		d.fallbacks++
	case "tab":
		d.line.WriteByte('\t')
	case "br", "cr":
		d.line.WriteByte('\n')
		d.broken = d.broken || value(e, "type") == "page"
	case "lastRenderedPageBreak":
		d.broken = true
	case "tbl":
		d.endParagraph()
		d.tables++
		d.rows = 0
	}
}

func (d *document) end(name string) {
	switch name {
	case "p":
		if d.tables > 0 {
			d.line.WriteByte(' ') // the cell goes on
			d.level, d.listed, d.indent = 0, false, 0
			return
		}
		d.endParagraph()
	case "r":
		d.vanished = false
	case "del", "moveFrom":
		d.deleted--
	case "Fallback":
		d.fallbacks--
	case "tc":
		d.cells = append(d.cells, strings.ReplaceAll(clean(d.line.String()), "|", `\|`))
		d.line.Reset()
	case "tr":
		d.row()
	case "tbl":
		d.tables = max(d.tables-1, 0)
		d.line.Reset()
	}
}

func (d *document) row() {
	cells := d.cells
	d.cells = nil
	if strings.Join(cells, "") == "" {
		return
	}
	line := "| " + strings.Join(cells, " | ") + " |"
	if d.rows++; d.rows > 1 {
		d.out.next(line)
		return
	}
	d.page()
	d.out.block(line)
	d.out.next("|" + strings.Repeat("---|", len(cells)))
}

// page notes that a new one begins with what is written next.
func (d *document) page() {
	if !d.broken {
		return
	}
	d.broken = false
	at := d.out.sb.Len()
	if at > 0 {
		at += len("\n\n")
	}
	if at > d.pages[len(d.pages)-1] && len(d.pages) < maxPages {
		d.pages = append(d.pages, at)
	}
}

func (d *document) endParagraph() {
	s, level, listed, indent := clean(d.line.String()), d.level, d.listed, d.indent
	d.line.Reset()
	d.level, d.listed, d.indent = 0, false, 0
	if s == "" {
		return
	}
	d.page()
	switch {
	case level > 0:
		d.out.block(headingLine(level, s))
	case listed:
		s = strings.Repeat("  ", min(max(indent, 0), 8)) + "- " + s
		if isItem(lastLine(d.out.sb.String())) {
			d.out.next(s)
		} else {
			d.out.block(s)
		}
	default:
		d.out.block(paragraph(s))
	}
}

func lastLine(s string) string { return s[strings.LastIndexByte(s, '\n')+1:] }

// isItem reports whether a line is an item of a list.
func isItem(line string) bool {
	line = strings.TrimLeft(line, " ")
	if strings.HasPrefix(line, "- ") {
		return true
	}
	rest := strings.TrimLeft(line, "0123456789")
	return len(rest) < len(line) && strings.HasPrefix(rest, ". ")
}

func itoa(n int) string { return strconv.Itoa(n) }
