package app

import (
	"context"
	"fmt"
	"os"
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
