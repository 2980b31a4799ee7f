-- +goose Up
-- As in package postgres, so that a limit is divided by the same statements. The only
-- daemon on a file has no need of it.
CREATE TABLE limits (
    name   TEXT    PRIMARY KEY,
    chosen INTEGER                            -- by a person, 0 for none; NULL leaves it to the configuration
);
CREATE TABLE shares (
    name   TEXT    NOT NULL REFERENCES limits (name) ON DELETE CASCADE,
    owner  TEXT    NOT NULL,
    most   INTEGER NOT NULL,
    held   INTEGER NOT NULL,
    wanted INTEGER NOT NULL,
    weight INTEGER NOT NULL,
    served INTEGER NOT NULL,
    hold   INTEGER NOT NULL,
    until  INTEGER NOT NULL,                  -- milliseconds since 1970
    PRIMARY KEY (name, owner)
);
