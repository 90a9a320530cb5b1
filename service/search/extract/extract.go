// Package extract takes the text out of files: HTML, DOCX and PDF.
//
// Files are hostile until shown otherwise: what a reader of the file would not see is left out and named as a finding,
// sizes and times are bounded, nothing is fetched, and PDF is read by PDFium inside a WebAssembly sandbox without files,
// network or clock. The text is valid UTF-8 without control characters; the same bytes give the same text.
package extract

import (
	"archive/zip"
	"bytes"
	"context"
	"net/http"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"aran/platform/fault"
)

// Content types that are known here.
const (
	Plain    = "text/plain"
	Markdown = "text/markdown"
	HTML     = "text/html"
	PDF      = "application/pdf"
	DOCX     = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
)

// HiddenText is the finding of text that a reader of the file would not see: a way to speak to models only.
const HiddenText = "hidden_text"

// Result is what a file says.
type Result struct {
	Text        string
	ContentType string   // what Text is: Plain or Markdown
	Title       string   // as the file itself says; may be empty
	Pages       []int    // where each page begins in Text, in bytes; empty: the format has no pages
	Findings    []string // kinds
}

// MaxText is how many bytes of text a file may have.
const MaxText = 5_000_000

// Reader reads files of all formats. Safe for concurrent use.
type Reader struct{ pdf *engine }

// NewReader keeps the compiled PDF engine in cache, a directory that only this user may write to; empty: in memory alone.
func NewReader(cache string) *Reader { return &Reader{newEngine(cache)} }

// Close frees what the PDF engine holds.
func (r *Reader) Close(ctx context.Context) error { return r.pdf.close(ctx) }

// Read takes the text out of a file. kind is what the sender claims it to be (empty: nothing); a file that is evidently
// something else is refused. Errors are faults that tell the sender what to do.
func (r *Reader) Read(ctx context.Context, kind string, file []byte) (Result, string, error) {
	kind, err := Decide(kind, file)
	if err != nil {
		return Result{}, kind, err
	}
	var out Result
	switch kind {
	case PDF:
		out, err = r.pdf.read(ctx, file)
	case DOCX:
		out, err = readDOCX(file)
	case HTML:
		out, err = readHTML(file)
	default:
		out = Result{Text: string(file), ContentType: kind} // not ours to change
	}
	if err != nil {
		return Result{}, kind, err
	}
	if strings.TrimFunc(out.Text, unicode.IsSpace) == "" {
		return Result{}, kind, noText(kind)
	}
	if len(out.Text) > MaxText {
		return Result{}, kind, tooLarge()
	}
	return out, kind, nil
}

func noText(kind string) error {
	hint := ""
	if kind == PDF {
		hint = " Scanned pages are images: put them through OCR first."
	}
	return fault.New(fault.Invalid, "no_text", "There is no text in the file.%s", hint)
}

func tooLarge() error {
	return fault.New(fault.TooLarge, "text_too_large", "The file has more than %d bytes of text; divide it.", MaxText)
}

func malformed(format string, err error) error {
	return fault.New(fault.Invalid, "malformed_file", "The %s file can't be read: it is damaged, or not what it claims to be.", format).Because(err)
}

// Decide says what a file is, and refuses one that is evidently not what it is claimed to be.
func Decide(claimed string, file []byte) (string, error) {
	seen := sniff(file)
	switch {
	case claimed == "text/x-markdown":
		claimed = Markdown
	case claimed == "application/xhtml+xml":
		claimed = HTML
	case claimed == "application/octet-stream", claimed == "application/zip" && seen == DOCX:
		claimed = ""
	}
	if claimed == "" {
		if seen == "" {
			return "", fault.New(fault.Unsupported, "content_type", "The file is none that is taken here: send plain text, Markdown, HTML, PDF or DOCX.")
		}
		return seen, nil
	}
	if !slices.Contains([]string{Plain, Markdown, HTML, PDF, DOCX}, claimed) {
		return claimed, fault.New(fault.Unsupported, "content_type", "A file of type %q is not taken; send plain text, Markdown, HTML, PDF or DOCX.", claimed)
	}
	if claimed == DOCX && bytes.HasPrefix(file, []byte(encryptedID)) {
		return claimed, fault.New(fault.Invalid, "encrypted", "The DOCX file is encrypted, or in an older format; save it as DOCX without a password.")
	}
	binary := claimed == PDF || claimed == DOCX
	if binary && seen != claimed || !binary && (seen == PDF || seen == DOCX) {
		what := seen
		if what == "" {
			what = "something else"
		}
		return claimed, fault.New(fault.Invalid, "content_mismatch", "The file is claimed to be %s and is %s.", claimed, what)
	}
	return claimed, nil
}

const lookAt = 1024 // bytes in which a PDF's mark may stand (PDF 1.7, implementation note 13)

// sniff looks at what a file is; empty: none of ours.
func sniff(file []byte) string {
	if bytes.Contains(file[:min(len(file), lookAt)], []byte("%PDF-")) {
		return PDF
	}
	if bytes.HasPrefix(file, []byte("PK\x03\x04")) {
		if z, err := zip.NewReader(bytes.NewReader(file), int64(len(file))); err == nil {
			if slices.ContainsFunc(z.File, func(f *zip.File) bool { return f.Name == documentXML }) {
				return DOCX
			}
		}
		return ""
	}
	kind := http.DetectContentType(file)
	switch {
	case strings.HasPrefix(kind, "text/html"):
		return HTML
	case strings.HasPrefix(kind, "text/plain"), strings.HasPrefix(kind, "text/xml"):
		return Plain
	}
	return ""
}

// clean makes one line of what may hold anything: valid UTF-8, no control characters, single spaces.
func clean(s string) string {
	return strings.Join(strings.FieldsFunc(strings.ToValidUTF8(s, "\uFFFD"), func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }), " ")
}

// writer collects blocks of Markdown, up to a size.
type writer struct {
	sb   strings.Builder
	full bool
}

// block adds one, after a blank line.
func (w *writer) block(s string) {
	s = strings.Trim(s, "\n")
	if strings.TrimSpace(s) == "" || w.full {
		return
	}
	if w.sb.Len() > 0 {
		w.sb.WriteString("\n\n")
	}
	w.line(s)
}

// next adds a line right below.
func (w *writer) next(s string) {
	if w.sb.Len() > 0 && !w.full {
		w.sb.WriteByte('\n')
	}
	w.line(s)
}

func (w *writer) line(s string) {
	if w.sb.Len()+len(s) > MaxText {
		w.full = true
		return
	}
	w.sb.WriteString(s)
}

// paragraph is a text that must not look like the beginning of a heading, a list, a quotation or code.
func paragraph(s string) string {
	if s == "" {
		return s
	}
	r, _ := utf8.DecodeRuneInString(s)
	if strings.ContainsRune("#>-+*`~=|", r) {
		return `\` + s
	}
	if digits := len(s) - len(strings.TrimLeft(s, "0123456789")); digits > 0 && digits < 10 && digits < len(s) && (s[digits] == '.' || s[digits] == ')') {
		return s[:digits] + `\` + s[digits:]
	}
	return s
}

const levels = 6 // of headings

func headingLine(level int, s string) string {
	return strings.Repeat("#", min(max(level, 1), levels)) + " " + s
}
