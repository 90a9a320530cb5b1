package rpc_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"aran/platform/fault"
	"aran/platform/rpc"
)

// link stands between a caller and a service: it can be cut, and it can stop to carry anything, as a process or a
// machine that hangs does.
type link struct {
	l    net.Listener
	to   string
	done sync.WaitGroup

	mu     sync.Mutex
	hung   chan struct{} // nil: it carries
	conns  map[net.Conn]bool
	opened int
}

func newLink(t *testing.T, listen, to string) *link {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", listen)
	if err != nil {
		t.Fatal(err)
	}
	k := &link{l: l, to: to, conns: map[net.Conn]bool{}}
	k.done.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			k.done.Go(func() { k.carry(in) })
		}
	})
	t.Cleanup(func() { k.cut(); k.done.Wait() })
	return k
}

func (k *link) address() string { return k.l.Addr().String() }

func (k *link) carry(in net.Conn) {
	out, err := (&net.Dialer{}).DialContext(context.Background(), "tcp", k.to)
	if err != nil {
		_ = in.Close()
		return
	}
	k.mu.Lock()
	k.opened++
	k.conns[in], k.conns[out] = true, true
	k.mu.Unlock()
	var both sync.WaitGroup
	for from, to := range map[net.Conn]net.Conn{in: out, out: in} {
		both.Go(func() {
			defer in.Close()  //nolint:errcheck // ends the other direction
			defer out.Close() //nolint:errcheck // the same
			for b := make([]byte, 32<<10); ; {
				n, err := from.Read(b)
				if err != nil {
					return
				}
				k.mu.Lock()
				hung := k.hung
				k.mu.Unlock()
				if hung != nil {
					<-hung
				}
				if _, err := to.Write(b[:n]); err != nil {
					return
				}
			}
		})
	}
	both.Wait()
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.conns, in)
	delete(k.conns, out)
}

func (k *link) hang() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.hung = make(chan struct{})
}

func (k *link) goOn() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.hung != nil {
		close(k.hung)
	}
	k.hung = nil
}

// cut ends it as kill -9 ends a process.
func (k *link) cut() {
	_ = k.l.Close()
	k.goOn()
	k.mu.Lock()
	defer k.mu.Unlock()
	for c := range k.conns {
		_ = c.(*net.TCPConn).SetLinger(0)
		_ = c.Close()
	}
}

func (k *link) connections() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.opened
}

// well calls until it is answered.
func well(t *testing.T, rt http.RoundTripper) {
	t.Helper()
	deadline := time.Now().Add(15 * time.Second)
	for {
		status, body, err := get(t.Context(), rt, "guard")
		if err == nil && status == http.StatusOK {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d %q %v", status, body, err)
		}
		<-time.After(20 * time.Millisecond)
	}
}

// TestAServiceThatDies: open calls end with a fault, and calls work again once it is back.
func TestAServiceThatDies(t *testing.T) {
	t.Parallel()
	a := authority(t)
	started := make(chan struct{}, 100)
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/wait" {
			started <- struct{}{}
			<-r.Context().Done()
		}
		_, _ = io.WriteString(w, "ok")
	})
	address := hosted(t, identity(t, a, "guard", time.Hour), h, h)
	k := newLink(t, "127.0.0.1:0", address)
	rt := dial(t, identity(t, a, "chat", time.Hour), "guard", rpc.KindInternal, k.address())
	errs := make(chan error, 20)
	for range cap(errs) {
		go func() { errs <- waitForever(t.Context(), rt) }()
	}
	for range cap(errs) {
		<-started
	}
	begin := time.Now()
	k.cut()
	for range cap(errs) {
		if err := <-errs; fault.KindOf(err) != fault.Unavailable {
			t.Errorf("a call in hand ends with %v", err)
		}
	}
	if _, _, err := get(t.Context(), rt, "guard"); fault.KindOf(err) != fault.Unavailable || fault.From(err).RetryAfter <= 0 {
		t.Errorf("the next call ends with %v", err)
	}
	if took := time.Since(begin); took > 2*time.Second {
		t.Errorf("that took %v", took)
	}
	newLink(t, k.address(), address)
	well(t, rt)
}

// TestACallWhoseServiceDies: the caller is told to try again, before the answer's first byte and amid it, and nothing of the inside.
func TestACallWhoseServiceDies(t *testing.T) {
	t.Parallel()
	a := authority(t)
	started := make(chan struct{}, 1)
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		if r.URL.Path == "/words/amid" {
			w.Header().Set("Content-Type", "application/proto")
			_, _ = w.Write([]byte{0x0a, 0x20, 'h', 'a', 'l', 'f'})
			_ = http.NewResponseController(w).Flush()
		}
		started <- struct{}{}
		<-r.Context().Done()
	})
	address := hosted(t, identity(t, a, "guard", time.Hour), h, h)
	for _, when := range []string{"before", "amid"} {
		k := newLink(t, "127.0.0.1:0", address)
		rt := dial(t, identity(t, a, "chat", time.Hour), "guard", rpc.KindInternal, k.address())
		c := connect.NewClient[wrapperspb.StringValue, wrapperspb.StringValue](&http.Client{Transport: rt}, "http://guard/words/"+when, rpc.ClientOptions("guard", nil)...)
		got := make(chan error, 1)
		go func() {
			_, err := c.CallUnary(t.Context(), connect.NewRequest(wrapperspb.String("hello")))
			got <- err
		}()
		<-started
		k.cut()
		err := <-got
		f := fault.From(err)
		if f == nil || f.Kind != fault.Unavailable || f.RetryAfter <= 0 || strings.Contains(f.Detail, "127.0.0.1") {
			t.Errorf("%s the answer: the caller gets %#v of %v", when, f, err)
		}
	}
}

