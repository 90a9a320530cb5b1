package main

import (
	"context"
	"maps"
	"slices"
)

// evaluations are the subcommands of aran eval: each runs a part of the platform on data of the user's and prints how good it was.
func evaluations() map[string]func(ctx context.Context, t terminal, args []string) error {
	return map[string]func(ctx context.Context, t terminal, args []string) error{
		"embed":  evalEmbed,
		"guard":  evalGuard,
		"search": evalSearch,
	}
}

func eval(ctx context.Context, t terminal, args []string) error {
	what, args, err := subcommand("eval", args, slices.Sorted(maps.Keys(evaluations())))
	if err != nil {
		return err
	}
	return evaluations()[what](ctx, t, args)
}
