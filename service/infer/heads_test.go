package infer

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	inferv1 "aran/api/gen/aran/infer/v1"
	"aran/platform/fault"
	"aran/platform/rpc/rpctest"
	"aran/platform/watch"
	"aran/service/infer/heads"
	"aran/service/infer/minilm"
	"aran/service/infer/registry"
)

// topics are texts to train a head with, and others to ask it about.
var topics = []struct{ label, text, asked string }{
	{"kitchen", "Whisk the eggs and fold in the flour.", "Simmer the soup for an hour and add salt."},
	{"kitchen", "Roast the chicken at 200 degrees with garlic.", "How long do I bake a loaf of bread?"},
	{"kitchen", "A pinch of sugar softens the tomato sauce.", "Chop the onions finely."},
	{"network", "The router drops packets when its queue is full.", "Why does the DNS lookup time out?"},
	{"network", "TLS certificates must be renewed before they expire.", "The firewall blocks port 443."},
	{"network", "A load balancer spreads requests over three servers.", "Our proxy resets the TCP connection."},
}

// train fits a linear classifier on the topics' vectors by gradient descent.
func train(t *testing.T, e *minilm.Encoder) []byte {
	t.Helper()
	labels := []string{"kitchen", "network"}
	var texts []string
	for _, c := range topics {
		texts = append(texts, c.text)
	}
	vectors, err := e.Encode(t.Context(), texts)
	if err != nil {
		t.Fatal(err)
	}
	weight := make([]float32, 2*minilm.Dim)
	for range 50 {
		for i, c := range topics {
			v, z := vectors[i].Vector, 0.0
			for j, x := range v {
				z += float64(x * (weight[minilm.Dim+j] - weight[j]))
			}
			miss := float32(float64(slices.Index(labels, c.label)) - 1/(1+math.Exp(-z)))
			for j, x := range v {
				weight[minilm.Dim+j] += miss * x
				weight[j] -= miss * x
			}
		}
	}
	names, _ := json.Marshal(labels)
	header, _ := json.Marshal(map[string]any{
		"__metadata__": map[string]string{"kind": "classify", "encoder": e.Digest(), "labels": string(names)},
		"weight":       map[string]any{"dtype": "F32", "shape": []int{2, minilm.Dim}, "data_offsets": []int{0, 8 * minilm.Dim}},
		"bias":         map[string]any{"dtype": "F32", "shape": []int{2}, "data_offsets": []int{8 * minilm.Dim, 8*minilm.Dim + 8}},
	})
	b := append(binary.LittleEndian.AppendUint64(nil, uint64(len(header))), header...)
	for _, w := range weight {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(w))
	}
	return append(b, make([]byte, 8)...)
}

// install makes a head known to the registry and fetches it.
func (w *world) install(name, encoder string, b []byte) {
	w.t.Helper()
	manifest := fmt.Sprintf(`{"name":%q,"version":"1","title":"Topics","kind":"classify","engine":"head","licence":"MIT","encoder":%q,"labels":["kitchen","network"],
		"weights":"head.safetensors","files":[{"path":"head.safetensors","size":%d,"sha256":%q}]}`, name, encoder, len(b), sum(b))
	for path, b := range map[string][]byte{filepath.Join(w.cfg.ManifestsDir, name+".json"): []byte(manifest), filepath.Join(w.cfg.FilesDir, "head.safetensors"): b} {
		if err := os.WriteFile(path, b, 0o600); err != nil {
			w.t.Fatal(err)
		}
	}
	reg, err := w.cfg.Registry()
	if err == nil {
		err = reg.Pull(w.t.Context(), name, nil)
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

// realWorld is a service with the built-in encoder, and heads of its own and of another one.
func realWorld(t *testing.T) *world {
	t.Helper()
	e, err := minilm.Load()
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, db: database(t), cfg: settings(t), authority: rpctest.NewAuthority(t), health: &watch.Health{}}
	head := train(t, e)
	other := strings.Repeat("ab", 32)
	w.install("topics", e.Digest(), head)
	w.install("strange", other, []byte(strings.ReplaceAll(string(head), e.Digest(), other)))
	w.s, err = New(w.cfg, Deps{DB: w.db, Server: w.authority.Server("infer", "chat"), Log: slog.New(slog.DiscardHandler), Health: w.health})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.stop)
	return w
}

