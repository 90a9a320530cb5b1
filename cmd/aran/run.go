package main

import (
	"context"
	"flag"
	"fmt"
)

// startFlags are common to up and run.
type startFlags struct{ data, config, listen string }

func start(f *flag.FlagSet) *startFlags {
	var o startFlags
	f.StringVar(&o.data, "data", "", "data directory (./aran-data)")
	f.StringVar(&o.config, "config", "", "path of aran.yaml")
	f.StringVar(&o.listen, "listen", "", "public address (127.0.0.1:8080)")
	return &o
}

func (o *startFlags) settings() map[string]string {
	s := map[string]string{}
	if o.data != "" {
		s["data.dir"] = o.data
	}
	if o.listen != "" {
		s["gateway.listen"] = o.listen
	}
	return s
}

func runSome(ctx context.Context, t terminal, args []string) error {
	f := flags(t, "run", "SERVICE… [--data DIR] [--config FILE] [--listen ADDR]")
	o := start(f)
	names, err := parse(f, args)
	if err != nil {
		return err
	}
	if len(names) == 0 {
		return fmt.Errorf("%w: aran run takes the names of services", errUsage)
	}
	return serve(ctx, t, o, names)
}
