package minilm_test

import (
	"bytes"
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"aran/service/infer/minilm"
)

func load(t testing.TB) *minilm.Encoder {
	t.Helper()
	e, err := minilm.Load()
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// The reference's own answers (test/bench/embed/golden_tokens.py).
func TestTokensEqualTheReference(t *testing.T) {
	b, err := os.ReadFile("testdata/tokens.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	tok, n := load(t).Tokenizer(), 0
	for line := range bytes.Lines(b) {
		n++
		var c struct {
			Text  string
			IDs   []int32
			Spans [][2]int
		}
		if err := json.Unmarshal(line, &c); err != nil {
			t.Fatal(err)
		}
		want := make([]minilm.Token, len(c.IDs))
		for i, id := range c.IDs {
			want[i] = minilm.Token{ID: id, Start: c.Spans[i][0], End: c.Spans[i][1]}
		}
		if got := tok.Tokens(c.Text); !slices.Equal(got, want) {
			t.Errorf("%+q:\n got %v\nwant %v", c.Text, got, want)
		}
		if got := tok.Count(c.Text); got != len(want) {
			t.Errorf("%+q: Count = %d, want %d", c.Text, got, len(want))
		}
	}
	if n < 100 {
		t.Errorf("only %d cases", n)
	}
}

func TestBrokenTextIsLeftOut(t *testing.T) {
	tok := load(t).Tokenizer()
	got, want := tok.Tokens("hel\xfflo \xc3"), tok.Tokens("hello")
	if len(got) != 1 || got[0].ID != want[0].ID || got[0].End != 6 {
		t.Errorf("got %v, want the token of %v up to byte 6", got, want)
	}
}

func FuzzTokens(f *testing.F) {
	for _, s := range []string{"", "Hello, wörld", "நான் 한국어 日本", "a\x00\xff\u0301", strings.Repeat("z", 300)} {
		f.Add(s)
	}
	tok := load(f).Tokenizer()
	f.Fuzz(func(t *testing.T, s string) {
		toks := tok.Tokens(s)
		if n := tok.Count(s); n != len(toks) {
			t.Errorf("Count = %d, but %d tokens", n, len(toks))
		}
		var last minilm.Token
		for _, k := range toks {
			if k.Start < last.Start || k.End < last.End || k.Start >= k.End || k.End > len(s) {
				t.Fatalf("%v after %v in a text of %d bytes", k, last, len(s))
			}
			if k.ID < 100 || k.ID >= 30522 || k.ID == 101 || k.ID == 102 {
				t.Errorf("id %d is a marker or no word", k.ID)
			}
			if utf8.ValidString(s) && !utf8.ValidString(s[k.Start:k.End]) {
				t.Errorf("%v cuts a character", k)
			}
			last = k
		}
		if again := tok.Count(s + " "); again != len(toks) {
			t.Errorf("a space at the end changed the count from %d to %d", len(toks), again)
		}
	})
}

func BenchmarkCount(b *testing.B) {
	tok, text := load(b).Tokenizer(), strings.Repeat("The audit log holds every decision, with its evidence. ", 40)
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		tok.Count(text)
	}
}
