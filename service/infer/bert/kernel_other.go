//go:build !amd64

package bert

// Kernels lists what this machine can run, the fastest first.
func Kernels() []Kernel { return []Kernel{portable()} }
