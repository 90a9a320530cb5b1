// Command generate writes everything in the repository that is made from something else: Go code of the contracts, the
// OpenAPI document, the reference of settings, the page of the threat model, the pipelines, the handbook. With -check it writes nothing
// and fails when a file is not what it would write.
//
// It is run from the repository's root (make generate, make check), with the tools of tools/ on the path.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"

	"aran/app"
	"aran/config"
	"aran/platform/rpc"
	"aran/test/threat"
)

// files are generated files by path from the root.
type files map[string][]byte

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	check := flag.Bool("check", false, "write nothing; fail when a file is not current")
	flag.Parse()
	if err := run(ctx, *check); err != nil {
		_, _ = fmt.Fprintln(os.Stderr, "generate:", err)
		os.Exit(1) //nolint:gocritic // nothing is open
	}
}

func run(ctx context.Context, check bool) error { //nolint:revive // the command's only flag
	handle, handbook := write, []string{"run", "./make"}
	if check {
		handle, handbook = compare, append(handbook, "-check")
	}
	var stale []error
	for _, make := range []func(context.Context) (files, error){contracts, openAPI, reference, threats, pipelines} {
		made, err := make(ctx)
		if err != nil {
			return err
		}
		stale = append(stale, handle(made))
	}
	stale = append(stale, command(ctx, "app/handbook", "go", handbook...)) // last: it reads the pages above
	return errors.Join(stale...)
}

func write(made files) error {
	for path, b := range made {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil { //nolint:gosec // a source folder
			return err
		}
		if err := os.WriteFile(path, b, 0o644); err != nil { //nolint:gosec // a source file
			return err
		}
	}
	return nil
}

func compare(made files) error {
	var errs []error
	for _, path := range slices.Sorted(maps.Keys(made)) {
		if b, err := os.ReadFile(path); err != nil || !bytes.Equal(b, made[path]) { //nolint:gosec // a source file
			errs = append(errs, fmt.Errorf("%s is not current; run make generate", path))
		}
	}
	return errors.Join(errs...)
}

// contracts makes api/gen from the proto files.
func contracts(ctx context.Context) (files, error) {
	dir, err := os.MkdirTemp("", "aran-generate")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // a temporary folder
	if err := command(ctx, "api", "buf", "generate", "--output", dir); err != nil {
		return nil, err
	}
	out := files{}
	made := os.DirFS(dir)
	err = fs.WalkDir(made, "gen", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		out[filepath.Join("api", path)], err = fs.ReadFile(made, path)
		return err
	})
	if err != nil {
		return nil, err
	}
	return out, leftOver("api/gen", out)
}

// leftOver fails when a folder of generated files holds one that is not made any more.
func leftOver(dir string, made files) error {
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && made[path] == nil {
			err = fmt.Errorf("%s is not made by anything; remove it", path)
		}
		return err
	})
}

// openAPI asks the served handlers of the whole platform.
func openAPI(ctx context.Context) (out files, err error) {
	dir, err := os.MkdirTemp("", "aran-generate")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // a temporary folder
	cfg, err := app.Load("", map[string]string{"data.dir": dir, "gateway.listen": "127.0.0.1:0", "watch.listen": "127.0.0.1:0"})
	if err != nil {
		return nil, err
	}
	a, err := app.Open(ctx, cfg, app.Options{Version: "generate", Services: app.Names(), Log: io.Discard})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, a.Stop(ctx)) }()
	doc, err := a.OpenAPI()
	if err != nil {
		return nil, err
	}
	routes := map[string][]rpc.Route{}
	for _, r := range a.Routes() {
		if r.Service != rpc.Gateway {
			routes[r.Service] = append(routes[r.Service], r.Route)
		}
	}
	table, err := json.MarshalIndent(routes, "", "\t")
	return files{"api/openapi/openapi.json": doc, "api/openapi/routes.json": append(table, '\n')}, err
}

func reference(context.Context) (files, error) {
	var b bytes.Buffer
	err := config.Reference(&b, app.Default().Sections())
	return files{"docs/reference/config.md": b.Bytes()}, err
}

func threats(context.Context) (files, error) {
	m, err := threat.Load("docs/threat-model.yaml")
	if err != nil {
		return nil, err
	}
	return files{"docs/threat-model.md": []byte(m.Page())}, nil
}

func command(ctx context.Context, dir, name string, args ...string) error {
	c := exec.CommandContext(ctx, name, args...) //nolint:gosec // programs of the repository
	c.Dir, c.Stdout, c.Stderr = dir, os.Stdout, os.Stderr
	if err := c.Run(); err != nil {
		return fmt.Errorf("%s %v: %w", name, args, err)
	}
	return nil
}
