-- Answers in the making. A row is there from before a model is asked until the answer's event is written, so
-- that an answer which its process did not outlive is still recorded: by the sweep, as lost.
CREATE TABLE chat_call (
  id         TEXT PRIMARY KEY,
  request    TEXT NOT NULL,
  tenant     TEXT NOT NULL,
  actor      TEXT NOT NULL,
  model      TEXT NOT NULL,
  question   TEXT NOT NULL,
  opened_at  BIGINT NOT NULL
);
CREATE INDEX chat_call_opened ON chat_call (opened_at);
