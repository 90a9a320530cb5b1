package bus_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"aran/platform/bus"
	"aran/platform/secret"
	"aran/platform/store"
)

const busPassword = "only for this test"

// guarded is a server on which each service has a user with its rights, and no other. More is what all may publish besides.
func guarded(t *testing.T, dir string, roles map[string][]bus.Role, more ...string) (bus.Hub, string) {
	t.Helper()
	c := newCluster(t, dir, 1)
	c.stop(0)
	for service, does := range roles {
		r := bus.RightsOf(service, slices.DeleteFunc([]string{"log_all"}, func(d string) bool { return strings.HasPrefix(d, service+"_") }), does...)
		c.options[0].Users = append(c.options[0].Users, &server.User{Username: service, Password: busPassword, Permissions: &server.Permissions{
			Publish: &server.SubjectPermission{Allow: append(r.Publish, more...), Deny: r.Deny}, Subscribe: &server.SubjectPermission{Allow: r.Subscribe},
		}})
	}
	c.start(t, 0)
	hub, err := bus.OpenRemote(bus.RemoteOptions{
		URL: c.url(), Login: func(string) (secret.String, error) { return secret.New(busPassword), nil }, Log: quiet,
	})
	must(t, err)
	return hub, c.url()
}

func TestRights(t *testing.T) {
	dir := t.TempDir()
	hub, url := guarded(t, dir, map[string][]bus.Role{"farm": nil, "shop": {bus.RoleReplayer}, "log": {bus.RoleRecorder}})
	farm := openDB(t, dir, "farm")
	must(t, connect(t, hub, "farm").Relay(t.Context(), farm, false))
	emit(t, farm, "aran.farm.grown.v1", "", 1)

	as := map[string]*nats.Conn{}
	for _, who := range []string{"farm", "shop", "log"} {
		nc, err := nats.Connect(url, nats.UserInfo(who, busPassword), nats.CustomInboxPrefix("_INBOX_"+who))
		must(t, err)
		t.Cleanup(nc.Close)
		as[who] = nc
	}
	stream := func(who string) jetstream.Stream {
		js, err := jetstream.New(as[who])
		must(t, err)
		s, err := js.Stream(t.Context(), "ARAN")
		must(t, err)
		return s
	}
	logDB := openDB(t, dir, "log")
	recorded := make(chan string, 8)
	must(t, connect(t, hub, "log").Subscribe(t.Context(), bus.Work{Name: "all", Types: []string{"aran.>"}, DB: logDB, Handle: func(_ context.Context, _ *store.Tx, e bus.Event) error {
		recorded <- e.Type
		return nil
	}}))
	<-recorded
	until(t, "the event is kept", func() bool {
		info, err := stream("log").Info(t.Context())
		return err == nil && info.State.Msgs == 1
	})
	short := func() (context.Context, context.CancelFunc) {
		return context.WithTimeout(t.Context(), 300*time.Millisecond)
	}

	for _, c := range []struct {
		what    string
		try     func(ctx context.Context) error
		refused bool
	}{
		{"a service speaks in another's name", func(ctx context.Context) error { return publish(ctx, as["farm"], "aran.shop.sold.v1") }, true},
		{"a service speaks in its own name", func(ctx context.Context) error { return publish(ctx, as["shop"], "aran.shop.sold.v1") }, false},
		{"a plain service empties the stream", func(ctx context.Context) error { return stream("farm").Purge(ctx) }, true},
		{"a plain service replays for others", func(ctx context.Context) error { return publish(ctx, as["farm"], "aran_retry.shop_count") }, true},
		{"the replayer replays", func(ctx context.Context) error { return publish(ctx, as["shop"], "aran_retry.shop_count") }, false},
		{"a service deletes the stream", func(ctx context.Context) error {
			js, err := jetstream.New(as["log"])
			must(t, err)
			return js.DeleteStream(ctx, "ARAN")
		}, true},
		{"a plain service deletes the recorder's consumer", func(ctx context.Context) error { return stream("farm").DeleteConsumer(ctx, "log_all") }, true},
		{"a plain service changes the recorder's consumer", func(ctx context.Context) error {
			_, err := stream("shop").CreateOrUpdateConsumer(ctx, jetstream.ConsumerConfig{Durable: "log_all", FilterSubject: "aran.none.>"})
			return err
		}, true},
		{"a plain service takes the recorder's deliveries", func(ctx context.Context) error {
			_, err := as["shop"].RequestWithContext(ctx, "$JS.API.CONSUMER.MSG.NEXT.ARAN.log_all", []byte(`{"batch":1,"no_wait":true}`))
			return err
		}, true},
		{"a plain service makes a consumer of its own", func(ctx context.Context) error {
			_, err := stream("farm").CreateOrUpdateConsumer(ctx, jetstream.ConsumerConfig{Durable: "farm_own", FilterSubject: "aran.shop.>"})
			return err
		}, false},
		{"the recorder looks at its consumer", func(ctx context.Context) error {
			_, err := stream("log").Consumer(ctx, "log_all")
			return err
		}, false},
		{"the recorder trims", func(ctx context.Context) error { return stream("log").Purge(ctx, jetstream.WithPurgeSequence(1)) }, false},
	} {
		ctx, cancel := short()
		err := c.try(ctx)
		cancel()
		if (err != nil) != c.refused {
			t.Errorf("%s: %v; refused must be %v", c.what, err, c.refused)
		}
	}

	// Nobody hears what is answered to another.
	failed := make(chan error, 1)
	spy, err := nats.Connect(url, nats.UserInfo("shop", busPassword), nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
		select {
		case failed <- err:
		default:
		}
	}))
	must(t, err)
	defer spy.Close()
	for _, subject := range []string{"_INBOX_farm.>", ">", "aran.>"} {
		_, err := spy.SubscribeSync(subject)
		must(t, err)
		must(t, spy.Flush())
		select {
		case err := <-failed:
			t.Logf("%s: %v", subject, err)
		case <-time.After(5 * time.Second):
			t.Errorf("a service may listen to %s", subject)
		}
	}
}

// publish waits for the stream's word that it keeps the message.
func publish(ctx context.Context, nc *nats.Conn, subject string) error {
	js, err := jetstream.New(nc)
	if err != nil {
		return err
	}
	_, err = js.Publish(ctx, subject, []byte("{}"))
	return err
}
