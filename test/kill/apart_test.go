package kill

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"aran/app"
	"aran/test/harness"
)

const (
	patience       = 60 * time.Second // of a client, with a part that is away
	fewestApart    = 40               // pairs of a process and a fault point
	killsOfEach    = 2                // at random, of each process
	backgroundWait = 6 * time.Second  // for what is reached by a slow poll
	mostRounds     = 8                // of work in a life
	lastAccounts   = 10               // sign in again at the end; sign-ins are limited, and each was tried after its life
)

// platform is services apart, or replicas, on servers that live through the whole test.
type platform struct {
	*harness.Platform
	site    *site
	dir     string // of fault points: what each process reached, and its orders
	sizes   map[string]int64
	inOrder map[string][]string // the points of each process, as they were first reached
	total   *ledger
	kills   int
	errs    error // of all verifications
}

// layApart prepares a platform of one process a service, which notes the points it reaches and takes orders.
func layApart(t *testing.T) *platform {
	t.Helper()
	dir := t.TempDir()
	s := harness.LayApart(t, binary(t), "ARAN_FAULT_LOG="+filepath.Join(dir, "{service}.points"), "ARAN_FAULT_KILL_FILE="+filepath.Join(dir, "{service}.kill"))
	return &platform{Platform: s, dir: dir, sizes: map[string]int64{}, inOrder: map[string][]string{}, total: newLedger()}
}

// begin starts all processes.
func (p *platform) begin() {
	for _, one := range p.Processes {
		one.Again()
	}
	p.open()
}

// open waits until it works.
func (p *platform) open() {
	p.AwaitReady(90 * time.Second)
	keeper := p.Of("audit")
	p.site = &site{Client: p.Client, operator: p.Of("user").Operator, command: keeper.Command, data: func() string { return keeper.Data }, patience: patience}
}

// reached lists the points that a process reached since it was asked last.
func (p *platform) reached(t *testing.T, service string) map[string]int {
	t.Helper()
	out := map[string]int{}
	b, err := os.ReadFile(filepath.Join(p.dir, service+".points"))
	if errors.Is(err, os.ErrNotExist) {
		return out
	}
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b[p.sizes[service]:])) {
		name := strings.TrimSpace(line)
		if out[name]++; !slices.Contains(p.inOrder[service], name) {
			p.inOrder[service] = append(p.inOrder[service], name)
		}
	}
	p.sizes[service] = int64(len(b))
	return out
}

