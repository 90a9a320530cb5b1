package main

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"aran/app"
	"aran/platform/auth/ca"
)

const certificateLife = time.Hour

// authority issues the certificates that services in different processes show each other.
func authority(ctx context.Context, t terminal, args []string) error {
	what, args, err := subcommand("ca", args, []string{"serve", "issue", "rotate"})
	if err != nil {
		return err
	}
	help := "--dir DIR --out DIR [--life 1h] [--trust-domain NAME] [SERVICE…]"
	if what == "rotate" {
		help = "--dir DIR [--trust-domain NAME]"
	}
	f := flags(t, "ca "+what, help)
	dir := f.String("dir", "", "the authority's own directory; nobody else may read it")
	domain := f.String("trust-domain", "", "trust domain (mesh.trust_domain)")
	file := f.String("config", "", "path of aran.yaml")
	var out string
	life := certificateLife
	if what != "rotate" {
		f.StringVar(&out, "out", "", "where each service's certificate goes, in a directory of its name (mesh.certificates)")
		f.DurationVar(&life, "life", life, "how long a certificate is good for; it is renewed at half of that")
	}
	services, err := parse(f, args)
	if err != nil {
		return err
	}
	cfg, err := app.LoadMesh(*file, out, *domain)
	if err != nil {
		return err
	}
	switch {
	case *dir == "":
		return fmt.Errorf("%w: aran ca %s takes --dir, the authority's own directory", errUsage, what)
	case what == "rotate" && len(services) > 0:
		return fmt.Errorf("%w: aran ca rotate takes no %q; the key is one for all services", errUsage, services[0])
	case what != "rotate" && cfg.Certificates == "":
		return fmt.Errorf("%w: aran ca %s takes --out, where certificates go, or mesh.certificates", errUsage, what)
	case life < ca.MinLife || life > ca.MaxLife:
		return fmt.Errorf("%w: --life %v: use %v to %v", errUsage, life, ca.MinLife, ca.MaxLife)
	}
	if services, err = app.Known(services); err != nil {
		return fmt.Errorf("%w: %w", errUsage, err)
	}
	a, err := ca.Open(*dir, cfg.TrustDomain)
	if err != nil {
		return err
	}
	switch what {
	case "rotate":
		return a.Rotate()
	case "issue":
		return a.IssueAll(ctx, cfg.Certificates, services, life)
	default:
		_, _ = fmt.Fprintf(t.out, "aran %s  certificates of %s for %d services in %s, renewed every %v\n", version, cfg.TrustDomain, len(services), cfg.Certificates, life/2)
		return a.Serve(ctx, cfg.Certificates, services, life, slog.New(slog.NewTextHandler(t.err, nil)))
	}
}
