package app_test

import (
	"io/fs"
	"testing"

	"aran/platform/secret"
	"aran/platform/store"
	"aran/platform/store/pgtest"
	"aran/service/audit"
	"aran/service/chat"
	"aran/service/guard"
	"aran/service/infer"
	"aran/service/search"
	"aran/service/user"
)

// Each service's tables are made on PostgreSQL too, by a role that owns its database and nothing else.
func TestMigrationsOnPostgreSQL(t *testing.T) {
	server := pgtest.Start(t)
	for name, files := range map[string]fs.FS{
		"audit": audit.Migrations, "chat": chat.Migrations, "guard": guard.Migrations,
		"infer": infer.Migrations, "search": search.Migrations, "user": user.Migrations,
	} {
		t.Run(name, func(t *testing.T) {
			role := "aran_" + name
			server.Exec("postgres", "CREATE ROLE "+role+" LOGIN", "CREATE DATABASE "+role+" OWNER "+role+" TEMPLATE template0 ENCODING 'UTF8' LOCALE 'C'")
			for range 2 { // the second time there is nothing to do
				db, err := store.Open(t.Context(), store.Options{Service: name, URL: secret.New(server.URL(role, role)), Migrations: files})
				if err != nil {
					t.Fatal(err)
				}
				if err := db.Close(); err != nil {
					t.Error(err)
				}
			}
		})
	}
}
