-- +goose Up
CREATE TABLE jobs (
    seq          INTEGER PRIMARY KEY AUTOINCREMENT,
    id           TEXT    NOT NULL UNIQUE,
    definition   TEXT    NOT NULL,            -- JSON, without the password
    secret       BLOB,                        -- the password, encrypted
    vcenter      TEXT    NOT NULL,
    priority     INTEGER NOT NULL,
    status       TEXT    NOT NULL,
    -- Milliseconds since 1970: the next attempt of a pending job, the end of a
    -- running job's claim, NULL once a job has ended.
    claimable_at INTEGER,
    owner        TEXT    NOT NULL DEFAULT '',
    epoch        INTEGER NOT NULL DEFAULT 0,
    failures     INTEGER NOT NULL DEFAULT 0,
    cancel       TEXT    NOT NULL DEFAULT '', -- '', 'remove' or 'keep' part files
    progress     TEXT    NOT NULL,            -- JSON
    result       TEXT,                        -- JSON
    error        TEXT    NOT NULL DEFAULT '',
    started_at   INTEGER,
    completed_at INTEGER,
    updated_at   INTEGER NOT NULL,
    last_event   INTEGER NOT NULL DEFAULT 0
);

-- The queue holds no more than the jobs that have not ended.
CREATE INDEX jobs_queue ON jobs (vcenter, priority DESC, seq, claimable_at)
    WHERE claimable_at IS NOT NULL AND cancel = '';
CREATE INDEX jobs_cancelling ON jobs (seq) WHERE cancel <> '';
CREATE INDEX jobs_status ON jobs (status, seq);

-- When each vCenter was last served.
CREATE TABLE turns (
    vcenter TEXT PRIMARY KEY,
    turn    INTEGER NOT NULL
);

CREATE TABLE events (
    job  INTEGER NOT NULL REFERENCES jobs (seq) ON DELETE CASCADE,
    id   INTEGER NOT NULL,
    data TEXT    NOT NULL,                    -- JSON
    PRIMARY KEY (job, id)
) WITHOUT ROWID;

-- How many jobs have each status, kept so that nobody has to count.
CREATE TABLE counts (
    status TEXT PRIMARY KEY,
    n      INTEGER NOT NULL
);
INSERT INTO counts (status, n)
VALUES ('pending', 0), ('running', 0), ('completed', 0), ('failed', 0), ('cancelled', 0);

-- +goose StatementBegin
CREATE TRIGGER jobs_counted AFTER INSERT ON jobs BEGIN
    UPDATE counts SET n = n + 1 WHERE status = new.status;
END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER jobs_recounted AFTER UPDATE OF status ON jobs WHEN new.status <> old.status BEGIN
    UPDATE counts SET n = n - 1 WHERE status = old.status;
    UPDATE counts SET n = n + 1 WHERE status = new.status;
END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER jobs_uncounted AFTER DELETE ON jobs BEGIN
    UPDATE counts SET n = n - 1 WHERE status = old.status;
END;
-- +goose StatementEnd
