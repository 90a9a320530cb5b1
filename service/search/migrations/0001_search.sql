-- Numbers that are never used twice.
CREATE TABLE search_sequence (
  name TEXT PRIMARY KEY,
  last BIGINT NOT NULL
);

-- generation grows with every change of what the collection's searches may find.
CREATE TABLE search_collection (
  id BIGINT PRIMARY KEY,
  tenant TEXT NOT NULL,
  name TEXT NOT NULL,
  description TEXT NOT NULL,
  public BIGINT NOT NULL,
  personal BIGINT NOT NULL,
  owner TEXT NOT NULL,
  created_at BIGINT NOT NULL,
  generation BIGINT NOT NULL,
  passages BIGINT NOT NULL,
  terms BIGINT NOT NULL,
  pack TEXT NOT NULL,
  UNIQUE (tenant, name)
);

-- latest is the edition that was stored last, edition the one that searches find (none: NULL).
CREATE TABLE search_document (
  collection BIGINT NOT NULL,
  id TEXT NOT NULL,
  title TEXT NOT NULL,
  owner TEXT NOT NULL,
  source TEXT NOT NULL,
  trust TEXT NOT NULL,
  status TEXT NOT NULL,
  reason TEXT NOT NULL,
  restricted BIGINT NOT NULL,
  access TEXT NOT NULL,
  metadata TEXT NOT NULL,
  version BIGINT NOT NULL,
  digest TEXT NOT NULL,
  latest BIGINT NOT NULL,
  edition BIGINT,
  generation BIGINT NOT NULL,
  created_at BIGINT NOT NULL,
  updated_at BIGINT NOT NULL,
  PRIMARY KEY (collection, id)
);
CREATE UNIQUE INDEX search_document_edition ON search_document (edition);
CREATE UNIQUE INDEX search_document_latest ON search_document (latest);
CREATE INDEX search_document_generation ON search_document (collection, generation);
CREATE INDEX search_document_restricted ON search_document (collection, restricted);
CREATE INDEX search_document_status ON search_document (status);

-- Who may read a restricted document besides its owner.
CREATE TABLE search_access (
  collection BIGINT NOT NULL,
  document TEXT NOT NULL,
  principal TEXT NOT NULL,
  PRIMARY KEY (collection, document, principal)
) {{clustered}};

CREATE TABLE search_metadata (
  collection BIGINT NOT NULL,
  document TEXT NOT NULL,
  name TEXT NOT NULL,
  value TEXT NOT NULL,
  PRIMARY KEY (collection, document, name)
) {{clustered}};

-- One stored version of a document's text. subject and scopes are the authority of the work on it.
CREATE TABLE search_edition (
  id BIGINT PRIMARY KEY,
  collection BIGINT NOT NULL,
  document TEXT NOT NULL,
  version BIGINT NOT NULL,
  tenant TEXT NOT NULL,
  subject TEXT NOT NULL,
  scopes TEXT NOT NULL,
  title TEXT NOT NULL,
  content_type TEXT NOT NULL,
  text TEXT NOT NULL,
  digest TEXT NOT NULL,
  encoder TEXT NOT NULL,
  cut TEXT NOT NULL,
  passages BIGINT NOT NULL,
  terms BIGINT NOT NULL,
  attempt BIGINT NOT NULL,
  retry_at BIGINT NOT NULL
);
CREATE INDEX search_edition_collection ON search_edition (collection);
CREATE INDEX search_edition_retry ON search_edition (retry_at);

CREATE TABLE search_passage (
  edition BIGINT NOT NULL,
  ordinal BIGINT NOT NULL,
  start_at BIGINT NOT NULL,
  end_at BIGINT NOT NULL,
  text TEXT NOT NULL,
  PRIMARY KEY (edition, ordinal)
);

-- A row is a term in one part (consecutive passages, the first one numbered) of an edition.
CREATE TABLE search_posting (
  term BIGINT NOT NULL,
  edition BIGINT NOT NULL,
  part BIGINT NOT NULL,
  passages BIGINT NOT NULL,
  packed {{blob}} NOT NULL,
  PRIMARY KEY (term, edition, part)
) {{clustered}};
CREATE INDEX search_posting_edition ON search_posting (edition, part);

-- The vectors of one part, float32 little-endian, one after the other.
CREATE TABLE search_vector (
  edition BIGINT NOT NULL,
  part BIGINT NOT NULL,
  passages BIGINT NOT NULL,
  terms BIGINT NOT NULL,
  packed {{blob}} NOT NULL,
  PRIMARY KEY (edition, part)
);

-- Editions that searches no longer find, for indexes held in memory.
CREATE TABLE search_gone (
  collection BIGINT NOT NULL,
  generation BIGINT NOT NULL,
  edition BIGINT NOT NULL,
  PRIMARY KEY (collection, generation, edition)
);

-- Editions whose rows are still to be deleted.
CREATE TABLE search_trash (
  edition BIGINT PRIMARY KEY
);
