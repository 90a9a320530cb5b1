package rpctest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"aran/platform/rpc"
)

// Open gives a transport into a handler, and ends it with the test.
type Open func(t *testing.T, h http.Handler) http.RoundTripper

// Run is what every transport between services must pass: in one process and over a connection they are the same
// to caller and handler.
func Run(t *testing.T, open Open) {
	for name, check := range map[string]func(*testing.T, Open){
		"a request and its answer arrive whole":                wholeExchange,
		"a handler sees nothing of its caller's context":       freshContext,
		"closing the body ends the handler":                    closeEnds,
		"closing the body ends the handler within 100 ms":      closeEndsSoon,
		"a caller that gives up ends the handler":              cancelEnds,
		"an answer cut short by its caller never looks whole":  cancelCuts,
		"a deadline that passes is what the reader hears":      deadlineCuts,
		"a handler that waits for its question is let go":      cancelEndsReading,
		"an answer stops the question":                         answerStops,
		"trailers arrive, announced or not":                    trailers,
		"a handler that aborts leaves no whole answer":         abort,
		"a panic before the first byte is an error":            panicFirst,
		"a panic after the first byte leaves no whole answer":  panicLater,
		"a writer does not run ahead of 1,000 slow readers":    backPressure,
		"questions that nobody reads hold up no others":        unread,
		"both sides talk at once":                              duplex,
		"an answer without a body":                             noBody,
		"a handler may answer before it has read the question": earlyAnswer,
		"faults survive a call":                                unaryFault,
		"faults survive a stream":                              streamFault,
		"a deadline reaches the handler":                       deadlineTravels,
		"a stream that its reader leaves ends":                 streamLeft,
		"a token of another caller is refused":                 strangersToken,
	} {
		t.Run(name, func(t *testing.T) { check(t, open) })
	}
}

// patience is how long the suite waits for what must happen.
const patience = 10 * time.Second

func request(ctx context.Context, t *testing.T, body io.Reader) *http.Request {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://callee/aran.v1/Do?x=1", body)
	if err != nil {
		t.Fatal(err)
	}
	return req
}

func send(t *testing.T, rt http.RoundTripper, req *http.Request) *http.Response {
	t.Helper()
	res, err := rt.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = res.Body.Close() })
	return res
}

// happens fails the test when a channel is not closed in time.
func happens(t *testing.T, c <-chan struct{}, what string) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(patience):
		t.Fatalf("it does not happen: %s", what)
	}
}

func wholeExchange(t *testing.T, open Open) {
	rt := open(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		w.Header().Set("X-Answer", "yes")
		w.WriteHeader(http.StatusAccepted)
		w.Header().Set("X-Late", "no") // after the header went
		_, _ = fmt.Fprintf(w, "%s %s %s %s %d", r.Method, r.URL.RequestURI(), r.Host, r.Header.Get("X-Question"), len(b))
	}))
	req := request(t.Context(), t, strings.NewReader(strings.Repeat("q", 1<<20)))
	req.Header.Set("X-Question", "why")
	req.Pattern = "POST /outer/{id}"
	req.SetPathValue("id", "7")
	res := send(t, rt, req)
	b, err := io.ReadAll(res.Body)
	if want := "POST /aran.v1/Do?x=1 callee why 1048576"; err != nil || string(b) != want || res.StatusCode != http.StatusAccepted {
		t.Errorf("%d %q %v, want %q", res.StatusCode, b, err, want)
	}
	if res.Header.Get("X-Answer") != "yes" || res.Header.Get("X-Late") != "" {
		t.Errorf("header %v", res.Header)
	}
	if req.Pattern != "POST /outer/{id}" || req.PathValue("id") != "7" || req.Header.Get("X-Answer") != "" {
		t.Errorf("the caller's request was changed: %q %q", req.Pattern, req.PathValue("id"))
	}
}

type contextKey struct{}

func freshContext(t *testing.T, open Open) {
	var seen atomic.Value
	mux := http.NewServeMux()
	mux.HandleFunc("POST /aran.v1/{method}", func(_ http.ResponseWriter, r *http.Request) {
		seen.Store([]any{r.Context().Value(contextKey{}) != nil, rpc.Peer(r.Context()) == "forged", r.Pattern, r.PathValue("method"), r.PathValue("id")})
	})
	rt := open(t, mux)
	req := request(rpc.WithPeer(context.WithValue(t.Context(), contextKey{}, "secret"), "forged"), t, http.NoBody)
	req.SetPathValue("id", "7")
	_ = send(t, rt, req).Body.Close()
	if got := fmt.Sprint(seen.Load()); got != "[false false POST /aran.v1/{method} Do ]" {
		t.Errorf("the handler sees %v", got)
	}
}

