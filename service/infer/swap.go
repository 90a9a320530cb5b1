package infer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"aran/platform/fault"
	"aran/platform/split"
	"aran/service/infer/child"
	"aran/service/infer/registry"
)

// Phases of a rollout. The last three are ends.
const (
	phaseStarting = "starting"
	phaseChecking = "checking"
	phaseShifting = "shifting"
	phaseDone     = "done"
	phaseBack     = "rolled_back"
	phaseBroken   = "interrupted" // by a stop or a kill; it begins again
)

// Reasons of an end that are not split's.
const (
	reasonCrash = "crash"
	reasonStore = "store"
)

const (
	latencySlack  = 5 * time.Millisecond  // an encoder may be so much slower in any case
	answerSlack   = 50 * time.Millisecond // and a language model, whose answers differ in length
	probesAtOnce  = 8
	probeTimeout  = 20 * time.Second
	loadPatience  = 70 * time.Second // the process itself has 60 s
	beatEvery     = 2 * time.Second
	staleBeat     = 15 * time.Second // a rollout whose owner said nothing for so long has none
	followEvery   = time.Second
	mirroredTexts = 8
	mirrorTimeout = 10 * time.Second
)

// drive looks after a model: which version is chosen, and which serves.
func (m *served) drive(ctx context.Context) {
	wait := time.NewTimer(m.s.firstLook)
	defer wait.Stop()
	for {
		select {
		case <-wait.C:
		case <-m.kick:
		case <-ctx.Done():
			return
		}
		m.tend(ctx)
		pause, err := m.reconcile(ctx)
		if err != nil && ctx.Err() == nil {
			m.s.d.Log.LogAttrs(ctx, slog.LevelWarn, "versions of a model could not be compared", slog.String("model", m.name), slog.String("error", err.Error()))
		}
		wait.Reset(pause)
	}
}

// tend records that a model is missing, and loads one that is there.
func (m *served) tend(ctx context.Context) {
	v := m.current()
	if v.child == nil {
		m.s.note(ctx, v.event(v.status()))
		return
	}
	status := v.child.State().Status
	there := v.Engine == registry.Builtin
	if !there {
		now, err := m.s.registry.Model(ctx, v.Name+"@"+v.Version)
		there = err == nil && now.Status == registry.Installed
	}
	preload := m.s.cfg.Preload || v.Engine != registry.LlamaCpp
	switch {
	case !there && (status == child.Waiting || status == child.Missing):
		m.s.note(ctx, v.event(Missing))
	case there && (status == child.Missing || preload && status == child.Waiting):
		v.child.Wake()
	}
}

// reconcile compares what serves with what was chosen, by this process or another, and brings a choice about. It
// returns when to look again.
func (m *served) reconcile(ctx context.Context) (time.Duration, error) {
	s := m.s
	pause := lookEvery
	if s.d.DB.Shared() {
		pause = lookEvery / 3
	}
	running, err := runningRollout(ctx, s.d.DB, m.name)
	if err != nil {
		return pause, err
	}
	if running != nil && running.owner != s.id && time.Since(running.beat) < staleBeat {
		return followEvery, m.follow(ctx, running)
	}
	if running != nil { // its owner was killed: the active version serves, and all begins again
		if err := endRollout(ctx, s.d.DB, *running, phaseBroken, "", "", nil, time.Now()); err != nil {
			return pause, err
		}
	}
	row, err := serving(ctx, s.d.DB, m.name)
	if err != nil {
		return pause, err
	}
	if err := m.adopt(ctx, row); err != nil {
		return pause, err
	}
	want, err := s.registry.Model(ctx, m.name)
	if err != nil {
		return pause, err
	}
	if want.Engine == registry.Builtin {
		want.Digest = s.encoderDigest
	}
	active := m.current()
	here := want.Status == registry.Installed || want.Status == registry.BuiltIn
	if want.Version == active.Version && want.Digest == active.Digest {
		if here && row == nil {
			return pause, keepServing(ctx, s.d.DB, m.name, active, time.Now())
		}
		return pause, nil
	}
	if !here {
		return pause, nil
	}
	if usable, err := s.usable(ctx, active); err != nil || !usable {
		if err != nil {
			return pause, err
		}
		return pause, m.replace(ctx, &want) // nothing serves that could go on
	}
	state, err := s.registry.State(m.name)
	if err != nil {
		return pause, err
	}
	if row != nil && !chosen(state).After(row.decided) {
		return pause, m.align(ctx, state)
	}
	m.rollout(ctx, want, state)
	select {
	case m.kick <- struct{}{}: // look again at once: another choice may have come
	default:
	}
	return pause, nil
}

