package llmtest

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"aran/platform/fault"
	"aran/platform/llm"
)

// Open makes a provider whose backend does what the script says with the next request. Model is listed.
type Open func(t *testing.T, s Script) llm.Provider

// Model is the model that backends of the suite must list.
const Model = "test-model"

// Run checks what callers of an llm.Provider rely on.
func Run(t *testing.T, open Open) {
	for name, check := range map[string]func(*testing.T, Open){
		"an answer comes in pieces and ends once":        whole,
		"a cut-off answer says so":                       length,
		"a failure before the first piece is an error":   early,
		"a rate limit is Exhausted":                      limited,
		"an unknown model is Missing":                    missing,
		"an answer that breaks off is never a whole one": broken,
		"leaving ends a waiting read":                    left,
		"a deadline ends a waiting read":                 deadline,
		"closing ends a waiting read, and twice is fine": closed,
		"content of another vendor is refused, not lost": opaque,
		"models are listed":                              listed,
		"the provider has a name":                        named,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			check(t, open)
		})
	}
}

// Ask is a request with one user message.
func Ask(text string) llm.Request {
	return llm.Request{
		Model: Model, MaxTokens: 64,
		Messages: []llm.Message{{Role: llm.User, Parts: []llm.Part{{Kind: llm.Text, Text: text}}}},
	}
}

// Read reads an answer to its end.
func Read(s llm.Stream) (text string, last llm.Event, err error) {
	var b strings.Builder
	for {
		e, err := s.Next()
		if errors.Is(err, io.EOF) {
			return b.String(), last, nil
		}
		if err != nil {
			return b.String(), last, err
		}
		b.WriteString(e.Text)
		last = e
	}
}

func start(ctx context.Context, t *testing.T, open Open, s Script) llm.Stream {
	t.Helper()
	st, err := open(t, s).Stream(ctx, Ask("hello"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = st.Close() })
	return st
}

func whole(t *testing.T, open Open) {
	st := start(t.Context(), t, open, Script{Pieces: []string{"one ", "two ", "three"}, Usage: llm.Usage{Input: 7, Output: 3}})
	text, last, err := Read(st)
	if err != nil || text != "one two three" {
		t.Fatalf("read %q, %v", text, err)
	}
	if last.Finish != llm.Stop || last.Usage.Input != 7 || last.Usage.Output != 3 || last.Model == "" {
		t.Errorf("last event %+v", last)
	}
	if _, err := st.Next(); !errors.Is(err, io.EOF) {
		t.Errorf("after the end: %v, want io.EOF again", err)
	}
}

func length(t *testing.T, open Open) {
	_, last, err := Read(start(t.Context(), t, open, Script{Pieces: []string{"one"}, Finish: llm.Length}))
	if err != nil || last.Finish != llm.Length {
		t.Errorf("finish %q, %v", last.Finish, err)
	}
}

func fails(t *testing.T, open Open, s Script, want fault.Kind) {
	t.Helper()
	st, err := open(t, s).Stream(t.Context(), Ask("hello"))
	if err == nil {
		_ = st.Close()
		t.Fatal("no error")
	}
	if got := fault.KindOf(err); got != want {
		t.Errorf("kind %v (%v), want %v", got, err, want)
	}
}

func early(t *testing.T, open Open) {
	fails(t, open, Fail(http.StatusServiceUnavailable), fault.Unavailable)
}

func limited(t *testing.T, open Open) {
	fails(t, open, Script{Status: http.StatusTooManyRequests, ErrorType: "rate_limit_error", Message: "slow down"}, fault.Exhausted)
}

func missing(t *testing.T, open Open) {
	fails(t, open, Script{Status: http.StatusNotFound, ErrorType: "not_found_error", Message: "no such model"}, fault.Missing)
}

func broken(t *testing.T, open Open) {
	for _, end := range []End{Cut, Error} {
		st, err := open(t, Script{Pieces: []string{"half "}, End: end}).Stream(t.Context(), Ask("hello"))
		if err == nil {
			defer func() { _ = st.Close() }()
			_, _, err = Read(st)
		}
		if got := fault.KindOf(err); got != fault.Unavailable {
			t.Errorf("end %d: kind %v (%v), want unavailable", end, got, err)
		}
	}
}

// second reads the first piece, does something and reads on.
func second(t *testing.T, st llm.Stream, do func()) error {
	t.Helper()
	if e, err := st.Next(); err != nil || e.Text == "" {
		t.Fatalf("first piece %+v, %v", e, err)
	}
	do()
	_, err := st.Next()
	return err
}

func left(t *testing.T, open Open) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	st := start(ctx, t, open, Script{Pieces: []string{"one "}, End: Hang})
	if err := second(t, st, cancel); fault.KindOf(err) != fault.Canceled {
		t.Errorf("error %v, want canceled", err)
	}
}

func deadline(t *testing.T, open Open) {
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	st, err := open(t, Script{Pieces: []string{"one "}, End: Hang}).Stream(ctx, Ask("hello"))
	if err == nil {
		defer func() { _ = st.Close() }()
		_, _, err = Read(st)
	}
	if fault.KindOf(err) != fault.Deadline {
		t.Errorf("error %v, want deadline", err)
	}
}

func closed(t *testing.T, open Open) {
	st := start(t.Context(), t, open, Script{Pieces: []string{"one "}, End: Hang})
	err := second(t, st, func() { go func() { _ = st.Close() }() })
	if err == nil || errors.Is(err, io.EOF) {
		t.Errorf("error %v, want one that says that the answer is not whole", err)
	}
	_ = st.Close()
}

func opaque(t *testing.T, open Open) {
	r := Ask("what is this?")
	r.Format = "another"
	r.Messages[0].Parts = append(r.Messages[0].Parts, llm.Part{Kind: llm.Opaque, Name: "image", Raw: []byte(`{"type":"image"}`)})
	st, err := open(t, Say("an answer about nothing")).Stream(t.Context(), r)
	if err == nil {
		_ = st.Close()
	}
	if fault.KindOf(err) != fault.Unsupported {
		t.Errorf("error %v, want unsupported", err)
	}
}

func listed(t *testing.T, open Open) {
	models, err := open(t, Say("x")).Models(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range models {
		if m.ID == Model {
			return
		}
	}
	t.Errorf("models %v do not hold %s", models, Model)
}

func named(t *testing.T, open Open) {
	if open(t, Say("x")).Name() == "" {
		t.Error("no name")
	}
}
