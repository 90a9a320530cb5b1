package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/hybridgroup/yzma/pkg/llama"
)

// request is what the engine is asked. It was checked.
type request struct {
	Messages    []message
	MaxTokens   int // 0: as many as there is room for
	Temperature float64
	TopP        float64
	Seed        uint32 // 0: a random one
	Stop        []string
}

// outcome is how an answer ended and what it cost.
type outcome struct {
	Finish                 string // "stop" or "length"
	Prompt, Completion     int    // tokens
	PromptTook, AnswerTook time.Duration
}

// tooLongError says that a prompt leaves no room for an answer.
type tooLongError struct{ tokens, context int }

func (e tooLongError) Error() string {
	return fmt.Sprintf("the prompt has %d tokens and the context %d: there is no room for an answer", e.tokens, e.context)
}

// modelInfo is what the server tells about the model.
type modelInfo struct {
	Name        string
	Description string
	Template    string // "model" or "chatml"
	Context     int
	Trained     int // context that the model was trained on
	Parameters  uint64
	Size        uint64
}

// engineOptions say what to load.
type engineOptions struct {
	Lib     string
	Model   string
	Threads int
	Context int
	Verbose bool
	Log     *slog.Logger
}

// Prompts are read in steps, so that a caller who leaves is noticed: at 200 tokens a second, every third of a second.
const promptStep = 64

// A small model repeats itself; this holds it back a little. Only its own answer counts, so that it may quote the prompt.
const (
	repeatWindow  = 64
	repeatPenalty = 1.1
)

// engine runs one model, one answer at a time, on one thread of the operating system.
type engine struct {
	info   modelInfo
	model  llama.Model
	ctx    llama.Context
	memory llama.Memory
	vocab  llama.Vocab
	render func([]message) (string, error)
	jobs   chan func()
}

