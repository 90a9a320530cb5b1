package bus_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"aran/platform/bus"
)

const nodeVariable = "ARAN_TEST_BUS_NODE"

// node is a server of a cluster, as its process is told of it.
type node struct {
	Name, Dir, Routes string
	Port, Cluster     int
}

// TestNode is a server in a process of its own, until it is killed.
func TestNode(t *testing.T) {
	text := os.Getenv(nodeVariable) //nolint:forbidigo // from its parent, a test here
	if text == "" {
		t.Skip("only as a child")
	}
	var n node
	must(t, json.Unmarshal([]byte(text), &n))
	s, err := server.NewServer(&server.Options{
		ServerName: n.Name, Host: "127.0.0.1", Port: n.Port, NoLog: true, NoSigs: true, JetStream: true, StoreDir: n.Dir,
		Cluster: server.ClusterOpts{Name: "test", Host: "127.0.0.1", Port: n.Cluster}, Routes: server.RoutesFromStr(n.Routes),
	})
	must(t, err)
	s.Start()
	s.WaitForShutdown()
}

// processes are the servers of a cluster, each a process that can be killed.
type processes struct {
	nodes []node
	cmds  []*exec.Cmd
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	must(t, err)
	defer l.Close() //nolint:errcheck // it is only asked for its port
	return l.Addr().(*net.TCPAddr).Port
}

func startProcesses(t *testing.T, dir string, size int) *processes {
	t.Helper()
	p := &processes{cmds: make([]*exec.Cmd, size)}
	var routes []string
	for i := range size {
		p.nodes = append(p.nodes, node{Name: fmt.Sprint("n", i), Dir: filepath.Join(dir, fmt.Sprint("n", i)), Port: freePort(t), Cluster: freePort(t)})
		routes = append(routes, fmt.Sprint("nats://127.0.0.1:", p.nodes[i].Cluster))
	}
	for i := range size {
		p.nodes[i].Routes = strings.Join(routes, ",")
		p.start(t, i)
	}
	t.Cleanup(func() {
		for i := range size {
			p.kill(i)
		}
	})
	return p
}

func (p *processes) start(t *testing.T, i int) {
	t.Helper()
	text, err := json.Marshal(p.nodes[i])
	must(t, err)
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), os.Args[0], "-test.run", "^TestNode$")
	cmd.Env = append(os.Environ(), nodeVariable+"="+string(text)) //nolint:forbidigo // for its child
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	must(t, cmd.Start())
	p.cmds[i] = cmd
}

// kill ends a node's process with SIGKILL.
func (p *processes) kill(i int) {
	if p.cmds[i] == nil {
		return
	}
	_ = p.cmds[i].Process.Kill()
	_ = p.cmds[i].Wait()
	p.cmds[i] = nil
}

func (p *processes) url() string {
	var urls []string
	for _, n := range p.nodes {
		urls = append(urls, fmt.Sprint("nats://127.0.0.1:", n.Port))
	}
	return strings.Join(urls, ",")
}

// standing is what the cluster says of its events: who leads them, and how many nodes have all of them.
func (p *processes) standing(ctx context.Context, js jetstream.JetStream) (leader string, current int) {
	s, err := js.Stream(ctx, "ARAN")
	if err != nil || s.CachedInfo().Cluster == nil || s.CachedInfo().Cluster.Leader == "" {
		return "", 0
	}
	c := s.CachedInfo().Cluster
	current = 1
	for _, r := range c.Replicas {
		if r.Current && !r.Offline {
			current++
		}
	}
	return c.Leader, current
}

// TestAClusterIsKilledNodeByNode: each time the node that leads dies while events are sent and worked on. What was
// acknowledged arrives, and has its effect once.
func TestAClusterIsKilledNodeByNode(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	p := startProcesses(t, dir, 3)
	hub, err := bus.OpenRemote(bus.RemoteOptions{URL: p.url(), Replicas: 3, Log: quiet})
	must(t, err)
	farm, shop := openDB(t, dir, "farm"), openDB(t, dir, "shop")
	sender, receiver := connect(t, hub, "farm"), connect(t, hub, "shop")
	must(t, receiver.Subscribe(t.Context(), bus.Work{Name: "count", Types: []string{"aran.farm.>"}, DB: shop, Handle: note}))
	must(t, sender.Relay(t.Context(), farm, false))
	nc, err := nats.Connect(p.url(), nats.RetryOnFailedConnect(true), nats.MaxReconnects(-1), nats.ReconnectWait(100*time.Millisecond))
	must(t, err)
	defer nc.Close()
	js, err := jetstream.New(nc, jetstream.WithDefaultTimeout(time.Second))
	must(t, err)

	ctx, stop := context.WithCancel(t.Context())
	var sent atomic.Int64
	var traffic sync.WaitGroup
	traffic.Go(func() {
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for ctx.Err() == nil {
			emit(t, farm, "aran.farm.grown.v1", "", int(sent.Add(1)))
			<-tick.C
		}
	})
	t.Cleanup(func() { stop(); traffic.Wait() })
	worked := func(n int64) func() bool { return func() bool { return len(effects(t, shop)) >= int(n) } }
	killed := map[string]bool{}
	for round := range 3 {
		leader := ""
		patiently(t, "all nodes have all events", func() bool {
			l, current := p.standing(ctx, js)
			leader = l
			return current == 3
		})
		patiently(t, "events flow", worked(sent.Load()+5))
		i := slices.IndexFunc(p.nodes, func(n node) bool { return n.Name == leader })
		if round == 2 { // the last round is for a node that was not yet killed, if there is one
			if j := slices.IndexFunc(p.nodes, func(n node) bool { return !killed[n.Name] }); j >= 0 {
				i = j
			}
		}
		killed[p.nodes[i].Name] = true
		p.kill(i)
		patiently(t, "two nodes carry on", worked(sent.Load()+20))
		p.start(t, i)
	}
	stop()
	traffic.Wait()
	patiently(t, "all is worked off", worked(sent.Load()))
	drained(t, sender, receiver)
	got := effects(t, shop)
	slices.Sort(got)
	for i, n := range got {
		if n != i+1 {
			t.Fatalf("of %d events, number %d was lost or stands twice: %v…", sent.Load(), i+1, got[max(0, i-2):min(len(got), i+3)])
		}
	}
	if len(got) != int(sent.Load()) {
		t.Errorf("%d effects of %d events", len(got), sent.Load())
	}
	t.Logf("%d events, killed %v", len(got), killed)
}

// patiently is until, for a cluster that elects.
func patiently(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(time.Minute); !ok(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("waited too long until %s", what)
		}
	}
}
