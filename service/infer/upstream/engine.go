package upstream

import (
	"context"
	"errors"
	"io"
	"math"
	"strconv"
	"strings"

	"aran/platform/fault"
	"aran/platform/llm"
)

// identity asks the server what it runs and compares that with the settings.
//
//   - TEI: GET /info has model_id and model_sha.
//   - vLLM and Triton: GET /v1/models has the ids. Neither says which revision; that is taken from the settings.
//   - Ollama: GET /api/tags has names with the digest of their manifest.
func (e *Engine) identity(ctx context.Context) error {
	switch e.cfg.Engine {
	case TEI:
		var info struct {
			ID  string `json:"model_id"`
			SHA string `json:"model_sha"`
		}
		if _, err := e.call(ctx, "/info", nil, &info); err != nil {
			return err
		}
		if info.ID != e.cfg.Model {
			return e.wrong("model_id", info.ID, e.cfg.Model)
		}
		if info.SHA != "" && e.cfg.Revision != "" && info.SHA != e.cfg.Revision { // a local folder has none
			return e.wrong("model_sha", info.SHA, e.cfg.Revision)
		}
		return nil
	case Ollama:
		var tags struct {
			Models []struct {
				Name   string `json:"name"`
				Digest string `json:"digest"`
			} `json:"models"`
		}
		if _, err := e.call(ctx, "/api/tags", nil, &tags); err != nil {
			return err
		}
		for _, m := range tags.Models {
			if !sameTag(m.Name, e.cfg.Model) {
				continue
			}
			if got := strings.TrimPrefix(m.Digest, "sha256:"); e.cfg.Digest != "" && got != e.cfg.Digest {
				return e.wrong("digest", got, e.cfg.Digest)
			}
			return nil
		}
		return e.wrong("list of models", strconv.Itoa(len(tags.Models))+" others", e.cfg.Model)
	default:
		var list struct {
			Data []struct {
				ID string `json:"id"`
			} `json:"data"`
		}
		if _, err := e.call(ctx, "/v1/models", nil, &list); err != nil {
			return err
		}
		other := "no model"
		for _, m := range list.Data {
			if m.ID == e.cfg.Model {
				return nil
			}
			other = m.ID
		}
		return e.wrong("model", other, e.cfg.Model)
	}
}

// sameTag compares Ollama's names, in which :latest may be left out.
func sameTag(a, b string) bool {
	return strings.TrimSuffix(a, ":latest") == strings.TrimSuffix(b, ":latest")
}

// named checks the model that an answer names, if it does.
func (e *Engine) named(model string) error {
	if model == "" || model == e.cfg.Model || e.cfg.Engine == Ollama && sameTag(model, e.cfg.Model) {
		return nil
	}
	return e.wrong("model of an answer", model, e.cfg.Model)
}

// Embeddings are vectors in the order of the texts, [n][dim] of unit length, and what they cost.
type Embeddings struct {
	Vectors [][]float32
	Tokens  int // 0 when the server does not say
}

// EmbedQueries makes vectors of texts that ask; see Embed.
func (e *Engine) EmbedQueries(ctx context.Context, texts []string) (Embeddings, error) {
	return e.vectors(ctx, prefixed(e.cfg.QueryPrefix, texts))
}

// Embed makes vectors of texts that are to be found. Errors are faults: Unavailable (away, slow, open breaker, another model, nonsense), Exhausted,
// Invalid and TooLarge (the texts), or the context's.
func (e *Engine) Embed(ctx context.Context, texts []string) (Embeddings, error) {
	return e.vectors(ctx, prefixed(e.cfg.PassagePrefix, texts))
}

func prefixed(prefix string, texts []string) []string {
	if prefix == "" {
		return texts
	}
	out := make([]string, len(texts))
	for i, t := range texts {
		out[i] = prefix + t
	}
	return out
}

