package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/goccy/go-yaml"

	"aran/app"
	"aran/service/guard/outgoing"
	guard "aran/service/guard/policy"
)

// policies checks a policy of the guard without a running platform, and prints what it makes of the operator's.
func policies(_ context.Context, t terminal, args []string) error {
	what, args, err := subcommand("policy", args, []string{"check"})
	if err != nil {
		return err
	}
	f := flags(t, "policy "+what, "[--config FILE] FILE|-")
	file := f.String("config", "", "path of aran.yaml: the operator's policy and floor")
	rest, err := parse(f, args)
	if err != nil {
		return err
	}
	if len(rest) != 1 {
		return fmt.Errorf("%w: name one file with a policy, or - for standard input", errUsage)
	}
	c, err := app.Load(*file, nil)
	if err != nil {
		return err
	}
	text, err := readPolicy(t, rest[0])
	if err != nil {
		return err
	}
	p, err := guard.Parse(text)
	if err != nil {
		return fmt.Errorf("%s: %w", rest[0], err)
	}
	if err := outgoing.CheckSchemas(p); err != nil {
		return fmt.Errorf("%s: %w", rest[0], err)
	}
	if loose := guard.Looser(p, c.Guard.Floor); len(loose) > 0 {
		return fmt.Errorf("%s: looser than the operator's guard.floor in %s", rest[0], strings.Join(loose, ", "))
	}
	effective, err := yaml.Marshal(guard.Strictest(p.Over(c.Guard.Policy), c.Guard.Floor))
	if err != nil {
		return fmt.Errorf("print policy: %w", err)
	}
	_, err = fmt.Fprintf(t.out, "# %s is good. With the operator's policy and floor it makes:\n%s", rest[0], effective)
	return err
}

func readPolicy(t terminal, name string) ([]byte, error) {
	in := t.in
	if name != "-" {
		f, err := os.Open(name) //nolint:gosec // the user's own file
		if err != nil {
			return nil, fmt.Errorf("read policy: %w", err)
		}
		defer f.Close() //nolint:errcheck // it was only read
		in = f
	}
	b, err := io.ReadAll(io.LimitReader(in, guard.MaxDocument+1)) // Parse refuses what is longer
	if err != nil {
		return nil, fmt.Errorf("read policy: %w", err)
	}
	return b, nil
}
