-- +goose Up
-- What daemons share: places for disks, logins, bandwidth. A row is locked while its
-- shares are divided.
CREATE TABLE limits (
    name   text   COLLATE "C" PRIMARY KEY,
    chosen bigint                             -- by a person, 0 for none; NULL leaves it to the configuration
);

-- What each daemon holds of a limit, until it has not renewed that in time.
CREATE TABLE shares (
    name   text   COLLATE "C" NOT NULL REFERENCES limits (name) ON DELETE CASCADE,
    owner  text   COLLATE "C" NOT NULL,       -- as in jobs
    most   bigint NOT NULL,                   -- the limit in its configuration, 0 for none
    held   bigint NOT NULL,
    wanted bigint NOT NULL,
    weight bigint NOT NULL,
    served bigint NOT NULL,                   -- when it was given something last: a number that grows
    hold   bigint NOT NULL,
    until  bigint NOT NULL,                   -- milliseconds since 1970
    PRIMARY KEY (name, owner)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.05); -- written every few seconds while disks move
INSERT INTO compatibility (version, needs) VALUES (5, 3);
