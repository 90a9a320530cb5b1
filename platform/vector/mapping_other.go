//go:build !unix

package vector

import "os"

// mapping is a part of a file as memory: here it is read.
type mapping struct{ f []float32 }

func mapFile(f *os.File, from, size int64) (*mapping, error) {
	m := &mapping{make([]float32, (size-from)/4)}
	_, err := f.ReadAt(asBytes(m.f), from)
	return m, err
}

func (m *mapping) floats() []float32 { return m.f }

func (m *mapping) close() error { return nil }
