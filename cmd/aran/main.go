// Command aran is the whole platform: `aran up` runs it, the other subcommands look after it.
//
// One file a subcommand; each reads its flags, calls, and prints. What things do lives in app and the services.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"aran/service/infer/encoder"
)

var version = "0.2.0-dev"

// command is one subcommand. run gets what follows its name.
type command struct {
	name, args, help string
	run              func(ctx context.Context, t terminal, args []string) error
}

// terminal is what a command reads and writes.
type terminal struct {
	in       io.Reader
	out, err io.Writer
}

func commands() []command {
	return []command{
		{"up", "[--data DIR] [--config FILE] [--listen ADDR]", "run every service in this process", up},
		{"run", "SERVICE… [--data DIR] [--config FILE]", "run some of the services", runSome},
		{"chat", "[--url URL] [--collections NAMES] QUESTION", "ask a running platform", chat},
		{"documents", "add|list|release", "put files into a collection of a running platform; review what its guard refused", documents},
		{"key", "create|list|rotate|revoke", "API keys of a running platform", key},
		{"model", "list|show|pull|verify|use|rollback|sign|key", "models of this machine: versions, signatures, what is served", model},
		{"eval", "search DIR|guard DIR|embed [DIR]", "how good a part is, on data of yours", eval},
		{"policy", "check [--config FILE] FILE|-", "what a policy of the guard makes of the operator's", policies},
		{"redteam", "[--offline|--target URL --model NAME] [--mutate NAMES]", "attack a model, or the platform, and report what worked", attack},
		{"audit", "verify|export|proof", "check the log of decisions, also offline", audit},
		{"secrets", "make|check|put", "passwords, keyrings and certificates of services in different processes", confidences},
		{"config", "check|print|docs", "settings", settings},
		{"ca", "serve|issue|rotate", "certificates for services in several processes", authority},
		{"doctor", "[--data DIR] [--config FILE] [--ready]", "what is unsafe or missing here", doctor},
		{"version", "", "this program's version", printVersion},
	}
}

// errUsage makes the exit code 2.
var errUsage = errors.New("usage")

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := dispatch(ctx, terminal{os.Stdin, os.Stdout, os.Stderr}, os.Args[1:])
	stop()
	os.Exit(exitCode(os.Stderr, err))
}

func exitCode(w io.Writer, err error) int {
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
		return 0
	case errors.Is(err, errUsage):
		_, _ = fmt.Fprintln(w, "aran:", err)
		return 2
	default:
		_, _ = fmt.Fprintln(w, "aran:", err)
		return 1
	}
}

func dispatch(ctx context.Context, t terminal, args []string) error {
	if len(args) == 0 || args[0] == "help" || args[0] == "-h" || args[0] == "--help" {
		usage(t.out)
		return nil
	}
	for _, c := range append(commands(), command{name: encoder.Command, run: encoderChild}) {
		if c.name == args[0] {
			return c.run(ctx, t, args[1:])
		}
	}
	return fmt.Errorf("%w: there is no command %q; `aran help` lists them", errUsage, args[0])
}

func usage(w io.Writer) {
	_, _ = fmt.Fprintf(w, "aran %s: a secure AI backend\n\n", version)
	for _, c := range commands() {
		_, _ = fmt.Fprintf(w, "  aran %-8s %-48s %s\n", c.name, c.args, c.help)
	}
}

// flags makes a flag set that reports errors as usage errors.
func flags(t terminal, name, args string) *flag.FlagSet {
	f := flag.NewFlagSet("aran "+name, flag.ContinueOnError)
	f.SetOutput(t.err)
	f.Usage = func() {
		_, _ = fmt.Fprintf(t.err, "aran %s %s\n", name, args)
		f.PrintDefaults()
	}
	return f
}

// parse accepts flags before and after the arguments and returns the arguments.
func parse(f *flag.FlagSet, args []string) ([]string, error) {
	var rest []string
	for {
		if err := f.Parse(args); err != nil {
			if errors.Is(err, flag.ErrHelp) {
				return nil, err
			}
			return nil, fmt.Errorf("%w: %w", errUsage, err)
		}
		if f.NArg() == 0 {
			return rest, nil
		}
		rest, args = append(rest, f.Arg(0)), f.Args()[1:]
	}
}

// subcommand picks the word after a command's name.
func subcommand(name string, args, known []string) (string, []string, error) {
	if len(args) > 0 {
		for _, k := range known {
			if args[0] == k {
				return k, args[1:], nil
			}
		}
	}
	return "", nil, fmt.Errorf("%w: aran %s takes one of %v", errUsage, name, known)
}
