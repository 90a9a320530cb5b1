-- A conversation's pseudonyms. Who it belongs to is named by the random pseudonym that the key database has for them; the
-- conversation's secret and each pair are sealed with their key.
CREATE TABLE guard_conversation (
  id TEXT PRIMARY KEY,          -- SHA-256 of owner and the caller's name for it, hex
  owner TEXT NOT NULL,
  secret {{blob}} NOT NULL,
  pairs BIGINT NOT NULL,        -- grows with each; a writer that saw another number reads again
  expires_at BIGINT NOT NULL    -- UTC microseconds
);
CREATE INDEX guard_conversation_owner ON guard_conversation (owner);
CREATE INDEX guard_conversation_expires ON guard_conversation (expires_at);
CREATE TABLE guard_pseudonym (
  conversation TEXT NOT NULL,
  n BIGINT NOT NULL,            -- from 0, in the order in which they were made
  sealed {{blob}} NOT NULL,
  PRIMARY KEY (conversation, n)
);
