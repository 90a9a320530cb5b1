package bus_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"aran/platform/bus"
	"aran/platform/fault"
)

// cluster is NATS servers that listen on loopback.
type cluster struct {
	dir     string
	options []*server.Options
	nodes   []*server.Server
}

func newCluster(t *testing.T, dir string, size int) *cluster {
	t.Helper()
	c := &cluster{dir: dir}
	var routes []string
	ports := make([]int, size)
	for i := range size {
		// A server that is started for its ports only.
		probe, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: -1, NoLog: true, NoSigs: true})
		must(t, err)
		probe.Start()
		if !probe.ReadyForConnections(10 * time.Second) {
			t.Fatal("no free port")
		}
		_, err = fmt.Sscanf(probe.ClientURL(), "nats://127.0.0.1:%d", &ports[i])
		must(t, err)
		probe.Shutdown()
		probe.WaitForShutdown()
		routes = append(routes, fmt.Sprintf("nats://127.0.0.1:%d", ports[i]))
	}
	for i := range size {
		o := &server.Options{
			ServerName: fmt.Sprint("n", i), Host: "127.0.0.1", Port: -1, NoLog: true, NoSigs: true, JetStream: true, StoreDir: filepath.Join(dir, fmt.Sprint("n", i)),
		}
		if size > 1 {
			o.Cluster = server.ClusterOpts{Name: "test", Host: "127.0.0.1", Port: ports[i]}
			o.Routes = server.RoutesFromStr(strings.Join(routes, ","))
		} else {
			o.Port = ports[i]
		}
		c.options = append(c.options, o)
		c.nodes = append(c.nodes, nil)
		c.start(t, i)
	}
	until(t, "the cluster has a leader", func() bool {
		for _, n := range c.nodes {
			if size == 1 || n.JetStreamIsLeader() {
				return true
			}
		}
		return false
	})
	t.Cleanup(func() {
		for i := range c.nodes {
			c.stop(i)
		}
	})
	return c
}

func (c *cluster) start(t *testing.T, i int) {
	t.Helper()
	n, err := server.NewServer(c.options[i])
	must(t, err)
	n.Start()
	if !n.ReadyForConnections(10 * time.Second) {
		t.Fatal("the server does not start")
	}
	c.nodes[i] = n
	if c.options[i].Port <= 0 { // the same one when it comes back
		_, err := fmt.Sscanf(n.ClientURL(), "nats://127.0.0.1:%d", &c.options[i].Port)
		must(t, err)
	}
}

func (c *cluster) stop(i int) {
	if c.nodes[i] != nil {
		c.nodes[i].Shutdown()
		c.nodes[i].WaitForShutdown()
	}
	c.nodes[i] = nil
}

func (c *cluster) url() string {
	var urls []string
	for _, o := range c.options {
		urls = append(urls, fmt.Sprintf("nats://127.0.0.1:%d", o.Port))
	}
	return strings.Join(urls, ",")
}

// clean forgets all that is kept, so that a cluster serves several tests.
func (c *cluster) clean(t *testing.T) {
	t.Helper()
	nc, err := nats.Connect(c.url())
	must(t, err)
	defer nc.Close()
	js, err := jetstream.New(nc)
	must(t, err)
	for _, s := range []string{"ARAN", "ARAN_DEAD"} {
		until(t, "the stream is gone", func() bool {
			err := js.DeleteStream(t.Context(), s)
			return err == nil || errors.Is(err, jetstream.ErrStreamNotFound)
		})
	}
}

func (c *cluster) hub(t *testing.T) *bus.Remote {
	t.Helper()
	r, err := bus.OpenRemote(bus.RemoteOptions{URL: c.url(), Replicas: len(c.nodes), Log: quiet})
	must(t, err)
	return r
}

