-- Webhooks of tenants. target is sealed: a URL often holds a password of its own. The columns from failing_since on
-- belong to the deliveries: one replica at a time has an endpoint in hand, until lease_until, and its epoch tells it
-- from one that had it before.
CREATE TABLE notify_endpoint (
  id              TEXT PRIMARY KEY,
  tenant          TEXT NOT NULL,
  target          {{blob}} NOT NULL,
  events          TEXT NOT NULL,
  enabled         BIGINT NOT NULL,
  disabled_reason TEXT NOT NULL,
  secret          {{blob}} NOT NULL,
  old_secret      {{blob}},
  old_until       BIGINT NOT NULL,
  version         BIGINT NOT NULL,
  created_at      BIGINT NOT NULL,
  updated_at      BIGINT NOT NULL,
  failing_since   BIGINT NOT NULL,
  backlog         BIGINT NOT NULL,
  next_at         BIGINT NOT NULL,
  hold_until      BIGINT NOT NULL,
  lease_owner     TEXT NOT NULL,
  lease_until     BIGINT NOT NULL,
  epoch           BIGINT NOT NULL
);
CREATE INDEX notify_endpoint_tenant ON notify_endpoint (tenant, id);
CREATE INDEX notify_endpoint_next ON notify_endpoint (next_at) WHERE enabled = 1;

-- What is to be delivered, and what was. body is what receivers get: ids and digests.
CREATE TABLE notify_delivery (
  seq         {{serial}},
  id          TEXT NOT NULL UNIQUE,
  endpoint    TEXT NOT NULL,
  tenant      TEXT NOT NULL,
  event       TEXT NOT NULL,
  kind        TEXT NOT NULL,
  body        {{blob}} NOT NULL,
  traceparent TEXT NOT NULL,
  status      TEXT NOT NULL,
  tries       BIGINT NOT NULL,
  attempted   BIGINT NOT NULL,
  attempts    TEXT NOT NULL,
  due_at      BIGINT NOT NULL,
  created_at  BIGINT NOT NULL,
  updated_at  BIGINT NOT NULL
);
CREATE INDEX notify_delivery_endpoint ON notify_delivery (endpoint, seq);
CREATE INDEX notify_delivery_due ON notify_delivery (endpoint, due_at, seq) WHERE status = 'pending';
CREATE INDEX notify_delivery_old ON notify_delivery (status, updated_at);
