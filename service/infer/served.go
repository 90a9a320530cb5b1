package infer

import (
	"context"
	"errors"
	"sync"
	"time"

	"aran/platform/auth"
	"aran/platform/fault"
	"aran/platform/split"
	"aran/service/infer/registry"
)

// served is a model by its name: the version that answers, the one that may take over, and those that are asked
// for by their digest.
type served struct {
	s    *Service
	name string
	kick chan struct{} // look whether another version was chosen

	mu     sync.Mutex
	kind   string
	active *version
	next   *version       // during a rollout
	split  *split.Split   // between the two, while next gets calls
	roll   *split.Rollout // of the process that judges
	phase  string
	same   bool                // both sides make the same vectors
	kept   map[string]*version // by digest

	shadow  chan struct{} // holds one while a call is repeated on next
	aligned int64         // serial of the last choice that was put back; of drive
}

// Names of the two sides of a split.
const (
	sideActive = "active"
	sideNext   = "next"
)

// maxKept is how many versions of a model are held beside the active one, because their digest is asked for.
const maxKept = 4

// turn is one call's use of a version. Release it.
type turn struct {
	m     *served
	v     *version
	trial bool // v may be replaced by the active version
	roll  *split.Rollout
	begin time.Time
	begun bool // something has reached the caller
}

// take picks the version for a caller: with a digest the one of that digest, else by the split.
func (m *served) take(ctx context.Context, digest, key string) (*turn, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	t := &turn{m: m, v: m.active, roll: m.roll, begin: time.Now()}
	switch {
	case digest == "" || digest == m.active.Digest:
		if digest == "" && m.next != nil && m.split != nil && m.split.Pick(key) == sideNext {
			t.v, t.trial = m.next, true
		}
	case m.next != nil && digest == m.next.Digest:
		t.v, t.roll = m.next, nil
	default:
		v, err := m.keep(ctx, digest)
		if err != nil {
			return nil, err
		}
		t.v, t.roll = v, nil
		v.asked = t.begin
	}
	t.v.users.Add(1)
	return t, nil
}

// keep finds the version of a digest beside the active one and the next, and has it run. The caller holds the lock.
func (m *served) keep(ctx context.Context, digest string) (*version, error) {
	if v := m.kept[digest]; v != nil {
		return v, nil
	}
	unknown := fault.New(fault.Missing, "digest_not_served", "Model %s has no version here with the digest %.16s….", m.name, digest)
	all, err := m.s.registry.Versions(ctx, m.name)
	if err != nil {
		return nil, err
	}
	for i := range all {
		found := &all[i]
		if found.Engine == registry.Builtin {
			found.Digest = m.s.encoderDigest
		}
		if found.Digest != digest || found.Status != registry.Installed && found.Status != registry.BuiltIn {
			continue
		}
		if err := m.evict(); err != nil {
			return nil, err
		}
		v := m.s.open(found)
		m.hold(v)
		return v, nil
	}
	return nil, unknown
}

// hold keeps a version for those who ask for its digest; it falls asleep when nobody does. The caller holds the lock.
func (m *served) hold(v *version) {
	if v.child != nil {
		v.child.SetIdleStop(m.s.cfg.KeepVersions)
	}
	v.asked = time.Now()
	m.kept[v.Digest] = v
}

// evict makes room for one more version. The caller holds the lock.
func (m *served) evict() error {
	if len(m.kept) < maxKept {
		return nil
	}
	var oldest *version
	for _, v := range m.kept {
		if v.users.Load() == 0 && (oldest == nil || v.asked.Before(oldest.asked)) {
			oldest = v
		}
	}
	if oldest == nil {
		return fault.New(fault.Exhausted, "too_many_versions", "Too many versions of model %s are asked for at once.", m.name).After(time.Second)
	}
	delete(m.kept, oldest.Digest)
	m.s.retire(oldest, 0)
	return nil
}

// release gives the version back.
func (t *turn) release() { t.v.users.Add(-1) }

