package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"

	"aran/app"
	"aran/service/audit/ledger"
)

const (
	maxProof      = 1 << 20
	maxCheckpoint = 4 << 10
)

func audit(ctx context.Context, t terminal, args []string) error {
	what, args, err := subcommand("audit", args, []string{"verify", "export", "proof"})
	if err != nil {
		return err
	}
	switch what {
	case "verify":
		return auditVerify(ctx, t, args)
	case "export":
		return auditExport(ctx, t, args)
	default:
		return auditProof(ctx, t, args)
	}
}

// auditVerify checks a data directory, an export (a directory), or a proof (a file).
func auditVerify(ctx context.Context, t terminal, args []string) error {
	f := flags(t, "audit verify", "[--data DIR] [--config FILE] [--checkpoint FILE] | OUT | PROOF [--key FILE]")
	where := logFlags(f)
	kept := f.String("checkpoint", "", "a checkpoint of this log that was kept elsewhere: the log must continue it")
	key := f.String("key", "", "the verifier key that you trust; without it a proof is only checked against its own")
	rest, err := parse(f, args)
	if err != nil {
		return err
	}
	if len(rest) > 1 || len(rest) == 1 && (where.given() || *kept != "") || *key != "" && len(rest) == 0 {
		return fmt.Errorf("%w: aran audit verify takes --data DIR, the directory of an export, or the file of a proof", errUsage)
	}
	var r ledger.Report
	switch {
	case len(rest) == 0:
		r, err = verifyData(ctx, where, *kept)
	case isFile(rest[0]):
		return verifyProof(t, rest[0], *key)
	case *key != "":
		return fmt.Errorf("%w: --key is for proofs; compare verifier.key of the export with the one you kept", errUsage)
	default:
		r, err = ledger.VerifyExport(ctx, rest[0])
	}
	if err != nil {
		return err
	}
	return sayVerified(t.out, r)
}

func sayVerified(w io.Writer, r ledger.Report) error {
	_, err := fmt.Fprintf(w, "whole: %d entries, %d checkpoints, root %s of the first %d\nlog %s\nkey %s\n", r.Entries, r.Checkpoints, r.Root, r.Size, r.Origin, r.Key)
	if err == nil && r.Unsigned > 0 {
		_, err = fmt.Fprintf(w, "the last %d entries are not under a checkpoint yet\n", r.Unsigned)
	}
	return err
}

func verifyData(ctx context.Context, where *logPlace, kept string) (ledger.Report, error) {
	place, err := where.place()
	if err != nil {
		return ledger.Report{}, err
	}
	if kept == "" {
		return ledger.Verify(ctx, place)
	}
	signed, err := readSmall(kept, maxCheckpoint)
	if err != nil {
		return ledger.Report{}, err
	}
	return ledger.Verify(ctx, place, signed)
}

func verifyProof(t terminal, path, keyFile string) error {
	text, err := readSmall(path, maxProof)
	if err != nil {
		return err
	}
	key := ""
	if keyFile != "" {
		b, err := readSmall(keyFile, maxCheckpoint)
		if err != nil {
			return err
		}
		v, err := ledger.KeyLine(b)
		if err != nil {
			return err
		}
		key = v
	}
	b, err := ledger.CheckProof(text, key)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(t.out, "proved: event %s is entry %d of %d\nkey %s\n", b.Event, b.Index, b.Size, b.Key)
	return err
}

func auditExport(ctx context.Context, t terminal, args []string) error {
	f := flags(t, "audit export", "[--data DIR] [--config FILE] OUT")
	where := logFlags(f)
	rest, err := parse(f, args)
	if err != nil {
		return err
	}
	if len(rest) != 1 {
		return fmt.Errorf("%w: aran audit export takes one new directory", errUsage)
	}
	place, err := where.place()
	if err != nil {
		return err
	}
	r, err := ledger.Export(ctx, place, rest[0])
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(t.out, "%d entries in %s, root %s\nkey %s\n", r.Entries, rest[0], r.Root, r.Key)
	return err
}

func auditProof(ctx context.Context, t terminal, args []string) error {
	f := flags(t, "audit proof", "[--data DIR] [--config FILE] EVENT")
	where := logFlags(f)
	rest, err := parse(f, args)
	if err != nil {
		return err
	}
	if len(rest) != 1 {
		return fmt.Errorf("%w: aran audit proof takes the id of one event", errUsage)
	}
	place, err := where.place()
	if err != nil {
		return err
	}
	b, err := ledger.Proof(ctx, place, rest[0])
	if err != nil {
		return err
	}
	out := json.NewEncoder(t.out)
	out.SetEscapeHTML(false)
	out.SetIndent("", "  ")
	return out.Encode(b)
}

// logPlace is where the settings say that the log is.
type logPlace struct{ data, config string }

func logFlags(f *flag.FlagSet) *logPlace {
	var p logPlace
	f.StringVar(&p.data, "data", "", "data directory (./aran-data)")
	f.StringVar(&p.config, "config", "", "path of aran.yaml; needed where the log is in PostgreSQL and the environment does not say so")
	return &p
}

func (p *logPlace) given() bool { return p.data != "" || p.config != "" }

func (p *logPlace) place() (ledger.Place, error) {
	set := map[string]string{}
	if p.data != "" {
		set["data.dir"] = p.data
	}
	cfg, err := app.Load(p.config, set)
	if err != nil {
		return ledger.Place{}, err
	}
	return cfg.AuditLog()
}

func isFile(path string) bool {
	info, err := os.Stat(path) //nolint:gosec // the user's own path
	return err == nil && info.Mode().IsRegular()
}

func readSmall(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path) //nolint:gosec // the user's own path
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, err
	}
	if int64(len(b)) > limit {
		return nil, fmt.Errorf("%s has more than %d bytes", path, limit)
	}
	return b, nil
}