func TestClassify(t *testing.T) {
	w := realWorld(t)
	c := w.client("chat")
	var asked []string
	for _, topic := range topics {
		asked = append(asked, topic.asked)
	}
	got, err := c.Classify(t.Context(), &inferv1.ClassifyRequest{Model: "topics", Texts: asked})
	if err != nil {
		t.Fatal(err)
	}
	for i, topic := range topics {
		if l := got.GetResults()[i].GetLabels(); l[0].GetName() != topic.label || l[0].GetScore() < 0.5 || l[0].GetScore()+l[1].GetScore() < 0.999 {
			t.Errorf("%q: %v, want %s", topic.asked, l, topic.label)
		}
	}
	if got.GetModel() != "topics" || len(got.GetDigest()) != 64 || got.GetEncoderDigest() != w.s.encoderDigest {
		t.Errorf("made by %s %s on %s", got.GetModel(), got.GetDigest(), got.GetEncoderDigest())
	}
	for _, c := range []struct {
		name, model, code string
		texts             []string
		kind              fault.Kind
	}{
		{"the head of another encoder", "strange", "head_encoder_mismatch", asked, fault.Conflict},
		{"a model that is not there", "none", "model_not_found", asked, fault.Missing},
		{"a model of another kind", "tiny", "model_wrong_kind", asked, fault.Invalid},
		{"no texts", "topics", "", nil, fault.Invalid},
		{"a text too long", "topics", "", []string{strings.Repeat("x", 100_001)}, fault.Invalid},
		{"a name too long", strings.Repeat("x", 101), "", asked, fault.Invalid},
	} {
		_, err := w.client("chat").Classify(t.Context(), &inferv1.ClassifyRequest{Model: c.model, Texts: c.texts})
		if fault.KindOf(err) != c.kind || c.code != "" && fault.From(err).Code != c.code {
			t.Errorf("%s: %v, want %v %s", c.name, err, c.kind, c.code)
		}
	}
}

func TestRerank(t *testing.T) {
	w := realWorld(t)
	documents := []string{"Bread rises because yeast makes gas from sugar.", "The parliament met to debate the budget.", "Statins lower cholesterol by blocking an enzyme of the liver."}
	for _, model := range []string{"", "default", heads.RerankName} {
		got, err := w.client("chat").Rerank(t.Context(), &inferv1.RerankRequest{Model: model, Query: "How do statins reduce cholesterol?", Documents: documents})
		if err != nil {
			t.Fatal(err)
		}
		if s := got.GetScores(); len(s) != 3 || s[2] < s[0] || s[2] < s[1] || got.GetModel() != heads.RerankName || got.GetEncoderDigest() != w.s.encoderDigest {
			t.Errorf("got %v, want the third highest", got)
		}
	}
	for _, r := range []*inferv1.RerankRequest{
		{Query: "", Documents: documents}, {Query: "a"}, {Query: "a", Documents: make([]string, 101)}, {Query: strings.Repeat("x", 10_001), Documents: documents}, {Query: "a", Model: "topics", Documents: documents},
	} {
		if _, err := w.client("chat").Rerank(t.Context(), r); fault.KindOf(err) != fault.Invalid {
			t.Errorf("%.50v: %v, want invalid", r, err)
		}
	}
	another := *w.s.heads.builtin
	another.Encoder = "another" // as after an upgrade
	w.s.heads.builtin = &another
	if _, err := w.s.Rerank(t.Context(), "", "a", documents); fault.KindOf(err) != fault.Conflict {
		t.Errorf("a head on another encoder: %v, want a conflict", err)
	}
}

func TestRerankIsBounded(t *testing.T) {
	w := realWorld(t)
	busy := w.cfg.embedAtOnce()
	for range busy + w.cfg.EmbedQueue {
		go func() {
			if leave, err := w.s.heads.gate.Enter(t.Context(), "other"); err == nil {
				<-t.Context().Done()
				leave()
			}
		}()
	}
	for w.s.heads.gate.Present() < busy+w.cfg.EmbedQueue {
		if t.Context().Err() != nil {
			t.Fatal("the gate does not fill")
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), w.cfg.EmbedWait/100)
	defer cancel()
	if _, err := w.s.Rerank(ctx, "", "a", []string{"b"}); err == nil {
		t.Error("reranked while all places are taken")
	}
}

func TestChangedHeadIsNotUsed(t *testing.T) {
	w := realWorld(t)
	m, err := w.s.registry.Model(t.Context(), "topics")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(m.Dir, m.Weights)
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)-1] ^= 1
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := w.s.Classify(t.Context(), "topics", []string{"a"}); err == nil {
		t.Error("a head that was changed on disk was used")
	}
	if _, _, err := w.s.head(t.Context(), "", registry.Embed); err == nil {
		t.Error("an encoder is a head")
	}
}
