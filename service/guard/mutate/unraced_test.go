//go:build !race

package mutate_test

const raced = false
