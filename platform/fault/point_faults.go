//go:build faults

package fault

import (
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
)

var (
	mu   sync.Mutex
	seen = map[string]int{}

	armed     string // what ARAN_FAULT_KILL_FILE said last
	sinceThen = map[string]int{}
)

// Point ends the process with SIGKILL when ARAN_FAULT_KILL is "name" or "name@n" (the n-th time it
// is reached), or when the file ARAN_FAULT_KILL_FILE holds that, counted from when it was written: so a
// process can be armed while it works. Each name that is reached is appended to the file ARAN_FAULT_LOG.
func Point(name string) {
	mu.Lock()
	defer mu.Unlock()
	seen[name]++
	if log := os.Getenv("ARAN_FAULT_LOG"); log != "" {
		if f, err := os.OpenFile(log, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600); err == nil {
			_, _ = f.WriteString(name + "\n")
			_ = f.Close()
		}
	}
	if due(os.Getenv("ARAN_FAULT_KILL"), name, seen[name]) || due(orders(), name, sinceThen[name]+1) {
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	}
	sinceThen[name]++
}

// due reports whether an order names the n-th reaching of a point.
func due(order, name string, n int) bool {
	want, nth, _ := strings.Cut(order, "@")
	at, err := strconv.Atoi(nth)
	if err != nil {
		at = 1
	}
	return want == name && n == at
}

// orders reads ARAN_FAULT_KILL_FILE; a changed order is counted anew.
func orders() string {
	path := os.Getenv("ARAN_FAULT_KILL_FILE")
	if path == "" {
		return ""
	}
	b, _ := os.ReadFile(path)
	if order := strings.TrimSpace(string(b)); order != armed {
		armed = order
		clear(sinceThen)
	}
	return armed
}

// InboxOff reports whether consumers are to forget what they have seen.
func InboxOff() bool { return os.Getenv("ARAN_FAULT_INBOX") == "off" }

// OutboxOff reports whether events bypass the outbox: published after the commit, and forgotten on failure.
func OutboxOff() bool { return os.Getenv("ARAN_FAULT_OUTBOX") == "off" }
