-- A tenant's policies: which version of each is active, and which is tried beside it. Version 0 is none.
CREATE TABLE guard_policy (
  tenant TEXT NOT NULL,
  name TEXT NOT NULL,
  active BIGINT NOT NULL,
  trial BIGINT NOT NULL,
  latest BIGINT NOT NULL,
  revision BIGINT NOT NULL,
  changed_at BIGINT NOT NULL,
  changed_by TEXT NOT NULL,
  PRIMARY KEY (tenant, name)
);

-- Versions are never changed.
CREATE TABLE guard_policy_version (
  tenant TEXT NOT NULL,
  name TEXT NOT NULL,
  version BIGINT NOT NULL,
  document TEXT NOT NULL,
  collections TEXT NOT NULL,
  digest TEXT NOT NULL,
  note TEXT NOT NULL,
  made_at BIGINT NOT NULL,
  made_by TEXT NOT NULL,
  PRIMARY KEY (tenant, name, version)
);

-- Counts a tenant's changes of policies and allow-lists, so that every replica sees them within a second.
CREATE TABLE guard_change (
  tenant TEXT PRIMARY KEY,
  n BIGINT NOT NULL
);

CREATE TABLE guard_allow (
  id TEXT PRIMARY KEY,
  tenant TEXT NOT NULL,
  policy TEXT NOT NULL,
  kind TEXT NOT NULL,
  value TEXT NOT NULL,
  reason TEXT NOT NULL,
  made_at BIGINT NOT NULL,
  made_by TEXT NOT NULL,
  expires_at BIGINT NOT NULL
);
CREATE INDEX guard_allow_tenant ON guard_allow (tenant, id);

-- What was found in a text, and what came of it; never the text. trial is what the policy on trial would have done.
CREATE TABLE guard_record (
  id TEXT PRIMARY KEY,
  tenant TEXT NOT NULL,
  at BIGINT NOT NULL,
  request TEXT NOT NULL,
  origin TEXT NOT NULL,
  digest TEXT NOT NULL,
  score DOUBLE PRECISION NOT NULL,
  verdict TEXT NOT NULL,
  policy TEXT NOT NULL,
  collections TEXT NOT NULL,
  findings TEXT NOT NULL,
  trial TEXT NOT NULL,
  trial_policy TEXT NOT NULL
);
CREATE INDEX guard_record_tenant ON guard_record (tenant, at);
CREATE INDEX guard_record_digest ON guard_record (tenant, digest);

-- Reports of wrong verdicts. sealed holds note and text under the reporter's key.
CREATE TABLE guard_feedback (
  id TEXT PRIMARY KEY,
  tenant TEXT NOT NULL,
  reporter TEXT NOT NULL,
  kind TEXT NOT NULL,
  request TEXT NOT NULL,
  digest TEXT NOT NULL,
  verdict TEXT NOT NULL,
  score DOUBLE PRECISION NOT NULL,
  kinds TEXT NOT NULL,
  training BIGINT NOT NULL,
  sealed {{blob}},
  status TEXT NOT NULL,
  made_at BIGINT NOT NULL,
  reviewed_at BIGINT NOT NULL,
  reviewed_by TEXT NOT NULL,
  reason TEXT NOT NULL,
  exported_at BIGINT NOT NULL
);
CREATE INDEX guard_feedback_status ON guard_feedback (tenant, status, id);
CREATE INDEX guard_feedback_reporter ON guard_feedback (tenant, reporter, made_at);
