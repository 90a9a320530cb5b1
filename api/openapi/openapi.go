// Package openapi holds the public API as it is committed: the document, and the routes with what each asks of its caller.
//
// Both are made from the served handlers (make generate), so that the edge knows them also where it runs without the
// services behind it.
package openapi

import (
	_ "embed"
	"encoding/json"
	"fmt"

	"aran/platform/rpc"
)

// Document is the OpenAPI 3.1 document.
//
//go:embed openapi.json
var Document []byte

//go:embed routes.json
var routes []byte

// Routes lists the public routes by service.
func Routes() (map[string][]rpc.Route, error) {
	var out map[string][]rpc.Route
	if err := json.Unmarshal(routes, &out); err != nil {
		return nil, fmt.Errorf("routes.json: %w", err)
	}
	return out, nil
}
