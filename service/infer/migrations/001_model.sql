-- What each model was when it was looked at last: an event is sent when it becomes something else.
CREATE TABLE infer_model (
  name       TEXT PRIMARY KEY,
  version    TEXT NOT NULL,
  digest     TEXT NOT NULL,
  status     TEXT NOT NULL,
  changed_at BIGINT NOT NULL
);
