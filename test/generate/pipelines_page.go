package main

import (
	_ "embed"
	"slices"
	"strings"
)

// page is a workflow in GitHub Actions' syntax, which other systems read or import.
//
//go:embed pipeline.yaml
var page string

// engine is the service whose image has native code in it.
const engine = "infer"

// pipeline is the file of one service, built from packages.
func pipeline(service string, packages []string) []byte {
	var paths, tests []string
	for _, p := range packages {
		dir := strings.TrimPrefix(p, module+"/")
		tests = append(tests, "./"+dir)
		if dir == "app" {
			dir += "/*" // what is below is for some services only
		} else {
			dir += "/**"
		}
		paths = append(paths, dir)
		if contract, ok := strings.CutPrefix(p, module+"/api/gen/"); ok {
			paths = append(paths, "api/"+contract[:strings.LastIndexByte(contract, '/')]+"/**")
		}
	}
	paths = append(paths,
		"go.mod", "go.sum", "Makefile", "compose.yaml", "deploy/compose/**", "deploy/roll", pipelinesDir+"/"+service+".yaml",
		"test/contract/**", "test/harness/**", "test/skew/**", "test/walk/**")
	slices.Sort(paths)
	paths = slices.Compact(paths)
	all := slices.Clone(paths)
	paths = slices.DeleteFunc(paths, func(p string) bool { return below(p, all) })
	image, target := "ARAN_IMAGE", "aran"
	if service == engine {
		image, target = "ARAN_ENGINE_IMAGE", "engine"
	}
	return []byte(strings.NewReplacer(
		"SERVICE", service, "IMAGE_VARIABLE", image, "TARGET", target,
		"      - PATHS\n", "      - "+strings.Join(quoted(paths), "\n      - ")+"\n",
		"          PACKAGES\n", "          "+strings.Join(tests, "\n          ")+"\n",
	).Replace(page))
}

// below reports whether another of the paths covers p.
func below(p string, paths []string) bool {
	return slices.ContainsFunc(paths, func(other string) bool {
		dir, whole := strings.CutSuffix(other, "/**")
		return whole && p != other && strings.HasPrefix(p, dir+"/")
	})
}

func quoted(paths []string) (out []string) {
	for _, p := range paths {
		out = append(out, `"`+p+`"`)
	}
	return out
}
