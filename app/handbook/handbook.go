// Package handbook holds the collection `handbook`: the platform's own documentation, cut into
// passages and encoded when it was built, so that it answers as soon as the platform is ready.
//
// After a change of the documentation it is made again; `make check` fails until it is.
package handbook

import _ "embed"

//go:generate go run ./make

//go:embed handbook.bin
var file []byte

// Pack is the collection as search.Pack.Encode made it. It must not be changed.
func Pack() []byte { return file }