// endless writes until it cannot, and says when it ended.
func endless(ended chan struct{}) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer close(ended)
		for r.Context().Err() == nil {
			if _, err := io.WriteString(w, strings.Repeat("x", 1<<10)); err != nil {
				return
			}
			w.(http.Flusher).Flush()
		}
	})
}

func closeEnds(t *testing.T, open Open) {
	writing, waiting := make(chan struct{}), make(chan struct{})
	waits := polite()
	for ended, h := range map[chan struct{}]http.Handler{
		writing: endless(writing),
		waiting: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { waits.ServeHTTP(w, r); close(waiting) }),
	} {
		res := send(t, open(t, h), request(t.Context(), t, http.NoBody))
		if _, err := io.ReadFull(res.Body, make([]byte, 8)); err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		happens(t, ended, "the handler ends")
	}
}

// closeEndsSoon: the best of some tries, so that a busy machine does not decide it.
func closeEndsSoon(t *testing.T, open Open) {
	const soon, tries = 100 * time.Millisecond, 5
	best := patience
	for range tries {
		ended := make(chan struct{})
		res := send(t, open(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(http.StatusOK)
			w.(http.Flusher).Flush()
			<-r.Context().Done()
			close(ended)
		})), request(t.Context(), t, http.NoBody))
		begin := time.Now()
		_ = res.Body.Close()
		happens(t, ended, "the handler ends")
		best = min(best, time.Since(begin))
	}
	if best > soon {
		t.Errorf("the handler learns of it after %s at best", best)
	}
}

func cancelEnds(t *testing.T, open Open) {
	ended := make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	res := send(t, open(t, endless(ended)), request(ctx, t, http.NoBody))
	if _, err := io.ReadFull(res.Body, make([]byte, 10)); err != nil {
		t.Fatal(err)
	}
	cancel()
	happens(t, ended, "the handler ends")
	if _, err := io.Copy(io.Discard, res.Body); !errors.Is(err, context.Canceled) {
		t.Errorf("the reader gets %v, want context.Canceled", err)
	}

	// The same before anything was answered.
	begun, silent := make(chan struct{}), make(chan struct{})
	rt := open(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		close(begun)
		<-r.Context().Done()
		close(silent)
	}))
	ctx, cancel = context.WithCancel(t.Context())
	go func() { <-begun; cancel() }()
	if res, err := rt.RoundTrip(request(ctx, t, http.NoBody)); !errors.Is(err, context.Canceled) {
		if err == nil {
			_ = res.Body.Close()
		}
		t.Errorf("the caller gets %v, want context.Canceled", err)
	}
	happens(t, silent, "the handler learns of it")
}

// polite sends a little, and returns as if all was said as soon as its context ends: looking all the time, it is
// there before whatever else waits for that end.
func polite() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "half an ")
		w.(http.Flusher).Flush()
		for r.Context().Err() == nil {
			continue
		}
	})
}

func cancelCuts(t *testing.T, open Open) {
	rt := open(t, polite())
	for range 300 { // the end of the handler and of its caller race
		ctx, cancel := context.WithCancel(t.Context())
		res := send(t, rt, request(ctx, t, http.NoBody))
		if _, err := io.ReadFull(res.Body, make([]byte, 8)); err != nil {
			t.Fatal(err)
		}
		cancel()
		if _, err := io.ReadAll(res.Body); !errors.Is(err, context.Canceled) {
			t.Fatalf("the reader gets %v, want context.Canceled", err)
		}
	}
	silent := open(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	for range 50 {
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		if res, err := silent.RoundTrip(request(ctx, t, http.NoBody)); !errors.Is(err, context.DeadlineExceeded) {
			if err == nil {
				_ = res.Body.Close()
			}
			t.Fatalf("the caller gets %v, want context.DeadlineExceeded", err)
		}
		cancel()
	}
}

func deadlineCuts(t *testing.T, open Open) {
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	res := send(t, open(t, polite()), request(ctx, t, http.NoBody))
	if b, err := io.ReadAll(res.Body); !errors.Is(err, context.DeadlineExceeded) || string(b) != "half an " {
		t.Errorf("the reader gets %q %v, want context.DeadlineExceeded", b, err)
	}
}

func cancelEndsReading(t *testing.T, open Open) {
	begun, ended := make(chan struct{}), make(chan error, 1)
	rt := open(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		close(begun)
		_, err := r.Body.Read(make([]byte, 1))
		ended <- err
	}))
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-begun; cancel() }()
	ask, hear := io.Pipe()
	defer func() { _ = hear.Close() }()
	if res, err := rt.RoundTrip(request(ctx, t, ask)); !errors.Is(err, context.Canceled) {
		if err == nil {
			_ = res.Body.Close()
		}
		t.Errorf("the caller gets %v, want context.Canceled", err)
	}
	select {
	case err := <-ended:
		if err == nil || errors.Is(err, io.EOF) {
			t.Errorf("the handler reads %v, as if the question was whole", err)
		}
	case <-time.After(patience):
		t.Error("the handler still waits for a question that will not come")
	}
}

