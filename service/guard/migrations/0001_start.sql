-- guard keeps nothing of its own: its decisions leave through the outbox, which store makes. Reports count them here, by day.
CREATE TABLE guard_day (
  day BIGINT NOT NULL,
  tenant TEXT NOT NULL,
  origin TEXT NOT NULL,
  verdict TEXT NOT NULL,
  n BIGINT NOT NULL,
  PRIMARY KEY (day, tenant, origin, verdict)
);
