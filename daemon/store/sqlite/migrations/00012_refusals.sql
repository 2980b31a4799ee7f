-- +goose Up
-- As in package postgres. The only daemon on a file keeps them in its memory.
CREATE TABLE refusals (
    account    TEXT    NOT NULL,
    password   BLOB    NOT NULL,
    reason     TEXT    NOT NULL,
    strike     INTEGER NOT NULL,
    refused_at INTEGER NOT NULL,
    noted      INTEGER NOT NULL,
    until      INTEGER NOT NULL,
    PRIMARY KEY (account, password)
);
