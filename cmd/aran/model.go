package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"aran/app"
	"aran/service/infer/registry"
)

const defaultModel = "smollm2-135m-instruct"

func model(ctx context.Context, t terminal, args []string) error {
	what, args, err := subcommand("model", args, []string{"list", "pull", "verify"})
	if err != nil {
		return err
	}
	f := flags(t, "model "+what, "[NAME…] [--config FILE]")
	file := f.String("config", "", "path of aran.yaml")
	names, err := parse(f, args)
	if err != nil {
		return err
	}
	cfg, err := app.Load(*file, nil)
	if err != nil {
		return err
	}
	reg, err := cfg.Registry()
	if err != nil {
		return err
	}
	switch what {
	case "pull":
		if len(names) == 0 {
			names = []string{defaultModel}
		}
		return pull(ctx, t, reg, names)
	case "verify":
		return verifyModels(ctx, t, reg, names)
	default:
		return listModels(ctx, t, reg)
	}
}

func pull(ctx context.Context, t terminal, reg *registry.Registry, names []string) error {
	for _, name := range names {
		bar := progress{w: t.err, name: name}
		err := reg.Pull(ctx, name, bar.show)
		bar.end()
		if err != nil {
			return fmt.Errorf("pull %s: %w", name, err)
		}
		_, _ = fmt.Fprintf(t.out, "%s is installed in %s\n", name, reg.Dir())
	}
	return nil
}

// progress draws a bar at most ten times a second.
type progress struct {
	w     io.Writer
	name  string
	last  time.Time
	drawn bool
}

func (p *progress) show(done, total int64) {
	now := time.Now()
	if now.Sub(p.last) < 100*time.Millisecond && done < total {
		return
	}
	p.last = now
	const width = 30
	full := 0
	if total > 0 {
		full = int(min(done, total) * width / total)
	}
	_, _ = fmt.Fprintf(p.w, "\r%s [%s%s] %d / %d MB", p.name, strings.Repeat("#", full), strings.Repeat(".", width-full), done>>20, total>>20)
	p.drawn = true
}

func (p *progress) end() {
	if p.drawn {
		_, _ = fmt.Fprintln(p.w)
	}
}

func listModels(ctx context.Context, t terminal, reg *registry.Registry) error {
	models, err := reg.List(ctx)
	if err != nil {
		return err
	}
	for _, m := range models {
		_, _ = fmt.Fprintf(t.out, "%-28s %-10s %-12s %s\n", m.Name, m.Kind, m.Status, m.Licence)
	}
	return nil
}

func verifyModels(ctx context.Context, t terminal, reg *registry.Registry, names []string) error {
	if len(names) == 0 {
		models, err := reg.List(ctx)
		if err != nil {
			return err
		}
		for _, m := range models {
			if m.Status == registry.Installed {
				names = append(names, m.Name)
			}
		}
	}
	for _, name := range names {
		if err := reg.Verify(ctx, name); err != nil {
			return fmt.Errorf("verify %s: %w", name, err)
		}
		_, _ = fmt.Fprintf(t.out, "%s is what its manifest says\n", name)
	}
	return nil
}
