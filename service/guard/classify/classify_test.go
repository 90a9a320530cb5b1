package classify_test

import (
	"strings"
	"testing"

	"aran/service/guard/canon"
	"aran/service/guard/classify"
	"aran/service/guard/detect"
	"aran/service/guard/injection"
)

func builtin(t testing.TB) *classify.Model {
	t.Helper()
	m, err := classify.Builtin()
	if err != nil {
		t.Fatal(err)
	}
	return m
}

const prompt = "I run a small bakery in Leeds and want to write to our regular customers about the new opening hours over the holidays. Please draft a short, warm e-mail. We open at 7 from Monday to Friday and at 8 on Saturday, and are closed between Christmas and New Year. Mention that pre-orders for bread are possible by phone until the 22nd, and that our sourdough class in January still has four places. "

func BenchmarkJudgePrompt(b *testing.B) {
	d, err := injection.Builtin()
	if err != nil {
		b.Fatal(err)
	}
	text := strings.Repeat(prompt, 3)[:1024]
	b.Run("rules", func(b *testing.B) {
		for b.Loop() {
			d.JudgeBy(b.Context(), text, detect.User, nil)
		}
	})
	b.Run("rules and compact", func(b *testing.B) {
		for b.Loop() {
			d.Judge(text, detect.User)
		}
	})
	b.Run("canon", func(b *testing.B) {
		for b.Loop() {
			canon.Layers(text)
		}
	})
	plain := canon.Plain(text).Plain
	m := builtin(b)
	b.Run("compact alone", func(b *testing.B) {
		for b.Loop() {
			m.Score(plain)
		}
	})
}

func BenchmarkJudgeDocument(b *testing.B) {
	d, err := injection.Builtin()
	if err != nil {
		b.Fatal(err)
	}
	text := strings.Repeat(prompt, 50<<10/len(prompt)+1)[:50<<10]
	for b.Loop() {
		d.Judge(text, detect.Document)
	}
}
