package main

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"time"

	"aran/platform/vector"
)

// million searches among ten times as many vectors as there are of real text: each is there with nine that lie about it.
func (b *bench) million(ctx context.Context) error {
	const copies, asked = 10, 1000
	file := filepath.Join(os.TempDir(), fmt.Sprint("bench-vector-", os.Getpid()))
	defer os.Remove(file) //nolint:errcheck // it may not be there
	opt := vector.MemoryOptions{GraphFrom: 1, File: file}
	m := vector.NewMemoryWith("m", dim, opt)
	rnd := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // test data
	before := resident()
	exact := vector.NewMemory("m", dim)
	for i, v := range b.base {
		for c := range copies {
			x := v
			if c > 0 {
				x = about(rnd, v, 0.5)
			}
			if err := m.Put(ctx, vector.Item{ID: int64(i*copies + c), Owner: int64(i), Vector: x}); err != nil {
				return err
			}
			if i%10 == 0 { // the truth is looked for among a tenth: memory is shared
				if err := exact.Put(ctx, vector.Item{ID: int64(i*copies + c), Owner: int64(i), Vector: x}); err != nil {
					return err
				}
			}
		}
	}
	began, wall := cpu(), time.Now()
	if err := m.Tend(ctx); err != nil {
		return err
	}
	b.say("%-24s %.0f CPU-s (%.0f s)\n", "1 M: build and write", cpu()-began, time.Since(wall).Seconds())
	n, _ := m.Len(ctx)
	b.say("%-24s %d bytes a vector by count, %d with its vectors in the file\n", "1 M: memory", m.Bytes()/n, (resident()-before)/n)
	var took, burned []float64
	for i := range asked {
		q := vector.Query{Model: "m", Vector: b.queries[i%len(b.queries)]}
		at, c := time.Now(), cpu()
		if _, err := m.Search(ctx, q, k, nil); err != nil {
			return err
		}
		took, burned = append(took, time.Since(at).Seconds()*1e3), append(burned, (cpu()-c)*1e3)
	}
	slices.Sort(took)
	slices.Sort(burned)
	b.say("%-24s p50 %.3f ms, p99 %.3f ms; CPU p50 %.3f ms, p99 %.3f ms\n", "1 M: search", took[asked/2], took[asked*99/100], burned[asked/2], burned[asked*99/100])
	var owners []int64 // those of the tenth
	for i := 0; i < len(b.base); i += 10 {
		owners = append(owners, int64(i))
	}
	_, got, err := search(ctx, m, b.queries[:200], owners)
	if err != nil {
		return err
	}
	_, want, err := search(ctx, exact, b.queries[:200], nil)
	if err != nil {
		return err
	}
	b.say("%-24s recall %.4f\n", "1 M: a tenth allowed", recall(got, want))
	exact = nil
	if err := m.Close(); err != nil {
		return err
	}
	m = nil
	runtime.GC()
	began, wall = cpu(), time.Now()
	m, _, err = vector.OpenMemory("m", dim, opt)
	if err != nil {
		return err
	}
	n, _ = m.Len(ctx)
	b.say("%-24s %.2f s, %.2f CPU-s for %d vectors\n", "1 M: open", time.Since(wall).Seconds(), cpu()-began, n)
	return m.Close()
}

// about is a unit vector near another.
func about(rnd *rand.Rand, v []float32, spread float64) []float32 {
	out := make([]float32, len(v))
	var ss float64
	for i, c := range v {
		out[i] = c + float32(rnd.NormFloat64()*spread/math.Sqrt(float64(len(v))))
		ss += float64(out[i]) * float64(out[i])
	}
	for i := range out {
		out[i] = float32(float64(out[i]) / math.Sqrt(ss))
	}
	return out
}
