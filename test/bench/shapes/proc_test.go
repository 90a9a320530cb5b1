package shapes_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// tree are processes with all that they started; what ended is counted in its parent.
func tree(roots []int) (out []int) {
	out = slices.Clone(roots)
	for i := 0; i < len(out); i++ {
		out = append(out, childrenOf(strconv.Itoa(out[i]))...)
	}
	return out
}

func childrenOf(pid string) (out []int) {
	lists, err := filepath.Glob("/proc/" + pid + "/task/*/children")
	if err != nil {
		return nil
	}
	for _, list := range lists {
		b, err := os.ReadFile(list)
		if err != nil {
			continue // the thread ended
		}
		for f := range strings.FieldsSeq(string(b)) {
			if n, err := strconv.Atoi(f); err == nil {
				out = append(out, n)
			}
		}
	}
	return out
}

// sum adds up a figure of the shape's aran processes and of its shared servers.
func (m *measured) sum(b *testing.B, of func(pid int) (float64, error)) (aran, parts float64) {
	for _, root := range m.roots {
		exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", root))
		if err != nil {
			continue // it ended: a helper of the start
		}
		for _, pid := range tree([]int{root}) {
			v, err := of(pid)
			if err != nil && pid == root {
				b.Fatal(err)
			}
			if filepath.Base(exe) == "aran" {
				aran += v
			} else {
				parts += v
			}
		}
	}
	return aran, parts
}

// ticks a second, in proc(5); the same on every Linux that Go runs on.
const ticks = 100

// cpu is the time used so far, with that of children that ended.
func (m *measured) cpu(b *testing.B) (aran, parts time.Duration) {
	a, p := m.sum(b, func(pid int) (float64, error) {
		s, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			return 0, err
		}
		f := strings.Fields(string(s[bytes.LastIndexByte(s, ')')+1:]))
		var sum float64
		for _, field := range f[11:15] { // utime, stime, cutime, cstime
			n, err := strconv.ParseFloat(field, 64)
			if err != nil {
				return 0, err
			}
			sum += n
		}
		return sum, nil
	})
	tick := float64(time.Second / ticks)
	return time.Duration(a * tick), time.Duration(p * tick)
}

// resident is memory in MB; what processes share is counted once, by share (Pss).
func (m *measured) resident(b *testing.B) (aran, parts float64) {
	return m.sum(b, func(pid int) (float64, error) {
		s, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
		if err != nil {
			return 0, err
		}
		for line := range strings.Lines(string(s)) {
			if rest, ok := strings.CutPrefix(line, "Pss:"); ok {
				kb, err := strconv.ParseFloat(strings.Fields(rest)[0], 64)
				return kb * 1024 / 1e6, err
			}
		}
		return 0, fmt.Errorf("process %d: no Pss", pid)
	})
}
