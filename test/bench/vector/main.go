// Command vector compares the embedded vector index with faiss and hnswlib: same vectors, one thread each, CPU time, in turns.
//
//	go run ./test/bench/vector [-million] DATA PYTHON
//
// DATA has what test/bench/vector/data made; PYTHON is an interpreter with numpy, faiss-cpu and hnswlib.
package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
	"time"

	"aran/platform/vector"
)

const (
	dim      = 384
	k        = 10
	rounds   = 3
	scans    = 100 // queries of an exact scan in a round
	enough   = 0.95
	degree   = 16 // of the peer's graph, with its own default breadth while it is built
	building = 200
)

func main() {
	million := flag.Bool("million", false, "search among a million vectors in place of comparing")
	flag.Parse()
	runtime.GOMAXPROCS(1)
	ctx, err := context.Background(), error(nil)
	if *million {
		err = runMillion(ctx, flag.Arg(0))
	} else {
		err = run(ctx, flag.Arg(0), flag.Arg(1))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench-vector:", err)
		os.Exit(1)
	}
}

// bench is what is compared.
type bench struct {
	out     io.Writer
	peer    *peer
	base    [][]float32
	queries [][]float32
	truth   [][]int64
	exact   *vector.Memory
}

func run(ctx context.Context, data, python string) (err error) {
	b := &bench{out: os.Stdout}
	if err := b.read(data); err != nil {
		return err
	}
	b.say("%d vectors × %d, %d queries, k = %d, one thread, CPU time, %d rounds in turns\n", len(b.base), dim, len(b.queries), k, rounds)
	if b.peer, err = start(ctx, python, data); err != nil {
		return err
	}
	defer b.peer.close()
	for _, part := range []func(context.Context) error{b.scan, b.graph, b.filter} {
		if err := part(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) read(data string) (err error) {
	if b.base, err = read(filepath.Join(data, "base.f32")); err != nil {
		return err
	}
	b.queries, err = read(filepath.Join(data, "query.f32"))
	return err
}

func runMillion(ctx context.Context, data string) error {
	b := &bench{out: os.Stdout}
	if err := b.read(data); err != nil {
		return err
	}
	return b.million(ctx)
}

func (b *bench) say(format string, args ...any) { _, _ = fmt.Fprintf(b.out, format, args...) }

func (b *bench) fill(ctx context.Context, m *vector.Memory) error {
	for i, v := range b.base {
		if err := m.Put(ctx, vector.Item{ID: int64(i), Owner: int64(i), Vector: v}); err != nil {
			return err
		}
	}
	return nil
}

// scan compares all with all, exactly.
func (b *bench) scan(ctx context.Context) error {
	b.exact = vector.NewMemory("m", dim)
	if err := b.fill(ctx, b.exact); err != nil {
		return err
	}
	if err := b.peer.ask(nil, "build_flat"); err != nil {
		return err
	}
	var ours, theirs []float64
	for range rounds {
		cpu, got, err := search(ctx, b.exact, b.queries[:scans], nil)
		if err != nil {
			return err
		}
		var a answer
		if err := b.peer.ask(&a, "scan", scans, k); err != nil {
			return err
		}
		if r := recall(got, a.IDs); r < 0.999 {
			return fmt.Errorf("the exact scan and faiss agree on %.4f", r)
		}
		ours, theirs = append(ours, cpu/scans*1e3), append(theirs, a.CPU/scans*1e3)
	}
	b.report("exact scan", "ms", ours, theirs, "faiss flat")
	var err error
	_, b.truth, err = search(ctx, b.exact, b.queries, nil)
	return err
}

// graph compares building and searching of graphs, each with the least breadth that finds enough.
func (b *bench) graph(ctx context.Context) error {
	var a answer
	if err := b.peer.ask(&a, "build_graph", degree, building); err != nil {
		return err
	}
	their := a
	before := resident()
	m := vector.NewMemoryWith("m", dim, vector.MemoryOptions{GraphFrom: 1, File: filepath.Join(os.TempDir(), fmt.Sprint("bench-vector-", os.Getpid()))})
	defer m.Remove() //nolint:errcheck // a temporary file
	if err := b.fill(ctx, m); err != nil {
		return err
	}
	began := cpu()
	if err := m.Tend(ctx); err != nil {
		return err
	}
	b.report("graph: build", "CPU-s", []float64{cpu() - began}, []float64{their.CPU}, "hnswlib")
	b.say("%-24s %d in the heap by count; resident %.0f, of hnswlib %.0f bytes a vector\n", "graph: memory", m.Bytes()/len(b.base), float64(resident()-before)/float64(len(b.base)), their.Bytes)
	breadth, peerBreadth := 0, 0
	for ef := 15; ef <= 400 && (breadth == 0 || peerBreadth == 0); ef += 5 {
		if breadth == 0 {
			m.SetBreadth(ef)
			_, got, err := search(ctx, m, b.queries, nil)
			if err != nil {
				return err
			}
			if r := recall(got, b.truth); r >= enough {
				breadth = ef
				b.say("%-24s %.4f at breadth %d\n", "graph: recall", r, ef)
			}
		}
		if peerBreadth == 0 {
			if err := b.peer.ask(&a, "walk", len(b.queries), k, ef); err != nil {
				return err
			}
			if r := recall(a.IDs, b.truth); r >= enough {
				peerBreadth = ef
				b.say("%-24s %.4f at breadth %d\n", "hnswlib: recall", r, ef)
			}
		}
	}
	if breadth == 0 || peerBreadth == 0 {
		return errors.New("a graph does not find enough")
	}
	for _, c := range []struct {
		name         string
		ours, theirs int
	}{{"graph: recall ≥ .95", breadth, peerBreadth}, {"graph: breadth 64", 64, 64}} {
		m.SetBreadth(c.ours)
		var ours, theirs []float64
		for range rounds {
			t, got, err := search(ctx, m, b.queries, nil)
			if err != nil {
				return err
			}
			if err := b.peer.ask(&a, "walk", len(b.queries), k, c.theirs); err != nil {
				return err
			}
			ours, theirs = append(ours, float64(len(b.queries))/t), append(theirs, float64(len(b.queries))/a.CPU)
			if c.ours == 64 && len(ours) == 1 {
				b.say("%-24s ours %.4f, hnswlib %.4f\n", "recall at breadth 64", recall(got, b.truth), recall(a.IDs, b.truth))
			}
		}
		b.report(c.name, "queries/CPU-s", ours, theirs, "hnswlib")
	}
	m.SetBreadth(64)
	for _, of := range []float64{0.001, 0.01, 0.1, 0.5, 0.9} {
		var owners []int64
		for i := range b.base {
			if float64(uint32(i)*2654435761) < of*(1<<32) {
				owners = append(owners, int64(i))
			}
		}
		t, got, err := search(ctx, m, b.queries, owners)
		if err != nil {
			return err
		}
		_, want, err := search(ctx, b.exact, b.queries, owners)
		if err != nil {
			return err
		}
		b.say("%-24s %.3f ms, recall %.4f\n", fmt.Sprintf("graph: %g %% allowed", of*100), t/float64(len(b.queries))*1e3, recall(got, want))
	}
	return nil
}

// filter searches where one of a hundred is allowed.
func (b *bench) filter(ctx context.Context) error {
	const of = 100
	var owners []int64
	for i := 0; i < len(b.base); i += of {
		owners = append(owners, int64(i))
	}
	var ours, brute, walked []float64
	for range rounds {
		t, got, err := search(ctx, b.exact, b.queries[:scans], owners)
		if err != nil {
			return err
		}
		var a answer
		if err := b.peer.ask(&a, "among", scans, k, of); err != nil {
			return err
		}
		if r := recall(got, a.IDs); r < 0.999 {
			return fmt.Errorf("filtered, the exact scan and numpy agree on %.4f", r)
		}
		ours, brute = append(ours, t/scans*1e3), append(brute, a.CPU/scans*1e3)
		if err := b.peer.ask(&a, "walk_among", scans, k, of, 64); err != nil {
			return err
		}
		walked = append(walked, a.CPU/scans*1e3)
	}
	b.report("1 % allowed", "ms", ours, brute, "numpy over the subset")
	b.report("1 % allowed", "ms", ours, walked, "hnswlib with filter")
	return nil
}

func search(ctx context.Context, m *vector.Memory, queries [][]float32, owners []int64) (took float64, ids [][]int64, err error) {
	began := cpu()
	for _, q := range queries {
		hits, err := m.Search(ctx, vector.Query{Model: "m", Vector: q}, k, owners)
		if err != nil {
			return 0, nil, err
		}
		row := make([]int64, len(hits))
		for i, h := range hits {
			row[i] = h.ID
		}
		ids = append(ids, row)
	}
	return cpu() - began, ids, nil
}

func recall(got, want [][]int64) float64 {
	n, all := 0, 0
	for i, g := range got {
		for _, id := range want[i] {
			if slices.Contains(g, id) {
				n++
			}
			all++
		}
	}
	return float64(n) / float64(all)
}

func median(x []float64) float64 { return slices.Sorted(slices.Values(x))[len(x)/2] }

func (b *bench) report(what, unit string, ours, theirs []float64, peer string) {
	b.say("%-24s %.3f %s, %s %.3f: %.2f×   %.3f %.3f\n", what, median(ours), unit, peer, median(theirs), median(ours)/median(theirs), ours, theirs)
}

// cpu is the CPU time of this process so far, in seconds.
func cpu() float64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()).Seconds()
}

