-- What a conversation has read. level only rises; sources is JSON; foreign_values and vouched_values are packed digests of
-- values in untrusted texts, and in what the user and trusted documents say. No text is kept.
CREATE TABLE guard_taint (
  tenant TEXT NOT NULL,
  subject TEXT NOT NULL,
  conversation TEXT NOT NULL,
  level BIGINT NOT NULL,
  sources TEXT NOT NULL,
  foreign_values {{blob}},
  vouched_values {{blob}},
  used_at BIGINT NOT NULL,
  PRIMARY KEY (tenant, subject, conversation)
);
CREATE INDEX guard_taint_used ON guard_taint (used_at);
CREATE INDEX guard_taint_subject ON guard_taint (tenant, subject, used_at);
