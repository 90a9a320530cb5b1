package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

const magic = "aranmlm1"

// tokenizer writes the file's first part:
//
//	magic, u32 length of words, u32 length of rules
//	words: the vocabulary in order of its ids, each with a line feed
//	rules: u32 lo, u32 hi, u8 kind, u8 n, n bytes of UTF-8 that the character becomes
//	zeros up to a multiple of 64
func tokenizer(out *bytes.Buffer, vocab, chars string) error {
	if n := strings.Count(vocab, "\n"); n != vocabSize || !strings.HasSuffix(vocab, "\n") {
		return fmt.Errorf("vocab.txt has %d lines, want %d", n, vocabSize)
	}
	kinds := []string{"drop", "space", "alone", "word"} // as minilm numbers them
	var rules []byte
	for line := range strings.Lines(chars) {
		f := strings.Fields(line)
		if f[0] == "sha256" {
			continue
		}
		kind := slices.Index(kinds, f[0])
		if kind < 0 || len(f) < 3 {
			return fmt.Errorf("chars.txt: bad line %q", line)
		}
		points := make([]rune, 0, len(f)-1)
		for _, s := range f[1:] {
			v, err := strconv.ParseUint(s, 16, 21)
			if err != nil {
				return fmt.Errorf("chars.txt: bad line %q: %w", line, err)
			}
			points = append(points, rune(v))
		}
		to := string(points[2:])
		rules = binary.LittleEndian.AppendUint32(rules, uint32(points[0])) //nolint:gosec // 21 bits
		rules = binary.LittleEndian.AppendUint32(rules, uint32(points[1])) //nolint:gosec // 21 bits
		rules = append(rules, byte(kind), byte(len(to)))                   //nolint:gosec // both are small
		rules = append(rules, to...)
	}
	head := []byte(magic)
	head = binary.LittleEndian.AppendUint32(head, uint32(len(vocab))) //nolint:gosec // 226 KB
	head = binary.LittleEndian.AppendUint32(head, uint32(len(rules))) //nolint:gosec // 50 KB
	out.Write(head)
	out.WriteString(vocab)
	out.Write(rules)
	out.Write(make([]byte, -out.Len()&63))
	return nil
}
