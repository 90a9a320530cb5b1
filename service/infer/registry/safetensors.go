package registry

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"slices"
)

const maxSafetensorsHeader = 16 << 20

// safetensorsBits are the sizes of the types (safetensors 0.6); none of them is an object.
var safetensorsBits = map[string]uint64{
	"BOOL": 8, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8, "F4": 4, "I16": 16, "U16": 16, "F16": 16, "BF16": 16,
	"I32": 32, "U32": 32, "F32": 32, "I64": 64, "U64": 64, "F64": 64,
}

type tensor struct {
	Type    string   `json:"dtype"`
	Shape   []uint64 `json:"shape"`
	Offsets []uint64 `json:"data_offsets"`
}

// checkSafetensors reads the head of a safetensors file. As the format demands, the tensors cover the rest of the
// file without a gap or an overlap, and no name stands twice: nothing else fits in.
func checkSafetensors(r io.Reader, size int64) error {
	var length [8]byte
	if _, err := io.ReadFull(r, length[:]); err != nil {
		return errors.New("no safetensors file")
	}
	n := binary.LittleEndian.Uint64(length[:])
	if n < 2 || n > maxSafetensorsHeader || n > uint64(max(0, size-8)) {
		return fmt.Errorf("safetensors with a head of %d bytes in a file of %d", n, size)
	}
	head := make([]byte, n)
	if _, err := io.ReadFull(r, head); err != nil {
		return errors.New("safetensors that is cut off")
	}
	if head[0] != '{' {
		return errors.New("no safetensors file: its head is no object")
	}
	tensors, err := readTensors(head)
	if err != nil {
		return err
	}
	slices.SortFunc(tensors, func(a, b tensor) int { return slices.Compare(a.Offsets, b.Offsets) })
	var end uint64
	for _, t := range tensors {
		if t.Offsets[0] != end {
			return errors.New("safetensors with a gap or an overlap between its tensors")
		}
		end = t.Offsets[1]
	}
	if end != uint64(size)-8-n { //nolint:gosec // n is at most size-8
		return errors.New("safetensors with bytes that belong to no tensor")
	}
	return nil
}

func readTensors(head []byte) (out []tensor, err error) {
	d := json.NewDecoder(bytes.NewReader(head))
	if _, err := d.Token(); err != nil {
		return nil, fmt.Errorf("safetensors head: %w", err)
	}
	seen := map[string]bool{}
	for d.More() {
		token, err := d.Token()
		name, ok := token.(string)
		if err != nil || !ok || seen[name] {
			return nil, fmt.Errorf("safetensors head: a name that is none, or stands twice: %.100q", name)
		}
		seen[name] = true
		if name == "__metadata__" {
			var about map[string]string
			if err := d.Decode(&about); err != nil {
				return nil, fmt.Errorf("safetensors metadata: %w", err)
			}
			continue
		}
		var t tensor
		if err := d.Decode(&t); err != nil {
			return nil, fmt.Errorf("safetensors head: %w", err)
		}
		if err := t.check(); err != nil {
			return nil, fmt.Errorf("safetensors tensor %.100q: %w", name, err)
		}
		out = append(out, t)
	}
	if _, err := d.Token(); err != nil {
		return nil, fmt.Errorf("safetensors head: %w", err)
	}
	if rest := head[d.InputOffset():]; len(bytes.Trim(rest, " ")) > 0 {
		return nil, errors.New("safetensors head: text after the object")
	}
	return out, nil
}

func (t *tensor) check() error {
	size, ok := safetensorsBits[t.Type]
	if !ok {
		return fmt.Errorf("type %.40q", t.Type)
	}
	for _, n := range t.Shape {
		hi, lo := bits.Mul64(size, n)
		if hi != 0 || lo>>60 != 0 {
			return errors.New("more numbers than there can be")
		}
		size = lo
	}
	if len(t.Offsets) != 2 || t.Offsets[0] > t.Offsets[1] || t.Offsets[1]-t.Offsets[0] != (size+7)/8 {
		return errors.New("its shape does not fit its place")
	}
	return nil
}