func (e *Engine) vectors(ctx context.Context, texts []string) (out Embeddings, err error) {
	if e.cfg.Kind != KindEmbed {
		return Embeddings{}, e.unsupported(KindEmbed)
	}
	for at := 0; at < len(texts); at += e.cfg.Batch {
		part := texts[at:min(at+e.cfg.Batch, len(texts))]
		err := e.guarded(ctx, func(ctx context.Context) error {
			vectors, tokens, err := e.embed(ctx, part)
			if err != nil {
				return err
			}
			if len(vectors) != len(part) {
				return e.nonsense("%d vectors for %d texts", len(vectors), len(part))
			}
			for i, v := range vectors {
				if vectors[i], err = e.unit(v); err != nil {
					return err
				}
			}
			out.Vectors, out.Tokens = append(out.Vectors, vectors...), out.Tokens+tokens
			return nil
		})
		if err != nil {
			return Embeddings{}, err
		}
	}
	return out, nil
}

// unit brings a vector of the stated dimension to length 1.
func (e *Engine) unit(v []float32) ([]float32, error) {
	if len(v) != e.cfg.Dim {
		return nil, e.wrong("dimension", strconv.Itoa(len(v)), strconv.Itoa(e.cfg.Dim))
	}
	var square float64
	for _, x := range v {
		square += float64(x) * float64(x)
	}
	length := math.Sqrt(square)
	if !(length > 1e-12) || math.IsInf(length, 0) {
		return nil, e.nonsense("a vector of length %v", length)
	}
	if math.Abs(length-1) > 1e-6 {
		for i := range v {
			v[i] = float32(float64(v[i]) / length)
		}
	}
	return v, nil
}

func (e *Engine) embed(ctx context.Context, texts []string) ([][]float32, int, error) {
	switch e.cfg.Engine {
	case TEI:
		var vectors [][]float32
		head, err := e.call(ctx, "/embed", map[string]any{"inputs": texts, "normalize": true, "truncate": true}, &vectors)
		if err != nil {
			return nil, 0, err
		}
		tokens, err := strconv.Atoi(head.Get("X-Compute-Tokens"))
		if err != nil {
			tokens = 0
		}
		return vectors, max(0, tokens), nil
	case Ollama:
		var reply struct {
			Model      string      `json:"model"`
			Embeddings [][]float32 `json:"embeddings"`
			Tokens     int         `json:"prompt_eval_count"`
		}
		if _, err := e.call(ctx, "/api/embed", map[string]any{"model": e.cfg.Model, "input": texts, "truncate": true}, &reply); err != nil {
			return nil, 0, err
		}
		return reply.Embeddings, max(0, reply.Tokens), e.named(reply.Model)
	default:
		return e.embedOpenAI(ctx, texts)
	}
}

func (e *Engine) embedOpenAI(ctx context.Context, texts []string) ([][]float32, int, error) {
	var reply struct {
		Model string `json:"model"`
		Data  []struct {
			Index     int       `json:"index"`
			Embedding []float32 `json:"embedding"`
		} `json:"data"`
		Usage usage `json:"usage"`
	}
	if _, err := e.call(ctx, "/v1/embeddings", map[string]any{"model": e.cfg.Model, "input": texts, "encoding_format": "float"}, &reply); err != nil {
		return nil, 0, err
	}
	if err := e.named(reply.Model); err != nil {
		return nil, 0, err
	}
	vectors := make([][]float32, len(texts))
	for _, d := range reply.Data {
		if d.Index < 0 || d.Index >= len(vectors) || vectors[d.Index] != nil {
			return nil, 0, e.nonsense("vector %d of %d, or twice", d.Index, len(vectors))
		}
		vectors[d.Index] = d.Embedding
	}
	return vectors, max(0, reply.Usage.Prompt), nil
}

type usage struct {
	Prompt int `json:"prompt_tokens"`
}

