-- +goose Up
-- The daemons on the store, by their processes. Here there is one at a time.
CREATE TABLE daemons (
    owner   TEXT    PRIMARY KEY,             -- the process, as in jobs.owner
    id      TEXT    NOT NULL UNIQUE,         -- the daemon, also after a restart
    host    TEXT    NOT NULL,
    version TEXT    NOT NULL,
    labels  TEXT    NOT NULL,                -- JSON
    drain   TEXT    NOT NULL DEFAULT '',     -- '', 'now' or 'wait'
    -- Milliseconds since 1970; the entry holds until the last.
    started INTEGER NOT NULL,
    beat    INTEGER NOT NULL,
    until   INTEGER NOT NULL
);
