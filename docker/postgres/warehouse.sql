-- The role of the daemons, and a table to try.
CREATE ROLE exporter LOGIN PASSWORD 'exporter-secret';
CREATE TABLE orders (
  id bigint PRIMARY KEY,
  customer text NOT NULL,
  amount numeric(12, 2) NOT NULL,
  ordered_at timestamptz NOT NULL
);
INSERT INTO orders
SELECT i, 'customer ' || i % 1000, (i % 100000) / 100.0, timestamptz '2026-01-01 00:00:00Z' + i * interval '1 minute'
FROM generate_series(1, 200000) AS i;
ANALYZE orders;
GRANT SELECT ON ALL TABLES IN SCHEMA public TO exporter;
