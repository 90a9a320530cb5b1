package minilm

import "unicode/utf8"

const longestWord = 100 // characters; a longer word is one unknown token

// Token is one word piece and where it stands in the text: text[Start:End]. Starts and ends never
// go back; pieces of one character (Hangul) share its place.
type Token struct {
	ID         int32
	Start, End int // byte offsets
}

// Tokenizer splits text as the model was trained on it (BERT, uncased). Safe for concurrent use.
//
// It is the reference's WordPiece with markers switched off: a text that spells "[SEP]" gets
// no marker. Bytes that are not UTF-8 are left out, like other characters without a meaning.
type Tokenizer struct {
	tables func() tables // read at first use
}

// Count is how many tokens a text has, without the two markers and without a limit.
func (t *Tokenizer) Count(text string) int {
	n := 0
	t.each(text, func(Token) bool { n++; return true })
	return n
}

// Tokens returns the text's tokens in order, without the two markers and without a limit.
func (t *Tokenizer) Tokens(text string) []Token {
	out := make([]Token, 0, len(text)/4+1)
	t.each(text, func(tok Token) bool { out = append(out, tok); return true })
	return out
}

// Pieces returns the vocabulary: the piece of each id, as the model's authors spell it, with ## in front of what stands
// inside a word.
func (t *Tokenizer) Pieces() []string {
	v := t.tables().vocab
	out := make([]string, vocabSize)
	for id := range out {
		out[id] = v.word(id)
	}
	return out
}

// ids appends the tokens' ids, limit of them at most; more says that the text goes on.
func (t *Tokenizer) ids(ids []int32, text string, limit int) (_ []int32, more bool) {
	t.each(text, func(tok Token) bool {
		if limit == 0 {
			more = true
			return false
		}
		ids = append(ids, tok.ID)
		limit--
		return true
	})
	return ids, more
}

// word collects the characters of a word, cleaned, with the place of each byte in the text.
type word struct {
	text       []byte
	start, end []int // byte of text → start and end of the character it came from
	chars      int
}

func (w *word) add(s string, start, end int) {
	w.chars += utf8.RuneCountInString(s)
	if w.chars > longestWord && len(w.end) > 0 { // it will be unknown: only its end matters
		w.end[len(w.end)-1] = end
		return
	}
	for range len(s) {
		w.start = append(w.start, start)
		w.end = append(w.end, end)
	}
	w.text = append(w.text, s...)
}

func (w *word) reset() { w.text, w.start, w.end, w.chars = w.text[:0], w.start[:0], w.end[:0], 0 }

// each yields tokens until yield returns false.
func (t *Tokenizer) each(text string, yield func(Token) bool) {
	var w word
	tab := t.tables()
	for i := 0; i < len(text); {
		r, n := utf8.DecodeRuneInString(text[i:])
		c := tab.chars.of(r)
		if c.to == "" {
			c.to = text[i : i+n]
		}
		switch c.kind {
		case part:
			w.add(c.to, i, i+n)
		case space:
			if !w.flush(tab.vocab, yield) {
				return
			}
		case alone:
			if !w.flush(tab.vocab, yield) {
				return
			}
			w.add(c.to, i, i+n)
			if !w.flush(tab.vocab, yield) {
				return
			}
		case drop:
		}
		i += n
	}
	w.flush(tab.vocab, yield)
}

// flush yields the pieces of a word, the longest first from its front. A word that cannot be
// made of pieces is one unknown token.
func (w *word) flush(v *vocab, yield func(Token) bool) bool {
	if len(w.text) == 0 {
		return true
	}
	defer w.reset()
	whole := Token{ID: unknown, Start: w.start[0], End: w.end[len(w.end)-1]}
	if w.chars > longestWord {
		return yield(whole)
	}
	var pieces [longestWord]Token
	n := 0
	for at, place := 0, hashStart; at < len(w.text); place = hashInside {
		id, size := v.longestPiece(w.text[at:], place)
		if size == 0 {
			return yield(whole)
		}
		pieces[n] = Token{ID: int32(id), Start: w.start[at], End: w.end[at+size-1]} //nolint:gosec // 30,522 at most
		n++
		at += size
	}
	for _, p := range pieces[:n] {
		if !yield(p) {
			return false
		}
	}
	return true
}
