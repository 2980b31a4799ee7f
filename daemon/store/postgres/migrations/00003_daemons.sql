-- +goose Up
-- The daemons on the store, by their processes.
CREATE TABLE daemons (
    owner   text   COLLATE "C" PRIMARY KEY,     -- the process, as in jobs.owner
    id      text   COLLATE "C" NOT NULL UNIQUE, -- the daemon, also after a restart
    host    text   COLLATE "C" NOT NULL,
    version text   NOT NULL,
    labels  text   NOT NULL,                    -- JSON
    drain   text   NOT NULL DEFAULT '',         -- '', 'now' or 'wait'
    -- Milliseconds since 1970 by the server's clock; the entry holds until the last.
    started bigint NOT NULL,
    beat    bigint NOT NULL,
    until   bigint NOT NULL
) WITH (fillfactor = 50, autovacuum_vacuum_threshold = 500);

-- Which programs may use the schema as it is from a version on: those that know at
-- least version needs. Every migration adds its line. One that only adds what older
-- programs need not know (tables, columns with a default, indexes) keeps needs as it
-- was, so that daemons of neighbouring versions work side by side; one that takes
-- something away, in a later release, raises it.
CREATE TABLE compatibility (
    version bigint PRIMARY KEY,
    needs   bigint NOT NULL
);
INSERT INTO compatibility (version, needs) VALUES (3, 3);
