package main

import (
	"context"

	"aran/service/infer/encoder"
)

// encoderChild is this program as the process of one text encoder. It is not listed: only a running platform calls it.
func encoderChild(ctx context.Context, t terminal, args []string) error {
	return encoder.Main(ctx, args, t.in, t.err)
}