// chosen is when the registry's present choice was made; zero when nobody chose.
func chosen(st registry.State) time.Time {
	if n := len(st.History); st.Serial > 0 && n > 0 {
		return st.History[n-1].At
	}
	return time.Time{}
}

// usable says whether a version's files are here.
func (s *Service) usable(ctx context.Context, v *version) (bool, error) {
	if v.Engine == registry.Builtin {
		return true, nil
	}
	m, err := s.registry.Model(ctx, v.Name+"@"+v.Version)
	if fault.KindOf(err) == fault.Missing || fault.KindOf(err) == fault.Conflict {
		return false, nil
	}
	return err == nil && m.Status == registry.Installed && m.Digest == v.Digest, err
}

// rollout puts a version beside the active one, tries it, and lets it take over step by step or goes back.
func (m *served) rollout(ctx context.Context, want registry.Model, st registry.State) {
	s, active := m.s, m.current()
	actor, steps := eventActor, s.cfg.RolloutSteps
	if n := len(st.History); n > 0 {
		actor = st.History[n-1].By
		if st.History[n-1].Action == registry.ActionRollback {
			steps = []int{100} // it has served before
		}
	}
	row, err := beginRollout(ctx, s.d.DB, rolloutRow{
		name: m.name, from: pin{active.Version, active.Digest}, to: pin{want.Version, want.Digest}, actor: actor, owner: s.id,
	}, time.Now())
	if err != nil {
		s.d.Log.LogAttrs(ctx, slog.LevelWarn, "rollout did not begin", slog.String("model", m.name), slog.String("error", err.Error()))
		return
	}
	m.drop()
	m.mu.Lock()
	next := s.open(&want)
	m.next, m.phase = next, phaseStarting
	m.mu.Unlock()
	s.d.Log.LogAttrs(ctx, slog.LevelInfo, "rollout begins", slog.String("model", m.name), slog.String("from", active.Version), slog.String("to", want.Version), slog.String("id", row.id))
	begin := time.Now()
	err = m.try(ctx, &row, next, active, steps)
	after := context.WithoutCancel(ctx)
	after, cancel := context.WithTimeout(after, noteTimeout)
	defer cancel()
	if err == nil {
		if err = endRollout(after, s.d.DB, row, phaseDone, "", "", next, time.Now()); err == nil {
			m.promote()
			s.note(after, next.event(Ready))
			s.telemetry.ended(after, m.name, phaseDone, "")
			s.d.Log.LogAttrs(after, slog.LevelInfo, "rollout is done", slog.String("model", m.name), slog.String("version", next.Version), slog.Duration("took", time.Since(begin)))
			return
		}
		err = &failure{reasonStore, err.Error()}
	}
	m.drop() // from here on nobody gets an answer of it
	why, ok := errors.AsType[*failure](err)
	if !ok {
		if err := endRollout(after, s.d.DB, row, phaseBroken, "", "", nil, time.Now()); err != nil {
			s.d.Log.LogAttrs(after, slog.LevelWarn, "end of a rollout was not recorded; it begins again", slog.String("model", m.name), slog.String("error", err.Error()))
		}
		return
	}
	s.telemetry.ended(after, m.name, phaseBack, why.reason)
	s.d.Log.LogAttrs(after, slog.LevelWarn, "rollout went back", slog.String("model", m.name), slog.String("version", next.Version), slog.String("reason", why.reason), slog.String("detail", why.detail))
	if err := endRollout(after, s.d.DB, row, phaseBack, why.reason, why.detail, active, time.Now()); err != nil {
		s.d.Log.LogAttrs(after, slog.LevelError, "end of a rollout was not recorded", slog.String("model", m.name), slog.String("error", err.Error()))
	}
	if s.registry.Active(m.name) != want.Version {
		return // somebody chose another one meanwhile
	}
	if _, err := s.registry.Use(after, m.name, active.Version, registry.Change{By: eventActor, Why: "version " + next.Version + " went back: " + why.reason}); err != nil {
		s.d.Log.LogAttrs(after, slog.LevelWarn, "choice of a model's version was not put back", slog.String("model", m.name), slog.String("error", err.Error()))
	}
}

