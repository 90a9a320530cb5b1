package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"aran/app"
	"aran/client"
	"aran/platform/secret"
	"aran/service/guard/mutate"
	"aran/service/guard/redteam"
)

const redteamArgs = "[--offline | --target URL --model NAME [--key-env NAME]] [--pack DIR] [--mutate NAMES] [--html FILE] [--json FILE] [--baseline FILE] [--fail-over RATE]"

// attacking is what `aran redteam` was told.
type attacking struct {
	target, model, keyEnv      string
	url, file, data            string
	offline                    bool
	system, dir, packs, mutate string
	json, html, baseline       string
	failOver                   float64
	list                       bool
	plan                       redteam.Plan
}

// attack runs probes against a model or a platform, and reports which worked.
func attack(ctx context.Context, t terminal, args []string) error {
	a := &attacking{}
	f := flags(t, "redteam", redteamArgs)
	f.BoolVar(&a.offline, "offline", false, "ask no model: judge what would be sent, and what a model that falls for it would say, with guard alone")
	f.StringVar(&a.target, "target", "", "base URL of an OpenAI-compatible server, with its version: http://127.0.0.1:11434/v1; without it the running platform is attacked")
	f.StringVar(&a.model, "model", "", "model to ask for (on the platform: default)")
	f.StringVar(&a.keyEnv, "key-env", "", "environment variable that holds the target's key")
	f.StringVar(&a.url, "url", "", "the platform's address (from the settings)")
	f.StringVar(&a.file, "config", "", "path of aran.yaml")
	f.StringVar(&a.data, "data", "", "data directory whose admin.key is used")
	f.StringVar(&a.system, "system", "", "file with instructions of yours to attack; {{canary}} in it is filled, or a line with a canary is added")
	f.StringVar(&a.dir, "pack", "", "folder with packs of yours (.yaml, .jsonl), besides those that come with the program")
	f.StringVar(&a.packs, "packs", "", "only these packs, separated by commas")
	f.StringVar(&a.mutate, "mutate", "", "mutations or families of them to try as well, separated by commas, or all")
	f.StringVar(&a.json, "json", "", "write the report as JSON to this file")
	f.StringVar(&a.html, "html", "", "write the report as a page to this file")
	f.StringVar(&a.baseline, "baseline", "", "JSON report of a former run to compare with")
	f.Float64Var(&a.failOver, "fail-over", 1, "share of attacks that may work, 0 to 1; above it the exit code is 1")
	f.BoolVar(&a.list, "list", false, "list packs, probes and mutations, and send nothing")
	f.Uint64Var(&a.plan.Seed, "seed", 1, "the same seed sends the same texts")
	f.IntVar(&a.plan.AtOnce, "at-once", 4, "attempts at the same time")
	f.Float64Var(&a.plan.PerSecond, "per-second", 0, "requests a second at most; 0 is no limit")
	f.DurationVar(&a.plan.Each, "each", 2*time.Minute, "time for one attempt")
	f.DurationVar(&a.plan.Within, "within", time.Hour, "time for all of them; what is not reached is skipped")
	rest, err := parse(f, args)
	if err != nil {
		return err
	}
	if len(rest) > 0 {
		return fmt.Errorf("%w: aran redteam takes no arguments, only flags: %q", errUsage, rest[0])
	}
	if err := a.prepare(); err != nil {
		return err
	}
	if a.list {
		return a.show(t.out)
	}
	return a.run(ctx, t)
}

const mostAtOnce = 64

