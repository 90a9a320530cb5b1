package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"
)

// Levels of findings.
const (
	Good    = "good"
	Missing = "missing"
	Unsafe  = "unsafe"
)

// Finding is one thing that `aran doctor` looked at.
type Finding struct{ Level, Text string }

// Examine looks at the settings and the data directory. It changes nothing.
func Examine(_ context.Context, cfg *Config) []Finding {
	var out []Finding
	say := func(bad bool, level, text, fine string) {
		if bad {
			out = append(out, Finding{level, text})
			return
		}
		out = append(out, Finding{Good, fine})
	}
	say(cfg.Gateway.UnsafePlainHTTP, Unsafe, "gateway.unsafe_plain_http is set: credentials travel in the clear", "the public address does not carry credentials in the clear")
	say(cfg.Store.UnsafePlain, Unsafe, "store.unsafe_plain is set: what is stored may travel in the clear", "databases on other machines are reached over TLS")
	say(cfg.Bus.UnsafePlain, Unsafe, "bus.unsafe_plain is set: events travel in the clear", "events travel to other machines over TLS")
	say(cfg.Watch.UnsafePublic, Unsafe, "watch.unsafe_public is set: the operator address has no authentication", "the operator address is on loopback")
	say(cfg.Chat.InsecurePlainHTTP, Unsafe, "chat.insecure_plain_http is set: prompts travel in the clear", "providers on other machines are reached over TLS")
	say(cfg.Chat.InsecureUnscannedData, Unsafe, "chat.insecure_unscanned_data is set: unscanned content reaches providers", "nothing unscanned reaches a provider")
	say(cfg.Notify.UnsafePrivateTargets, Unsafe, "notify.unsafe_private_targets is set: webhooks reach private networks and this machine", "webhooks reach public addresses only")
	if info, err := os.Stat(cfg.Data.Dir); err == nil {
		say(info.Mode().Perm()&0o077 != 0, Unsafe, fmt.Sprintf("%s can be read by others: chmod 700", cfg.Data.Dir), "the data directory is readable by its owner alone")
	}
	out = append(out, Finding{Good, modelLines(cfg)[0]})
	return out
}

const readyTimeout = 3 * time.Second

// AskReady asks the process with these settings, at its operator address, whether it is ready; the error says what is not.
func AskReady(ctx context.Context, cfg *Config) error {
	if cfg.Watch.Listen == "" {
		return errors.New("watch.listen is empty: nobody can be asked")
	}
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+cfg.Watch.Listen+"/readyz", nil)
	if err != nil {
		return err
	}
	res, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close() //nolint:errcheck // only read
	if res.StatusCode == http.StatusOK {
		return nil
	}
	b, err := io.ReadAll(io.LimitReader(res.Body, 4<<10))
	return errors.Join(fmt.Errorf("not ready: %s", strings.TrimSpace(string(b))), err)
}
