CREATE TABLE user_tenant (
  id TEXT PRIMARY KEY,
  name TEXT NOT NULL,
  created BIGINT NOT NULL,
  suspended BIGINT
);
CREATE TABLE user_account (
  id TEXT PRIMARY KEY,
  tenant TEXT NOT NULL REFERENCES user_tenant (id),
  mail {{blob}} NOT NULL UNIQUE,
  profile {{blob}} NOT NULL,
  password TEXT NOT NULL,
  scopes TEXT NOT NULL,
  created BIGINT NOT NULL,
  suspended BIGINT
);
CREATE TABLE user_session (
  id TEXT PRIMARY KEY,
  account TEXT NOT NULL REFERENCES user_account (id),
  refresh {{blob}} NOT NULL UNIQUE,
  created BIGINT NOT NULL,
  expires BIGINT NOT NULL,
  ended BIGINT
);
CREATE TABLE user_spent (
  refresh {{blob}} PRIMARY KEY,
  session TEXT NOT NULL REFERENCES user_session (id)
);
CREATE TABLE user_key (
  id TEXT PRIMARY KEY,
  tenant TEXT NOT NULL REFERENCES user_tenant (id),
  subject TEXT NOT NULL,
  name TEXT NOT NULL,
  prefix TEXT NOT NULL,
  hash {{blob}} NOT NULL UNIQUE,
  scopes TEXT NOT NULL,
  tier TEXT NOT NULL,
  created BIGINT NOT NULL,
  expires BIGINT,
  revoked BIGINT
);
CREATE INDEX user_key_tenant ON user_key (tenant, id);
CREATE TABLE user_secret (
  id TEXT PRIMARY KEY,
  kind TEXT NOT NULL,
  sealed {{blob}} NOT NULL,
  created BIGINT NOT NULL
);
