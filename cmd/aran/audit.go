package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"aran/service/audit/ledger"
)

const (
	defaultData   = "aran-data"
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
	f := flags(t, "audit verify", "[--data DIR] [--checkpoint FILE] | OUT | PROOF [--key FILE]")
	data := f.String("data", "", "data directory (./"+defaultData+")")
	kept := f.String("checkpoint", "", "a checkpoint of this log that was kept elsewhere: the log must continue it")
	key := f.String("key", "", "the verifier key that you trust; without it a proof is only checked against its own")
	rest, err := parse(f, args)
	if err != nil {
		return err
	}
	if len(rest) > 1 || len(rest) == 1 && (*data != "" || *kept != "") || *key != "" && len(rest) == 0 {
		return fmt.Errorf("%w: aran audit verify takes --data DIR, the directory of an export, or the file of a proof", errUsage)
	}
	var r ledger.Report
	switch {
	case len(rest) == 0:
		r, err = verifyData(ctx, *data, *kept)
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

func verifyData(ctx context.Context, data, kept string) (ledger.Report, error) {
	if kept == "" {
		return ledger.Verify(ctx, orDefault(data))
	}
	signed, err := readSmall(kept, maxCheckpoint)
	if err != nil {
		return ledger.Report{}, err
	}
	return ledger.Verify(ctx, orDefault(data), signed)
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
	f := flags(t, "audit export", "[--data DIR] OUT")
	data := f.String("data", "", "data directory (./"+defaultData+")")
	rest, err := parse(f, args)
	if err != nil {
		return err
	}
	if len(rest) != 1 {
		return fmt.Errorf("%w: aran audit export takes one new directory", errUsage)
	}
	r, err := ledger.Export(ctx, orDefault(*data), rest[0])
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(t.out, "%d entries in %s, root %s\nkey %s\n", r.Entries, rest[0], r.Root, r.Key)
	return err
}

func auditProof(ctx context.Context, t terminal, args []string) error {
	f := flags(t, "audit proof", "[--data DIR] EVENT")
	data := f.String("data", "", "data directory (./"+defaultData+")")
	rest, err := parse(f, args)
	if err != nil {
		return err
	}
	if len(rest) != 1 {
		return fmt.Errorf("%w: aran audit proof takes the id of one event", errUsage)
	}
	b, err := ledger.Proof(ctx, orDefault(*data), rest[0])
	if err != nil {
		return err
	}
	out := json.NewEncoder(t.out)
	out.SetEscapeHTML(false)
	out.SetIndent("", "  ")
	return out.Encode(b)
}

func orDefault(data string) string {
	if data == "" {
		return defaultData
	}
	return data
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
