package main

import (
	"context"
	"fmt"

	"aran/app"
)

func doctor(ctx context.Context, t terminal, args []string) error {
	f := flags(t, "doctor", "[--data DIR] [--config FILE] [--ready]")
	o := start(f)
	ready := f.Bool("ready", false, "only ask the process that runs here whether it is ready, at its operator address")
	if _, err := parse(f, args); err != nil {
		return err
	}
	cfg, err := app.Load(o.config, o.settings())
	if err != nil {
		return err
	}
	if *ready {
		return app.AskReady(ctx, cfg)
	}
	bad := 0
	for _, finding := range app.Examine(ctx, cfg) {
		_, _ = fmt.Fprintf(t.out, "%-7s %s\n", finding.Level, finding.Text)
		if finding.Level == app.Unsafe {
			bad++
		}
	}
	if bad > 0 {
		return fmt.Errorf("%d unsafe settings", bad)
	}
	return nil
}
