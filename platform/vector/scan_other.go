//go:build !amd64

package vector

func kernels() []kernel { return []kernel{{"portable", scanPortable}} }

func fastest() kernel { return kernel{"portable", scanPortable} }
