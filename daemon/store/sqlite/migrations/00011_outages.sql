-- +goose Up
-- As in package postgres. The only daemon on a file keeps them in its memory.
CREATE TABLE outages (
    vcenter TEXT    PRIMARY KEY,
    state   TEXT    NOT NULL,
    reason  TEXT    NOT NULL,
    named   INTEGER NOT NULL,
    tries   INTEGER NOT NULL,
    prober  TEXT    NOT NULL DEFAULT '',
    since   INTEGER NOT NULL,
    next    INTEGER NOT NULL,
    probing INTEGER NOT NULL DEFAULT 0,
    until   INTEGER NOT NULL
);
