//go:build race

package vector_test

// few is how much of a test is run: the race detector makes each step many times slower.
const few = 10
