package vector_test

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"aran/platform/vector"
	"aran/platform/vector/vectortest"
)

const fileDim = 24

// filled is a space with a file, and vectors 0…n-1 in it, four to an owner.
func filled(t *testing.T, file string, n int64) *vector.Memory {
	t.Helper()
	m := vector.NewMemoryWith(vectortest.Model, fileDim, vector.MemoryOptions{GraphFrom: 100, File: file})
	rnd := rand.New(rand.NewPCG(1, 1))
	for id := range n {
		if err := m.Put(t.Context(), vector.Item{ID: id, Owner: id / 4, Vector: vectortest.Unit(rnd, fileDim)}); err != nil {
			t.Fatal(err)
		}
	}
	return m
}

func reopen(t *testing.T, file string) (m *vector.Memory, mark int64, why error) {
	t.Helper()
	m, mark, why = vector.OpenMemory(vectortest.Model, fileDim, vector.MemoryOptions{GraphFrom: 100, File: file})
	t.Cleanup(func() { _ = m.Close() })
	return m, mark, why
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func length(t *testing.T, m *vector.Memory) int {
	t.Helper()
	n, err := m.Len(t.Context())
	must(t, err)
	return n
}

func find(t *testing.T, m vector.Space, q []float32, k int, owners []int64) []vector.Hit {
	t.Helper()
	hits, err := m.Search(t.Context(), vector.Query{Model: vectortest.Model, Vector: q}, k, owners)
	must(t, err)
	return hits
}

func TestFileBringsASpaceBack(t *testing.T) {
	file := filepath.Join(t.TempDir(), "x.vec")
	m := filled(t, file, 3000/few)
	m.SetMark(17)
	must(t, m.Tend(t.Context()))
	must(t, m.Delete(t.Context(), 3, 4, 5))
	m.SetMark(18)
	again, mark, why := reopen(t, file)
	if why != nil || mark != 17 || length(t, again) != 3000/few {
		t.Fatalf("%d vectors at mark %d, %v", length(t, again), mark, why)
	}
	q := vectortest.Unit(rand.New(rand.NewPCG(2, 2)), fileDim)
	must(t, again.Delete(t.Context(), 3, 4, 5)) // it has caught up
	if got, want := find(t, again, q, 20, nil), find(t, m, q, 20, nil); !slices.Equal(got, want) {
		t.Errorf("it finds %v, what was stored finds %v", got, want)
	}
	must(t, again.Put(t.Context(), vector.Item{ID: 9000, Owner: 9000, Vector: q})) // beside those in the file
	must(t, again.Tend(t.Context()))
	if got := find(t, again, q, 1, nil); len(got) != 1 || got[0].ID != 9000 {
		t.Errorf("what came after opening: %v", got)
	}
}

func TestFileDoesNotKeepWhatWasDeleted(t *testing.T) {
	file := filepath.Join(t.TempDir(), "x.vec")
	m := filled(t, file, 1000/few)
	secret := vectortest.Unit(rand.New(rand.NewPCG(3, 3)), fileDim)
	must(t, m.Put(t.Context(), vector.Item{ID: 5000, Owner: 5000, Vector: secret}))
	must(t, m.Tend(t.Context()))
	trace := vector.Bytes(secret)
	if raw, err := os.ReadFile(file); err != nil || !bytes.Contains(raw, trace) {
		t.Fatalf("the vector is not in the file: %v", err)
	}
	must(t, m.Delete(t.Context(), 5000))
	m.Rested()
	must(t, m.Tend(t.Context()))
	if raw, err := os.ReadFile(file); err != nil || bytes.Contains(raw, trace) {
		t.Errorf("the vector is still in the file: %v", err)
	}
	must(t, m.Remove())
	if left, err := os.ReadDir(filepath.Dir(file)); err != nil || len(left) != 0 {
		t.Errorf("%v is left, %v", left, err)
	}
}

// Any byte that is not as it was written is found out: at once, or when the vector is read that it belongs to.
func TestDamageIsNeverAnAnswer(t *testing.T) {
	file := filepath.Join(t.TempDir(), "x.vec")
	m := filled(t, file, 1200/few)
	must(t, m.Tend(t.Context()))
	whole, err := os.ReadFile(file)
	must(t, err)
	q := vectortest.Unit(rand.New(rand.NewPCG(4, 4)), fileDim)
	want := find(t, m, q, 1000, nil)
	rnd := rand.New(rand.NewPCG(5, 5))
	outcomes := map[string]int{}
	for i := range 400 {
		broken := slices.Clone(whole)
		switch {
		case i < 100:
			broken[i] ^= 1 << rnd.IntN(8) // the header, byte by byte
		case i < 120:
			broken = broken[:rnd.IntN(len(broken))]
		default:
			broken[rnd.IntN(len(broken))] ^= 1 << rnd.IntN(8)
		}
		must(t, os.WriteFile(file, broken, 0o600))
		got, mark, why := reopen(t, file)
		if why != nil {
			outcomes["refused"]++
			if _, err := os.Stat(file); err == nil || mark != -1 || length(t, got) != 0 {
				t.Errorf("a damaged file stays, or something of it: %d vectors, mark %d", length(t, got), mark)
			}
			continue
		}
		hits, err := got.Search(t.Context(), vector.Query{Model: vectortest.Model, Vector: q}, 1000, nil)
		switch {
		case errors.Is(err, vector.ErrDamaged):
			outcomes["noticed"]++
		case err != nil || !slices.Equal(hits, want):
			t.Fatalf("damage %d gave another answer, or %v", i, err)
		default:
			outcomes["not touched"]++ // the space between sections, or a vector that is not among the nearest
		}
	}
	if outcomes["refused"] < 100 || outcomes["noticed"] == 0 {
		t.Errorf("outcomes %v", outcomes)
	}
}

func TestFileOfSomethingElseIsOfNoUse(t *testing.T) {
	file := filepath.Join(t.TempDir(), "x.vec")
	for _, c := range []struct {
		model string
		dim   int
	}{{"another", fileDim}, {vectortest.Model, fileDim + 1}} {
		must(t, filled(t, file, 200).Tend(t.Context()))
		m, mark, why := vector.OpenMemory(c.model, c.dim, vector.MemoryOptions{GraphFrom: 100, File: file})
		if why == nil || mark != -1 || length(t, m) != 0 {
			t.Errorf("%s × %d: %d vectors, %v", c.model, c.dim, length(t, m), why)
		}
	}
}

// What is cut off while it writes leaves the old file, and rests of names that are told from it.
func TestRestsOfWritingAreSweptAway(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "x.vec")
	must(t, filled(t, file, 200).Tend(t.Context()))
	must(t, os.WriteFile(file+".123.tmp", []byte("half"), 0o600))
	if m, _, why := reopen(t, file); why != nil || length(t, m) != 200 {
		t.Errorf("%d vectors, %v", length(t, m), why)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
		t.Errorf("%v is left, %v", left, err)
	}
}

func TestSmallSpacesHaveNoFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "x.vec")
	m := filled(t, file, 200)
	must(t, m.Tend(t.Context()))
	var owners []int64
	for o := range int64(45) {
		owners = append(owners, o)
	}
	must(t, m.Delete(t.Context(), owners...))
	must(t, m.Tend(t.Context()))
	if _, err := os.Stat(file); !errors.Is(err, os.ErrNotExist) || length(t, m) != 20 {
		t.Errorf("%d vectors, the file: %v", length(t, m), err)
	}
}

// Whatever a file holds, opening it and searching what it has neither panics nor gives more than it said.
func FuzzOpenMemory(f *testing.F) {
	file := filepath.Join(f.TempDir(), "x.vec")
	m := vector.NewMemoryWith(vectortest.Model, 3, vector.MemoryOptions{GraphFrom: 1, File: file})
	for i, v := range [][]float32{{1, 0, 0}, {0, 1, 0}, {0, 0, 1}} {
		if err := m.Put(f.Context(), vector.Item{ID: int64(i), Owner: 1, Vector: v}); err != nil {
			f.Fatal(err)
		}
	}
	if err := m.Tend(f.Context()); err != nil {
		f.Fatal(err)
	}
	whole, err := os.ReadFile(file)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole)
	f.Add(whole[:5000])
	f.Add([]byte("ARANVEC1"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		file := filepath.Join(t.TempDir(), "x.vec")
		must(t, os.WriteFile(file, raw, 0o600))
		m, _, why := vector.OpenMemory(vectortest.Model, 3, vector.MemoryOptions{GraphFrom: 1, File: file})
		t.Cleanup(func() { _ = m.Close() })
		n := length(t, m)
		if why != nil && n != 0 {
			t.Fatalf("%d vectors, and %v", n, why)
		}
		hits, err := m.Search(t.Context(), vector.Query{Model: vectortest.Model, Vector: []float32{1, 0, 0}}, 5, nil)
		if err != nil && !errors.Is(err, vector.ErrDamaged) || len(hits) > n {
			t.Fatalf("%d hits of %d, %v", len(hits), n, err)
		}
	})
}
