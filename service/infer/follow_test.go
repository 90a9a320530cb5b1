package infer

import (
	"testing"
	"time"

	"aran/service/infer/child/childtest"
)

// Two replicas on one database: one judges, the other follows, and both end with the same version.
func TestReplicasAgree(t *testing.T) {
	f := newFleet(t, func(c *Config) { c.RolloutHold = 300 * time.Millisecond })
	other := newWorld(t, f.cfg, f.db, fake)
	serves := func(w *world, version string) bool {
		m, err := w.s.Model(t.Context(), words)
		return err == nil && m.Version == version && m.Phase == ""
	}
	f.make(words, "2", good)
	f.use(words, "2")
	shared := false
	waitLong(t, time.Minute, 10*time.Millisecond, "both to serve version 2", func() bool {
		for _, w := range []*world{f.world, other} {
			m, err := w.s.Model(t.Context(), words)
			shared = shared || err == nil && len(m.Versions) == 2 && m.Versions[1].Percent > 0
		}
		return serves(f.world, "2") && serves(other, "2")
	})
	if !shared {
		t.Error("nobody shared the calls between the versions")
	}
	bad := childtest.Nature{Dim: good.Dim, Seed: 5}
	f.make(words, "3", bad)
	f.use(words, "3")
	waitLong(t, time.Minute, 10*time.Millisecond, "the choice to be put back", func() bool { return f.reg.Active(words) == "2" })
	waitFor(t, "both to go on with version 2", func() bool { return serves(f.world, "2") && serves(other, "2") })
	list, err := rollouts(t.Context(), f.db, words, 10)
	if err != nil || len(list) != 2 || list[0].phase != phaseBack || list[1].phase != phaseDone {
		t.Errorf("%d rollouts, want one of each version: %+v, %v", len(list), list, err)
	}
	for _, w := range []*world{f.world, other} {
		e, err := w.s.Embed(t.Context(), EmbedCall{Model: words, Texts: []string{"a"}})
		if err != nil || e.Version != "2" {
			t.Errorf("%s answers, %v", e.Version, err)
		}
	}
}

func TestCosine(t *testing.T) {
	a, b := good.Vector("one two"), good.Vector("one two")
	if c := cosine(a, b); c < .999 || cosine(a, a[1:]) != 0 {
		t.Errorf("%v of equal vectors, %v of those that do not fit", c, cosine(a, a[1:]))
	}
}