// prepare checks the flags and reads what they name, before anything is sent.
func (a *attacking) prepare() error {
	switch {
	case a.offline && a.target != "":
		return fmt.Errorf("%w: use --offline or --target, not both", errUsage)
	case a.target != "" && a.model == "":
		return fmt.Errorf("%w: --target needs --model", errUsage)
	case a.target == "" && a.keyEnv != "":
		return fmt.Errorf("%w: --key-env is for --target; the platform's key comes from the settings", errUsage)
	case a.failOver < 0 || a.failOver > 1:
		return fmt.Errorf("%w: --fail-over %v: use 0 to 1", errUsage, a.failOver)
	case a.plan.AtOnce < 1 || a.plan.AtOnce > mostAtOnce:
		return fmt.Errorf("%w: --at-once %d: use 1 to %d", errUsage, a.plan.AtOnce, mostAtOnce)
	case a.plan.PerSecond < 0 || a.plan.Each <= 0 || a.plan.Within <= 0:
		return fmt.Errorf("%w: --per-second, --each and --within are not negative", errUsage)
	}
	packs, err := redteam.Builtin()
	if err != nil {
		return err
	}
	if a.dir != "" {
		own, err := redteam.ReadDir(a.dir)
		if err != nil {
			return err
		}
		for _, p := range own { // a pack of the user's takes the place of ours
			packs = append(slices.DeleteFunc(packs, func(o redteam.Pack) bool { return o.Name == p.Name }), p)
		}
	}
	if a.packs != "" {
		byName := map[string]redteam.Pack{}
		for _, p := range packs {
			byName[p.Name] = p
		}
		packs = nil
		for name := range strings.SplitSeq(a.packs, ",") {
			p, there := byName[name]
			if !there {
				return fmt.Errorf("%w: there is no pack %q; there are %s", errUsage, name, strings.Join(slices.Sorted(maps.Keys(byName)), ", "))
			}
			packs = append(packs, p)
		}
	}
	a.plan.Packs = packs
	if a.mutate != "" {
		if a.plan.Mutations, err = mutate.Named(strings.Split(a.mutate, ",")...); err != nil {
			return fmt.Errorf("%w: %w", errUsage, err)
		}
	}
	if a.system != "" {
		b, err := os.ReadFile(a.system)
		if err != nil {
			return err
		}
		a.plan.System = string(b)
	}
	return nil
}

// show lists what there is.
func (a *attacking) show(w io.Writer) error {
	tab := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, p := range a.plan.Packs {
		for _, o := range p.Probes {
			_, _ = fmt.Fprintf(tab, "%s/%s\t%s\t%s\t%s\n", p.Name, o.ID, o.Title, strings.Join(o.OWASP, " "), strings.Join(o.ATLAS, " "))
		}
	}
	_, _ = fmt.Fprintf(tab, "\nmutations:\n")
	for _, family := range mutate.Families() {
		all, err := mutate.Named(family)
		if err != nil {
			return err
		}
		names := make([]string, len(all))
		for i, m := range all {
			names[i] = strings.TrimPrefix(m.Name, family+".")
		}
		_, _ = fmt.Fprintf(tab, "  %s\t%s\n", family, strings.Join(names, " "))
	}
	return tab.Flush()
}

func (a *attacking) run(ctx context.Context, t terminal) error {
	var former *redteam.Report
	if a.baseline != "" {
		f, err := os.Open(a.baseline)
		if err != nil {
			return err
		}
		former, err = redteam.Load(f)
		_ = f.Close() // read only
		if err != nil {
			return fmt.Errorf("%s: %w", a.baseline, err)
		}
	}
	target, name, err := a.open()
	if err != nil {
		return err
	}
	b := newBar(t.err)
	b.begin()
	worked := 0
	r := a.plan.Run(ctx, target, func(done, all int, one redteam.Attempt) {
		if one.Outcome == redteam.Succeeded {
			worked++
		}
		b.show(int64(done), int64(all), fmt.Sprintf("%d of %d attempts, %d worked", done, all, worked))
	})
	b.end()
	r.Target, r.Program = name, "aran "+version
	if former != nil {
		r.Compare(former)
	}
	if err := errors.Join(save(a.json, r.WriteJSON), save(a.html, r.WriteHTML), a.print(t.out, r)); err != nil {
		return err
	}
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case r.Total.Answered() == 0:
		return fmt.Errorf("%s answered none of %d attempts: %s", name, r.Total.Attempts, why(r))
	case r.Total.Rate() > a.failOver:
		return fmt.Errorf("%.1f %% of the attacks worked, more than %.1f %%", 100*r.Total.Rate(), 100*a.failOver)
	}
	return nil
}

// why is a reason for attempts without an answer.
func why(r *redteam.Report) string {
	for _, a := range r.Attempts {
		if a.Outcome == redteam.Failed {
			return a.Why
		}
	}
	return "the time was over"
}

func save(path string, write func(io.Writer) error) error {
	if path == "" {
		return nil
	}
	f, err := os.Create(path) //nolint:gosec // whoever runs the command names the file
	if err != nil {
		return err
	}
	return errors.Join(write(f), f.Close())
}

