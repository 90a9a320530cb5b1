//go:build faults

package notify_test

import "testing"

func TestKilledAtEveryPoint(t *testing.T) {
	for _, point := range []string{
		"notify.endpoint_created", "bus.handled", "bus.handled@2", "notify.delivery_claimed", "notify.delivery_claimed@2", "notify.delivery_posted", "notify.delivery_posted@3", "notify.delivery_recorded", "notify.delivery_recorded@2",
	} {
		t.Run(point, func(t *testing.T) {
			dir := t.TempDir()
			r := receive(t, status(200))
			committed, killed := life(t, dir, r.URL, nil, "ARAN_FAULT_KILL="+point)
			if !killed {
				t.Fatalf("%s was never reached", point)
			}
			more, killed := life(t, dir, r.URL, nil)
			if killed {
				t.Error("it was killed twice")
			}
			sound(t, dir, r, append(committed, more...))
		})
	}
}
