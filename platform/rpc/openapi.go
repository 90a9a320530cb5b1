package rpc

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"
)

// Merge makes one OpenAPI 3.1 document of the services' parts, the same bytes for the same input. Schemas are prefixed with
// the service's name, for each service names its own.
func Merge(title, version string, parts map[string]*huma.OpenAPI) ([]byte, error) {
	paths, schemas := map[string]any{}, map[string]any{}
	var tags []any
	for _, name := range slices.Sorted(maps.Keys(parts)) {
		b, err := json.Marshal(parts[name])
		if err != nil {
			return nil, fmt.Errorf("openapi of %s: %w", name, err)
		}
		b = bytes.ReplaceAll(b, []byte(`"#/components/schemas/`), []byte(`"#/components/schemas/`+prefixed(name, "")))
		var doc struct {
			Paths      map[string]map[string]any `json:"paths"`
			Components struct {
				Schemas map[string]any `json:"schemas"`
			} `json:"components"`
		}
		if err := json.Unmarshal(b, &doc); err != nil {
			return nil, fmt.Errorf("openapi of %s: %w", name, err)
		}
		for path, item := range doc.Paths {
			if _, twice := paths[path]; twice {
				return nil, fmt.Errorf("openapi: %s is served by two services", path)
			}
			for _, op := range item {
				if o, ok := op.(map[string]any); ok {
					o["tags"] = []string{name}
				}
			}
			paths[path] = item
		}
		for s, schema := range doc.Components.Schemas {
			schemas[prefixed(name, s)] = schema
		}
		tags = append(tags, map[string]string{"name": name})
	}
	doc := map[string]any{
		"openapi": "3.1.0",
		"info":    map[string]any{"title": title, "version": version, "license": map[string]string{"name": "Apache-2.0", "identifier": "Apache-2.0"}},
		"paths":   paths,
		"tags":    tags,
		"components": map[string]any{
			"schemas":         schemas,
			"securitySchemes": map[string]any{"key": map[string]string{"type": "http", "scheme": "bearer", "description": "An API key (aran_live_…, aran_test_…) or a session's access token."}},
		},
	}
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	e.SetIndent("", " ")
	e.SetEscapeHTML(false)
	if err := e.Encode(doc); err != nil {
		return nil, fmt.Errorf("openapi: %w", err)
	}
	return out.Bytes(), nil
}

func prefixed(service, schema string) string {
	return strings.ToUpper(service[:1]) + service[1:] + schema
}
