package split_test

import (
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"aran/platform/split"
)

var plan = split.Plan{
	Steps: []int{1, 10, 50, 100}, Hold: time.Minute, Sample: 20, Patience: time.Hour, MaxErrors: .05, MaxSlowdown: 3, MinGate: .9,
}

func start(t *testing.T, p split.Plan) *split.Rollout {
	t.Helper()
	r, err := split.Start("test", p, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// good calls on both sides.
func good(r *split.Rollout, n int) {
	for range n {
		r.Count(split.Before, 10*time.Millisecond, false)
		r.Count(split.After, 12*time.Millisecond, false)
		r.Gate(.99)
	}
}

func TestAGoodTargetTakesOverStepByStep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, plan)
		for _, percent := range []int{1, 10, 50, 100} {
			if got := r.Percent(); got != percent {
				t.Fatalf("at %d %%, want %d", got, percent)
			}
			good(r, 19)
			time.Sleep(2 * time.Minute)
			if d := r.Decide(time.Now()); d.Verdict != split.Wait || r.Lacking() != 1 {
				t.Fatalf("with too few calls: %+v, lacking %d", d, r.Lacking())
			}
			good(r, 1)
			want := split.Next
			if percent == 100 {
				want = split.Done
			}
			if d := r.Decide(time.Now()); d.Verdict != want {
				t.Fatalf("%d %%: %+v, want %s", percent, d, want)
			}
		}
		if d := r.Stop("late"); d.Verdict != split.Done || r.Percent() != 100 {
			t.Errorf("what is done can be stopped: %+v", d)
		}
	})
}

func TestAStepIsHeld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, plan)
		good(r, 1000)
		time.Sleep(59 * time.Second)
		if d := r.Decide(time.Now()); d.Verdict != split.Wait || d.Percent != 1 {
			t.Errorf("before its time: %+v", d)
		}
		time.Sleep(time.Second)
		if d := r.Decide(time.Now()); d.Verdict != split.Next || d.Percent != 10 {
			t.Errorf("at its time: %+v", d)
		}
	})
}

func TestABadTargetGoesBack(t *testing.T) {
	for _, c := range []struct {
		name, want string
		do         func(r *split.Rollout)
	}{
		{"two failures, long before the sample is full", split.ReasonErrors, func(r *split.Rollout) {
			r.Count(split.After, 0, true)
			if d := r.Decide(time.Now()); d.Verdict != split.Wait {
				t.Errorf("one failure of 20 is allowed: %+v", d)
			}
			r.Count(split.After, 0, true)
		}},
		{"ten times slower, by calls", split.ReasonLatency, func(r *split.Rollout) {
			for range 20 {
				r.Count(split.Before, 10*time.Millisecond, false)
				r.Count(split.After, 100*time.Millisecond, false)
			}
		}},
		{"slower for the same work, though its calls are small", split.ReasonLatency, func(r *split.Rollout) {
			good(r, 20)
			for range 20 {
				r.Pair(10*time.Millisecond, 40*time.Millisecond)
			}
		}},
		{"another model", split.ReasonGate, func(r *split.Rollout) {
			for range 20 {
				r.Gate(.3)
			}
		}},
		{"nobody calls", split.ReasonPatience, func(*split.Rollout) { time.Sleep(time.Hour) }},
	} {
		synctest.Test(t, func(t *testing.T) {
			r := start(t, plan)
			c.do(r)
			d := r.Decide(time.Now())
			if d.Verdict != split.Back || d.Reason != c.want || d.Percent != 0 || d.Detail == "" {
				t.Errorf("%s: %+v, want %s", c.name, d, c.want)
			}
			good(r, 100)
			time.Sleep(time.Hour)
			if again := r.Decide(time.Now()); again != d || r.Percent() != 0 {
				t.Errorf("%s: it came back: %+v", c.name, again)
			}
		})
	}
}

func TestWhatTheOldOneFailsIsNotHeldAgainstTheNew(t *testing.T) {
	r := start(t, plan)
	for i := range 100 {
		bad := i%5 == 0
		r.Count(split.Before, time.Millisecond, bad)
		r.Count(split.After, time.Millisecond, bad)
	}
	if d := r.Decide(time.Now()); d.Verdict != split.Wait {
		t.Errorf("%+v", d)
	}
}

