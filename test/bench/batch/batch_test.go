// Package batch measures the queue in front of the text encoder under loads that it can and cannot serve.
package batch

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/semaphore"

	"aran/service/infer/minilm"
	"aran/service/infer/queue"
)

const lasting = 12 * time.Second

// request is a call of a tenant: a question, or a document's passages.
type request struct {
	tenant   string
	texts    []string
	deadline time.Duration
}

var (
	question = []string{"how long is the warranty of the pump in the basement"}
	document = slices.Repeat([]string{strings.Repeat("The pump in the basement is checked once a year, before the rain begins. ", 8)}, 16)
)

// next is nine documents of one tenant to each ten questions of another, by calls.
func next(r *rand.Rand) request {
	if r.IntN(19) < 9 {
		return request{"heavy", document, 10 * time.Second}
	}
	return request{"light", question, 2 * time.Second}
}

func cost(text string) int { return min(len(text)/4+2, minilm.Window) }

// engine is a way to put the encoder to work.
type engine func(ctx context.Context, r request) error

// fair is what the platform does.
func fair(e *minilm.Encoder) engine {
	b := queue.NewBatcher(queue.Options{What: "texts are embedded", AtOnce: runtime.GOMAXPROCS(0), Calls: 128, Wait: 10 * time.Second}, minilm.Window, cost, e.Encode)
	return func(ctx context.Context, r request) error {
		_, err := b.Do(ctx, r.tenant, r.texts)
		return err
	}
}

// line is a plain queue in the order of arrival, of the same length.
func line(e *minilm.Encoder) engine {
	places, all := semaphore.NewWeighted(int64(runtime.GOMAXPROCS(0))), semaphore.NewWeighted(128)
	return func(ctx context.Context, r request) error {
		if !all.TryAcquire(1) {
			return context.DeadlineExceeded
		}
		defer all.Release(1)
		if err := places.Acquire(ctx, 1); err != nil {
			return err
		}
		defer places.Release(1)
		_, err := e.Encode(ctx, r.texts)
		return err
	}
}

// capacity is how many calls a second are served when somebody always waits.
func capacity(b *testing.B, serve engine) float64 {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.Context(), 5*time.Second)
	defer cancel()
	var mu sync.Mutex
	n := 0
	var callers sync.WaitGroup
	for i := range 2 * runtime.GOMAXPROCS(0) {
		callers.Go(func() {
			r := rand.New(rand.NewPCG(7, uint64(i)))
			for ctx.Err() == nil {
				if serve(ctx, next(r)) == nil {
					mu.Lock()
					n++
					mu.Unlock()
				}
			}
		})
	}
	callers.Wait()
	return float64(n) / 5
}

// load sends calls at a rate, whatever becomes of them.
func load(b *testing.B, serve engine, perSecond float64) (took map[string][]time.Duration, refused, sent int) {
	b.Helper()
	r := rand.New(rand.NewPCG(1, 2))
	took = map[string][]time.Duration{}
	var mu sync.Mutex
	var calls sync.WaitGroup
	at := time.Now()
	for end := at.Add(lasting); at.Before(end); sent++ {
		at = at.Add(time.Duration(r.ExpFloat64() / perSecond * float64(time.Second)))
		q, due := next(r), at
		<-time.After(time.Until(at))
		calls.Go(func() {
			ctx, cancel := context.WithDeadline(b.Context(), due.Add(q.deadline))
			defer cancel()
			err := serve(ctx, q)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				refused++
				return
			}
			took[q.tenant] = append(took[q.tenant], time.Since(due))
		})
	}
	calls.Wait()
	return took, refused, sent
}

func percentile(d []time.Duration, p float64) time.Duration {
	if len(d) == 0 {
		return 0
	}
	slices.Sort(d)
	return d[min(len(d)-1, int(p*float64(len(d))))].Round(time.Millisecond)
}

// BenchmarkBatch prints throughput and latency at 50, 90 and 120 % of what can be served, beside a plain queue.
func BenchmarkBatch(b *testing.B) {
	e, err := minilm.Load()
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		most := capacity(b, line(e)) // in the order of arrival, so that documents have their part
		b.Logf("capacity %.1f calls/s: questions with 2 s to be done in, and 16 passages with 10 s, of two tenants", most)
		b.Logf("%-14s %6s %9s %8s %22s %22s", "", "load", "served/s", "refused", "questions p50 / p99", "documents p50 / p99")
		for _, part := range []float64{.5, .9, 1.2} {
			for _, q := range []struct {
				name  string
				serve engine
			}{{"fair, batched", fair(e)}, {"plain queue", line(e)}} {
				took, refused, sent := load(b, q.serve, most*part)
				light, heavy := took["light"], took["heavy"]
				b.Logf("%-14s %5.0f%% %9.1f %7.1f%% %22s %22s", q.name, part*100, float64(len(light)+len(heavy))/lasting.Seconds(), 100*float64(refused)/float64(sent),
					fmt.Sprint(percentile(light, .5), " / ", percentile(light, .99)), fmt.Sprint(percentile(heavy, .5), " / ", percentile(heavy, .99)))
			}
		}
	}
}
