package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"strings"

	"aran/app"
	"aran/client"
)

// platform is the client of a running platform that flags name; more flags may be defined before.
func platform(f *flag.FlagSet, args []string) (*client.Client, []string, error) {
	url := f.String("url", "", "the platform's address (from the settings: "+app.Default().Gateway.Listen+")")
	file := f.String("config", "", "path of aran.yaml")
	data := f.String("data", "", "data directory whose admin.key is used")
	rest, err := parse(f, args)
	if err != nil {
		return nil, nil, err
	}
	set := map[string]string{}
	if *data != "" {
		set["data.dir"] = *data
	}
	cfg, err := app.Load(*file, set)
	if err != nil {
		return nil, nil, err
	}
	base, key, err := cfg.ClientAccess(*url)
	if err != nil {
		return nil, nil, err
	}
	return client.New(base, key.Reveal(), nil), rest, nil
}

func chat(ctx context.Context, t terminal, args []string) error {
	f := flags(t, "chat", "[--url URL] [--collections NAMES] [--model NAME] QUESTION")
	collections := f.String("collections", "handbook", "collections to answer from, separated by commas")
	model := f.String("model", "default", "model")
	c, words, err := platform(f, args)
	if err != nil {
		return err
	}
	if len(words) == 0 {
		return fmt.Errorf("%w: aran chat takes a question", errUsage)
	}
	q := client.Question{Text: strings.Join(words, " "), Model: *model}
	if *collections != "" {
		q.Collections = strings.Split(*collections, ",")
	}
	out, err := c.Ask(ctx, q, func(text string) error {
		_, err := fmt.Fprint(t.out, text)
		return err
	})
	_, more := fmt.Fprintln(t.out)
	if err = errors.Join(err, more); err != nil {
		return err
	}
	for i, cite := range out.Citations {
		_, _ = fmt.Fprintf(t.out, "  [%d] %s  %s:%d-%d\n", i+1, cite.Title, cite.Document, cite.Start, cite.End)
	}
	_, err = fmt.Fprintf(t.err, "%s answered (%s); audit event %s\n", out.Model, out.Rung, out.Audit)
	return err
}
