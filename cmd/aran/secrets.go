package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"aran/app"
	"aran/app/secrets"
)

// confidences makes the files by which services in different processes are let in to their stores.
func confidences(_ context.Context, t terminal, args []string) error {
	what, args, err := subcommand("secrets", args, []string{"make", "check", "put"})
	if err != nil {
		return err
	}
	if what == "put" {
		f := flags(t, "secrets put", "FILE (the secret is read from standard input)")
		rest, err := parse(f, args)
		if err != nil {
			return err
		}
		if len(rest) != 1 {
			return fmt.Errorf("%w: aran secrets put takes the path of one file", errUsage)
		}
		return secrets.Put(rest[0], t.in)
	}
	f := flags(t, "secrets "+what, "--dir DIR [SERVICE…]")
	dir := f.String("dir", "", "one directory for each service and store below it")
	var hosts string
	var renew bool
	if what == "make" {
		f.StringVar(&hosts, "hosts", "", "names and addresses by which clients reach the platform, with commas, besides localhost")
		f.BoolVar(&renew, "renew", false, "new passwords and certificates, for everybody; restart everything afterwards")
	}
	names, err := parse(f, args)
	if err != nil {
		return err
	}
	if *dir == "" {
		return fmt.Errorf("%w: aran secrets %s takes --dir", errUsage, what)
	}
	parties, err := app.Parties(names)
	if err != nil {
		return fmt.Errorf("%w: %w", errUsage, err)
	}
	if what == "check" {
		return secrets.Check(*dir, parties, time.Now())
	}
	return secrets.Make(secrets.Options{
		Dir: *dir, Parties: parties, Hosts: strings.FieldsFunc(hosts, func(r rune) bool { return r == ',' || r == ' ' }), Renew: renew,
	})
}
