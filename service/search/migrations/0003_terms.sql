-- The terms of one part of an edition, from which indexes in memory are built. format says how texts were turned into
-- terms: language and rules. What has another one, or none, is made anew from the text.
CREATE TABLE search_terms (
  edition BIGINT NOT NULL,
  part BIGINT NOT NULL,
  passages BIGINT NOT NULL,
  format TEXT NOT NULL,
  packed {{blob}} NOT NULL,
  PRIMARY KEY (edition, part)
);
