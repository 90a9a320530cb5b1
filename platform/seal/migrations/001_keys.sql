-- One row: which key-encryption key wraps this database, and the secret that names subjects.
CREATE TABLE seal_keyring (
  service     TEXT NOT NULL PRIMARY KEY,
  fingerprint TEXT NOT NULL,
  namer       {{blob}} NOT NULL, -- wrapped
  created_at  BIGINT NOT NULL
);

-- One row per subject, under a keyed hash of its name. An erased subject keeps its row without keys.
CREATE TABLE seal_subject (
  id         {{blob}} NOT NULL PRIMARY KEY,
  data_key   {{blob}}, -- wrapped AES-256-GCM keyset
  pseudonym  TEXT UNIQUE,
  created_at BIGINT NOT NULL,
  erased_at  BIGINT
);
