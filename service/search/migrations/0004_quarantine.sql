-- suspects is JSON: the passages of an edition in which the guard found something. released_by is who let it out of quarantine
-- although the guard refused it (empty: nobody), released_note why, released_at when.
ALTER TABLE search_edition ADD COLUMN suspects TEXT NOT NULL DEFAULT '[]';
ALTER TABLE search_edition ADD COLUMN released_by TEXT NOT NULL DEFAULT '';
ALTER TABLE search_edition ADD COLUMN released_note TEXT NOT NULL DEFAULT '';
ALTER TABLE search_edition ADD COLUMN released_at BIGINT NOT NULL DEFAULT 0;