// Rerank scores documents against a query: higher is better, one score for each document, in their order. Errors are
// those of Embed.
func (e *Engine) Rerank(ctx context.Context, query string, documents []string) (scores []float64, err error) {
	if e.cfg.Kind != KindRerank {
		return nil, e.unsupported(KindRerank)
	}
	for at := 0; at < len(documents); at += e.cfg.Batch {
		part := documents[at:min(at+e.cfg.Batch, len(documents))]
		err := e.guarded(ctx, func(ctx context.Context) error {
			got, err := e.rerank(ctx, query, part)
			scores = append(scores, got...)
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return scores, nil
}

func (e *Engine) rerank(ctx context.Context, query string, documents []string) ([]float64, error) {
	type result struct {
		Index int      `json:"index"`
		Score *float64 `json:"score"`           // TEI
		Value *float64 `json:"relevance_score"` // vLLM, as Jina and Cohere
	}
	var results []result
	if e.cfg.Engine == TEI {
		if _, err := e.call(ctx, "/rerank", map[string]any{"query": query, "texts": documents, "raw_scores": false, "return_text": false, "truncate": true}, &results); err != nil {
			return nil, err
		}
	} else {
		var reply struct {
			Model   string   `json:"model"`
			Results []result `json:"results"`
		}
		if _, err := e.call(ctx, "/v1/rerank", map[string]any{"model": e.cfg.Model, "query": query, "documents": documents, "top_n": len(documents)}, &reply); err != nil {
			return nil, err
		}
		if err := e.named(reply.Model); err != nil {
			return nil, err
		}
		results = reply.Results
	}
	scores, seen := make([]float64, len(documents)), make([]bool, len(documents))
	for _, r := range results {
		score := r.Score
		if score == nil {
			score = r.Value
		}
		if score == nil || r.Index < 0 || r.Index >= len(scores) || seen[r.Index] {
			return nil, e.nonsense("score %d of %d, or twice", r.Index, len(scores))
		}
		scores[r.Index], seen[r.Index] = *score, true
	}
	if len(results) != len(documents) {
		return nil, e.nonsense("%d scores for %d documents", len(results), len(documents))
	}
	return scores, nil
}

// Label is a class and its probability, 0 to 1.
type Label struct {
	Label string
	Score float64
}

// Classify returns the labels of each text as the server gives them, the most likely first. Errors are those of Embed.
func (e *Engine) Classify(ctx context.Context, texts []string) (out [][]Label, err error) {
	if e.cfg.Kind != KindClassify {
		return nil, e.unsupported(KindClassify)
	}
	for at := 0; at < len(texts); at += e.cfg.Batch {
		part := texts[at:min(at+e.cfg.Batch, len(texts))]
		err := e.guarded(ctx, func(ctx context.Context) error {
			got, err := e.classify(ctx, part)
			if err == nil && len(got) != len(part) {
				err = e.nonsense("%d answers for %d texts", len(got), len(part))
			}
			out = append(out, got...)
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}

const maxLabel = 200

func (e *Engine) classify(ctx context.Context, texts []string) ([][]Label, error) {
	var out [][]Label
	if e.cfg.Engine == TEI {
		inputs := make([][]string, len(texts))
		for i, t := range texts {
			inputs[i] = []string{t}
		}
		if _, err := e.call(ctx, "/predict", map[string]any{"inputs": inputs, "raw_scores": false, "truncate": true}, &out); err != nil {
			return nil, err
		}
	} else {
		var reply struct {
			Model string `json:"model"`
			Data  []struct {
				Index int       `json:"index"`
				Label string    `json:"label"`
				Probs []float64 `json:"probs"`
			} `json:"data"`
		}
		if _, err := e.call(ctx, "/classify", map[string]any{"model": e.cfg.Model, "input": texts}, &reply); err != nil {
			return nil, err
		}
		if err := e.named(reply.Model); err != nil {
			return nil, err
		}
		out = make([][]Label, len(texts))
		for _, d := range reply.Data {
			if d.Index < 0 || d.Index >= len(out) || out[d.Index] != nil || len(d.Probs) == 0 {
				return nil, e.nonsense("answer %d of %d, twice, or without a probability", d.Index, len(out))
			}
			best := d.Probs[0]
			for _, p := range d.Probs {
				best = max(best, p)
			}
			out[d.Index] = []Label{{d.Label, best}}
		}
	}
	for _, labels := range out {
		if len(labels) == 0 {
			return nil, e.nonsense("a text without a label")
		}
		for _, l := range labels {
			if l.Label == "" || len(l.Label) > maxLabel || !(l.Score >= 0 && l.Score <= 1) {
				return nil, e.nonsense("label %.40q with probability %v", l.Label, l.Score)
			}
		}
	}
	return out, nil
}

func (e *Engine) unsupported(kind string) error {
	return fault.New(fault.Invalid, "model_wrong_kind", "Model %s can't do this: its kind is %s, needed is %s.", e.cfg.Name, e.cfg.Kind, kind)
}

// Message is one turn: role system, user or assistant.
type Message struct{ Role, Content string }

// Prompt asks for an answer.
type Prompt struct {
	Messages    []Message
	MaxTokens   int // 0: the server's default
	Temperature *float64
	TopP        *float64
	Stop        []string
	Seed        *int64
}

// Finish is how an answer ended and what it cost in tokens.
type Finish struct {
	Reason             string // stop, length
	Prompt, Completion int
}

// Generate answers in pieces. When emit fails, or ctx ends, the server's work is cancelled by closing the connection.
// Errors are those of Embed, or what emit returned.
func (e *Engine) Generate(ctx context.Context, p Prompt, emit func(text string) error) (f Finish, err error) {
	if e.cfg.Kind != KindGenerate {
		return Finish{}, e.unsupported(KindGenerate)
	}
	done, err := e.breaker.Allow()
	if err != nil {
		return Finish{}, err
	}
	defer func() {
		if told, ok := errors.AsType[emitError](err); ok { // the caller's error says nothing about the server
			err = told.error
			done(context.Canceled)
			return
		}
		done(err)
	}()
	if err := e.identify(ctx); err != nil {
		return Finish{}, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	r := llm.Request{Model: e.cfg.Model, Stop: p.Stop, Temperature: p.Temperature, TopP: p.TopP, Seed: p.Seed, MaxTokens: p.MaxTokens, Stream: true}
	for _, m := range p.Messages {
		r.Messages = append(r.Messages, llm.Message{Role: llm.Role(m.Role), Parts: []llm.Part{{Kind: llm.Text, Text: m.Content}}})
	}
	answer, err := e.chat.Stream(ctx, r)
	if errors.Is(err, io.EOF) {
		return Finish{}, e.nonsense("no stream of events")
	}
	if err != nil {
		e.doubt()
		return Finish{}, err
	}
	defer answer.Close() //nolint:errcheck // the answer is over
	for {
		event, err := answer.Next()
		if errors.Is(err, io.EOF) {
			if f.Reason == "" {
				return Finish{}, e.nonsense("an answer without an end")
			}
			return f, nil
		}
		if err != nil {
			e.doubt()
			return Finish{}, err
		}
		if event.Model != "" {
			if err := e.named(event.Model); err != nil {
				return Finish{}, err
			}
		}
		if event.Text != "" {
			if err := emit(event.Text); err != nil {
				return Finish{}, emitError{err}
			}
		}
		if event.Finish != "" {
			f = Finish{Reason: "stop", Prompt: event.Usage.Input, Completion: event.Usage.Output}
			if event.Finish == llm.Length {
				f.Reason = "length"
			}
		}
	}
}

// emitError tells the caller's error from the server's.
type emitError struct{ error }

func (e emitError) Unwrap() error { return e.error }
