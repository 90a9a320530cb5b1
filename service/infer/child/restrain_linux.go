package child

import (
	"errors"
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"
)

const maxFiles = 256

// restrain bounds a process that has just been started: private memory (RLIMIT_DATA counts heap and other
// private writable pages, not the mapped model file nor address space that a runtime merely reserves), open
// files, no core dump (it would hold prompts), and its priority, for all its threads.
func restrain(pid int, memory int64, nice int) error {
	limits := map[int]uint64{unix.RLIMIT_CORE: 0, unix.RLIMIT_NOFILE: maxFiles}
	if memory > 0 {
		limits[unix.RLIMIT_DATA] = uint64(memory)
	}
	for what, n := range limits {
		if err := unix.Prlimit(pid, what, &unix.Rlimit{Cur: n, Max: n}, nil); err != nil && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("limit the model process: %w", err)
		}
	}
	return lower(pid, nice)
}
