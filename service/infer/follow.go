package infer

import (
	"context"
	"fmt"
	"time"

	"aran/service/infer/registry"
)

// align puts the registry's choice back to what serves: it is older than the decision that the version does not.
func (m *served) align(ctx context.Context, st registry.State) error {
	if m.aligned == st.Serial {
		return nil // it was tried
	}
	m.aligned = st.Serial
	_, err := m.s.registry.Use(ctx, m.name, m.current().Version, registry.Change{By: eventActor, Why: "this version was decided to serve"})
	if err != nil {
		return fmt.Errorf("put the choice back: %w", err)
	}
	return nil
}

// adopt makes the version active that another process decided on.
func (m *served) adopt(ctx context.Context, row *servingRow) error {
	active := m.current()
	if row == nil || row.version == active.Version && row.digest == active.Digest {
		m.drop() // of a rollout that another process ended
		return nil
	}
	if row.version == active.Version && active.Engine == registry.Builtin { // a newer program brings its own
		row.digest = active.Digest
		return keepServing(ctx, m.s.d.DB, m.name, active, row.decided)
	}
	m.mu.Lock()
	next := m.next
	m.mu.Unlock()
	if next != nil && next.Version == row.version && next.Digest == row.digest {
		m.promote()
		return nil
	}
	found, err := m.s.registry.Model(ctx, m.name+"@"+row.version)
	if err != nil || found.Status != registry.Installed || found.Digest != row.digest {
		return nil //nolint:nilerr // it is not here: what serves goes on
	}
	return m.swapIn(&found)
}

// replace makes a version active without a rollout.
func (m *served) replace(ctx context.Context, want *registry.Model) error {
	if err := m.swapIn(want); err != nil {
		return err
	}
	return keepServing(ctx, m.s.d.DB, m.name, m.current(), time.Now())
}

func (m *served) swapIn(found *registry.Model) error {
	m.mu.Lock()
	if m.next != nil {
		m.mu.Unlock()
		m.drop()
		m.mu.Lock()
	}
	m.next = m.s.open(found)
	m.mu.Unlock()
	m.promote()
	return nil
}

// follow takes part in a rollout that another process judges.
func (m *served) follow(ctx context.Context, r *rolloutRow) error {
	m.mu.Lock()
	next := m.next
	m.mu.Unlock()
	if next != nil && (next.Version != r.to.Version || next.Digest != r.to.Digest) {
		m.drop()
		next = nil
	}
	if next == nil {
		found, err := m.s.registry.Model(ctx, m.name+"@"+r.to.Version)
		if err != nil || found.Digest != r.to.Digest || found.Status != registry.Installed {
			return nil //nolint:nilerr // it is not here: what serves goes on
		}
		m.mu.Lock()
		m.next = m.s.open(&found)
		next = m.next
		m.mu.Unlock()
		if next.child != nil {
			next.child.Wake()
		}
	}
	if r.phase != phaseShifting || next.status() != Ready {
		return m.shift(0, r.phase)
	}
	return m.shift(r.percent, r.phase)
}
