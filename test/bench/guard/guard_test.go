package main

import (
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"aran/platform/rpc/rpctest"
	"aran/platform/store"
	"aran/platform/watch"
	"aran/service/guard"
	"aran/service/guard/detect"
	"aran/service/guard/injection"
	"aran/service/guard/measure"
)

// prompt is a kilobyte of what a user might write; document is fifty of what may stand in a file.
func prompt(i int) string {
	s := fmt.Sprintf("Message %d. Dear team, our order of last week has not arrived yet, although the tracking says that it left the warehouse on Monday. ", i)
	for len(s) < 1024 {
		s += "Could you find out where it is, and tell us whether the lamp with the green shade can be sent on its own? We need it before the party on Saturday. "
	}
	return s[:1024]
}

func document(i int) string { return strings.Repeat(prompt(i)+"\n\n", 50) }

// each runs f again and again and reports the median and the slow end of its time.
func each(b *testing.B, f func(i int)) {
	b.Helper()
	var took []float64
	for b.Loop() {
		begin := time.Now()
		f(len(took))
		took = append(took, float64(time.Since(begin))/float64(time.Microsecond))
	}
	b.ReportMetric(measure.Percentile(took, 0.5), "p50-µs")
	b.ReportMetric(measure.Percentile(took, 0.99), "p99-µs")
}

// texts are made before the clock runs; each is another one, so that no text is judged from a cache of the processor's.
func texts(make_ func(int) string) []string {
	out := make([]string, 64)
	for i := range out {
		out[i] = make_(i)
	}
	return out
}

func BenchmarkRules1KB(b *testing.B) {
	rules, err := detect.Builtin()
	if err != nil {
		b.Fatal(err)
	}
	all := texts(prompt)
	each(b, func(i int) { rules.Scan(all[i%len(all)], detect.User) })
}

func BenchmarkCompact1KB(b *testing.B) {
	d, err := injection.Builtin()
	if err != nil {
		b.Fatal(err)
	}
	all := texts(prompt)
	each(b, func(i int) { d.Judge(all[i%len(all)], detect.User) })
}

func BenchmarkDocument50KB(b *testing.B) {
	d, err := injection.Builtin()
	if err != nil {
		b.Fatal(err)
	}
	all := texts(document)
	each(b, func(i int) { d.Judge(all[i%len(all)], detect.Document) })
}

// BenchmarkAnswer checks an answer that streams in tokens, as chat does, and reports tokens a second.
func BenchmarkAnswer(b *testing.B) {
	db, err := store.Open(b.Context(), store.Options{Service: "guard", Path: filepath.Join(b.TempDir(), "guard.db"), Migrations: guard.Migrations})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = db.Close() })
	s, err := guard.New(guard.Default(), guard.Deps{DB: db, Server: rpctest.NewAuthority(b).Server("guard", "chat"), Log: slog.New(slog.DiscardHandler), Health: &watch.Health{}})
	if err != nil {
		b.Fatal(err)
	}
	tokens := strings.SplitAfter(prompt(1), " ")
	n := 0
	for b.Loop() {
		held, before := "", ""
		for i, t := range tokens {
			c, err := s.CheckOutput(b.Context(), guard.Answer{Text: held + t, Before: before, Canaries: []string{"REF-1234-5678"}, Final: i == len(tokens)-1})
			if err != nil {
				b.Fatal(err)
			}
			held = c.Hold
			before += c.Release
			before = before[max(0, len(before)-4096):]
			n++
		}
	}
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "tokens/s")
}
