package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"time"

	"aran/app"
	"aran/service/infer/registry"
)

const defaultModel = "smollm2-135m-instruct"

// modelCommand is what the subcommands of `aran model` share.
type modelCommand struct {
	t         terminal
	reg       *registry.Registry
	json      bool
	all       bool
	why       string
	arguments []string
}

func model(ctx context.Context, t terminal, args []string) error {
	what, args, err := subcommand("model", args, []string{"list", "show", "pull", "verify", "use", "rollback", "sign", "key"})
	if err != nil {
		return err
	}
	switch what {
	case "sign":
		return signModel(t, args)
	case "key":
		return modelKey(t, args)
	}
	c := modelCommand{t: t}
	f := flags(t, "model "+what, map[string]string{
		"list": "[--all] [--format json] [--config FILE]", "show": "NAME[@VERSION] [--format json] [--config FILE]",
		"pull": "[NAME[@VERSION]…] [--config FILE]", "verify": "[NAME[@VERSION]…] [--config FILE]",
		"use": "NAME@VERSION [--why TEXT] [--config FILE]", "rollback": "NAME [--why TEXT] [--config FILE]",
	}[what])
	file := f.String("config", "", "path of aran.yaml")
	format := "text"
	switch what {
	case "list":
		f.BoolVar(&c.all, "all", false, "every version, refused ones too")
		f.StringVar(&format, "format", format, "text or json")
	case "show":
		f.StringVar(&format, "format", format, "text or json")
	case "use", "rollback":
		f.StringVar(&c.why, "why", "", "the reason; it is kept with the change")
	}
	if c.arguments, err = parse(f, args); err != nil {
		return err
	}
	if format != "text" && format != "json" {
		return fmt.Errorf("%w: --format %q: use text or json", errUsage, format)
	}
	c.json = format == "json"
	cfg, err := app.Load(*file, nil)
	if err != nil {
		return err
	}
	if c.reg, err = cfg.Registry(); err != nil {
		return err
	}
	return map[string]func(context.Context) error{
		"list": c.list, "show": c.show, "pull": c.pull, "verify": c.verify, "use": c.use, "rollback": c.rollback,
	}[what](ctx)
}

func (c *modelCommand) pull(ctx context.Context) error {
	refs := c.arguments
	if len(refs) == 0 {
		refs = []string{defaultModel}
	}
	for _, ref := range refs {
		bar := newProgress(c.t.err, ref)
		err := c.reg.Pull(ctx, ref, bar.show)
		bar.end()
		if err != nil {
			return fmt.Errorf("pull %s: %w", ref, err)
		}
		_, _ = fmt.Fprintf(c.t.out, "%s is installed in %s\n", ref, c.reg.Dir())
		if name, version := registry.SplitRef(ref); version != "" {
			if now := c.reg.Active(name); now != version {
				_, _ = fmt.Fprintf(c.t.out, "%s is served in version %s; `aran model use %[3]s` changes that\n", name, now, ref)
			}
		}
	}
	return nil
}

// progress draws a bar at most ten times a second, on a terminal only.
type progress struct {
	w     io.Writer
	name  string
	last  time.Time
	drawn bool
}

