package extract

import (
	"archive/zip"
	"bytes"
	"context"
	"fmt"
	"maps"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"aran/platform/fault"
)

func code(err error) string {
	if f := fault.From(err); f != nil {
		return f.Code
	}
	return fmt.Sprint(err)
}

// sound states what holds for every text that was taken out of a file.
func sound(t *testing.T, r Result) {
	t.Helper()
	if !utf8.ValidString(r.Text) || len(r.Text) > MaxText {
		t.Fatalf("%d bytes, valid %v", len(r.Text), utf8.ValidString(r.Text))
	}
	if i := strings.IndexFunc(r.Text, func(c rune) bool { return unicode.IsControl(c) && c != '\n' && c != '\t' }); i >= 0 {
		t.Fatalf("a control character at %d: %.80q", i, r.Text[i:])
	}
	last := -1
	for _, p := range r.Pages {
		if p < 0 || p > len(r.Text) || p < last || p < len(r.Text) && !utf8.RuneStart(r.Text[p]) {
			t.Fatalf("pages %v of %d bytes", r.Pages, len(r.Text))
		}
		last = p
	}
}

func TestHTML(t *testing.T) {
	for _, c := range []struct{ name, in, want, title string }{
		{
			"structure", `<title>A  page</title><h1>One <b>bold</b></h1><p>First&nbsp;paragraph &amp; more.<p>Second<br>line.<h2>Two</h2><ul><li>a<li>b <ol><li>x<li>y</ol></ul>`,
			"# One bold\n\nFirst paragraph & more.\n\nSecond line.\n\n## Two\n\n- a\n- b\n  1. x\n  2. y", "A page",
		},
		{"table", `<table><tr><th>key<th>value</tr><tr><td>a|b<td><p>1</p><p>2</p></td></tr></table>`, "| key | value |\n|---|---|\n| a\\|b | 1 2 |", ""},
		{"code", "<pre>if a {\n\tb()\n}</pre>", "```\nif a {\n\tb()\n}\n```", ""},
		{"dropped", `<nav>menu</nav><div role=navigation>menu</div><script>evil()</script><style>p{}</style><noscript>no</noscript><template>t</template><p>Text.</p><button>Buy</button><!-- comment -->`, "Text.", ""},
		{"no markup by accident", `<p># not a heading</p><p>1. not a list</p><p>- nor this</p>`, "\\# not a heading\n\n1\\. not a list\n\n\\- nor this", ""},
		{"image", `<p>See <img src="x" alt="the chart of sales"> here.</p>`, "See the chart of sales here.", ""},
		{"latin-1", "<meta charset=iso-8859-1><p>caf\xe9</p>", "café", ""},
		{"tamil", `<p>அரண் ஒரு பாதுகாப்பான தளம்.</p>`, "அரண் ஒரு பாதுகாப்பான தளம்.", ""},
	} {
		got, err := readHTML([]byte(c.in))
		if err != nil || got.Text != c.want || got.Title != c.title || len(got.Findings) > 0 {
			t.Errorf("%s: %q %q %v %v, want %q", c.name, got.Text, got.Title, got.Findings, err, c.want)
		}
		sound(t, got)
	}
}

func TestHiddenHTMLIsLeftOutAndNamed(t *testing.T) {
	for _, hidden := range []string{
		`<div hidden>obey</div>`, `<span style="display:none">obey</span>`, `<p style="color:red; DISPLAY : NONE !important">obey</p>`, `<p style="visibility:hidden">obey</p>`,
		`<p style="font-size:0">obey</p>`, `<p style="font-size: 0px; x:y">obey</p>`, `<p style="opacity:0.0">obey</p>`, `<div style="position:absolute;left:-9999px">obey</div>`,
		`<p style="text-indent:-5000px">obey</p>`, `<table><tr><td hidden>obey</td><td>cell</td></tr></table>`, `<li style="height:0">obey</li>`,
	} {
		got, err := readHTML([]byte("<p>Seen.</p>" + hidden))
		if err != nil || strings.Contains(got.Text, "obey") || len(got.Findings) != 1 || got.Findings[0] != HiddenText {
			t.Errorf("%s: %q %v %v", hidden, got.Text, got.Findings, err)
		}
	}
	for _, seen := range []string{`<p style="opacity:0.5">seen</p>`, `<p style="font-size:10px">seen</p>`, `<p style="height:100px;left:-1px">seen</p>`, `<div hidden> </div><p>seen</p>`} {
		if got, err := readHTML([]byte(seen)); err != nil || got.Text != "seen" || len(got.Findings) > 0 {
			t.Errorf("%s: %q %v %v", seen, got.Text, got.Findings, err)
		}
	}
}

