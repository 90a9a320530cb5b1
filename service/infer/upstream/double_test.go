package upstream

import (
	"encoding/json"
	"fmt"
	"hash/fnv"
	"net/http"
	"slices"
	"strings"
	"testing"
)

// double is a small working server with one model, in the manner of the four engines at once. It is as strict as
// they are: a field that the documentation does not name is an error, and so is a batch that is too long.
type double struct {
	model    string
	revision string
	digest   string
	dim      int
}

// vector is of a text and of nothing else; it is not of unit length.
func (d *double) vector(text string) []float32 {
	v := make([]float32, d.dim)
	for word := range strings.FieldsSeq(strings.ToLower(text)) {
		h := fnv.New32a()
		_, _ = h.Write([]byte(strings.Trim(word, ".,?!")))
		v[int(h.Sum32())%d.dim] += 2
	}
	v[0] += 0.5
	return v
}

func (d *double) score(query, text string) float64 {
	a, b := d.vector(query), d.vector(text)
	var sum float64
	for i := range a {
		sum += float64(a[i] * b[i])
	}
	return sum / (1 + sum)
}

// in reads a request strictly.
func in(w http.ResponseWriter, r *http.Request, into any) bool {
	dec := json.NewDecoder(r.Body)
	dec.DisallowUnknownFields()
	if err := dec.Decode(into); err != nil || r.Method != http.MethodPost || r.Header.Get("Content-Type") != "application/json" {
		http.Error(w, fmt.Sprintf(`{"error":%q,"error_type":"Validation"}`, err), http.StatusUnprocessableEntity)
		return false
	}
	return true
}

func out(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v)
}

func tooMany(w http.ResponseWriter, n int) bool {
	if n > defaultBatch {
		http.Error(w, `{"error":"batch size","error_type":"Validation"}`, http.StatusRequestEntityTooLarge)
		return true
	}
	return false
}

func (d *double) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /info", func(w http.ResponseWriter, _ *http.Request) {
		out(w, map[string]any{"model_id": d.model, "model_sha": d.revision})
	})
	mux.HandleFunc("POST /embed", func(w http.ResponseWriter, r *http.Request) {
		var q struct {
			Inputs              []string
			Normalize, Truncate bool
		}
		if !in(w, r, &q) || tooMany(w, len(q.Inputs)) {
			return
		}
		vectors := make([][]float32, len(q.Inputs))
		for i, t := range q.Inputs {
			vectors[i] = d.vector(t)
		}
		w.Header().Set("X-Compute-Tokens", fmt.Sprint(len(strings.Fields(strings.Join(q.Inputs, " ")))))
		out(w, vectors)
	})
	mux.HandleFunc("POST /rerank", func(w http.ResponseWriter, r *http.Request) {
		var q struct {
			Query      string
			Texts      []string
			RawScores  bool `json:"raw_scores"`
			ReturnText bool `json:"return_text"`
			Truncate   bool
		}
		if !in(w, r, &q) || tooMany(w, len(q.Texts)) {
			return
		}
		out(w, d.ranked(q.Query, q.Texts, "score"))
	})
	mux.HandleFunc("POST /predict", func(w http.ResponseWriter, r *http.Request) {
		var q struct {
			Inputs    [][]string
			RawScores bool `json:"raw_scores"`
			Truncate  bool
		}
		if !in(w, r, &q) || tooMany(w, len(q.Inputs)) {
			return
		}
		var all [][]map[string]any
		for _, t := range q.Inputs {
			label, p := classOf(t[0])
			all = append(all, []map[string]any{{"label": label, "score": p}})
		}
		out(w, all)
	})
	mux.HandleFunc("GET /v1/models", func(w http.ResponseWriter, _ *http.Request) {
		out(w, map[string]any{"object": "list", "data": []any{map[string]any{"id": d.model, "object": "model"}}})
	})
	mux.HandleFunc("POST /v1/embeddings", func(w http.ResponseWriter, r *http.Request) {
		var q struct {
			Model          string
			Input          []string
			EncodingFormat string `json:"encoding_format"`
		}
		if !in(w, r, &q) || !d.knows(w, q.Model) {
			return
		}
		var data []any
		for i, t := range slices.Backward(q.Input) { // the order is not promised
			data = append(data, map[string]any{"index": i, "object": "embedding", "embedding": d.vector(t)})
		}
		out(w, map[string]any{"object": "list", "model": d.model, "data": data, "usage": map[string]int{"prompt_tokens": len(strings.Fields(strings.Join(q.Input, " ")))}})
	})
	mux.HandleFunc("POST /v1/rerank", func(w http.ResponseWriter, r *http.Request) {
		var q struct {
			Model, Query string
			Documents    []string
			TopN         int `json:"top_n"`
		}
		if !in(w, r, &q) || !d.knows(w, q.Model) {
			return
		}
		out(w, map[string]any{"id": "rerank-1", "model": d.model, "results": d.ranked(q.Query, q.Documents, "relevance_score")[:q.TopN]})
	})
	mux.HandleFunc("POST /classify", func(w http.ResponseWriter, r *http.Request) {
		var q struct {
			Model string
			Input []string
		}
		if !in(w, r, &q) || !d.knows(w, q.Model) {
			return
		}
		var data []any
		for i, t := range q.Input {
			label, p := classOf(t)
			data = append(data, map[string]any{"index": i, "label": label, "probs": []float64{p, 1 - p}, "num_classes": 2})
		}
		out(w, map[string]any{"object": "list", "model": d.model, "data": data})
	})
	mux.HandleFunc("GET /api/tags", func(w http.ResponseWriter, _ *http.Request) {
		out(w, map[string]any{"models": []any{map[string]any{"name": d.model + ":latest", "digest": d.digest}}})
	})
	mux.HandleFunc("POST /api/embed", func(w http.ResponseWriter, r *http.Request) {
		var q struct {
			Model    string
			Input    []string
			Truncate bool
		}
		if !in(w, r, &q) || !d.knows(w, q.Model) {
			return
		}
		var vectors [][]float32
		for _, t := range q.Input {
			vectors = append(vectors, d.vector(t))
		}
		out(w, map[string]any{"model": q.Model, "embeddings": vectors, "prompt_eval_count": len(strings.Fields(strings.Join(q.Input, " ")))})
	})
	mux.HandleFunc("POST /v1/chat/completions", d.chat)
	return mux
}

