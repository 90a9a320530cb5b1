package saga

import (
	"context"
	"strings"

	"aran/platform/store"
)

// texts are the statements on the engine's own tables and on the list of executors, which is ours.
type texts struct {
	create, beat, gone, executors, orphans, restamp string
}

func textsFor(service string, shared bool) texts { //nolint:revive // where the engine keeps its tables
	schema := ""
	if shared {
		schema = `"dbos".`
	}
	t := strings.NewReplacer("$S", strings.ReplaceAll(service, "-", "_"), "$D", schema)
	return texts{
		create:    t.Replace(`CREATE TABLE IF NOT EXISTS $S_executor (id TEXT PRIMARY KEY, beat BIGINT NOT NULL)`),
		beat:      t.Replace(`INSERT INTO $S_executor (id, beat) VALUES ($1, 1) ON CONFLICT (id) DO UPDATE SET beat = $S_executor.beat + 1`),
		gone:      t.Replace(`DELETE FROM $S_executor WHERE id = $1 AND (beat = $2 OR $2 = 0)`),
		executors: t.Replace(`SELECT id, beat FROM $S_executor`),
		orphans: t.Replace(`SELECT w.workflow_uuid FROM $Dworkflow_status w LEFT JOIN $S_executor e ON e.id = w.executor_id
			WHERE w.status = 'PENDING' AND w.application_version = $1 AND e.id IS NULL ORDER BY w.created_at LIMIT 200`),
		restamp: t.Replace(`UPDATE $Dworkflow_status SET application_version = $1 WHERE application_version = $2 AND status IN ('PENDING', 'ENQUEUED')
			AND (executor_id IS NULL OR executor_id NOT IN (SELECT id FROM $S_executor))`),
	}
}

func (e *Engine) exec(ctx context.Context, query string, args ...any) error {
	return e.db.Tx(ctx, func(tx *store.Tx) error {
		_, err := tx.Exec(ctx, query, args...)
		return err
	})
}

// executors returns the beat of each.
func (e *Engine) executors(ctx context.Context) (map[string]int64, error) {
	rows, err := e.db.Query(ctx, e.text.executors)
	if err != nil {
		return nil, err
	}
	defer rows.Close() //nolint:errcheck // read only
	out := map[string]int64{}
	for rows.Next() {
		var id string
		var beat int64
		if err := rows.Scan(&id, &beat); err != nil {
			return nil, err
		}
		out[id] = beat
	}
	return out, rows.Err()
}

// orphans lists runs of our definitions whose executor is no more.
func (e *Engine) orphans(ctx context.Context) (ids []string, err error) {
	rows, err := e.db.Query(ctx, e.text.orphans, e.version)
	if err != nil {
		return nil, err
	}
	defer rows.Close() //nolint:errcheck // read only
	for rows.Next() {
		var id string
		if err := rows.Scan(&id); err != nil {
			return nil, err
		}
		ids = append(ids, id)
	}
	return ids, rows.Err()
}
