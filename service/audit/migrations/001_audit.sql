-- The log: one row an entry, numbered from 0 without gaps. The leaf is what the tree hashes; the other columns
-- repeat what is in it, for queries. Rows are never changed or removed.
CREATE TABLE audit_entry (
  seq      BIGINT NOT NULL PRIMARY KEY,
  event_id TEXT NOT NULL,
  tenant   TEXT NOT NULL,
  type     TEXT NOT NULL,
  leaf     {{blob}} NOT NULL,
  added_at BIGINT NOT NULL
);
CREATE INDEX audit_entry_event ON audit_entry (event_id);
CREATE INDEX audit_entry_tenant ON audit_entry (tenant, seq);
CREATE INDEX audit_entry_type ON audit_entry (tenant, type, seq);

-- The nodes of the Merkle tree in the order of tlog.StoredHashIndex. Derived: it can be made from the entries.
CREATE TABLE audit_node (
  id   BIGINT NOT NULL PRIMARY KEY,
  hash {{blob}} NOT NULL
);

-- What the log's key signed. Old rows are thinned to one an hour.
CREATE TABLE audit_checkpoint (
  size      BIGINT NOT NULL PRIMARY KEY,
  root      {{blob}} NOT NULL,
  signed    {{blob}} NOT NULL,
  signed_at BIGINT NOT NULL
);

-- One row: the log's key, its private half sealed.
CREATE TABLE audit_key (
  id       BIGINT NOT NULL PRIMARY KEY,
  verifier TEXT NOT NULL,
  sealed   {{blob}} NOT NULL,
  made_at  BIGINT NOT NULL
);
