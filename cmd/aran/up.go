package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"aran/app"
)

func up(ctx context.Context, t terminal, args []string) error {
	f := flags(t, "up", "[--data DIR] [--config FILE] [--listen ADDR]")
	o := start(f)
	rest, err := parse(f, args)
	if err != nil {
		return err
	}
	if len(rest) > 0 {
		return fmt.Errorf("%w: aran up takes no %q; `aran run SERVICE…` runs some of the services", errUsage, rest[0])
	}
	return serve(ctx, t, o, app.Names())
}

// serve runs services until ctx ends or one of them fails.
func serve(ctx context.Context, t terminal, o *startFlags, names []string) error {
	begin := time.Now()
	cfg, err := app.Load(o.config, o.settings())
	if err != nil {
		return err
	}
	a, err := app.Open(ctx, cfg, app.Options{Version: version, Services: names, Log: t.err})
	if err != nil {
		return err
	}
	if err := a.Start(ctx); err != nil {
		return err
	}
	banner(t, a, cfg, time.Since(begin))
	err = a.Wait(ctx)
	stopCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
	defer cancel()
	return errors.Join(err, a.Stop(stopCtx))
}

func banner(t terminal, a *app.App, cfg *app.Config, took time.Duration) {
	names := a.Services()
	noun := "services"
	if len(names) == 1 {
		noun = "service"
	}
	_, _ = fmt.Fprintf(t.out, "aran %s  %d %s in one process  data %s  ready in %d ms\n", version, len(names), noun, cfg.Data.Dir, took.Milliseconds())
	if addr := a.PublicAddress(); addr != "" {
		_, _ = fmt.Fprintf(t.out, "  API       %s/v1      OpenAI and Anthropic compatible; %[1]s/api/docs\n", addr)
	}
	if _, err := os.Stat(cfg.User.AdminKeyFile); err == nil { // another replica, or the process of user, may have it
		_, _ = fmt.Fprintf(t.out, "  Admin key %s\n", strings.TrimSuffix(cfg.Data.Dir, "/")+"/"+filepath.Base(cfg.User.AdminKeyFile))
	}
	for i, line := range a.ModelLines() {
		label := "Model    "
		if i > 0 {
			label = strings.Repeat(" ", len(label))
		}
		_, _ = fmt.Fprintf(t.out, "  %s %s\n", label, line)
	}
}
