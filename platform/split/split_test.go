package split_test

import (
	"fmt"
	"math"
	"strconv"
	"sync"
	"testing"

	"aran/platform/split"
)

func make2(t *testing.T, salt string, percent float64) *split.Split {
	t.Helper()
	s, err := split.New(salt, split.Target{Name: "old", Weight: 100 - percent}, split.Target{Name: "new", Weight: percent})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// keys are short and alike, as ids of tenants are.
func keys(n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = "t" + strconv.Itoa(i)
	}
	return out
}

func TestGrowingACanaryNeverMovesAKeyBack(t *testing.T) {
	for _, salt := range []string{"", "a", "model/7"} {
		for _, key := range keys(5000) {
			was := "old"
			for _, percent := range []float64{0, 1, 10, 50, 99.5, 100} {
				got := make2(t, salt, percent).Pick(key)
				if was == "new" && got != "new" {
					t.Fatalf("salt %q: %s went back at %v %%", salt, key, percent)
				}
				was = got
			}
			if was != "new" {
				t.Fatalf("salt %q: %s is not at 100 %%", salt, key)
			}
		}
	}
}

func TestRaisingOneWeightMovesKeysOnlyThere(t *testing.T) {
	weights := func(b float64) *split.Split {
		s, err := split.New("ab", split.Target{Name: "a", Weight: 3}, split.Target{Name: "b", Weight: b}, split.Target{Name: "c", Weight: 1})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	for _, key := range keys(5000) {
		before, after := weights(1).Pick(key), weights(4).Pick(key)
		if before != after && after != "b" {
			t.Fatalf("%s went from %s to %s", key, before, after)
		}
	}
}

func TestSharesAreTheWeights(t *testing.T) {
	targets := []split.Target{{Name: "a", Weight: 1}, {Name: "b", Weight: 10}, {Name: "none"}, {Name: "c", Weight: 89}}
	s, err := split.New("s", targets...)
	if err != nil {
		t.Fatal(err)
	}
	const n = 60000
	for _, how := range []string{"keyed", "random"} {
		got := map[string]int{}
		for _, key := range keys(n) {
			if how == "random" {
				key = ""
			}
			got[s.Pick(key)]++
		}
		for _, w := range targets {
			want := n * w.Weight / 100
			if math.Abs(float64(got[w.Name])-want) > 6*math.Sqrt(want+1) {
				t.Errorf("%s: %s has %d, want about %v", how, w.Name, got[w.Name], want)
			}
			if math.Abs(s.Share(w.Name)-w.Weight/100) > 1e-12 {
				t.Errorf("share of %s is %v", w.Name, s.Share(w.Name))
			}
		}
	}
	if s.Share("stranger") != 0 {
		t.Error("a stranger has a share")
	}
}

func TestSaltsAreIndependent(t *testing.T) {
	a, b := make2(t, "a", 10), make2(t, "b", 10)
	both := 0
	for _, key := range keys(20000) {
		if a.Pick(key) == "new" && b.Pick(key) == "new" {
			both++
		}
	}
	if both < 120 || both > 280 { // 1 % of 20,000
		t.Errorf("%d keys are in both canaries, want about 200", both)
	}
}

// The choice is what replicas of different versions agree on.
func TestTheChoiceIsPinned(t *testing.T) {
	s := make2(t, "pinned", 30)
	got := ""
	for _, key := range keys(40) {
		got += s.Pick(key)[:1]
	}
	if want := "oonoononooononooooooooonnnnononononnoooo"; got != want {
		t.Errorf("choices %s, want %s", got, want)
	}
}

func TestSampledGrows(t *testing.T) {
	s := make2(t, "x", 10)
	n := 0
	for _, key := range keys(20000) {
		if s.Sampled(key, .05) {
			n++
			if !s.Sampled(key, .2) {
				t.Fatalf("%s left the sample when it grew", key)
			}
		}
		if s.Sampled(key, 0) || !s.Sampled(key, 1) {
			t.Fatal("0 and 1 are none and all")
		}
	}
	if n < 850 || n > 1150 {
		t.Errorf("%d of 20000 at 5 %%", n)
	}
}

func TestBadSplits(t *testing.T) {
	for _, targets := range [][]split.Target{
		nil,
		{{Name: "a"}},
		{{Name: "a", Weight: -1}},
		{{Name: "a", Weight: math.NaN()}},
		{{Name: "a", Weight: math.Inf(1)}},
		{{Name: "a", Weight: 1}, {Name: "a", Weight: 1}},
		make([]split.Target, 65),
	} {
		if _, err := split.New("s", targets...); err == nil {
			t.Errorf("%v is accepted", targets)
		}
	}
}

func TestConcurrentPicksAgree(t *testing.T) {
	s := make2(t, "c", 40)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for _, key := range keys(200) {
				if s.Pick(key) != s.Pick(key) {
					t.Errorf("%s has two targets", key)
				}
			}
		})
	}
	wg.Wait()
}

func FuzzPick(f *testing.F) {
	f.Add("salt", "key", 1.0, 2.0)
	f.Add("", "", 0.0, 1e-300)
	f.Fuzz(func(t *testing.T, salt, key string, a, b float64) {
		s, err := split.New(salt, split.Target{Name: "a", Weight: a}, split.Target{Name: "b", Weight: b})
		if err != nil {
			return
		}
		got := s.Pick(key)
		if got == "a" && a == 0 || got == "b" && b == 0 || got != "a" && got != "b" {
			t.Errorf("%q of weights %v and %v", got, a, b)
		}
		if key == "" {
			return
		}
		more, err := split.New(salt, split.Target{Name: "a", Weight: 2 * a}, split.Target{Name: "b", Weight: b})
		if err == nil && got == "a" && more.Pick(key) != "a" {
			t.Errorf("%q left the target whose weight grew from %v", key, a)
		}
	})
}

func BenchmarkPick(b *testing.B) {
	s, _ := split.New("s", split.Target{Name: "old", Weight: 99}, split.Target{Name: "new", Weight: 1})
	for i := range b.N {
		_ = s.Pick(fmt.Sprint("tenant-", i&7))
	}
}