func answerStops(t *testing.T, open Open) {
	rt := open(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) }))
	ask, hear := io.Pipe()
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			if _, err := hear.Write(make([]byte, 64<<10)); err != nil {
				return
			}
		}
	}()
	if res := send(t, rt, request(t.Context(), t, ask)); res.StatusCode != http.StatusForbidden {
		t.Errorf("%d", res.StatusCode)
	}
	happens(t, stopped, "who asks is told that nobody listens")
}

func trailers(t *testing.T, open Open) {
	rt := open(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Trailer", "X-Announced, X-Forgotten")
		w.Header().Set(http.TrailerPrefix+"X-Surprise", "b")
		_, _ = io.WriteString(w, "body")
		w.(http.Flusher).Flush()
		w.Header().Set("X-Announced", "a")
		w.Header().Set("X-Neither", "c")
	}))
	res := send(t, rt, request(t.Context(), t, http.NoBody))
	body := make([]byte, 4)
	if _, err := io.ReadFull(res.Body, body); err != nil || string(body) != "body" {
		t.Fatalf("%q %v", body, err)
	}
	// The body's end has not been read: names only, and the handler's end must not race with a look at them.
	for k, v := range res.Trailer {
		if k != "X-Announced" && k != "X-Forgotten" || v != nil {
			t.Errorf("before the end there is a trailer %s: %q", k, v)
		}
	}
	for k := range res.Header {
		if k == "Trailer" || strings.HasPrefix(k, http.TrailerPrefix) {
			t.Errorf("the header holds %q", k)
		}
	}
	if b, err := io.ReadAll(res.Body); err != nil || len(b) != 0 {
		t.Fatalf("%q %v", b, err)
	}
	if got := fmt.Sprint(res.Trailer); got != "map[X-Announced:[a] X-Forgotten:[] X-Surprise:[b]]" {
		t.Errorf("trailers %s", got)
	}
}

func abort(t *testing.T, open Open)      { broken(t, open, http.ErrAbortHandler) }
func panicLater(t *testing.T, open Open) { broken(t, open, "a bug") }

// broken ends a handler amid its answer.
func broken(t *testing.T, open Open, with any) {
	t.Helper()
	rt := open(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "half an ")
		w.(http.Flusher).Flush()
		panic(with)
	}))
	res := send(t, rt, request(t.Context(), t, http.NoBody))
	if b, err := io.ReadAll(res.Body); err == nil {
		t.Errorf("half an answer looks whole: %q", b)
	}
}

func panicFirst(t *testing.T, open Open) {
	rt := open(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("a bug") }))
	if res, err := rt.RoundTrip(request(t.Context(), t, http.NoBody)); err == nil {
		_ = res.Body.Close()
		t.Errorf("a panic is answered with %d", res.StatusCode)
	}
	rt = open(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "well") }))
	if b, err := io.ReadAll(send(t, rt, request(t.Context(), t, http.NoBody)).Body); err != nil || string(b) != "well" {
		t.Errorf("after a panic elsewhere: %q %v", b, err)
	}
}

