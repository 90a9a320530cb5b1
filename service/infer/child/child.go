// Package child runs a model in a process of its own, and looks after that process.
//
// Native code and model files that came from elsewhere can end the child, never us: it has a private socket,
// no environment, no inherited files, little memory, low priority, and ends when we do. It is started when it
// is needed, again after a crash (with growing pauses), and sleeps when nobody asks. Callers wait while it
// loads and get fault.Unavailable with RetryAfter while it is away.
package child

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"aran/platform/fault"
)

// Status of the model behind the child.
type Status string

// The states. Asleep is ready, but not in memory.
const (
	Waiting Status = "waiting" // nobody asked yet
	Loading Status = "loading"
	Ready   Status = "ready"
	Asleep  Status = "asleep"
	Missing Status = "missing"
	Failed  Status = "failed"
	Closed  Status = "closed"
)

// State is a status with what an operator wants to know about it.
type State struct {
	Status Status
	Detail string    // why it is missing or failed
	Retry  time.Time // when a failed child is started again
}

// Pack is what the child runs: the arguments of its program, which name files that were checked just now. The
// program is given `--socket PATH` too.
type Pack struct{ Args []string }

// MissingError says that there is nothing to run. Its text is for the operator and the caller.
type MissingError struct{ Reason string }

func (e *MissingError) Error() string { return e.Reason }

// Options of a child.
type Options struct {
	Name     string // of the model, for messages
	Program  string // path of the engine
	Pack     func(ctx context.Context) (Pack, error)
	Memory   int64         // bytes of private memory; 0: no limit
	Nice     int           // 0 to 19
	IdleStop time.Duration // 0: never; see SetIdleStop
	Changed  func(State)   // called at every change, from one goroutine; it must not call the child
	Log      *slog.Logger
}

// Pauses and patience.
const (
	startTimeout = 60 * time.Second
	waitTimeout  = 20 * time.Second // how long a caller waits for a model that loads
	firstBackoff = 500 * time.Millisecond
	maxBackoff   = time.Minute
	healthyAfter = time.Minute // a run this long was not a failed start
	endPatience  = 400 * time.Millisecond
	longNap      = 10 * time.Second
)

// Child is safe for concurrent use.
type Child struct {
	o    Options
	wake chan struct{}
	stop chan struct{}
	done chan struct{}

	mu       sync.Mutex
	state    State
	seq      int
	changed  chan struct{} // closed at the next change
	proc     *process      // of a Ready state
	users    int
	idle     time.Time // since when there are none
	stopIdle time.Duration
	started  bool
	closing  bool
}

// New makes a child that is not running. The first state is Waiting.
func New(o Options) *Child {
	return &Child{
		o: o, wake: make(chan struct{}, 1), stop: make(chan struct{}), done: make(chan struct{}),
		state: State{Status: Waiting}, changed: make(chan struct{}), stopIdle: o.IdleStop,
	}
}

// SetIdleStop changes after how long without a call the child falls asleep; 0: never.
func (c *Child) SetIdleStop(d time.Duration) {
	c.mu.Lock()
	c.stopIdle = d
	c.mu.Unlock()
}

// Users is how many hold a lease.
func (c *Child) Users() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.users
}

// Start begins to supervise, until Stop. The process itself starts at the first Wake or Acquire.
func (c *Child) Start(ctx context.Context) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.started || c.closing {
		return
	}
	c.started = true
	go c.supervise(context.WithoutCancel(ctx))
}