// order has a process end itself when it reaches a point; an empty one is taken back.
func (p *platform) order(t *testing.T, service, point string) {
	t.Helper()
	path := filepath.Join(p.dir, service+".kill")
	if err := os.WriteFile(path+".new", []byte(point), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

// ledger is a fresh one whose words and names no other has.
func (p *platform) ledger() *ledger {
	l := newLedger()
	l.round = p.total.round
	p.total.round += mostRounds + 1
	return l
}

// settle verifies what one life acknowledged, and keeps it for the end.
func (p *platform) settle(t *testing.T, l *ledger) {
	t.Helper()
	p.total.add(l)
	if err := l.verify(t.Context(), p.site); err != nil {
		p.errs = errors.Join(p.errs, err)
		t.Error(err)
	}
}

// strike is one way to end something amid the work, and to have it back.
type strike struct {
	clients, rounds int // who works meanwhile, and how much at most
	begin           func()
	ended           func() <-chan struct{} // of what is struck
	back            func() error
}

// life has clients work while something is struck, has it back, and verifies. It reports whether it was struck at all.
func (p *platform) life(t *testing.T, s strike) (struck bool) {
	t.Helper()
	ended, over, done := s.ended(), make(chan struct{}), make(chan error, 1)
	var ledgers []*ledger
	var clients errgroup.Group
	for range s.clients {
		l := p.ledger()
		ledgers = append(ledgers, l)
		clients.Go(func() error { return p.rounds(t.Context(), l, s.rounds, over) })
	}
	s.begin()
	go func() { done <- clients.Wait() }()
	err, working := error(nil), true
	select {
	case <-ended:
	case err = <-done:
		working = false
		select {
		case <-ended:
		case <-time.After(backgroundWait):
		}
	}
	select {
	case <-ended:
		struck = true
		p.kills++
		if e := s.back(); e != nil {
			t.Fatal(e)
		}
	default:
	}
	close(over)
	if working {
		err = <-done
	}
	if err != nil {
		t.Fatalf("the work of a client that tries again: %v", err)
	}
	for _, l := range ledgers {
		p.settle(t, l)
	}
	return struck
}

// rounds works until it is over, a few times at most.
func (p *platform) rounds(ctx context.Context, l *ledger, most int, over <-chan struct{}) error {
	for range most {
		if err := l.work(ctx, p.site); err != nil {
			return err
		}
		select {
		case <-over:
			return nil
		default:
		}
	}
	return nil
}

const (
	readyAgain = 60 * time.Second
	killed     = -1 // instead of an exit code
)

// again starts a process that was killed; one that ended in another way is an error.
func again(victim *harness.Process) error {
	if code := victim.ExitCode(); code != killed {
		return fmt.Errorf("it ended by itself, with code %d:\n%s", code, victim.Output())
	}
	victim.Again()
	return victim.Ready(readyAgain)
}

// at is a strike at a fault point of a process.
func (p *platform) at(t *testing.T, service, point string) strike {
	victim := p.Of(service)
	return strike{
		clients: 1, rounds: 2,
		begin: func() { p.order(t, service, point) },
		ended: victim.Ended,
		back: func() error {
			p.order(t, service, "")
			return again(victim)
		},
	}
}

// when is a strike at a process after a while, which stays away for a while.
func (p *platform) when(service string, after, away time.Duration) strike {
	victim := p.Of(service)
	gone := make(chan struct{})
	return strike{
		clients: 3, rounds: mostRounds,
		begin: func() { time.AfterFunc(after, func() { victim.Kill(); close(gone) }) },
		ended: func() <-chan struct{} { return gone },
		back: func() error {
			<-time.After(away)
			return again(victim)
		},
	}
}

// server is a strike at one of the servers that the services stand on.
func server(after, away time.Duration, kill, restart func()) strike {
	gone := make(chan struct{})
	return strike{
		clients: 3, rounds: mostRounds,
		begin: func() { time.AfterFunc(after, func() { kill(); close(gone) }) },
		ended: func() <-chan struct{} { return gone },
		back: func() error {
			<-time.After(away)
			restart()
			return nil
		},
	}
}

// times says when each point of a process is reached.
type times struct{ work, stop, start, first map[string]int }

// survey works, stops and starts without a kill, and notes when which points are reached.
func (p *platform) survey(t *testing.T) map[string]times {
	t.Helper()
	out := map[string]times{}
	note := func(keep func(w *times, points map[string]int)) {
		for _, name := range app.Names() {
			w := out[name]
			keep(&w, p.reached(t, name))
			out[name] = w
		}
	}
	p.begin()
	note(func(w *times, points map[string]int) { w.first = points })
	l := p.ledger()
	if err := l.work(t.Context(), p.site); err != nil {
		t.Fatal(err)
	}
	p.settle(t, l)
	note(func(w *times, points map[string]int) { w.work = points })
	if _, err := p.Stop(); err != nil {
		t.Fatal(err)
	}
	note(func(w *times, points map[string]int) { w.stop = points })
	p.begin()
	note(func(w *times, points map[string]int) { w.start = points })
	for _, w := range out { // each point once, where it matters most
		maps.DeleteFunc(w.start, func(name string, _ int) bool { return w.work[name] > 0 })
		maps.DeleteFunc(w.stop, func(name string, _ int) bool { return w.work[name]+w.start[name] > 0 })
		maps.DeleteFunc(w.first, func(name string, _ int) bool { return w.work[name]+w.start[name]+w.stop[name] > 0 })
	}
	return out
}

// report ends a test with its numbers, after everything was looked at once more.
func (p *platform) report(t *testing.T, what string) {
	t.Helper()
	if t.Failed() {
		return
	}
	p.AwaitReady(readyAgain)
	all := *p.total
	all.accounts = all.accounts[max(0, len(all.accounts)-lastAccounts):]
	if err := all.verify(t.Context(), p.site); err != nil {
		p.errs = errors.Join(p.errs, err)
		t.Error(err)
	}
	lost, twice := count(p.errs)
	t.Logf("%s, %d kills of %d processes; %d requests were refused meanwhile; acknowledged %s; lost %d, twice %d", what, p.kills, len(p.Processes), p.site.refused.Load(), p.total, lost, twice)
}

func TestServicesApart(t *testing.T) {
	t.Parallel()
	p := layApart(t)
	points := p.survey(t)
	n, missed := 0, []string(nil)
	for _, service := range app.Names() {
		w := points[service]
		for _, point := range slices.Sorted(maps.Keys(w.work)) {
			n++
			t.Run(service+"/"+point, func(t *testing.T) {
				if !p.life(t, p.at(t, service, point)) {
					missed = append(missed, service+"/"+point)
					p.order(t, service, "")
				}
			})
		}
		for _, point := range slices.Sorted(maps.Keys(w.start)) {
			n++
			t.Run(service+"/start/"+point, func(t *testing.T) { p.startKilled(t, service, point) })
		}
		for _, point := range slices.Sorted(maps.Keys(w.stop)) {
			n++
			t.Run(service+"/stop/"+point, func(t *testing.T) { p.stopKilled(t, service, point) })
		}
	}
	n += p.firstStarts(t, points)
	if n < fewestApart {
		t.Errorf("%d fault points were reached, want at least %d", n, fewestApart)
	}
	t.Logf("not reached a second time: %v", missed)
	if len(missed) > n/10 {
		t.Errorf("%d of %d points were not reached again", len(missed), n)
	}
	p.report(t, fmt.Sprintf("services apart: %d fault points", n-len(missed)))
}

// startKilled ends a process while it starts again, beside a working rest.
func (p *platform) startKilled(t *testing.T, service, point string) {
	victim := p.Of(service)
	victim.Kill()
	p.order(t, service, point)
	victim.Again()
	p.life(t, strike{clients: 1, rounds: 1, begin: func() {}, ended: victim.Ended, back: p.at(t, service, point).back})
	p.order(t, service, "")
}

// stopKilled ends a process while it stops in order.
func (p *platform) stopKilled(t *testing.T, service, point string) {
	s := p.at(t, service, point)
	victim := p.Of(service)
	begin, gone := s.begin, make(chan struct{})
	s.begin = func() {
		begin()
		go func() {
			defer close(gone)
			_, _ = victim.Stop() // it is killed meanwhile
		}()
	}
	s.ended = func() <-chan struct{} { return gone }
	p.life(t, s)
	p.order(t, service, "")
}

// firstStarts ends the processes of a second platform, with nothing in it yet, at each point that only a first start reaches.
func (p *platform) firstStarts(t *testing.T, points map[string]times) (n int) {
	t.Run("first start", func(t *testing.T) {
		fresh := layApart(t)
		for _, service := range app.Names() {
			victim := fresh.Of(service)
			for _, point := range p.inOrder[service] {
				if points[service].first[point] == 0 {
					continue
				}
				fresh.order(t, service, point)
				victim.Again()
				select {
				case <-victim.Ended():
					if code := victim.ExitCode(); code != killed {
						t.Fatalf("%s ended by itself, with code %d", service, code)
					}
					fresh.kills++
					n++
				case <-time.After(backgroundWait): // an earlier life was past it
					t.Logf("%s of %s was not reached", point, service)
					victim.Kill()
				}
				fresh.order(t, service, "")
			}
			victim.Again() // for those that need it
		}
		fresh.open()
		l := fresh.ledger()
		if err := l.work(t.Context(), fresh.site); err != nil {
			t.Fatal(err)
		}
		fresh.settle(t, l)
		p.kills += fresh.kills
		p.errs = errors.Join(p.errs, fresh.errs)
	})
	return n
}

// TestServicesApartAtRandom kills each process, and each server they stand on, amid the work.
func TestServicesApartAtRandom(t *testing.T) {
	t.Parallel()
	p := layApart(t)
	p.begin()
	random := seeded(t)
	p.randomKills(t, random, killsOfEach)
	p.report(t, "services apart at random")
}

func seeded(t *testing.T) *rand.Rand {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

func (p *platform) randomKills(t *testing.T, random *rand.Rand, each int) {
	within := func(d time.Duration) time.Duration { return time.Duration(random.Int64N(int64(d))) }
	for range each {
		for _, service := range app.Names() {
			t.Run(service, func(t *testing.T) { p.life(t, p.when(service, within(time.Second), within(time.Second))) })
		}
	}
	for name, s := range map[string]strike{
		"PostgreSQL": server(within(time.Second), within(2*time.Second), p.Parts.Postgres.Kill, p.Parts.Postgres.Restart),
		"NATS":       server(within(time.Second), within(2*time.Second), p.Parts.NATS.Kill, p.Parts.NATS.Restart),
		"Redis":      server(within(time.Second), within(2*time.Second), p.Parts.Redis.Kill, p.Parts.Redis.Restart),
	} {
		t.Run(name, func(t *testing.T) { p.life(t, s) })
	}
}

// TestTwoReplicas kills one of two amid the work, and leaves it dead: what it had in hand is done by the other.
func TestTwoReplicas(t *testing.T) {
	t.Parallel()
	p := &platform{Platform: harness.TwoOf(t, binary(t)), dir: t.TempDir(), sizes: map[string]int64{}, inOrder: map[string][]string{}, total: newLedger()}
	for i, one := range p.Processes {
		if _, err := one.Stop(); err != nil {
			t.Fatal(err)
		}
		one.Arm("ARAN_FAULT_KILL_FILE=" + filepath.Join(p.dir, fmt.Sprint(i)+".kill"))
		one.Again()
	}
	p.open()
	points := []string{"saga.step_committed", "bus.handled", "bus.published", "audit.signed"}
	for i, point := range points {
		t.Run(point, func(t *testing.T) { p.leftDead(t, i%len(p.Processes), point) })
	}
	p.report(t, fmt.Sprintf("two replicas: %d fault points", len(points)))
}

func (p *platform) leftDead(t *testing.T, i int, point string) {
	victim, other := p.Processes[i], p.Processes[1-i]
	p.site.operator, p.site.command = other.Operator, other.Command
	p.site.data = func() string { return other.Data }
	name := fmt.Sprint(i)
	if !p.life(t, strike{clients: 2, rounds: 3, begin: func() { p.order(t, name, point) }, ended: victim.Ended, back: func() error { return nil }}) {
		t.Errorf("%s was not reached", point)
	}
	p.order(t, name, "")
	select {
	case <-victim.Ended():
		victim.Again()
	default:
	}
	p.AwaitReady(readyAgain)
}

// TestChaos goes on for as long as it is told: every process at every point and at random, and the servers.
func TestChaos(t *testing.T) {
	said := os.Getenv("ARAN_TEST_CHAOS") //nolint:forbidigo // from the suite's run script
	if said == "" {
		t.Skip("long: run it with `make chaos`")
	}
	d, err := time.ParseDuration(said)
	if err != nil {
		t.Fatal(err)
	}
	p := layApart(t)
	points := p.survey(t)
	random := seeded(t)
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	for ctx.Err() == nil && !t.Failed() {
		service := app.Names()[random.IntN(len(app.Names()))]
		at := slices.Sorted(maps.Keys(points[service].work))
		switch {
		case random.IntN(8) == 0:
			p.randomKills(t, random, 1)
		case len(at) > 0:
			point := at[random.IntN(len(at))]
			nth := 1 + random.IntN(points[service].work[point])
			t.Run(fmt.Sprintf("%s/%s@%d", service, point, nth), func(t *testing.T) {
				p.life(t, p.at(t, service, fmt.Sprintf("%s@%d", point, nth)))
				p.order(t, service, "")
			})
		}
	}
	p.report(t, "chaos for "+d.String())
}