func backPressure(t *testing.T, open Open) {
	const (
		readers = 1000
		chunk   = 16 << 10
		whole   = 512 << 10 // more than any window
		most    = 256 << 20 // of memory for all of them, with what the race detector adds
	)
	before := memory()
	piece := strings.Repeat("x", chunk)
	var begun sync.WaitGroup
	begun.Add(readers)
	ended := make(chan struct{}, readers)
	rt := open(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		begun.Done()
		defer func() { ended <- struct{}{} }()
		for range whole / chunk {
			if _, err := io.WriteString(w, piece); err != nil {
				return
			}
		}
	}))
	bodies := make([]io.ReadCloser, readers)
	for i := range bodies {
		bodies[i] = send(t, rt, request(t.Context(), t, http.NoBody)).Body
		if _, err := io.ReadFull(bodies[i], make([]byte, 1<<10)); err != nil {
			t.Fatal(err)
		}
	}
	begun.Wait()
	// All of them stand side by side. None can write to its end while nobody reads.
	select {
	case <-ended:
		t.Fatalf("a handler wrote %d bytes to a reader that took %d", whole, 1<<10)
	case <-time.After(300 * time.Millisecond):
	}
	if now := memory(); now > before+most {
		t.Errorf("%d slow readers take %d MB", readers, (now-before)>>20)
	}
	var wg sync.WaitGroup
	for _, b := range bodies {
		wg.Go(func() {
			if n, err := io.Copy(io.Discard, b); err != nil || n != whole-1<<10 {
				t.Errorf("a slow reader gets %d bytes more, %v; want %d", n, err, whole-1<<10)
			}
		})
	}
	wg.Wait()
	for range bodies {
		<-ended
	}
}

func memory() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapInuse + m.StackInuse
}

// unread: handlers that wait with questions before them do not keep others from being asked.
func unread(t *testing.T, open Open) {
	const waiting, long = 40, 1 << 20
	goOn := make(chan struct{})
	rt := open(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Wait") != "" {
			w.WriteHeader(http.StatusOK)
			w.(http.Flusher).Flush()
			<-goOn
		}
		n, err := io.Copy(io.Discard, r.Body)
		_, _ = fmt.Fprint(w, n, err)
	}))
	ask := func(wait string) *http.Response {
		req := request(t.Context(), t, io.MultiReader(strings.NewReader(strings.Repeat("q", long)))) // its length is not known
		req.Header.Set("X-Wait", wait)
		return send(t, rt, req)
	}
	var before []*http.Response
	for range waiting {
		before = append(before, ask("yes"))
	}
	answered := make(chan struct{})
	go func() {
		defer close(answered)
		if b, err := io.ReadAll(ask("").Body); err != nil || string(b) != fmt.Sprint(long, nil) {
			t.Errorf("%q %v", b, err)
		}
	}()
	happens(t, answered, "a question is answered while others wait")
	close(goOn)
	for _, res := range before {
		if b, err := io.ReadAll(res.Body); err != nil || string(b) != fmt.Sprint(long, nil) {
			t.Errorf("one that waited: %q %v", b, err)
		}
	}
}

func duplex(t *testing.T, open Open) {
	rt := open(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).EnableFullDuplex()
		w.WriteHeader(http.StatusOK)
		w.(http.Flusher).Flush()
		buf := make([]byte, 4)
		for {
			if _, err := io.ReadFull(r.Body, buf); err != nil {
				return
			}
			_, _ = w.Write(append([]byte("re: "), buf...))
			w.(http.Flusher).Flush()
		}
	}))
	ask, hear := io.Pipe()
	res := send(t, rt, request(t.Context(), t, ask))
	for _, word := range []string{"ping", "pong", "done"} {
		if _, err := io.WriteString(hear, word); err != nil {
			t.Fatal(err)
		}
		answer := make([]byte, 8)
		if _, err := io.ReadFull(res.Body, answer); err != nil || string(answer) != "re: "+word {
			t.Fatalf("%q %v", answer, err)
		}
	}
	_ = hear.Close()
	if b, err := io.ReadAll(res.Body); err != nil || len(b) != 0 {
		t.Errorf("at the end: %q %v", b, err)
	}
}

func noBody(t *testing.T, open Open) {
	rt := open(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }))
	res := send(t, rt, request(t.Context(), t, http.NoBody))
	if b, err := io.ReadAll(res.Body); err != nil || len(b) != 0 || res.StatusCode != http.StatusNoContent {
		t.Errorf("%d %q %v", res.StatusCode, b, err)
	}
}

func earlyAnswer(t *testing.T, open Open) {
	rt := open(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusRequestEntityTooLarge) }))
	res := send(t, rt, request(t.Context(), t, strings.NewReader(strings.Repeat("q", 4<<20))))
	if res.StatusCode != http.StatusRequestEntityTooLarge {
		t.Errorf("%d", res.StatusCode)
	}
}
