package search

import "embed"

// Migrations make the database.
//
//go:embed migrations/*.sql
var Migrations embed.FS
