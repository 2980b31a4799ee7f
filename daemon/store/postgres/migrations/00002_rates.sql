-- +goose Up
-- How many bytes came over time. Each daemon writes rows of its own.
CREATE TABLE rates (
    span   bigint NOT NULL,                -- milliseconds
    start  bigint NOT NULL,                -- milliseconds since 1970
    writer text   COLLATE "C" NOT NULL,
    data   text   NOT NULL,                -- JSON, bytes by ESXi host
    PRIMARY KEY (span, start, writer)
);