func (a *attacking) print(w io.Writer, r *redteam.Report) error {
	tab := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	row := func(c redteam.Count) {
		_, _ = fmt.Fprintf(tab, "%s\t%d\t%d\t%d\t%d\t%d\t%d\t%.1f %%\t\n", c.Name, c.Attempts, c.Succeeded, c.Resisted, c.Refused, c.Blocked, c.Failed+c.Skipped, 100*c.Rate())
	}
	head := func(of string) {
		_, _ = fmt.Fprintf(tab, "%s\tattempts\tworked\tresisted\trefused\tblocked\tno answer\trate\t\n", of)
	}
	head("pack")
	for _, c := range r.Packs {
		row(c)
	}
	row(r.Total)
	if len(r.Mutations) > 1 {
		_, _ = fmt.Fprintln(tab, "\t\t\t\t\t\t\t\t")
		head("form")
		for _, c := range r.Mutations {
			row(c)
		}
	}
	if err := tab.Flush(); err != nil {
		return err
	}
	if c := r.Changes; c != nil {
		_, _ = fmt.Fprintf(w, "since %s: %d work now that did not, %d no longer work, %d new, %d gone\n", c.Since.Format(time.DateTime), len(c.Worse), len(c.Better), c.Added, c.Removed)
		for _, key := range c.Worse {
			_, _ = fmt.Fprintf(w, "  worse: %s\n", key)
		}
	}
	return nil
}

// open is what is attacked, and its name for the report.
func (a *attacking) open() (redteam.Target, string, error) {
	if a.target != "" {
		var key secret.String
		if a.keyEnv != "" {
			var err error
			if key, err = secret.Resolve("env:" + a.keyEnv); err != nil {
				return nil, "", err
			}
		}
		target, err := redteam.NewOpenAI(a.target, a.model, key, nil, a.plan.Each)
		return target, a.model + " at " + a.target, err
	}
	set := map[string]string{}
	if a.data != "" {
		set["data.dir"] = a.data
	}
	cfg, err := app.Load(a.file, set)
	if err != nil {
		return nil, "", err
	}
	if a.offline {
		target, err := redteam.NewOffline(cfg.Guard.Policy.Thresholds.User.Block, cfg.Guard.Policy.Thresholds.Document.Block)
		return target, "guard alone, without a model", err
	}
	base, key, err := cfg.ClientAccess(a.url)
	if err != nil {
		return nil, "", err
	}
	if a.model == "" {
		a.model = "default"
	}
	target, err := redteam.NewOpenAI(strings.TrimRight(base, "/")+"/v1", a.model, key, throwAway(client.New(base, key.Reveal(), nil)), a.plan.Each)
	return target, a.model + " of the platform at " + base, err
}

// throwAway keeps documents of probes in throw-away collections of a platform.
func throwAway(c *client.Client) redteam.Shelf {
	return func(ctx context.Context, document string) (string, func(context.Context) error, error) {
		name := make([]byte, 8)
		_, _ = rand.Read(name) // never fails
		collection := "redteam-" + hex.EncodeToString(name)
		if err := c.CreateCollection(ctx, collection); err != nil {
			return "", nil, err
		}
		remove := func(ctx context.Context) error { return c.DeleteCollection(ctx, collection) }
		err := stored(ctx, c, collection, document)
		if err != nil {
			return "", nil, errors.Join(err, remove(context.WithoutCancel(ctx)))
		}
		return collection, remove, nil
	}
}

// stored waits until a document is indexed.
func stored(ctx context.Context, c *client.Client, collection, document string) error {
	out, err := c.PutFile(ctx, collection, "probe", "probe.txt", []byte(document))
	if err != nil {
		return err
	}
	if out.Code != "" {
		return fmt.Errorf("the document was refused: %s", out.Detail)
	}
	if err := c.WatchProgress(ctx, collection, func(client.IndexingProgress) {}); err != nil {
		return err
	}
	states, _, err := c.DocumentStates(ctx, collection, "")
	if err != nil {
		return err
	}
	for _, s := range states {
		switch s.Status {
		case "quarantined":
			return fmt.Errorf("%w: the document was quarantined (%s)", redteam.ErrBlocked, s.Reason)
		case "failed":
			return fmt.Errorf("the document was not indexed: %s", s.Reason)
		}
	}
	return nil
}
