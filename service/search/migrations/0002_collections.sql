-- fields are the declared metadata, as JSON. model names what embeds the texts (empty: the default encoder), encoder is
-- the digest that its searches go by (empty: nothing was encoded yet). words and meaning are the weights of fusion.
-- versions is how many versions of a document stay readable, the latest among them.
ALTER TABLE search_collection ADD COLUMN fields TEXT NOT NULL DEFAULT '[]';
ALTER TABLE search_collection ADD COLUMN language TEXT NOT NULL DEFAULT 'auto';
ALTER TABLE search_collection ADD COLUMN model TEXT NOT NULL DEFAULT '';
ALTER TABLE search_collection ADD COLUMN encoder TEXT NOT NULL DEFAULT '';
ALTER TABLE search_collection ADD COLUMN words DOUBLE PRECISION NOT NULL DEFAULT 1;
ALTER TABLE search_collection ADD COLUMN meaning DOUBLE PRECISION NOT NULL DEFAULT 1;
ALTER TABLE search_collection ADD COLUMN duplicates TEXT NOT NULL DEFAULT 'keep';
ALTER TABLE search_collection ADD COLUMN versions BIGINT NOT NULL DEFAULT 10;

UPDATE search_collection SET encoder = COALESCE((SELECT e.encoder FROM search_document d JOIN search_edition e ON e.id = d.edition
  WHERE d.collection = search_collection.id AND e.encoder <> '' ORDER BY e.id DESC LIMIT 1), '');

-- number is what a value says as a number, a time (microseconds since 1970) or a boolean (0, 1), and kind which of them
-- it is: number, time, boolean; text: none of these, number is NULL. Empty: not looked at yet.
ALTER TABLE search_metadata ADD COLUMN number DOUBLE PRECISION;
ALTER TABLE search_metadata ADD COLUMN kind TEXT NOT NULL DEFAULT '';
CREATE INDEX search_metadata_unseen ON search_metadata (collection) WHERE kind = '';
CREATE INDEX search_metadata_value ON search_metadata (collection, name, value);
CREATE INDEX search_metadata_number ON search_metadata (collection, name, kind, number);

-- text_digest is SHA-256 of the text alone, to find duplicates by.
ALTER TABLE search_document ADD COLUMN text_digest TEXT NOT NULL DEFAULT '';
UPDATE search_document SET text_digest = COALESCE((SELECT e.digest FROM search_edition e WHERE e.id = search_document.latest), '');
CREATE INDEX search_document_text ON search_document (collection, text_digest);
CREATE INDEX search_document_state ON search_document (collection, status);

-- A version that was replaced, and still answers for citations. passages and terms of search_edition no longer count.
CREATE TABLE search_version (
  collection BIGINT NOT NULL,
  document TEXT NOT NULL,
  version BIGINT NOT NULL,
  edition BIGINT NOT NULL,
  stored_at BIGINT NOT NULL,
  replaced_at BIGINT NOT NULL,
  PRIMARY KEY (collection, document, version)
);
CREATE UNIQUE INDEX search_version_edition ON search_version (edition);

-- original is SHA-256 of the bytes that the text was taken from, original_type their content type (empty: the text
-- itself was sent); pages and findings are JSON of what the extraction saw.
ALTER TABLE search_edition ADD COLUMN original TEXT NOT NULL DEFAULT '';
ALTER TABLE search_edition ADD COLUMN original_type TEXT NOT NULL DEFAULT '';
ALTER TABLE search_edition ADD COLUMN pages TEXT NOT NULL DEFAULT '[]';
ALTER TABLE search_edition ADD COLUMN findings TEXT NOT NULL DEFAULT '[]';
ALTER TABLE search_edition ADD COLUMN stored_at BIGINT NOT NULL DEFAULT 0;
CREATE INDEX search_edition_document ON search_edition (collection, document);

-- Vectors of another encoder beside those of the edition, while a collection goes over to it.
CREATE TABLE search_vector_beside (
  edition BIGINT NOT NULL,
  encoder TEXT NOT NULL,
  part BIGINT NOT NULL,
  passages BIGINT NOT NULL,
  packed {{blob}} NOT NULL,
  PRIMARY KEY (edition, encoder, part)
);

-- Work of re-embedding a collection: one that is not ended at a time. subject and scopes are its authority.
CREATE TABLE search_reembedding (
  id TEXT PRIMARY KEY,
  collection BIGINT NOT NULL,
  tenant TEXT NOT NULL,
  subject TEXT NOT NULL,
  scopes TEXT NOT NULL,
  model TEXT NOT NULL,
  old_encoder TEXT NOT NULL,
  encoder TEXT NOT NULL,
  state TEXT NOT NULL,
  reason TEXT NOT NULL,
  total BIGINT NOT NULL,
  done BIGINT NOT NULL,
  attempt BIGINT NOT NULL,
  retry_at BIGINT NOT NULL,
  created_at BIGINT NOT NULL,
  updated_at BIGINT NOT NULL
);
CREATE INDEX search_reembedding_collection ON search_reembedding (collection, created_at);
CREATE INDEX search_reembedding_state ON search_reembedding (state);
