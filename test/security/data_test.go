package security

import (
	"errors"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"aran/app"
	"aran/test/harness"
)

// TestEachServiceSeesItsOwnDataOnly connects as the role of each service, on a platform whose services run apart: every
// database of every other service, and so each of its tables, is closed.
func TestEachServiceSeesItsOwnDataOnly(t *testing.T) {
	p := harness.Apart(t, "ARAN_MODELS="+harness.NoModels(t))
	refused, own := 0, 0
	for _, role := range app.Storing() {
		for _, owner := range app.Storing() {
			for _, database := range []string{"aran_" + owner, "aran_" + owner + "_keys"} {
				tables, err := tablesOf(t, p.Parts.Postgres.URL("aran_"+role, database))
				var pg *pgconn.PgError
				switch {
				case role == owner && err != nil:
					t.Errorf("%s can't open its own database %s: %v", role, database, err)
				case role == owner:
					own++
					if !strings.HasSuffix(database, "_keys") && len(tables) == 0 {
						t.Errorf("%s has no tables", database)
					}
				case !errors.As(err, &pg) || pg.Code != "42501" || !strings.Contains(pg.Message, "permission denied"):
					t.Errorf("%s opens %s, want permission denied: %v %v", role, database, tables, err)
				default:
					refused++
				}
			}
		}
	}
	t.Logf("%d services: %d databases opened by their owner, %d attempts of others refused with permission denied", len(app.Storing()), own, refused)
}

func tablesOf(t *testing.T, url string) (out []string, err error) {
	t.Helper()
	c, err := pgx.Connect(t.Context(), url)
	if err != nil {
		return nil, err
	}
	defer c.Close(t.Context()) //nolint:errcheck // only read
	rows, err := c.Query(t.Context(), `SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'`)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}
