package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"os"

	"aran/service/infer/e5"
	"aran/service/infer/golden"
	"aran/service/infer/minilm"
)

// evalEmbed compares an encoder with vectors that are known to be right, and measures it.
func evalEmbed(ctx context.Context, t terminal, args []string) error {
	f := flags(t, "eval embed", "[DIR] [--weights FILE] [--format text|json]")
	format := f.String("format", "text", "text or json")
	weights := f.String("weights", "", "file of another encoder: packed all-MiniLM-L6-v2 or multilingual-e5-small")
	rest, err := parse(f, args)
	if err != nil {
		return err
	}
	if len(rest) > 1 || *format != "text" && *format != "json" {
		return fmt.Errorf("%w: aran eval embed [DIR] [--weights FILE] [--format text|json]; without DIR the texts inside the program are taken", errUsage)
	}
	cases, err := golden.Builtin()
	if len(rest) == 1 {
		var dir fs.FS
		if dir, err = folder(rest[0]); err == nil {
			cases, err = golden.Read(dir)
		}
	}
	if err != nil {
		return err
	}
	e, err := encoderOf(*weights)
	if err != nil {
		return err
	}
	r, err := golden.Run(ctx, e, cases)
	if err != nil {
		return err
	}
	if *format == "json" {
		return json.NewEncoder(t.out).Encode(r)
	}
	_, err = fmt.Fprintf(t.out, "%d texts, vectors of %d numbers\n", r.Texts, r.Dim)
	if err == nil && r.MaxAbsDiff != nil {
		_, err = fmt.Fprintf(t.out, "largest difference of a number  %.3g\nlowest cosine                   %.7f\n", *r.MaxAbsDiff, *r.CosineMin)
	}
	if err == nil {
		_, err = fmt.Fprintf(t.out, "texts a second                  %.1f\nlatency of one text             %.0f µs\n", r.TextsPerS, r.LatencyUS)
	}
	return err
}

func folder(name string) (fs.FS, error) {
	if info, err := os.Stat(name); err != nil || !info.IsDir() {
		return nil, fmt.Errorf("%w: %s is no folder", errUsage, name)
	}
	return os.DirFS(name), nil
}

// encoderOf opens a file by what it begins with; without one it is the encoder inside the program.
func encoderOf(weights string) (golden.Encoder, error) {
	if weights == "" {
		return minilm.Load()
	}
	head := make([]byte, 4)
	f, err := os.Open(weights) //nolint:gosec // whoever runs the command names the file
	if err != nil {
		return nil, fmt.Errorf("open the encoder: %w", err)
	}
	_, err = io.ReadFull(f, head)
	_ = f.Close() // it was read only
	if err == nil && e5.Is(string(head)) {
		return e5.Open(weights)
	}
	return minilm.Open(weights)
}