// TestAHubThatIsAway: at the start and later, what was acknowledged arrives once it is there.
func TestAHubThatIsAway(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	c := newCluster(t, dir, 1)
	c.stop(0)
	hub := c.hub(t)
	farm, shop := openDB(t, dir, "farm"), openDB(t, dir, "shop")
	sender, receiver := connect(t, hub, "farm"), connect(t, hub, "shop")
	must(t, receiver.Subscribe(t.Context(), bus.Work{Name: "count", Types: []string{"aran.farm.>"}, DB: shop, Handle: note}))
	heard := make(chan string, 100)
	must(t, receiver.Broadcast(t.Context(), []string{"aran.farm.>"}, func(_ context.Context, e bus.Event) { heard <- e.ID }))
	must(t, sender.Relay(t.Context(), farm, false))
	emit(t, farm, "aran.farm.grown.v1", "", 1)
	if sender.Ping(t.Context()) == nil {
		t.Error("a hub that is not there answers")
	}
	if n, err := sender.Pending(t.Context()); err != nil || n != 1 {
		t.Errorf("%d pending, %v; want the event in the outbox", n, err)
	}
	c.start(t, 0)
	until(t, "the first event has its effect", func() bool { return len(effects(t, shop)) == 1 })
	until(t, "the connection is well", func() bool { return sender.Ping(t.Context()) == nil })

	c.stop(0)
	for i := range 20 {
		emit(t, farm, "aran.farm.grown.v1", "", 2+i)
	}
	c.start(t, 0)
	until(t, "all have their effect", func() bool { return len(effects(t, shop)) >= 21 })
	drained(t, sender, receiver)
	if n := len(effects(t, shop)); n != 21 {
		t.Errorf("%d effects of 21 events", n)
	}
	emit(t, farm, "aran.farm.grown.v1", "last", 99)
	until(t, "the broadcast is heard again", func() bool {
		for {
			select {
			case id := <-heard:
				if id == "last" {
					return true
				}
			default:
				return false
			}
		}
	})
}

// TestAHubThatForgotEverything comes back with empty files: streams and subscriptions are made again, and what the
// outbox still keeps is sent again.
func TestAHubThatForgotEverything(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	c := newCluster(t, dir, 1)
	hub := c.hub(t)
	farm, shop := openDB(t, dir, "farm"), openDB(t, dir, "shop")
	sender, receiver := connect(t, hub, "farm"), connect(t, hub, "shop")
	must(t, receiver.Subscribe(t.Context(), bus.Work{Name: "count", Types: []string{"aran.farm.>"}, DB: shop, Handle: note}))
	must(t, sender.Relay(t.Context(), farm, false))
	emit(t, farm, "aran.farm.grown.v1", "", 1)
	until(t, "the event has its effect", func() bool { return len(effects(t, shop)) == 1 })
	c.stop(0)
	c.options[0].StoreDir = filepath.Join(dir, "empty")
	c.start(t, 0)
	emit(t, farm, "aran.farm.grown.v1", "", 2)
	until(t, "the second event has its effect", func() bool { return len(effects(t, shop)) >= 2 })
	drained(t, sender, receiver)
	if got := effects(t, shop); len(got) != 2 {
		t.Errorf("effects %v: the first event came again", got)
	}
}

func TestLease(t *testing.T) {
	t.Parallel()
	c := newCluster(t, t.TempDir(), 1)
	hub := c.hub(t)
	fatal := func(err error) { t.Errorf("the lease was lost: %v", err) }
	release, err := hub.Hold(t.Context(), "user", fatal)
	must(t, err)
	if _, err := hub.Hold(t.Context(), "user", fatal); err == nil || fault.From(err) == nil || fault.From(err).Code != "second_replica" {
		t.Errorf("a second holder: %v", err)
	}
	other, err := hub.Hold(t.Context(), "chat", fatal)
	must(t, err)
	other()
	release()
	again, err := hub.Hold(t.Context(), "user", fatal)
	must(t, err)
	again()
}

func TestRemoteOptionsAreChecked(t *testing.T) {
	for _, o := range []bus.RemoteOptions{{}, {URL: "nats://127.0.0.1:1", Replicas: 9}} {
		if _, err := bus.OpenRemote(o); err == nil {
			t.Errorf("%+v was taken", o)
		}
	}
}
