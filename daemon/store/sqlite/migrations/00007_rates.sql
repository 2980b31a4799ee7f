-- +goose Up
-- How many bytes came over time. Each daemon writes rows of its own.
CREATE TABLE rates (
    span   INTEGER NOT NULL,               -- milliseconds
    start  INTEGER NOT NULL,               -- milliseconds since 1970
    writer TEXT    NOT NULL,
    data   TEXT    NOT NULL,               -- JSON, bytes by ESXi host
    PRIMARY KEY (span, start, writer)
) WITHOUT ROWID;
