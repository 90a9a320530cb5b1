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
)

// Point ends the process with SIGKILL when ARAN_FAULT_KILL is "name" or "name@n" (the n-th time it
// is reached). Each name that is reached is appended once to the file ARAN_FAULT_LOG.
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
	want, nth, _ := strings.Cut(os.Getenv("ARAN_FAULT_KILL"), "@")
	n, err := strconv.Atoi(nth)
	if err != nil {
		n = 1
	}
	if want == name && seen[name] == n {
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	}
}

// InboxOff reports whether consumers are to forget what they have seen.
func InboxOff() bool { return os.Getenv("ARAN_FAULT_INBOX") == "off" }

// OutboxOff reports whether events bypass the outbox: published after the commit, and forgotten on failure.
func OutboxOff() bool { return os.Getenv("ARAN_FAULT_OUTBOX") == "off" }
