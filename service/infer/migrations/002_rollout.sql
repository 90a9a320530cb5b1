-- Which version of a model serves, decided by a rollout or at the first start: it serves again after a restart.
CREATE TABLE infer_serving (
  name       TEXT PRIMARY KEY,
  version    TEXT NOT NULL,
  digest     TEXT NOT NULL,
  decided_at BIGINT NOT NULL
);

-- Changes of the version that serves. One that ended has ended_at; while it runs, its owner writes beat_at.
CREATE TABLE infer_rollout (
  id           TEXT PRIMARY KEY,
  name         TEXT NOT NULL,
  from_version TEXT NOT NULL,
  from_digest  TEXT NOT NULL,
  to_version   TEXT NOT NULL,
  to_digest    TEXT NOT NULL,
  actor        TEXT NOT NULL,
  phase        TEXT NOT NULL,
  percent      BIGINT NOT NULL,
  reason       TEXT NOT NULL,
  detail       TEXT NOT NULL,
  owner        TEXT NOT NULL,
  started_at   BIGINT NOT NULL,
  beat_at      BIGINT NOT NULL,
  ended_at     BIGINT NOT NULL
);
CREATE UNIQUE INDEX infer_rollout_running ON infer_rollout (name) WHERE ended_at = 0;
CREATE INDEX infer_rollout_latest ON infer_rollout (name, started_at);
