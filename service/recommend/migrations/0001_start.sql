-- A tenant's row: how its scores are scaled (see the package), and how much it has.
CREATE TABLE recommend_tenant (
  tenant TEXT PRIMARY KEY,
  half_life BIGINT NOT NULL,
  landmark BIGINT NOT NULL,
  items BIGINT NOT NULL,
  interactions BIGINT NOT NULL
);

CREATE TABLE recommend_item (
  tenant TEXT NOT NULL,
  id TEXT NOT NULL,
  title TEXT NOT NULL,
  metadata TEXT NOT NULL,
  editorial BIGINT NOT NULL,
  available BIGINT NOT NULL,
  created_at BIGINT NOT NULL,
  updated_at BIGINT NOT NULL,
  PRIMARY KEY (tenant, id)
){{clustered}};
CREATE INDEX recommend_item_editorial ON recommend_item (tenant, editorial, id) WHERE editorial > 0;
CREATE INDEX recommend_item_newest ON recommend_item (tenant, created_at);

CREATE TABLE recommend_metadata (
  tenant TEXT NOT NULL,
  name TEXT NOT NULL,
  value TEXT NOT NULL,
  item TEXT NOT NULL,
  PRIMARY KEY (tenant, name, value, item)
){{clustered}};
CREATE INDEX recommend_metadata_item ON recommend_metadata (tenant, item);

-- One row a person, item, type and day: that is what one person can add to an item's popularity. Weights are thousandths,
-- so that they add up exactly; days are counted from 1970.
CREATE TABLE recommend_interaction (
  tenant TEXT NOT NULL,
  person TEXT NOT NULL,
  item TEXT NOT NULL,
  type TEXT NOT NULL,
  day BIGINT NOT NULL,
  weight BIGINT NOT NULL,
  n BIGINT NOT NULL,
  last_at BIGINT NOT NULL,
  PRIMARY KEY (tenant, person, item, type, day)
){{clustered}};
CREATE INDEX recommend_interaction_day ON recommend_interaction (tenant, day);

-- Clients' own ids of interactions, as keyed hashes.
CREATE TABLE recommend_ref (
  tenant TEXT NOT NULL,
  person TEXT NOT NULL,
  ref TEXT NOT NULL,
  day BIGINT NOT NULL,
  PRIMARY KEY (tenant, person, ref)
){{clustered}};
CREATE INDEX recommend_ref_day ON recommend_ref (tenant, day);

-- What the interactions of a day add up to, and the sum over days that ranks.
CREATE TABLE recommend_bucket (
  tenant TEXT NOT NULL,
  item TEXT NOT NULL,
  day BIGINT NOT NULL,
  weight BIGINT NOT NULL,
  n BIGINT NOT NULL,
  PRIMARY KEY (tenant, item, day)
){{clustered}};
CREATE INDEX recommend_bucket_day ON recommend_bucket (tenant, day);
CREATE TABLE recommend_popularity (
  tenant TEXT NOT NULL,
  item TEXT NOT NULL,
  score DOUBLE PRECISION NOT NULL,
  PRIMARY KEY (tenant, item)
){{clustered}};
CREATE INDEX recommend_popularity_score ON recommend_popularity (tenant, score);

-- Pseudonyms of erased people: nothing is stored under them again.
CREATE TABLE recommend_gone (
  person TEXT PRIMARY KEY,
  at BIGINT NOT NULL
);
