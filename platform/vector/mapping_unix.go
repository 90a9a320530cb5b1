//go:build unix

package vector

import (
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// mapping is a part of a file as memory. It stays what it was when the file is replaced or removed.
type mapping struct{ b []byte }

// mapFile maps from a page on to the end.
func mapFile(f *os.File, from, size int64) (*mapping, error) {
	if from == size {
		return &mapping{}, nil
	}
	b, err := unix.Mmap(int(f.Fd()), from, int(size-from), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return nil, &os.PathError{Op: "mmap", Path: f.Name(), Err: err}
	}
	_ = unix.Madvise(b, unix.MADV_RANDOM) // a hint
	return &mapping{b}, nil
}

func (m *mapping) floats() []float32 {
	if len(m.b) == 0 {
		return nil
	}
	return unsafe.Slice((*float32)(unsafe.Pointer(&m.b[0])), len(m.b)/4) //nolint:gosec // bytes as numbers; a page is aligned
}

// close ends the mapping; nobody may look at it any more.
func (m *mapping) close() error {
	if m == nil || m.b == nil {
		return nil
	}
	b := m.b
	m.b = nil
	return unix.Munmap(b)
}
