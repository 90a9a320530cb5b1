package main

import (
	"os"
	"testing"
)

func TestCommittedKernelsAreTheGeneratedOnes(t *testing.T) {
	got, err := os.ReadFile("../kernel_amd64.s")
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != source() {
		t.Error("kernel_amd64.s is stale: run go generate ./service/infer/bert")
	}
}
