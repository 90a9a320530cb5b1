package registry

import (
	"bytes"
	"encoding/binary"
)

// ggufFile is a small valid GGUF file: one text and one tensor, whose numbers are made of seed.
func ggufFile(seed string) []byte {
	return ggufWith(map[string]string{"general.name": seed}, bytes.Repeat([]byte(seed+"  "), 64)[:128])
}

func ggufWith(texts map[string]string, data []byte) []byte {
	var b []byte
	u32 := func(n int) { b = binary.LittleEndian.AppendUint32(b, uint32(n)) }
	u64 := func(n int) { b = binary.LittleEndian.AppendUint64(b, uint64(n)) }
	text := func(s string) { u64(len(s)); b = append(b, s...) }
	b = append(b, "GGUF"...)
	u32(3)
	u64(1)
	u64(len(texts))
	for k, v := range texts {
		text(k)
		u32(8)
		text(v)
	}
	text("a.weight")
	u32(1)
	u64(len(data) / 4)
	u32(0) // f32
	u64(0)
	for len(b)%32 != 0 {
		b = append(b, 0)
	}
	return append(b, data...)
}
