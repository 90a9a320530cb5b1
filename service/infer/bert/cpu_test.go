//go:build unix

package bert

import (
	"syscall"
	"testing"
	"time"
)

// cpuTime is what this process has computed so far: on a busy machine it says more than a clock.
func cpuTime(tb testing.TB) time.Duration {
	tb.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		tb.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