func TestALittleSlowerInTotalIsNeverTooSlow(t *testing.T) {
	p := plan
	p.Slack = 5 * time.Millisecond
	r := start(t, p)
	for range 20 {
		r.Pair(100*time.Microsecond, time.Millisecond)
	}
	if d := r.Decide(time.Now()); d.Verdict != split.Wait {
		t.Errorf("%+v", d)
	}
}

func TestABusyMachineIsNotASlowTarget(t *testing.T) {
	r := start(t, plan)
	good(r, 20)
	for i := range 20 {
		after := 12 * time.Millisecond
		if i%3 == 0 {
			after = time.Second
		}
		r.Pair(10*time.Millisecond, after)
	}
	if d := r.Decide(time.Now()); d.Verdict != split.Wait {
		t.Errorf("%+v", d)
	}
}

func TestCountsAreOfTheirStep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, plan)
		good(r, 20)
		r.Count(split.After, 0, true)
		time.Sleep(time.Minute)
		if d := r.Decide(time.Now()); d.Verdict != split.Next {
			t.Fatalf("%+v", d)
		}
		r.Count(split.After, 0, true) // the second in all, the first of this step
		if d := r.Decide(time.Now()); d.Verdict != split.Wait {
			t.Errorf("%+v", d)
		}
	})
}

func TestStopped(t *testing.T) {
	r := start(t, plan)
	if d := r.Stop("the operator said so"); d.Verdict != split.Back || d.Reason != split.ReasonStopped || !strings.Contains(d.Detail, "operator") {
		t.Errorf("%+v", d)
	}
	if d := r.Decide(time.Now().Add(time.Hour)); d.Verdict != split.Back {
		t.Errorf("%+v", d)
	}
}

// Whatever happens, the share only grows until the change is over, and an end is an end.
func TestSharesOnlyGrow(t *testing.T) {
	for seed := range uint64(300) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		now := time.Now()
		r, err := split.Start("test", plan, now)
		if err != nil {
			t.Fatal(err)
		}
		was, over := r.Percent(), false
		for range 400 {
			now = now.Add(time.Duration(rnd.IntN(20)) * time.Second)
			side := split.Side(rnd.IntN(2))
			r.Count(side, time.Duration(1+rnd.IntN(10))*time.Millisecond, rnd.IntN(60) == 0)
			r.Gate(.8 + .2*rnd.Float64() + .05)
			d := r.Decide(now)
			switch {
			case over && d.Verdict != split.Done && d.Verdict != split.Back:
				t.Fatalf("seed %d: it went on after its end: %+v", seed, d)
			case d.Verdict == split.Back && d.Percent != 0:
				t.Fatalf("seed %d: back at %d %%", seed, d.Percent)
			case d.Verdict != split.Back && d.Percent < was:
				t.Fatalf("seed %d: from %d to %d %%", seed, was, d.Percent)
			case d.Percent != r.Percent():
				t.Fatalf("seed %d: %d and %d %%", seed, d.Percent, r.Percent())
			}
			was, over = d.Percent, d.Verdict == split.Done || d.Verdict == split.Back
		}
	}
}

func TestRolloutsAreSafeForConcurrentUse(t *testing.T) {
	r := start(t, plan)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 200 {
				good(r, 1)
				r.Pair(time.Millisecond, time.Millisecond)
				r.Decide(time.Now())
			}
		})
	}
	wg.Wait()
	if r.Lacking() != 0 {
		t.Errorf("lacking %d", r.Lacking())
	}
}

func TestBadPlans(t *testing.T) {
	for name, change := range map[string]func(*split.Plan){
		"no steps":            func(p *split.Plan) { p.Steps = nil },
		"an end below 100":    func(p *split.Plan) { p.Steps = []int{1, 50} },
		"falling":             func(p *split.Plan) { p.Steps = []int{50, 10, 100} },
		"twice":               func(p *split.Plan) { p.Steps = []int{10, 10, 100} },
		"from zero":           func(p *split.Plan) { p.Steps = []int{0, 100} },
		"no patience":         func(p *split.Plan) { p.Patience = time.Second },
		"more than all":       func(p *split.Plan) { p.MaxErrors = 2 },
		"faster is too slow":  func(p *split.Plan) { p.MaxSlowdown = .5 },
		"a gate out of range": func(p *split.Plan) { p.MinGate = 2 },
	} {
		p := plan
		change(&p)
		if _, err := split.Start("test", p, time.Now()); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
