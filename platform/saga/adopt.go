package saga

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/dbos-inc/dbos-transact-golang/dbos"
)

const (
	beatEvery = 2 * time.Second
	deadAfter = 10 * time.Second // without a beat, by the clock of the one who looks
)

// Replicas share a database. Each is an executor with a row that it keeps changing. The runs of one that stopped to do
// so are taken over by whoever sees it first. That it may be alive and only slow does no harm: each step's transaction
// checks who owns its run (the engine's owner_xid), so that one of the two cannot commit.

// look is what this process saw of another executor.
type look struct {
	beat int64
	at   time.Time
}

// accompany keeps our row changing and looks after the others, until Stop.
func (e *Engine) accompany(ctx context.Context) {
	seen := map[string]look{}
	tick := time.NewTicker(e.beatEvery)
	defer tick.Stop()
	for {
		if err := e.round(ctx, seen); err != nil && ctx.Err() == nil {
			e.log.LogAttrs(ctx, slog.LevelWarn, "sagas of other replicas not looked after", slog.String("error", err.Error()))
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

func (e *Engine) round(ctx context.Context, seen map[string]look) error {
	if e.silent.Load() {
		return nil
	}
	if err := e.exec(ctx, e.text.beat, e.id); err != nil {
		return err
	}
	now, err := e.executors(ctx)
	if err != nil {
		return err
	}
	for id := range seen {
		if _, there := now[id]; !there {
			delete(seen, id)
		}
	}
	for id, beat := range now {
		switch was, known := seen[id]; {
		case id == e.id:
		case !known || was.beat != beat:
			seen[id] = look{beat, time.Now()}
		case time.Since(was.at) > e.deadAfter:
			e.log.LogAttrs(ctx, slog.LevelWarn, "a replica is gone; its sagas are taken over", slog.String("executor", id))
			if err := e.exec(ctx, e.text.gone, id, beat); err != nil {
				return err
			}
		}
	}
	_, err = e.db.Alone(ctx, "saga adoption", e.adopt)
	return err
}

// adopt has runs without a living executor continue, here or in any replica with the same definitions. Runs of former
// definitions that we keep become ours; those of later ones wait for who knows them.
func (e *Engine) adopt(ctx context.Context) error {
	for _, p := range e.previous {
		if err := e.exec(ctx, e.text.restamp, e.version, p); err != nil {
			return err
		}
	}
	ids, err := e.orphans(ctx)
	if err != nil || len(ids) == 0 {
		return err
	}
	if _, err := dbos.ResumeWorkflows[string](e.ctx, ids); err != nil {
		return fmt.Errorf("resume %d runs: %w", len(ids), err)
	}
	e.log.LogAttrs(ctx, slog.LevelInfo, "sagas taken over", slog.Int("runs", len(ids)))
	return nil
}

const executorFile = "executor"

// Succeed has this process take over at once what the former process on dir left, instead of after its heartbeat
// lapsed. The caller holds a lock on dir for as long as the process lives: so the former one is gone. Call it before
// Launch, once. Were the lock's promise broken (a copied directory), runs would move, and nothing would be done twice.
func (e *Engine) Succeed(dir string) error {
	if !e.db.Shared() {
		return nil // a file has one executor
	}
	path := filepath.Join(dir, executorFile)
	former, err := os.ReadFile(path) //nolint:gosec // in our own data directory
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("read the former executor: %w", err)
	}
	e.former, e.succession = strings.TrimSpace(string(former)), path
	return nil
}

// succeed declares the former process's executor gone, and leaves our name to who comes after us. Killed between the
// two, the next process does the first again.
func (e *Engine) succeed(ctx context.Context) error {
	if e.succession == "" {
		return nil
	}
	if e.former != "" {
		if err := e.exec(ctx, e.text.gone, e.former, int64(0)); err != nil {
			return err
		}
	}
	fresh := e.succession + ".new"
	if err := os.WriteFile(fresh, []byte(e.id+"\n"), 0o600); err != nil {
		return fmt.Errorf("keep the executor's name: %w", err)
	}
	return os.Rename(fresh, e.succession)
}

// join makes this process an executor; from then on its runs are its own.
func (e *Engine) join(ctx context.Context) error {
	if !e.db.Shared() {
		for _, p := range e.previous {
			if err := e.exec(ctx, e.text.restamp, e.version, p); err != nil {
				return err
			}
		}
		return nil
	}
	if err := e.succeed(ctx); err != nil {
		return err
	}
	return e.exec(ctx, e.text.beat, e.id)
}

// leaveOthers takes our row away: what we did not finish is another's at once.
func (e *Engine) leaveOthers(ctx context.Context) error {
	if !e.db.Shared() || e.silent.Load() {
		return nil
	}
	return e.exec(ctx, e.text.gone, e.id, int64(0))
}
