//go:build !amd64

package vector

func codeKernels() []codeKernel { return []codeKernel{codesPortable()} }
