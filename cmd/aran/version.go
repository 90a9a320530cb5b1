package main

import (
	"context"
	"fmt"
	"runtime"
)

func printVersion(_ context.Context, t terminal, _ []string) error {
	_, err := fmt.Fprintf(t.out, "aran %s %s %s/%s\n", version, runtime.Version(), runtime.GOOS, runtime.GOARCH)
	return err
}