// try is a rollout up to its decision: nil, a *failure, or the context's error.
func (m *served) try(ctx context.Context, row *rolloutRow, next, active *version, steps []int) error {
	s := m.s
	if err := m.load(ctx, next); err != nil {
		return err
	}
	if err := m.enter(ctx, row, phaseChecking, 0); err != nil {
		return err
	}
	slowdown := s.cfg.RolloutSlowdown
	if next.Gate != nil && next.Gate.MaxSlowdown != 0 {
		slowdown = next.Gate.MaxSlowdown
	}
	t := newTrial(next, active)
	if err := t.examine(ctx, slowdown); err != nil {
		return err
	}
	plan := split.Plan{
		Steps: steps, Hold: s.cfg.RolloutHold, Patience: max(10*s.cfg.RolloutHold, time.Minute), Sample: s.cfg.RolloutSample,
		MaxErrors: s.cfg.RolloutErrors, MaxSlowdown: slowdown, Slack: latencySlack,
	}
	if m.kind == registry.Generate {
		plan.Slack = answerSlack
	}
	if next.Gate != nil {
		plan.MinGate = next.Gate.Min
	}
	roll, err := split.Start(m.name, plan, time.Now())
	if err != nil {
		return &failure{reasonStore, err.Error()}
	}
	if m.s.registry.Active(m.name) != next.Version { // while it was examined
		return &failure{split.ReasonStopped, "another version was chosen"}
	}
	m.mu.Lock()
	m.roll, m.same = roll, t.same
	m.mu.Unlock()
	if err := m.enter(ctx, row, phaseShifting, steps[0]); err != nil {
		return err
	}
	return m.watch(ctx, row, next, t, roll)
}

