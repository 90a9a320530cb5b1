//go:build !race

package vector_test

const few = 1
