//go:build !linux

package child

// restrain lowers the priority; limits of another process can only be set on Linux.
func restrain(pid int, _ int64, nice int) error { return lower(pid, nice) }