func waitForever(ctx context.Context, rt http.RoundTripper) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://guard/wait", nil)
	if err != nil {
		return err
	}
	res, err := rt.RoundTrip(req)
	if err == nil {
		err = errors.Join(errors.New("it was answered"), res.Body.Close())
	}
	return err
}

// TestAServiceThatHangs: a process that is stopped keeps its connections open and says nothing.
func TestAServiceThatHangs(t *testing.T) {
	t.Parallel()
	a := authority(t)
	address := hosted(t, identity(t, a, "guard", time.Hour), says("internal"), says("public"))
	k := newLink(t, "127.0.0.1:0", address)
	rt := dial(t, identity(t, a, "chat", time.Hour), "guard", rpc.KindInternal, k.address())
	well(t, rt)
	k.hang()
	begin := time.Now() // of a call on the connection that there is
	if _, _, err := get(t.Context(), rt, "guard"); fault.KindOf(err) != fault.Unavailable || time.Since(begin) > 10*time.Second {
		t.Errorf("a call on its connection: %v after %v", err, time.Since(begin))
	}
	begin = time.Now() // and of one that has to connect
	if _, _, err := get(t.Context(), rt, "guard"); fault.KindOf(err) != fault.Unavailable || time.Since(begin) > 6*time.Second {
		t.Errorf("a call that connects: %v after %v", err, time.Since(begin))
	}
	k.goOn()
	well(t, rt)
}

// TestReplicas: calls are spread over the addresses of a name, and pass over one that is dead or hangs.
func TestReplicas(t *testing.T) {
	t.Parallel()
	a := authority(t)
	var counts [3]atomic.Int64
	id := identity(t, a, "guard", time.Hour)
	var links [3]*link
	port := ""
	for i := range counts {
		h := http.HandlerFunc(func(http.ResponseWriter, *http.Request) { counts[i].Add(1) })
		host := net.JoinHostPort([]string{"127.0.0.1", "127.0.0.2", "127.0.0.3"}[i], port)
		if i == 0 {
			host = "127.0.0.1:0"
		}
		links[i] = newLink(t, host, hosted(t, id, h, h))
		if i == 0 {
			var err error
			if _, port, err = net.SplitHostPort(links[0].address()); err != nil {
				t.Fatal(err)
			}
		}
	}
	rt := rpc.Dial(identity(t, a, "chat", time.Hour), "guard", rpc.KindInternal, net.JoinHostPort("guard", port))
	var asked atomic.Int64
	rt.Resolve(func(_ context.Context, host string) ([]string, error) {
		asked.Add(1)
		if host != "guard" {
			t.Errorf("asked for %q", host)
		}
		return []string{"127.0.0.3", "127.0.0.1", "127.0.0.2"}, nil
	})
	t.Cleanup(rt.Close)
	for range 90 {
		if _, _, err := get(t.Context(), rt, "guard"); err != nil {
			t.Fatal(err)
		}
	}
	for i := range counts {
		if n := counts[i].Load(); n < 20 {
			t.Errorf("replica %d got %d of 90 calls", i, n)
		}
	}
	links[1].cut()
	failed := 0
	for range 30 {
		if _, _, err := get(t.Context(), rt, "guard"); err != nil {
			failed++
		}
	}
	if failed > 1 { // the call that was first to meet the broken connection
		t.Errorf("%d of 30 calls failed with one dead replica of three", failed)
	}
	links[2].hang()
	links[2].mu.Lock()
	for c := range links[2].conns { // the open ones are lost with it: TestAServiceThatHangs has those that stay
		_ = c.Close()
	}
	links[2].mu.Unlock()
	failed = 0
	begin := time.Now()
	for range 30 {
		if _, _, err := get(t.Context(), rt, "guard"); err != nil {
			failed++
		}
	}
	if failed > 1 || time.Since(begin) > 8*time.Second {
		t.Errorf("%d of 30 calls failed in %v with one living replica of three", failed, time.Since(begin))
	}
	if n := asked.Load(); n > 5 {
		t.Errorf("the name service was asked %d times for 150 calls", n)
	}
}

// TestMoreCallsThanAConnectionCarries open another, and a crowd that arrives at once does not open one each.
func TestMoreCallsThanAConnectionCarries(t *testing.T) {
	t.Parallel()
	a := authority(t)
	const at, crowd = 50, 75
	goOn := make(chan struct{})
	var inside sync.WaitGroup
	inside.Add(crowd)
	m, err := rpc.NewMesh(domain, silent)
	if err != nil {
		t.Fatal(err)
	}
	m.LimitStreams(at)
	m.Add(identity(t, a, "guard", time.Hour), rpc.KindInternal, []string{"chat"}, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/wait" {
			inside.Done()
			<-goOn
		}
	}))
	if err := m.Listen(t.Context(), "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.Close(context.WithoutCancel(t.Context())) })
	k := newLink(t, "127.0.0.1:0", m.Address())
	rt := dial(t, identity(t, a, "chat", time.Hour), "guard", rpc.KindInternal, k.address())
	errs := make(chan error, crowd)
	for range crowd {
		go func() {
			if err := waitForever(t.Context(), rt); fault.KindOf(err) == fault.Unavailable {
				errs <- err
				return
			}
			errs <- nil
		}()
	}
	inside.Wait()
	close(goOn)
	for range crowd {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	if n := k.connections(); n < 2 || n > 8 {
		t.Errorf("%d calls took %d connections", crowd, n)
	}
	var wg sync.WaitGroup
	for range 300 { // far more than two connections carry at once: the rest waits its turn
		wg.Go(func() {
			if status, _, err := get(t.Context(), rt, "guard"); err != nil || status != http.StatusOK {
				t.Errorf("%d %v", status, err)
			}
		})
	}
	wg.Wait()
}
