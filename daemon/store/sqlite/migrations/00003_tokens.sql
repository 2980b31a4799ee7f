-- +goose Up
CREATE TABLE tokens (
    seq       INTEGER PRIMARY KEY AUTOINCREMENT,
    id        TEXT    NOT NULL UNIQUE,   -- the public part
    name      TEXT    NOT NULL,
    role      TEXT    NOT NULL,
    digest    BLOB    NOT NULL,          -- SHA-256 of the whole token
    -- Milliseconds since 1970, NULL for never.
    created   INTEGER NOT NULL,
    expires   INTEGER,
    revoked   INTEGER,
    last_used INTEGER
);
CREATE UNIQUE INDEX tokens_name ON tokens (name) WHERE revoked IS NULL;
