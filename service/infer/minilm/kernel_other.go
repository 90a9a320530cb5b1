//go:build !amd64

package minilm

func kernels() []kernel { return []kernel{portable()} }

func fastest() kernel { return portable() }
