-- +goose Up
-- vCenters that cannot be used, as long as a daemon that met it says so.
CREATE TABLE outages (
    vcenter text    COLLATE "C" PRIMARY KEY,
    state   text    NOT NULL,
    reason  text    NOT NULL,
    named   boolean NOT NULL,                -- the configuration has the vCenter
    tries   integer NOT NULL,
    prober  text    NOT NULL DEFAULT '',     -- the daemon that asks it now, as in jobs.owner
    -- Milliseconds since 1970: by the clock that people read; the others as claims are.
    since   bigint  NOT NULL,
    next    bigint  NOT NULL,                -- when it is asked again
    probing bigint  NOT NULL DEFAULT 0,      -- the end of the prober's claim
    until   bigint  NOT NULL
);
INSERT INTO compatibility (version, needs) VALUES (6, 3);
