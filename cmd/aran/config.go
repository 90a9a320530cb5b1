package main

import (
	"context"
	"fmt"

	"aran/app"
	"aran/config"
)

func settings(_ context.Context, t terminal, args []string) error {
	what, args, err := subcommand("config", args, []string{"check", "print", "docs"})
	if err != nil {
		return err
	}
	f := flags(t, "config "+what, "[--config FILE]")
	file := f.String("config", "", "path of aran.yaml")
	if _, err := parse(f, args); err != nil {
		return err
	}
	if what == "docs" {
		c := app.Default()
		return config.Reference(t.out, c.Sections())
	}
	c, err := app.Load(*file, nil)
	if err != nil {
		return err
	}
	if what == "print" {
		return config.Print(t.out, c.Sections())
	}
	_, err = fmt.Fprintln(t.out, "the settings are good")
	return err
}