// load waits until the new version's process is ready. The first end of that process is the end of the rollout.
func (m *served) load(ctx context.Context, next *version) error {
	if next.child == nil {
		return nil
	}
	limit := time.Now().Add(loadPatience)
	for {
		lease, err := next.child.Acquire(ctx)
		if err == nil {
			lease.Release()
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if st := next.child.State(); st.Status != child.Loading || time.Now().After(limit) {
			return &failure{reasonLoad, err.Error()}
		}
	}
}

// watch shifts calls step by step until it is decided.
func (m *served) watch(ctx context.Context, row *rolloutRow, next *version, t *trial, roll *split.Rollout) error {
	hold := m.s.cfg.RolloutHold
	tick := time.NewTicker(min(max(hold/8, 10*time.Millisecond), time.Second))
	defer tick.Stop()
	since, beat, pairs := time.Now(), time.Now(), 0
	for {
		select {
		case <-tick.C:
		case <-m.kick:
			if m.s.registry.Active(m.name) != next.Version {
				roll.Stop("another version was chosen")
			}
		case <-ctx.Done():
			return ctx.Err()
		}
		if how := next.crash.Load(); how != nil {
			roll.Stop(*how)
			return &failure{reasonCrash, *how}
		}
		for range probesAtOnce {
			late := time.Since(since) >= hold/2
			if (!late || roll.Lacking() == 0) && (m.kind != registry.Embed || pairs >= m.s.cfg.RolloutSample) {
				break
			}
			m.probe(ctx, t, roll)
			pairs++
		}
		d := roll.Decide(time.Now())
		switch d.Verdict {
		case split.Done:
			return nil
		case split.Back:
			return &failure{d.Reason, d.Detail}
		case split.Next:
			since, pairs = time.Now(), 0
			if err := m.enter(ctx, row, phaseShifting, d.Percent); err != nil {
				return err
			}
		case split.Wait:
		}
		if time.Since(beat) >= beatEvery {
			beat = time.Now()
			if err := beatRollout(ctx, m.s.d.DB, *row, beat); err != nil {
				return m.lost(ctx, err)
			}
		}
	}
}

// probe stands in for calls that do not come.
func (m *served) probe(ctx context.Context, t *trial, roll *split.Rollout) {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	p := t.probe(ctx)
	roll.Count(split.After, p.after, p.err != nil)
	if p.err != nil {
		return
	}
	roll.Gate(p.value)
	if p.before > 0 {
		roll.Pair(p.before, p.after)
	}
}

// enter writes down where the rollout is, and only then shifts calls.
func (m *served) enter(ctx context.Context, row *rolloutRow, phase string, percent int) error {
	row.phase, row.percent = phase, percent
	if err := stepRollout(ctx, m.s.d.DB, *row, time.Now()); err != nil {
		return m.lost(ctx, err)
	}
	return m.shift(percent, phase)
}

// lost is the end of a rollout that can't be written down.
func (m *served) lost(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return &failure{reasonStore, err.Error()}
}

// shift gives the next version its share of the calls.
func (m *served) shift(percent int, phase string) error {
	sp, err := split.New("infer/"+m.name, split.Target{Name: sideActive, Weight: float64(100 - percent)}, split.Target{Name: sideNext, Weight: float64(percent)})
	if err != nil {
		return fmt.Errorf("shift %s: %w", m.name, err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.phase = phase
	if m.next != nil {
		m.split = sp
	}
	return nil
}

// promote makes the next version the active one. Calls of the old one end in their time.
func (m *served) promote() {
	m.mu.Lock()
	old := m.active
	m.active, m.next, m.split, m.roll, m.phase, m.same = m.next, nil, nil, nil, "", false
	if was := m.kept[m.active.Digest]; was != nil { // it was asked for by digest before
		delete(m.kept, m.active.Digest)
		m.s.retire(was, m.s.cfg.DrainTimeout)
	}
	if m.active.child != nil && m.active.Engine != registry.LlamaCpp {
		m.active.child.SetIdleStop(0)
	}
	if m.active.child != nil {
		m.active.child.Wake()
	}
	if m.kind == registry.Embed && old.Digest != m.active.Digest && m.evict() == nil {
		m.hold(old)
		old = nil
	}
	m.mu.Unlock()
	if old != nil {
		m.s.retire(old, m.s.cfg.DrainTimeout)
	}
}

// drop takes the next version away at once. Answers that it has begun end with an error.
func (m *served) drop() {
	m.mu.Lock()
	next := m.next
	m.next, m.split, m.roll, m.phase, m.same = nil, nil, nil, "", false
	m.mu.Unlock()
	if next != nil {
		m.s.retire(next, 0)
	}
}

// retire ends a version that nobody gets any more, when its calls have ended or patience has.
func (s *Service) retire(v *version, patience time.Duration) {
	s.done.Go(func() {
		limit := time.NewTimer(patience)
		defer limit.Stop()
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for v.users.Load() > 0 && s.life.Err() == nil {
			select {
			case <-tick.C:
				continue
			case <-limit.C:
			case <-s.life.Done():
			}
			break
		}
		ctx, cancel := context.WithTimeout(context.WithoutCancel(s.life), noteTimeout)
		defer cancel()
		if err := v.close(ctx); err != nil {
			s.d.Log.LogAttrs(ctx, slog.LevelWarn, "process of a model did not end", slog.String("model", v.Name), slog.String("version", v.Version), slog.String("error", err.Error()))
		}
	})
}
