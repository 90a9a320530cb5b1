package vector_test

import (
	"context"
	"errors"
	"path/filepath"
	"testing"

	"aran/platform/vector"
	"aran/platform/vector/vectortest"
)

// The suite with a graph from the first vector on, tended after every change: it is small enough to be walked through
// whole, so that answers are exact.
func TestGraph(t *testing.T) {
	if few > 1 {
		t.Skip("too slow beside the race detector; TestGraphIsTendedBesideSearches is for it")
	}
	vectortest.Run(t, func(t *testing.T, dim int) vector.Space {
		t.Helper()
		return tended{vector.NewMemoryWith(vectortest.Model, dim, vector.MemoryOptions{GraphFrom: from(dim), Breadth: 2000})}
	})
}

func TestGraphInFile(t *testing.T) {
	if few > 1 {
		t.Skip("too slow beside the race detector; TestGraphIsTendedBesideSearches is for it")
	}
	vectortest.Run(t, func(t *testing.T, dim int) vector.Space {
		t.Helper()
		return tended{vector.NewMemoryWith(vectortest.Model, dim, vector.MemoryOptions{GraphFrom: from(dim), Breadth: 2000, File: filepath.Join(t.TempDir(), "x.vec")})}
	})
}

// from leaves out the one dimension in which all vectors are equal or opposite: hundreds of ties are not walked through
// in the order of their ids.
func from(dim int) int {
	if dim == 1 {
		return 0
	}
	return 1
}

// tended is a space that is looked after whenever it changed.
type tended struct{ *vector.Memory }

// Put implements vector.Space.
func (s tended) Put(ctx context.Context, items ...vector.Item) error {
	if err := s.Memory.Put(ctx, items...); err != nil {
		return err
	}
	return s.Tend(ctx)
}

// Delete implements vector.Space.
func (s tended) Delete(ctx context.Context, owners ...int64) error {
	return errors.Join(s.Memory.Delete(ctx, owners...), s.Tend(ctx))
}