func (d *double) knows(w http.ResponseWriter, model string) bool {
	if model != d.model {
		http.Error(w, `{"error":{"type":"NotFoundError","message":"no such model"}}`, http.StatusNotFound)
		return false
	}
	return true
}

func (d *double) ranked(query string, texts []string, key string) []map[string]any {
	all := make([]map[string]any, len(texts))
	for i, t := range texts {
		all[i] = map[string]any{"index": i, key: d.score(query, t)}
	}
	slices.SortStableFunc(all, func(a, b map[string]any) int {
		x, _ := a[key].(float64)
		y, _ := b[key].(float64)
		if x > y {
			return -1
		}
		if x < y {
			return 1
		}
		return 0
	})
	return all
}

func classOf(text string) (string, float64) {
	if strings.Contains(text, "ignore") {
		return "injection", 0.9
	}
	return "benign", 0.8
}

// chat says the last message back, a word at a time.
func (d *double) chat(w http.ResponseWriter, r *http.Request) {
	var q struct {
		Model    string
		Messages []struct{ Role, Content string }
		Stop     []string
		Max      int `json:"max_tokens"`
	}
	if err := json.NewDecoder(r.Body).Decode(&q); err != nil || len(q.Messages) == 0 {
		http.Error(w, `{"error":{"type":"BadRequestError","message":"no messages"}}`, http.StatusBadRequest)
		return
	}
	if !d.knows(w, q.Model) {
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	event := func(v map[string]any) {
		v["model"], v["object"] = d.model, "chat.completion.chunk"
		b, _ := json.Marshal(v)
		_, _ = fmt.Fprintf(w, "data: %s\n\n", b)
		w.(http.Flusher).Flush()
	}
	reason, n := "stop", 0
	for word := range strings.FieldsSeq(q.Messages[len(q.Messages)-1].Content) {
		if slices.Contains(q.Stop, word) {
			break
		}
		if q.Max > 0 && n == q.Max {
			reason = "length"
			break
		}
		n++
		event(map[string]any{"choices": []any{map[string]any{"index": 0, "delta": map[string]string{"content": word + " "}}}})
	}
	event(map[string]any{"choices": []any{map[string]any{"index": 0, "delta": map[string]string{}, "finish_reason": reason}}})
	event(map[string]any{"choices": []any{}, "usage": map[string]int{"prompt_tokens": len(q.Messages), "completion_tokens": n, "total_tokens": n}})
	_, _ = fmt.Fprint(w, "data: [DONE]\n\n")
}

// What the engines have in common is the same with each of them.
func TestSameContractOnEveryEngine(t *testing.T) {
	d := &double{model: "some/model", revision: "abc123", digest: strings.Repeat("1", 64), dim: 64}
	long := make([]string, 70)
	for i := range long {
		long[i] = fmt.Sprintf("text %d", i)
	}
	texts := append([]string{"The cat sleeps.", "the cat sleeps", "Dogs bark!", "", "அரண் means bulwark"}, long...)
	for engine, kinds := range offers {
		for _, kind := range kinds {
			t.Run(engine+" "+kind, func(t *testing.T) {
				s := newServer(t)
				s.Config.Handler = d.handler()
				cfg := Config{Kind: kind, Engine: engine, Model: d.model, Revision: d.revision, Dim: d.dim}
				if engine == Ollama {
					cfg.Digest = d.digest
				}
				e := s.engine(cfg)
				if err := e.Check(t.Context()); err != nil {
					t.Fatal(err)
				}
				switch kind {
				case KindEmbed:
					got, err := e.Embed(t.Context(), texts)
					if err != nil || len(got.Vectors) != len(texts) || got.Tokens != len(strings.Fields(strings.Join(texts, " "))) {
						t.Fatalf("%d vectors, %d tokens, %v", len(got.Vectors), got.Tokens, err)
					}
					if !near(got.Vectors[0], got.Vectors[1]) || near(got.Vectors[0], got.Vectors[2]) {
						t.Error("the vectors are not those of the texts")
					}
					one, err := e.Embed(t.Context(), texts[60:61])
					if err != nil || !near(one.Vectors[0], got.Vectors[60]) {
						t.Errorf("alone and among others: %v", err)
					}
				case KindRerank:
					documents := append(slices.Clone(long), "cats sleep all day", "why the cat sleeps")
					got, err := e.Rerank(t.Context(), "the cat sleeps", documents)
					if err != nil || len(got) != len(documents) || slices.Max(got) != got[len(got)-1] {
						t.Errorf("%v, %v", got, err)
					}
				case KindClassify:
					got, err := e.Classify(t.Context(), []string{"hello", "ignore all of that"})
					if err != nil || len(got) != 2 || got[0][0] != (Label{"benign", 0.8}) || got[1][0] != (Label{"injection", 0.9}) {
						t.Errorf("%v, %v", got, err)
					}
				case KindGenerate:
					for _, c := range []struct {
						p    Prompt
						text string
						want Finish
					}{
						{Prompt{}, "one two three ", Finish{"stop", 2, 3}},
						{Prompt{MaxTokens: 2}, "one two ", Finish{"length", 2, 2}},
						{Prompt{Stop: []string{"two"}}, "one ", Finish{"stop", 2, 1}},
					} {
						c.p.Messages = []Message{{"system", "Say it."}, {"user", "one two three"}}
						var said strings.Builder
						got, err := e.Generate(t.Context(), c.p, func(text string) error { said.WriteString(text); return nil })
						if err != nil || got != c.want || said.String() != c.text {
							t.Errorf("%q, %+v, %v; want %q, %+v", said.String(), got, err, c.text, c.want)
						}
					}
				}
				for _, other := range []string{KindEmbed, KindRerank, KindClassify, KindGenerate} {
					if other == kind {
						continue
					}
					var err error
					switch other {
					case KindEmbed:
						_, err = e.Embed(t.Context(), texts)
					case KindRerank:
						_, err = e.Rerank(t.Context(), "a", texts)
					case KindClassify:
						_, err = e.Classify(t.Context(), texts)
					default:
						_, err = e.Generate(t.Context(), Prompt{}, func(string) error { return nil })
					}
					if err == nil || !strings.Contains(err.Error(), "its kind is "+kind) {
						t.Errorf("%s by a model for %s: %v", other, kind, err)
					}
				}
			})
		}
	}
}
