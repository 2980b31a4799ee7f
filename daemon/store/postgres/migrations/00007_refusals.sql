-- +goose Up
-- Passwords that vCenters have refused, so that none is tried by each daemon.
CREATE TABLE refusals (
    account    text    COLLATE "C" NOT NULL,  -- the user, and the vCenter
    password   bytea   NOT NULL,              -- a keyed hash of it; the key is not in the database
    reason     text    NOT NULL,
    strike     boolean NOT NULL,              -- no login of the account has succeeded since
    -- Milliseconds since 1970: by the clock that people read; the others as claims are.
    refused_at bigint  NOT NULL,
    noted      bigint  NOT NULL,
    until      bigint  NOT NULL,
    PRIMARY KEY (account, password)
);
INSERT INTO compatibility (version, needs) VALUES (7, 3);