// resident is the memory of this process that lies in no file.
func resident() int {
	debug.FreeOSMemory()
	raw, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(raw)) {
		var n int
		if _, err := fmt.Sscanf(line, "RssAnon: %d kB", &n); err == nil {
			return n << 10
		}
	}
	return 0
}

func read(path string) (out [][]float32, err error) {
	raw, err := os.ReadFile(path) //nolint:gosec // named on the command line
	if err != nil {
		return nil, err
	}
	for v := range slices.Chunk(raw, 4*dim) {
		row := make([]float32, dim)
		for i := range row {
			row[i] = math.Float32frombits(binary.LittleEndian.Uint32(v[4*i:]))
		}
		out = append(out, row)
	}
	return out, nil
}

// peer is the other process.
type peer struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

type answer struct {
	CPU   float64
	Bytes float64
	IDs   [][]int64
}

func start(ctx context.Context, python, data string) (*peer, error) {
	cmd := exec.CommandContext(ctx, python, "test/bench/vector/peers.py", data, fmt.Sprint(dim)) //nolint:gosec // named on the command line
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	p := &peer{cmd, in, bufio.NewReader(out)}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	_, err = p.out.ReadBytes('\n')
	return p, err
}

func (p *peer) close() {
	_ = p.in.Close()
	_ = p.cmd.Wait()
}

func (p *peer) ask(a *answer, command ...any) error {
	line, err := json.Marshal(command)
	if err != nil {
		return err
	}
	if _, err := p.in.Write(append(line, '\n')); err != nil {
		return err
	}
	if line, err = p.out.ReadBytes('\n'); err != nil || a == nil {
		return err
	}
	*a = answer{}
	return json.Unmarshal(line, a)
}