// Stop ends the process within about half a second, and returns when it is gone or ctx ends.
func (c *Child) Stop(ctx context.Context) error {
	c.mu.Lock()
	if !c.closing {
		c.closing = true
		close(c.stop)
		if !c.started {
			close(c.done)
		}
	}
	c.mu.Unlock()
	select {
	case <-c.done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Wake starts the process if it is not running.
func (c *Child) Wake() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// State is the present one.
func (c *Child) State() State {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.state
}

// Lease is the use of a running child. Release it.
type Lease struct {
	Client *http.Client // reaches the child whatever the host in the URL is
	child  *Child
	proc   *process
	once   sync.Once
}

// Release gives the child back; it may then fall asleep.
func (l *Lease) Release() {
	l.once.Do(func() {
		l.child.mu.Lock()
		defer l.child.mu.Unlock()
		l.child.users--
		l.child.idle = time.Now()
	})
}

// Kill ends a process that hangs; the child is started again.
func (l *Lease) Kill() { l.proc.kill() }

// Acquire waits until the model is ready. While the child is in its pause after a crash it returns
// fault.Unavailable at once, with RetryAfter; when there is nothing to run, fault.Unavailable `model_missing`.
func (c *Child) Acquire(ctx context.Context) (*Lease, error) {
	limit := time.NewTimer(waitTimeout)
	defer limit.Stop()
	first := -1
	for {
		c.mu.Lock()
		s, seq, changed := c.state, c.seq, c.changed
		if s.Status == Ready {
			c.users++
			l := &Lease{Client: c.proc.client, child: c, proc: c.proc}
			c.mu.Unlock()
			return l, nil
		}
		c.mu.Unlock()
		if first < 0 {
			first = seq
			c.Wake()
		}
		switch {
		case s.Status == Closed:
			return nil, c.away(time.Second, nil)
		case s.Status == Failed:
			return nil, c.away(time.Until(s.Retry), errors.New(s.Detail))
		case s.Status == Missing && seq > first: // looked again, for this caller
			return nil, fault.New(fault.Unavailable, "model_missing", "%s", s.Detail)
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-limit.C:
			return nil, c.away(time.Second, errors.New("it is still loading"))
		}
	}
}

func (c *Child) away(after time.Duration, why error) error {
	f := fault.New(fault.Unavailable, "model_unavailable", "Model %s is not ready; try again.", c.o.Name).After(max(after, time.Second).Round(time.Second))
	if why != nil {
		f = f.Because(why)
	}
	return f
}

func (c *Child) set(s State, p *process) {
	c.mu.Lock()
	c.state, c.proc = s, p
	c.seq++
	c.idle = time.Now()
	close(c.changed)
	c.changed = make(chan struct{})
	c.mu.Unlock()
	if c.o.Changed != nil {
		c.o.Changed(s)
	}
}

// supervise owns the process: it starts, watches, restarts and ends it.
func (c *Child) supervise(ctx context.Context) {
	defer close(c.done)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		<-c.stop
		cancel()
	}()
	failures := 0
	for c.waitForWork(ctx, failures) {
		begin := time.Now()
		err := c.run(ctx)
		var missing *MissingError
		switch {
		case ctx.Err() != nil:
		case err == nil:
			failures = 0
			c.set(State{Status: Asleep}, nil)
		case errors.As(err, &missing):
			failures = 0
			c.set(State{Status: Missing, Detail: missing.Reason}, nil)
		default:
			if time.Since(begin) > healthyAfter {
				failures = 0
			}
			failures++
			pause := backoff(failures)
			c.o.Log.LogAttrs(ctx, slog.LevelWarn, "model process failed", slog.String("model", c.o.Name), slog.String("error", err.Error()), slog.Duration("restart_in", pause))
			c.set(State{Status: Failed, Detail: err.Error(), Retry: time.Now().Add(pause)}, nil)
		}
	}
	c.set(State{Status: Closed}, nil)
}

func backoff(failures int) time.Duration {
	return min(firstBackoff<<min(failures-1, 16), maxBackoff)
}

// waitForWork returns when the process is to be started: after a failure by itself, else when somebody asks.
func (c *Child) waitForWork(ctx context.Context, failures int) bool {
	wake := c.wake
	var timer <-chan time.Time
	if failures > 0 {
		t := time.NewTimer(backoff(failures))
		defer t.Stop()
		wake, timer = nil, t.C
	}
	select {
	case <-wake:
	case <-timer:
	case <-ctx.Done():
	}
	return ctx.Err() == nil
}

// run is one life of the process. It returns nil when it was put to sleep.
func (c *Child) run(ctx context.Context) error {
	c.set(State{Status: Loading}, nil)
	pack, err := c.o.Pack(ctx)
	if err != nil {
		return err
	}
	p, err := startProcess(c.o, pack)
	if err != nil {
		return err
	}
	defer p.end()
	if err := p.waitHealthy(ctx); err != nil {
		return err
	}
	c.o.Log.LogAttrs(ctx, slog.LevelInfo, "model process is ready", slog.String("model", c.o.Name), slog.Duration("took", time.Since(p.begin)), slog.Int("pid", p.cmd.Process.Pid))
	c.set(State{Status: Ready}, p)
	return c.watch(ctx, p)
}

// watch returns when the process ends, or may sleep.
func (c *Child) watch(ctx context.Context, p *process) error {
	tick := time.NewTimer(c.nap())
	defer tick.Stop()
	for {
		select {
		case <-p.exited:
			return p.reason()
		case <-ctx.Done():
			return ctx.Err()
		case <-c.wake: // it is awake
		case <-tick.C:
			if c.sleep() {
				return nil
			}
			tick.Reset(c.nap())
		}
	}
}

// nap is how long to wait before looking again whether the child may sleep.
func (c *Child) nap() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stopIdle == 0 {
		return longNap
	}
	return min(max(c.stopIdle/4, 10*time.Millisecond), longNap)
}

// sleep takes the process away from callers when it was idle for long.
func (c *Child) sleep() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.users > 0 || c.stopIdle == 0 || time.Since(c.idle) < c.stopIdle {
		return false
	}
	// From here Acquire finds no process and wakes a new one. supervise reports the change.
	c.state, c.proc = State{Status: Asleep}, nil
	return true
}
