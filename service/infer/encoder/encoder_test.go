package encoder

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"math"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"aran/service/infer/minilm"
)

// fixed is a model whose vectors are given.
type fixed struct {
	vector []float32
	err    error
}

func (f fixed) Digest() string { return "d1" }

func (f fixed) Encode(_ context.Context, texts []string) ([]minilm.Embedding, error) {
	out := make([]minilm.Embedding, len(texts))
	for i, t := range texts {
		out[i] = minilm.Embedding{Vector: f.vector, Tokens: len(t), Truncated: t == "long"}
		if t == "bad" {
			return nil, f.err
		}
	}
	return out, nil
}

// run starts the program in this process. end is its parent's end.
func run(t *testing.T, m Model, extra ...string) (c *http.Client, end func() error) {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "e-") //nolint:usetesting // t.TempDir is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	socket := filepath.Join(dir, "s")
	parent, hold := io.Pipe()
	done := make(chan error, 1)
	go func() {
		args := append(Args("model.aran", ""), append([]string{"--socket", socket}, extra...)...)[1:]
		done <- Run(t.Context(), args, parent, slog.New(slog.DiscardHandler), func(string) (Model, error) { return m, nil })
	}()
	c = &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		for {
			conn, err := new(net.Dialer).DialContext(ctx, "unix", socket)
			if err == nil || ctx.Err() != nil {
				return conn, err
			}
		}
	}}}
	return c, func() error {
		_ = hold.Close()
		select {
		case err := <-done:
			return err
		case <-time.After(10 * time.Second):
			return errors.New("it goes on without its parent")
		}
	}
}

func TestVectorsComeBackAsTheyAre(t *testing.T) {
	v := []float32{.6, -.8, 1e-30}
	c, end := run(t, fixed{vector: v})
	got, err := Encode(t.Context(), c, []string{"a", "long", "tamil தமிழ்"}, false)
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != 3 || !slices.Equal(got[2].Vector, v) || got[0].Tokens != 1 || got[0].Truncated || !got[1].Truncated {
		t.Errorf("%+v", got)
	}
	if err := end(); err != nil {
		t.Errorf("it ended with %v", err)
	}
}

// asking is a model that knows questions.
type asking struct{ fixed }

func (a asking) EncodeQueries(ctx context.Context, texts []string) ([]minilm.Embedding, error) {
	return fixed{vector: []float32{0, 1}}.Encode(ctx, texts)
}

func TestQuestionsAreToldFromPassages(t *testing.T) {
	for _, c := range []struct {
		name  string
		model Model
		want  float32
	}{{"a model that knows questions", asking{fixed{vector: []float32{1, 0}}}, 1}, {"one that does not", fixed{vector: []float32{1, 0}}, 0}} {
		client, end := run(t, c.model)
		q, err := Encode(t.Context(), client, []string{"a"}, true)
		p, err2 := Encode(t.Context(), client, []string{"a"}, false)
		if err != nil || err2 != nil || q[0].Vector[1] != c.want || p[0].Vector[1] != 0 {
			t.Errorf("%s: %v %v, %v %v", c.name, q, p, err, err2)
		}
		if err := end(); err != nil {
			t.Error(err)
		}
	}
}

func TestTheProgramSaysWhatFails(t *testing.T) {
	c, end := run(t, fixed{vector: []float32{1}, err: errors.New("no vector")})
	if _, err := Encode(t.Context(), c, []string{"bad"}, false); err == nil || !strings.Contains(err.Error(), "no vector") {
		t.Errorf("%v", err)
	}
	if err := end(); err != nil {
		t.Error(err)
	}
}

func TestAnotherFileIsRefused(t *testing.T) {
	_, end := run(t, fixed{vector: []float32{1}}, "--sha256", "d2")
	if err := end(); err == nil || !strings.Contains(err.Error(), "want d2") {
		t.Errorf("it ended with %v", err)
	}
}

func TestBadArguments(t *testing.T) {
	for _, args := range [][]string{nil, {"--model", "x"}, {"--socket", "x"}, {"--other"}} {
		if err := Main(t.Context(), args, strings.NewReader(""), io.Discard); err == nil {
			t.Errorf("%q is accepted", args)
		}
	}
}

func TestAnswersThatDoNotFit(t *testing.T) {
	good := pack([]minilm.Embedding{{Vector: []float32{1, 0}, Tokens: 3}})
	nan := pack([]minilm.Embedding{{Vector: []float32{1, float32(math.NaN())}}})
	for name, b := range map[string][]byte{
		"empty": nil, "cut off": good[:len(good)-1], "longer": append(bytes.Clone(good), 0), "not a number": nan,
		"two for one":          pack([]minilm.Embedding{{Vector: []float32{1}}, {Vector: []float32{1}}}),
		"truncated is no bool": append(append(bytes.Clone(good[:12]), 9, 0, 0, 0), good[16:]...),
	} {
		if out, err := unpack(b, 1); err == nil {
			t.Errorf("%s: %v", name, out)
		}
	}
	if _, err := unpack(good, 1); err != nil {
		t.Error(err)
	}
}

// FuzzUnpack: an answer is read as what pack would have written, or refused.
func FuzzUnpack(f *testing.F) {
	f.Add(pack([]minilm.Embedding{{Vector: []float32{1, 0}, Tokens: 3, Truncated: true}}), 1)
	f.Add([]byte{255, 255, 255, 255, 255, 255, 255, 255}, -1)
	f.Fuzz(func(t *testing.T, b []byte, n int) {
		out, err := unpack(b, n)
		if err == nil && (len(out) != n || n > 0 && !bytes.Equal(pack(out), b)) {
			t.Errorf("%d embeddings of %x", len(out), b)
		}
	})
}
