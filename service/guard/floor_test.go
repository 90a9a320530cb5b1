package guard_test

import (
	"testing"
	"time"

	"aran/service/guard"
	"aran/service/guard/detect"
	"aran/service/guard/policy"
)

func TestABoundaryOfTheFloorHolds(t *testing.T) {
	const text = "We speak of project nightfall today."
	h := build(t, onSQLite, func(c *guard.Config) {
		c.Floor.Boundaries = []policy.Boundary{{Name: "nightfall", On: policy.OnBoth, Phrases: []string{"project nightfall"}, Action: guard.Block}}
	})
	verdicts := func(t *testing.T, want string, text string, collections ...string) {
		t.Helper()
		if r := h.scan(text, collections...); r.Verdict != want {
			t.Errorf("on its way in: %s (%s), want %s", r.Verdict, r.Why, want)
		}
		out, err := h.s.Scan(h.ctx(), []string{text}, detect.Output, collections...)
		h.must(err)
		if out[0].Verdict != want {
			t.Errorf("a whole answer: %s (%s), want %s", out[0].Verdict, out[0].Why, want)
		}
		got, err := h.s.CheckOutput(h.ctx(), guard.Answer{Text: text, Final: true, Collections: collections})
		h.must(err)
		if got.Verdict != want || want == guard.Block && got.Release != "" {
			t.Errorf("an answer: %+v, want %s", got, want)
		}
	}
	like := func(action, phrase string) policy.Policy {
		return policy.Policy{Boundaries: []policy.Boundary{{Name: "nightfall", On: policy.OnBoth, Phrases: []string{phrase}, Action: action}}}
	}
	t.Run("a tenant's of the same name", func(t *testing.T) {
		h.t = t
		for _, action := range []string{guard.Allow, guard.Flag} {
			h.put("default", like(action, "something else"))
			verdicts(t, guard.Block, text)
		}
	})
	t.Run("an entry of the allow-list", func(t *testing.T) {
		h.t = t
		_, err := h.s.Spare(h.ctx(), guard.Spared{Kind: guard.SpareRule, Value: "nightfall", Reason: "test", Expires: time.Now().Add(time.Hour)})
		h.must(err)
		verdicts(t, guard.Block, text)
	})
}

func TestOfBoundariesWithOneNameTheStrictestHolds(t *testing.T) {
	h := build(t, onSQLite)
	of := func(action, phrase string) policy.Policy {
		return policy.Policy{Boundaries: []policy.Boundary{{Name: "prices", On: policy.OnBoth, Phrases: []string{phrase}, Action: action}}}
	}
	h.put("a", of(guard.Flag, "price list"), "one")
	h.put("b", of(guard.Block, "discount table"), "two")
	const text = "Here is the discount table."
	if r := h.scan(text, "one", "two"); r.Verdict != guard.Block {
		t.Errorf("%s (%s)", r.Verdict, r.Why)
	}
	got, err := h.s.CheckOutput(h.ctx(), guard.Answer{Text: text, Final: true, Collections: []string{"one", "two"}})
	h.must(err)
	if got.Verdict != guard.Block || got.Release != "" {
		t.Errorf("an answer: %+v", got)
	}
	// Of the tenant's own boundaries an allow-list may spare what it names.
	_, err = h.s.Spare(h.ctx(), guard.Spared{Kind: guard.SpareRule, Value: "prices", Reason: "test", Expires: time.Now().Add(time.Hour)})
	h.must(err)
	if r := h.scan(text, "one", "two"); r.Verdict != guard.Allow {
		t.Errorf("spared: %s (%s)", r.Verdict, r.Why)
	}
}