// openEngine loads the libraries and the model. It can't be undone: the process ends with its engine.
func openEngine(ctx context.Context, o engineOptions) (*engine, error) {
	e := &engine{jobs: make(chan func())}
	loaded := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // native state belongs to this thread; it must not end while libraries are loaded
		if err := e.load(o); err != nil {
			runtime.UnlockOSThread()
			loaded <- err
			return
		}
		loaded <- nil
		for job := range e.jobs {
			job()
		}
	}()
	select {
	case err := <-loaded:
		return e, err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (e *engine) load(o engineOptions) error {
	if err := llama.Load(o.Lib); err != nil {
		return fmt.Errorf("load llama.cpp from %s: %w", o.Lib, err)
	}
	if !o.Verbose {
		llama.LogSet(llama.LogSilent())
	}
	llama.Init()
	if llama.GGMLBackendDeviceCount() == 0 {
		return fmt.Errorf("load llama.cpp from %s: no backend there runs on this processor", o.Lib)
	}
	info, err := os.Stat(o.Model)
	if err != nil {
		return fmt.Errorf("load model: %w", err)
	}
	if e.model, err = llama.ModelLoadFromFile(o.Model, llama.ModelDefaultParams()); err != nil {
		return fmt.Errorf("load model %s (%d bytes): %w; --verbose says why", filepath.Base(o.Model), info.Size(), err)
	}
	trained := int(llama.ModelNCtxTrain(e.model))
	size := o.Context
	if trained > 0 && (size <= 0 || size > trained) {
		size = trained
	}
	p := llama.ContextDefaultParams()
	p.NCtx, p.NBatch, p.NUbatch = uint32(size), promptStep, promptStep //nolint:gosec // a context has thousands of tokens
	p.NThreads, p.NThreadsBatch = int32(o.Threads), int32(o.Threads)   //nolint:gosec // so few threads
	if e.ctx, err = llama.InitFromModel(e.model, p); err != nil {
		return fmt.Errorf("make a context of %d tokens: %w", size, err)
	}
	if e.memory, err = llama.GetMemory(e.ctx); err != nil {
		return fmt.Errorf("context memory: %w", err)
	}
	e.vocab = llama.ModelGetVocab(e.model)
	e.info = modelInfo{
		Name: strings.TrimSuffix(filepath.Base(o.Model), ".gguf"), Description: llama.ModelDesc(e.model), Context: int(llama.NCtx(e.ctx)),
		Trained: trained, Parameters: llama.ModelNParams(e.model), Size: llama.ModelSize(e.model),
	}
	return e.chooseTemplate(llama.ModelChatTemplate(e.model, ""))
}

// chooseTemplate takes the model's own template when llama.cpp knows its form (it then renders the turns and
// nothing else: no default system text), and ChatML when the model has its markers.
func (e *engine) chooseTemplate(template string) error {
	e.render = func(m []message) (string, error) { return applyTemplate(template, m) }
	e.info.Template = "model"
	if _, err := segments(e.render, []message{{"user", "a"}}); template != "" && err == nil {
		return nil
	}
	e.render, e.info.Template = chatML, "chatml"
	if marker := llama.Tokenize(e.vocab, "<|im_start|>", false, true); len(marker) != 1 {
		return errors.New("the model has no chat template that can be applied, and no ChatML markers")
	}
	return nil
}

func applyTemplate(template string, messages []message) (string, error) {
	chat := make([]llama.ChatMessage, len(messages))
	size := 1024
	for i, m := range messages {
		chat[i] = llama.NewChatMessage(m.Role, m.Content)
		size += 2*len(m.Content) + 256
	}
	buf := make([]byte, size)
	n := int(llama.ChatApplyTemplate(template, chat, true, buf))
	runtime.KeepAlive(chat)
	if n <= 0 || n > len(buf) {
		return "", errTemplate
	}
	return string(buf[:n]), nil
}

// generate answers. emit gets the text in pieces, on the engine's thread. When ctx ends, generate returns its
// error at the next token.
func (e *engine) generate(ctx context.Context, r request, emit func(text string) error) (outcome, error) {
	var out outcome
	var err error
	done := make(chan struct{})
	job := func() {
		defer close(done)
		out, err = e.answer(ctx, r, emit)
	}
	select {
	case e.jobs <- job:
	case <-ctx.Done():
		return outcome{}, ctx.Err()
	}
	<-done
	return out, err
}

func (e *engine) answer(ctx context.Context, r request, emit func(string) error) (outcome, error) {
	prompt, err := e.tokens(r.Messages)
	if err != nil {
		return outcome{}, err
	}
	room := e.info.Context - len(prompt)
	if room < 1 {
		return outcome{}, tooLongError{len(prompt), e.info.Context}
	}
	if r.MaxTokens > 0 {
		room = min(room, r.MaxTokens)
	}
	if err := llama.MemoryClear(e.memory, true); err != nil {
		return outcome{}, fmt.Errorf("clear context: %w", err)
	}
	begin := time.Now()
	for at := 0; at < len(prompt); at += promptStep {
		if err := e.decode(ctx, prompt[at:min(at+promptStep, len(prompt))]); err != nil {
			return outcome{}, err
		}
	}
	read := time.Now()
	out := outcome{Prompt: len(prompt), PromptTook: read.Sub(begin)}
	out.Finish, out.Completion, err = e.write(ctx, r, room, emit)
	out.AnswerTook = time.Since(read)
	return out, err
}

// write samples up to room tokens.
func (e *engine) write(ctx context.Context, r request, room int, emit func(string) error) (finish string, n int, err error) {
	sampler := newSampler(r, llama.VocabNTokens(e.vocab))
	defer llama.SamplerFree(sampler)
	text := textStream{stops: r.Stop, emit: emit}
	buf := make([]byte, 256)
	for n < room {
		token := llama.SamplerSample(sampler, e.ctx, -1)
		if token < 0 {
			return "", n, errors.New("sample: no token")
		}
		n++
		if llama.VocabIsEOG(e.vocab, token) {
			_, err := text.close()
			return "stop", n, err
		}
		piece, err := e.piece(token, &buf)
		if err != nil {
			return "", n, err
		}
		stopped, err := text.write(piece)
		if err != nil || stopped {
			return "stop", n, err
		}
		if n < room {
			if err := e.decode(ctx, []llama.Token{token}); err != nil {
				return "", n, err
			}
		}
	}
	if stopped, err := text.close(); stopped || err != nil {
		return "stop", n, err
	}
	return "length", n, nil
}

// piece is a token's bytes; control tokens have none.
func (e *engine) piece(token llama.Token, buf *[]byte) ([]byte, error) {
	n := llama.TokenToPiece(e.vocab, token, *buf, 0, false)
	if n < 0 {
		*buf = make([]byte, -n)
		n = llama.TokenToPiece(e.vocab, token, *buf, 0, false)
	}
	if n < 0 || int(n) > len(*buf) {
		return nil, fmt.Errorf("token %d has no text", token)
	}
	return (*buf)[:n], nil
}

func (e *engine) decode(ctx context.Context, tokens []llama.Token) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	code, err := llama.Decode(e.ctx, llama.BatchGetOne(tokens))
	runtime.KeepAlive(tokens)
	if err != nil {
		return fmt.Errorf("decode: %w", err)
	}
	if code != 0 {
		return fmt.Errorf("decode: llama.cpp says %d", code)
	}
	return nil
}

// tokens of a conversation. What messages say is never read as a control token.
func (e *engine) tokens(messages []message) ([]llama.Token, error) {
	segs, err := segments(e.render, messages)
	if err != nil {
		return nil, err
	}
	var out []llama.Token
	for i, s := range segs {
		if s.text == "" {
			continue
		}
		text := strings.ReplaceAll(s.text, "\x00", "\uFFFD") // a C string ends there
		out = append(out, llama.Tokenize(e.vocab, text, i == 0, s.control)...)
	}
	return out, nil
}

func newSampler(r request, vocabulary int32) llama.Sampler {
	chain := llama.SamplerChainInit(llama.SamplerChainDefaultParams())
	llama.SamplerChainAdd(chain, llama.SamplerInitPenalties(vocabulary, repeatWindow, repeatPenalty, 0, 0))
	if r.Temperature == 0 {
		llama.SamplerChainAdd(chain, llama.SamplerInitGreedy())
		return chain
	}
	if r.TopP < 1 {
		llama.SamplerChainAdd(chain, llama.SamplerInitTopP(float32(r.TopP), 1))
	}
	llama.SamplerChainAdd(chain, llama.SamplerInitTemp(float32(r.Temperature)))
	seed := r.Seed
	if seed == 0 {
		seed = rand.Uint32() //nolint:gosec // variety, not secrecy
	}
	llama.SamplerChainAdd(chain, llama.SamplerInitDist(seed))
	return chain
}
