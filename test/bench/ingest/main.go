// Command ingest measures how many documents a second the platform takes in, end to end, with its built-in encoder and
// guard: stored (durable, acknowledged) and indexed (found by searches), and what processor time and memory that costs.
//
// It runs bin/aran as a process on loopback, on an empty data directory. Documents are about as long as an abstract of a
// paper (150 words), or lines of a corpus.jsonl in BEIR layout.
package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"aran/client"
)

const (
	atOnce  = 500 // lines of a request
	ticks   = 100 // a second, in proc(5)
	longest = 8 << 20
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Stdout); err != nil {
		_, _ = fmt.Fprintln(os.Stderr, "bench-ingest:", err)
		os.Exit(1) //nolint:gocritic // nothing is open
	}
}

func run(ctx context.Context, w io.Writer) error {
	n := flag.Int("documents", 1000, "how many")
	corpus := flag.String("corpus", "", "a corpus.jsonl in BEIR layout; empty: made-up texts")
	binary := flag.String("binary", "bin/aran", "the program")
	flag.Parse()
	lines, err := documents(*corpus, *n)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "aran-ingest")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // a temporary folder
	c, p, err := start(ctx, *binary, dir)
	if err != nil {
		return err
	}
	defer func() {
		_ = p.Signal(syscall.SIGTERM) // it may have ended
		_, _ = p.Wait()
	}()
	if err := c.MakeCollection(ctx, "bench"); err != nil {
		return err
	}
	cpu, began := processor(p.Pid), time.Now()
	for at := 0; at < len(lines); at += atOnce {
		got, err := c.PutDocuments(ctx, "bench", []byte(strings.Join(lines[at:min(at+atOnce, len(lines))], "\n")))
		if err != nil {
			return err
		}
		for _, s := range got {
			if s.Code != "" {
				return fmt.Errorf("line %d: %s", at+s.Line, s.Detail)
			}
		}
	}
	stored := time.Since(began)
	var last client.IndexingProgress
	if err := c.WatchProgress(ctx, "bench", func(p client.IndexingProgress) { last = p }); err != nil {
		return err
	}
	indexed, spent := time.Since(began), processor(p.Pid)-cpu
	if last.Indexed != int64(len(lines)) {
		return fmt.Errorf("%+v of %d", last, len(lines))
	}
	docs := float64(len(lines))
	_, err = fmt.Fprintf(w, "documents   %d\nstored      %.0f/s\nindexed     %.1f/s\nprocessor   %.1f ms a document: %.1f/s on two quiet cores\nmemory      %.0f MB at most\n",
		len(lines), docs/stored.Seconds(), docs/indexed.Seconds(), spent.Seconds()*1000/docs, 2*docs/spent.Seconds(), peak(p.Pid))
	return err
}

// documents makes lines for a bulk request.
func documents(corpus string, n int) (out []string, err error) {
	if corpus == "" {
		r := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // the same texts each time
		for i := range n {
			var sb strings.Builder
			for w := range 150 {
				_, _ = fmt.Fprintf(&sb, "word%d ", int(r.ExpFloat64()*400))
				if w%12 == 11 {
					sb.WriteString("ends. ")
				}
			}
			b, err := json.Marshal(map[string]string{"id": "d" + strconv.Itoa(i), "title": "Document " + strconv.Itoa(i), "text": sb.String()})
			if err != nil {
				return nil, err
			}
			out = append(out, string(b))
		}
		return out, nil
	}
	f, err := os.Open(corpus) //nolint:gosec // named on the command line
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // read only
	scan := bufio.NewScanner(f)
	scan.Buffer(nil, longest)
	for scan.Scan() && len(out) < n {
		var d struct {
			ID    string `json:"_id"`
			Title string `json:"title"`
			Text  string `json:"text"`
		}
		if err := json.Unmarshal(scan.Bytes(), &d); err != nil {
			return nil, err
		}
		title := []rune(d.Title)
		b, err := json.Marshal(map[string]string{"id": "d" + d.ID, "title": string(title[:min(len(title), 500)]), "text": d.Text})
		if err != nil {
			return nil, err
		}
		out = append(out, string(b))
	}
	return out, scan.Err()
}

// start runs the platform until it answers, and returns a client with the administrator's key.
func start(ctx context.Context, binary, dir string) (*client.Client, *os.Process, error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, nil, err
	}
	address := l.Addr().String()
	if err := l.Close(); err != nil {
		return nil, nil, err
	}
	cmd := exec.Command(binary, "up", "--data", dir, "--listen", address) //nolint:gosec,noctx // our own program; it is ended by a signal
	cmd.Env = append(cmd.Environ(), "ARAN_OPERATOR_LISTEN=127.0.0.1:0", "ARAN_MODELS="+filepath.Join(dir, "no-models"))
	if err := cmd.Start(); err != nil {
		return nil, nil, err
	}
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); {
		if key, err := os.ReadFile(filepath.Join(dir, "admin.key")); err == nil { //nolint:gosec // its own directory
			c := client.New("http://"+address, strings.TrimSpace(string(key)), nil)
			if _, _, err := c.DocumentIDs(ctx, "handbook", ""); err == nil {
				return c, cmd.Process, nil
			}
		}
		select {
		case <-ctx.Done():
			return nil, nil, ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
	_ = cmd.Process.Kill() // it may have ended
	return nil, nil, errors.New("the platform did not become ready within a minute")
}

// processor is the time that a process has used so far.
func processor(pid int) time.Duration {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0
	}
	fields := bytes.Fields(b[bytes.LastIndexByte(b, ')')+1:])
	var sum int64
	for _, f := range fields[11:13] { // utime, stime
		t, _ := strconv.ParseInt(string(f), 10, 64)
		sum += t
	}
	return time.Duration(sum) * time.Second / ticks
}

// peak is the most memory that a process had, in MB.
func peak(pid int) float64 {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	if err != nil {
		return 0
	}
	for line := range strings.SplitSeq(string(b), "\n") {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kb, _ := strconv.ParseFloat(strings.Fields(rest)[0], 64)
			return kb / 1000
		}
	}
	return 0
}
