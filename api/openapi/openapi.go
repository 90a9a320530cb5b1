// Package openapi holds the public API as it is committed: the document, and the routes with what each asks of its caller.
//
// Both are made from the served handlers (make generate), so that the edge knows them also where it runs without the
// services behind it.
package openapi

import _ "embed"

// Document is the OpenAPI 3.1 document.
//
//go:embed openapi.json
var Document []byte

// Routes are the public routes by service, in JSON: {"chat": [{"method", "pattern", "access", "max_body"}]}.
//
//go:embed routes.json
var Routes []byte
