package registry

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"strings"
)

// Bounds of a GGUF header. The reader in native code has had overflows at each of them.
const (
	maxKeys       = 1 << 12
	maxTensors    = 1 << 16
	maxHeader     = 256 << 20 // vocabulary and merges
	maxKeyLen     = 1 << 10
	maxArray      = 1 << 24
	maxDims       = 4
	maxAlign      = 1 << 16
	ggufString    = 8
	ggufArray     = 9
	defaultAlign  = 32
	ggufAlignment = "general.alignment"
	ggufTemplate  = "tokenizer.chat_template"
)

// ggufSizes are the bytes of each type of a value, but of text and arrays (ggml/docs/gguf.md).
var ggufSizes = map[uint32]int64{0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}

// header reads the head of a GGUF file.
type header struct {
	r    *bufio.Reader
	left int64 // of the bytes that a head may have
	at   int64
	err  error
}

// checkGGUF reads the head of a GGUF file, version 2 or 3: every length must fit into the file, every tensor lie
// inside it, and a chat template stay a template.
func checkGGUF(r io.Reader, size int64) error {
	h := &header{r: bufio.NewReaderSize(r, 1<<16), left: min(size, maxHeader)}
	var magic [4]byte
	h.read(magic[:])
	if h.err != nil || string(magic[:]) != "GGUF" {
		return errors.New("no GGUF file")
	}
	if v := h.u32(); h.err == nil && v != 2 && v != 3 {
		return fmt.Errorf("GGUF version %d, want 2 or 3", v)
	}
	tensors, keys := h.u64(), h.u64()
	if h.err == nil && (tensors > maxTensors || keys > maxKeys) {
		return fmt.Errorf("GGUF with %d tensors and %d keys", tensors, keys)
	}
	align := uint64(defaultAlign)
	for range keys {
		if h.err != nil {
			break
		}
		if a := h.pair(); a != 0 {
			align = a
		}
	}
	if h.err == nil && (align > maxAlign || bits.OnesCount64(align) != 1) {
		return fmt.Errorf("GGUF with alignment %d", align)
	}
	var last, elements uint64
	for range tensors {
		if h.err != nil {
			break
		}
		offset, n := h.tensor(align)
		last, elements = max(last, offset), max(elements, n)
	}
	if h.err != nil {
		return h.err
	}
	data := h.at + (int64(align)-h.at%int64(align))%int64(align) //nolint:gosec // bounded above
	if tensors > 0 && (data > size || last >= uint64(size-data)) {
		return errors.New("GGUF that ends before its tensors do")
	}
	if elements/32 > uint64(size) { // no type has less than a bit of its own for each number, by far
		return fmt.Errorf("GGUF with a tensor of %d numbers in %d bytes", elements, size)
	}
	return nil
}

// pair reads a key and its value, and returns the alignment if it is that.
func (h *header) pair() (align uint64) {
	key := h.text(maxKeyLen)
	kind := h.u32()
	switch {
	case h.err != nil:
	case key == ggufAlignment && kind == 4:
		return uint64(h.u32())
	case kind == ggufString:
		if !strings.HasPrefix(key, ggufTemplate) {
			h.skip(h.u64())
			break
		}
		text := h.text(maxTemplate)
		if err := checkTemplate(text); h.err == nil && err != nil {
			h.err = err
		}
	case kind == ggufArray:
		h.array(key)
	default:
		h.scalar(kind, 1)
	}
	return 0
}

func (h *header) array(key string) {
	kind, n := h.u32(), h.u64()
	switch {
	case h.err != nil:
	case n > maxArray:
		h.err = fmt.Errorf("GGUF with an array of %d at %q", n, key)
	case kind == ggufString:
		for range n {
			if h.err != nil {
				return
			}
			h.skip(h.u64())
		}
	default:
		h.scalar(kind, n)
	}
}

func (h *header) scalar(kind uint32, n uint64) {
	size, ok := ggufSizes[kind]
	if !ok {
		h.err = fmt.Errorf("GGUF with a value of type %d", kind)
		return
	}
	h.skip(n * uint64(size)) //nolint:gosec // n is at most 1<<24, size 8
}

// tensor reads one tensor's place and how many numbers it has.
func (h *header) tensor(align uint64) (offset, elements uint64) {
	name := h.text(maxKeyLen)
	dims := h.u32()
	if h.err == nil && dims > maxDims {
		h.err = fmt.Errorf("GGUF with %d dimensions of %q", dims, name)
	}
	elements = 1
	for range dims {
		if h.err != nil {
			return 0, 0
		}
		n := h.u64()
		hi, lo := bits.Mul64(elements, n)
		if h.err == nil && (hi != 0 || lo>>62 != 0 || n == 0) {
			h.err = fmt.Errorf("GGUF with more numbers in %q than there can be", name)
		}
		elements = lo
	}
	h.u32() // type
	offset = h.u64()
	if h.err == nil && offset%align != 0 {
		h.err = fmt.Errorf("GGUF with tensor %q at %d, not a multiple of %d", name, offset, align)
	}
	return offset, elements
}

func (h *header) read(p []byte) {
	if h.err != nil {
		return
	}
	if h.left -= int64(len(p)); h.left < 0 {
		h.err = errors.New("GGUF with a head that is longer than the file, or than can be")
		return
	}
	n, err := io.ReadFull(h.r, p)
	h.at += int64(n)
	if err != nil {
		h.err = fmt.Errorf("GGUF that is cut off: %w", err)
	}
}

func (h *header) u32() uint32 {
	var b [4]byte
	h.read(b[:])
	return binary.LittleEndian.Uint32(b[:])
}

func (h *header) u64() uint64 {
	var b [8]byte
	h.read(b[:])
	return binary.LittleEndian.Uint64(b[:])
}

func (h *header) text(limit uint64) string {
	n := h.u64()
	if h.err == nil && n > limit {
		h.err = fmt.Errorf("GGUF with a text of %d bytes, at most %d", n, limit)
	}
	if h.err != nil {
		return ""
	}
	b := make([]byte, n)
	h.read(b)
	return string(b)
}

func (h *header) skip(n uint64) {
	if h.err != nil {
		return
	}
	if n > uint64(h.left) { //nolint:gosec // never negative without an error
		h.err = errors.New("GGUF with a value that is longer than the file, or than can be")
		return
	}
	h.left -= int64(n) //nolint:gosec // at most left
	m, err := io.CopyN(io.Discard, h.r, int64(n))
	h.at += m
	if err != nil {
		h.err = fmt.Errorf("GGUF that is cut off: %w", err)
	}
}