// count tells the rollout how the call went. What is the caller's own doing says nothing about a version.
func (t *turn) count(ctx context.Context, err error) {
	if t.roll == nil || ctx.Err() != nil {
		return
	}
	side := split.Before
	if t.trial {
		side = split.After
	}
	switch fault.KindOf(err) {
	case fault.Exhausted, fault.Canceled, fault.Invalid, fault.TooLarge:
		if err != nil {
			return
		}
	}
	t.roll.Count(side, time.Since(t.begin), err != nil)
}

// fallback moves a call that failed on the next version to the active one. It reports whether the call is to be
// tried again.
func (t *turn) fallback(ctx context.Context, err error) bool {
	if !t.trial || t.begun || err == nil || ctx.Err() != nil {
		return false
	}
	t.count(ctx, err)
	t.m.mu.Lock()
	defer t.m.mu.Unlock()
	t.v.users.Add(-1)
	t.v = t.m.active
	t.v.users.Add(1)
	t.trial, t.roll, t.begin = false, nil, time.Now()
	t.m.s.telemetry.retried(ctx, t.m.name)
	return true
}

// limits of how long a version on trial may take before the active one is asked instead.
const (
	leastTrial = time.Second
	mostTrial  = 20 * time.Second
	slowTrial  = 8 // times the usual
)

var errTooSlow = errors.New("the version on trial is too slow")

// patience is how long the call may wait for a version on trial: some times what is usual, and never more than half
// of the time that the caller has.
func (t *turn) patience(ctx context.Context) time.Duration {
	t.m.mu.Lock()
	active := t.m.active
	t.m.mu.Unlock()
	d := min(max(slowTrial*active.meanPace(), leastTrial), mostTrial)
	if end, ok := ctx.Deadline(); ok {
		d = min(d, time.Until(end)/2)
	}
	return d
}

var errGoneBack = errors.New("the version lost its trial meanwhile")

// trying says whether a version may still answer calls that name no digest.
func (m *served) trying(v *version) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return v == m.next || v == m.active
}

// encoderFor picks who makes the vectors of a call. Vectors of different digests are never to be mixed: a tenant's
// calls that name no digest go to one version, until a rollout moves it.
func (s *Service) encoderFor(ctx context.Context, model, digest string) (*turn, error) {
	m := s.lookup(model)
	if m == nil {
		return nil, fault.New(fault.Unavailable, "model_missing", "Model %s can't be used here.", model)
	}
	return m.take(ctx, digest, auth.From(ctx).Tenant)
}

// generatorFor picks who answers a prompt: one subject's prompts go to one version.
func (s *Service) generatorFor(ctx context.Context, model string) (*turn, error) {
	m := s.lookup(model)
	if m == nil {
		return nil, fault.New(fault.Unavailable, "model_missing", "Model %s can't be used here.", model)
	}
	id := auth.From(ctx)
	return m.take(ctx, "", id.Tenant+"/"+id.Subject)
}

// byDigest finds the embedding model that has a version of the digest, for callers that name none.
func (s *Service) byDigest(ctx context.Context, digest string) (name string, err error) {
	for _, name := range s.registry.Names() {
		m := s.lookup(name)
		if m == nil || m.kind != registry.Embed {
			continue
		}
		all, err := s.registry.Versions(ctx, name)
		if err != nil {
			return "", err
		}
		for i := range all {
			if all[i].Digest == digest || all[i].Engine == registry.Builtin && s.encoderDigest == digest {
				return name, nil
			}
		}
	}
	return "", fault.New(fault.Missing, "digest_not_served", "There is no model here with the digest %.16s….", digest)
}

func (s *Service) lookup(name string) *served {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.served[name]
}

// all are the models that are served.
func (s *Service) all() []*served {
	s.mu.RLock()
	defer s.mu.RUnlock()
	out := make([]*served, 0, len(s.served))
	for _, m := range s.served {
		out = append(out, m)
	}
	return out
}

// current is the active version.
func (m *served) current() *version {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.active
}

// versions are the active one first, then the next, then those that are kept.
func (m *served) versions() (out []*version, percent int, phase string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	out = append(out, m.active)
	if m.next != nil {
		out = append(out, m.next)
		if m.split != nil {
			percent = int(100*m.split.Share(sideNext) + .5)
		}
	}
	for _, v := range m.kept {
		out = append(out, v)
	}
	return out, percent, m.phase
}