// word makes a DOCX file.
func word(tb testing.TB, body string, more map[string]string) []byte {
	tb.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	parts := map[string]string{documentXML: `<?xml version="1.0"?><w:document xmlns:w="w"><w:body>` + body + `</w:body></w:document>`}
	maps.Copy(parts, more)
	for name, text := range parts {
		w, err := z.Create(name)
		if err == nil {
			_, err = w.Write([]byte(text))
		}
		if err != nil {
			tb.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		tb.Fatal(err)
	}
	return b.Bytes()
}

func run(s string) string { return "<w:r><w:t>" + s + "</w:t></w:r>" }

func TestDOCX(t *testing.T) {
	file := word(t, `<w:p><w:pPr><w:pStyle w:val="berschrift1"/></w:pPr>`+run("Urlaub")+`</w:p>`+
		`<w:p>`+run("Thirty ")+run("days &amp; more.")+`<w:del><w:r><w:delText>deleted</w:delText></w:r></w:del></w:p>`+
		`<w:p><w:pPr><w:numPr><w:ilvl w:val="0"/></w:numPr></w:pPr>`+run("one")+`</w:p><w:p><w:pPr><w:numPr><w:ilvl w:val="1"/></w:numPr></w:pPr>`+run("two")+`</w:p>`+
		`<w:p><w:r><w:rPr><w:vanish/></w:rPr><w:t>obey</w:t></w:r>`+run("Seen.")+`</w:p>`+
		`<w:tbl><w:tr><w:tc><w:p>`+run("key")+`</w:p></w:tc><w:tc><w:p>`+run("value")+`</w:p></w:tc></w:tr><w:tr><w:tc><w:p>`+run("a")+`</w:p></w:tc><w:tc><w:p>`+run("b")+`</w:p><w:p>`+run("c")+`</w:p></w:tc></w:tr></w:tbl>`+
		`<w:p><w:r><w:br w:type="page"/></w:r>`+run("Second page.")+`</w:p>`,
		map[string]string{
			stylesXML: `<w:styles xmlns:w="w"><w:style w:styleId="berschrift1"><w:name w:val="heading 1"/></w:style></w:styles>`,
			coreXML:   `<cp:coreProperties xmlns:cp="c" xmlns:dc="d"><dc:title>Leave policy</dc:title></cp:coreProperties>`,
		})
	if got := sniff(file); got != DOCX {
		t.Fatalf("sniffed %q", got)
	}
	got, err := readDOCX(file)
	want := "# Urlaub\n\nThirty days & more.\n\n- one\n  - two\n\nSeen.\n\n| key | value |\n|---|---|\n| a | b c |\n\nSecond page."
	if err != nil || got.Text != want || got.Title != "Leave policy" || len(got.Findings) != 1 {
		t.Fatalf("%q %q %v %v", got.Text, got.Title, got.Findings, err)
	}
	sound(t, got)
	if len(got.Pages) != 2 || got.Text[got.Pages[1]:] != "Second page." {
		t.Errorf("pages %v", got.Pages)
	}
}

func TestHostileDOCX(t *testing.T) {
	size := maxXML
	if raceEnabled {
		size = MaxText + 1 // it takes long enough
	}
	bomb := word(t, "<w:p>"+run(strings.Repeat("a", size))+"</w:p>", nil)
	for name, c := range map[string]struct {
		file []byte
		want string
	}{
		"a bomb":             {bomb, "text_too_large"},
		"a document type":    {word(t, "", map[string]string{documentXML: `<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]><w:document>&a;</w:document>`}), "malformed_file"},
		"an unknown entity":  {word(t, `<w:p><w:r><w:t>&passwd;</w:t></w:r></w:p>`, nil), "malformed_file"},
		"crossed elements":   {word(t, `<w:p><w:r></w:p></w:r>`, nil), "malformed_file"},
		"a tower":            {word(t, strings.Repeat("<w:p>", 100_000), nil), "malformed_file"},
		"cut short":          {bomb[:len(bomb)/2], "malformed_file"},
		"no zip":             {[]byte("PK\x03\x04 not a zip"), "malformed_file"},
		"a paragraph's tail": {word(t, `</w:p></w:p>`, nil), "malformed_file"},
	} {
		if _, err := readDOCX(c.file); code(err) != c.want {
			t.Errorf("%s: %v, want %s", name, err, c.want)
		}
	}
	r := NewReader("")
	if _, _, err := r.Read(t.Context(), DOCX, word(t, "<w:p></w:p>", nil)); code(err) != "no_text" {
		t.Errorf("empty: %v", err)
	}
}

func TestDecide(t *testing.T) {
	docx, pdf := word(t, "", nil), []byte("%PDF-1.4\n")
	for _, c := range []struct {
		name, claimed string
		file          []byte
		want, code    string
	}{
		{"nothing is said of a PDF", "", pdf, PDF, ""},
		{"nothing is said of a DOCX", "application/octet-stream", docx, DOCX, ""},
		{"nothing is said of a page", "", []byte("<!DOCTYPE html><p>x"), HTML, ""},
		{"nothing is said of a text", "", []byte("plain"), Plain, ""},
		{"another name of Markdown", "text/x-markdown", []byte("# x"), Markdown, ""},
		{"a page that is said to be Markdown", Markdown, []byte("<html>"), Markdown, ""},
		{"a PDF that is said to be text", Plain, pdf, "", "content_mismatch"},
		{"a text that is said to be PDF", PDF, []byte("hello"), "", "content_mismatch"},
		{"a zip that is said to be DOCX", DOCX, []byte("PK\x03\x04"), "", "content_mismatch"},
		{"an encrypted DOCX", DOCX, []byte(encryptedID + "rest"), "", "encrypted"},
		{"an image", "image/png", []byte("\x89PNG"), "", "content_type"},
		{"bytes", "", []byte{0, 1, 2, 3}, "", "content_type"},
	} {
		got, err := Decide(c.claimed, c.file)
		if c.code != "" && code(err) != c.code || c.code == "" && (err != nil || got != c.want) {
			t.Errorf("%s: %q %v", c.name, got, err)
		}
	}
}

func FuzzHTML(f *testing.F) {
	f.Add([]byte("<p>text<ul><li>a<table><tr><td>x"))
	f.Add([]byte("<pre>```\n\x01</pre><h6 hidden>x</h6>"))
	f.Add([]byte("<meta charset=utf-16>\xff\xfe<p>a"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if r, err := readHTML(b); err == nil {
			sound(t, r)
		}
	})
}

func FuzzDOCX(f *testing.F) {
	f.Add(`<w:p><w:r><w:t>text</w:t><w:br w:type="page"/></w:r></w:p><w:tbl><w:tr><w:tc/></w:tr></w:tbl>`)
	f.Add(`<w:tbl><w:p><w:r><w:vanish/><w:t>x</w:t></w:r></w:p></w:tbl></w:tbl>`)
	f.Add(`<w:p><w:pPr><w:outlineLvl w:val="-3"/><w:numPr/><w:ilvl w:val="-9"/></w:pPr><w:r><w:tab/><w:t>&#1;</w:t></w:r></w:p>`)
	f.Fuzz(func(t *testing.T, body string) {
		if r, err := readDOCX(word(t, body, nil)); err == nil {
			sound(t, r)
		}
	})
}

// printed makes a PDF file with a text on each page; an empty one has none.
func printed(pages ...string) []byte {
	var b bytes.Buffer
	var at []int
	object := func(s string) {
		at = append(at, b.Len())
		fmt.Fprintf(&b, "%d 0 obj\n%s\nendobj\n", len(at), s)
	}
	b.WriteString("%PDF-1.4\n")
	var kids []string
	for i := range pages {
		kids = append(kids, fmt.Sprintf("%d 0 R", 5+2*i))
	}
	object("<< /Type /Catalog /Pages 2 0 R >>")
	object(fmt.Sprintf("<< /Type /Pages /Count %d /Kids [%s] >>", len(pages), strings.Join(kids, " ")))
	object("<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>")
	object("<< /Title (The book) >>")
	for i, p := range pages {
		object(fmt.Sprintf("<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Resources << /Font << /F 3 0 R >> >> /Contents %d 0 R >>", 6+2*i))
		text := "BT /F 12 Tf 72 700 Td (" + p + ") Tj ET"
		object(fmt.Sprintf("<< /Length %d >>\nstream\n%s\nendstream", len(text), text))
	}
	xref := b.Len()
	fmt.Fprintf(&b, "xref\n0 %d\n0000000000 65535 f \n", len(at)+1)
	for _, a := range at {
		fmt.Fprintf(&b, "%010d 00000 n \n", a)
	}
	fmt.Fprintf(&b, "trailer\n<< /Size %d /Root 1 0 R /Info 4 0 R >>\nstartxref\n%d\n%%%%EOF\n", len(at)+1, xref)
	return b.Bytes()
}

func TestPDF(t *testing.T) {
	if raceEnabled {
		t.Skip("compiling the engine takes minutes under the race detector; test/unit runs it without")
	}
	r := NewReader("")
	defer func() {
		if err := r.Close(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	}()
	got, kind, err := r.Read(t.Context(), "", printed("First page.", "Second page."))
	if err != nil || kind != PDF || got.Text != "First page.\n\nSecond page." || got.Title != "The book" || fmt.Sprint(got.Pages) != "[0 13]" {
		t.Fatalf("%+v %v", got, err)
	}
	sound(t, got)
	for name, c := range map[string]struct {
		file []byte
		want string
	}{
		"pages without text": {printed("", ""), "no_text"},
		"cut short":          {[]byte("%PDF-1.4\n1 0 obj\n<<"), "malformed_file"},
		"no pages":           {[]byte("%PDF-1.4\ntrailer << /Root 1 0 R >>"), "malformed_file"},
		"encrypted":          {encrypted(), "encrypted"},
	} {
		if _, _, err := r.Read(t.Context(), PDF, c.file); code(err) != c.want {
			t.Errorf("%s: %v, want %s", name, err, c.want)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := r.Read(ctx, PDF, printed("x")); err == nil {
		t.Error("a file is read for nobody")
	}
	for seed := range 20 { // whatever happens to a file, it is an answer
		file := printed("First page.", "Second page.", "Third")
		for i := range 1 + seed%7 {
			file[(seed*7919+i*104729)%len(file)] ^= byte(1 + seed*31%255)
		}
		if got, _, err := r.Read(t.Context(), PDF, file); err == nil {
			sound(t, got)
		} else if fault.KindOf(err) == fault.Internal {
			t.Errorf("seed %d: %v", seed, err)
		}
	}
}

// encrypted is a PDF file that claims a handler of passwords whose key fits no password.
func encrypted() []byte {
	b := printed("secret")
	pad := strings.Repeat("00", 32)
	return bytes.Replace(b, []byte("trailer\n<< "), []byte("trailer\n<< /ID [<"+pad[:32]+"><"+pad[:32]+">] /Encrypt << /Filter /Standard /V 1 /R 2 /O <"+pad+"> /U <"+pad+"> /P -4 >> "), 1)
}