func newProgress(w io.Writer, name string) *progress {
	if !onTerminal(w) {
		w = io.Discard
	}
	return &progress{w: w, name: name}
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

// modelLine is a version of a model as `--format json` shows it.
type modelLine struct {
	Name           string   `json:"name"`
	Version        string   `json:"version"`
	Title          string   `json:"title"`
	Kind           string   `json:"kind"`
	Engine         string   `json:"engine"`
	Status         string   `json:"status"`
	Why            string   `json:"why,omitempty"`
	Active         bool     `json:"active"`
	Former         bool     `json:"former"`
	Digest         string   `json:"digest"`
	ManifestDigest string   `json:"manifest_digest"`
	Origin         string   `json:"origin"`
	Signed         bool     `json:"signed"`
	SignedBy       []string `json:"signed_by"`
	Licence        string   `json:"licence"`
	Bytes          int64    `json:"bytes"`
	Dim            int      `json:"dim,omitempty"`
	Context        int      `json:"context,omitempty"`
	Dir            string   `json:"dir,omitempty"`

	Provenance *registry.Provenance  `json:"provenance,omitempty"`
	Evaluation []registry.Evaluation `json:"evaluation,omitempty"`
}

func line(m *registry.Model) modelLine {
	return modelLine{
		Name: m.Name, Version: m.Version, Title: m.Title, Kind: m.Kind, Engine: m.Engine, Status: string(m.Status), Why: m.Why,
		Active: m.Active, Former: m.Former, Digest: m.Digest, ManifestDigest: m.ManifestDigest, Origin: string(m.Origin),
		Signed: m.Signed, SignedBy: append([]string{}, m.SignedBy...), Licence: m.Licence, Bytes: m.Bytes, Dim: m.Dim, Context: m.Context, Dir: m.Dir,
		Provenance: m.Provenance, Evaluation: m.Evaluation,
	}
}

func (c *modelCommand) print(v any) error {
	e := json.NewEncoder(c.t.out)
	e.SetIndent("", "  ")
	if err := e.Encode(v); err != nil {
		return fmt.Errorf("print: %w", err)
	}
	return nil
}

func (c *modelCommand) list(ctx context.Context) error {
	if len(c.arguments) > 0 {
		return fmt.Errorf("%w: aran model list takes no name; `aran model show NAME` shows one", errUsage)
	}
	models, err := c.reg.All(ctx)
	if err != nil {
		return err
	}
	lines := []modelLine{}
	for i := range models {
		m := &models[i]
		if c.all || c.json || m.Active || m.Former || m.Status == registry.Installed || m.Status == registry.Refused {
			lines = append(lines, line(m))
		}
	}
	if c.json {
		return c.print(map[string]any{"models": lines})
	}
	for _, l := range lines {
		mark, note := " ", ""
		switch {
		case l.Active:
			mark = "*"
		case l.Former:
			mark = "-"
		}
		if len(l.SignedBy) > 0 {
			note = "  signed by " + l.SignedBy[0][:16]
		}
		if l.Why != "" {
			note = "  " + l.Why
		}
		_, _ = fmt.Fprintf(c.t.out, "%s %-36s %-9s %-12s %7.1f MB  %s%s\n", mark, l.Name+"@"+l.Version, l.Kind, l.Status, float64(l.Bytes)/1e6, l.Licence, note)
	}
	_, _ = fmt.Fprintln(c.t.out, "* is the active version, - what rollback goes back to")
	return nil
}

// one is the only argument.
func (c *modelCommand) one(what string) (string, error) {
	if len(c.arguments) != 1 {
		return "", fmt.Errorf("%w: aran model %s", errUsage, what)
	}
	return c.arguments[0], nil
}

func (c *modelCommand) show(ctx context.Context) error {
	ref, err := c.one("show NAME[@VERSION]")
	if err != nil {
		return err
	}
	m, err := c.reg.Model(ctx, ref)
	if err != nil {
		return err
	}
	state, err := c.reg.State(m.Name)
	if err != nil {
		return err
	}
	if c.json {
		return c.print(struct {
			modelLine
			Manifest registry.Manifest `json:"manifest"`
			History  []registry.Use    `json:"history"`
		}{line(&m), m.Manifest, append([]registry.Use{}, state.History...)})
	}
	w := c.t.out
	row := func(key, format string, args ...any) {
		_, _ = fmt.Fprintf(w, "%-12s %s\n", key, fmt.Sprintf(format, args...))
	}
	row("model", "%s@%s: %s", m.Name, m.Version, m.Title)
	row("status", "%s", m.Status)
	if m.Active {
		row("active", "yes")
	} else {
		row("active", "no, version %s is", c.reg.Active(m.Name))
	}
	row("kind", "%s by engine %s", m.Kind, m.Engine)
	row("licence", "%s", m.Licence)
	row("digest", "%s", m.Digest)
	row("manifest", "%s (%s)", m.ManifestDigest, m.Origin)
	switch {
	case len(m.SignedBy) > 0:
		row("signed by", "%s", strings.Join(m.SignedBy, ", "))
	case m.Signed:
		row("signed", "yes; no key is trusted, so that this says nothing")
	default:
		row("signed", "no")
	}
	showProvenance(row, m.Provenance)
	for _, e := range m.Evaluation {
		row("evaluation", "%s %s %.4g %s %s", e.Dataset, e.Metric, e.Value, e.By, e.At)
	}
	if m.Gate != nil {
		row("gate", "%s of %d cases at least %.3g; %d smoke tests", m.Gate.Metric, len(m.Gate.Cases), m.Gate.Min, len(m.Smoke))
	}
	for _, f := range m.Files {
		row("file", "%s  %s  %d bytes", f.SHA256, f.Path, f.Size)
	}
	for _, u := range state.History {
		row("history", "%s %s %s by %s: %s", u.At.Format(time.RFC3339), u.Action, u.Version, u.By, u.Why)
	}
	return nil
}

func showProvenance(row func(string, string, ...any), p *registry.Provenance) {
	if p == nil {
		row("provenance", "not stated")
		return
	}
	row("publisher", "%s %s %s", p.Publisher, p.Source, p.Revision)
	if p.Base != "" {
		row("made from", "%s", p.Base)
	}
	if p.Made != "" {
		row("made by", "%s", p.Made)
	}
	for _, d := range p.Data {
		row("data", "%s (%s) %s %s", d.Name, d.Licence, d.Source, d.Note)
	}
	if p.Unknown != "" {
		row("not known", "%s", p.Unknown)
	}
	if p.Vetted != nil {
		row("vetted", "by %s on %s: %s", p.Vetted.By, p.Vetted.At, p.Vetted.Note)
	}
}

func (c *modelCommand) verify(ctx context.Context) error {
	refs := c.arguments
	if len(refs) == 0 {
		models, err := c.reg.All(ctx)
		if err != nil {
			return err
		}
		for _, m := range models {
			if m.Status == registry.Installed {
				refs = append(refs, m.Name+"@"+m.Version)
			}
		}
	}
	var errs []error
	for _, ref := range refs { // all of them: one that is damaged does not hide another
		if err := c.reg.Verify(ctx, ref); err != nil {
			errs = append(errs, fmt.Errorf("verify %s: %w", ref, err))
			continue
		}
		_, _ = fmt.Fprintf(c.t.out, "%s is what its manifest says\n", ref)
	}
	return errors.Join(errs...)
}

func (c *modelCommand) use(ctx context.Context) error {
	ref, err := c.one("use NAME@VERSION")
	if err != nil {
		return err
	}
	name, version := registry.SplitRef(ref)
	if version == "" {
		return fmt.Errorf("%w: aran model use NAME@VERSION", errUsage)
	}
	s, err := c.reg.Use(ctx, name, version, registry.Change{By: whoami(), Why: c.why})
	if err != nil {
		return fmt.Errorf("use %s: %w", ref, err)
	}
	c.now(s)
	return nil
}

func (c *modelCommand) rollback(ctx context.Context) error {
	name, err := c.one("rollback NAME")
	if err != nil {
		return err
	}
	s, err := c.reg.Rollback(ctx, name, registry.Change{By: whoami(), Why: c.why})
	if err != nil {
		return fmt.Errorf("roll back %s: %w", name, err)
	}
	c.now(s)
	return nil
}

func (c *modelCommand) now(s registry.State) {
	_, _ = fmt.Fprintf(c.t.out, "%s is served in version %s; a running platform takes it over by itself\n", s.Name, s.Version)
	if s.Former != nil {
		_, _ = fmt.Fprintf(c.t.out, "`aran model rollback %s` goes back to version %s\n", s.Name, s.Former.Version)
	}
}

// whoami is the user of this machine, for the history.
func whoami() string {
	if u, err := user.Current(); err == nil && u.Username != "" {
		return u.Username
	}
	return fmt.Sprintf("uid %d", os.Getuid())
}

const maxKeyFile = 4 << 10

// signModel puts a manifest in a signed envelope beside it, or adds a signature to one.
func signModel(t terminal, args []string) error {
	f := flags(t, "model sign", "--key FILE MANIFEST [--out FILE]")
	keyFile := f.String("key", "", "private key (PEM, PKCS #8, Ed25519); `aran model key` makes one")
	out := f.String("out", "", "where the signed manifest goes; empty: beside the manifest, as NAME"+registry.SignedExt)
	rest, err := parse(f, args)
	if err != nil {
		return err
	}
	if len(rest) != 1 || *keyFile == "" {
		return fmt.Errorf("%w: aran model sign --key FILE MANIFEST", errUsage)
	}
	private, err := readSmall(*keyFile, maxKeyFile)
	if err != nil {
		return err
	}
	document, err := readSmall(rest[0], 4<<20)
	if err != nil {
		return err
	}
	signed, by, err := registry.Sign(document, private)
	if err != nil {
		return fmt.Errorf("sign %s: %w", rest[0], err)
	}
	to := *out
	if to == "" {
		to = strings.TrimSuffix(strings.TrimSuffix(rest[0], ".json"), ".dsse") + registry.SignedExt
	}
	if err := replaceFile(to, signed); err != nil {
		return err
	}
	_, err = fmt.Fprintf(t.out, "%s is signed by %s\n", to, by)
	return err
}

// replaceFile leaves the old file or the new one.
func replaceFile(name string, b []byte) error {
	tmp, err := os.CreateTemp(filepath.Dir(name), ".sign-")
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	_, err = tmp.Write(b)
	if err == nil {
		err = tmp.Sync()
	}
	if err = errors.Join(err, tmp.Chmod(0o644), tmp.Close()); err == nil {
		err = os.Rename(tmp.Name(), name) //nolint:gosec // the operator's own path
	}
	if err != nil {
		return errors.Join(fmt.Errorf("write %s: %w", name, err), os.Remove(tmp.Name())) //nolint:gosec // our own temporary file
	}
	return nil
}

// modelKey makes a pair of keys for manifests.
func modelKey(t terminal, args []string) error {
	f := flags(t, "model key", "FILE: writes the private key to FILE and the public one to FILE.pub")
	rest, err := parse(f, args)
	if err != nil {
		return err
	}
	if len(rest) != 1 {
		return fmt.Errorf("%w: aran model key FILE", errUsage)
	}
	private, public, err := registry.NewSigningKey()
	if err != nil {
		return err
	}
	for name, b := range map[string][]byte{rest[0]: private, rest[0] + ".pub": []byte(public.String() + "\n")} {
		out, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600) //nolint:gosec // the operator's own path
		if err != nil {
			return fmt.Errorf("write key: %w", err) // never over one that is there
		}
		_, err = out.Write(b)
		if err = errors.Join(err, out.Sync(), out.Close()); err != nil {
			return fmt.Errorf("write key: %w", err)
		}
	}
	_, err = fmt.Fprintf(t.out, "the private key is in %s: keep it off the servers\ninfer.trusted_keys: [%q]\n", rest[0], public)
	return err
}
