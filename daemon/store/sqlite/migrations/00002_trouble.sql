-- +goose Up
-- Claims that may have left something to clean up, 0 for a job that never ran.
ALTER TABLE jobs ADD COLUMN ran INTEGER NOT NULL DEFAULT 0;
UPDATE jobs SET ran = epoch;
-- Claims whose owner died without getting further, and how far the job ever
-- got, in per cent.
ALTER TABLE jobs ADD COLUMN deaths INTEGER NOT NULL DEFAULT 0;
ALTER TABLE jobs ADD COLUMN reached REAL NOT NULL DEFAULT 0;
-- How many milliseconds claimable_at was ahead when it was set.
ALTER TABLE jobs ADD COLUMN delay INTEGER NOT NULL DEFAULT 0;
-- Whether the job brings a user of its own along.
ALTER TABLE jobs ADD COLUMN own_user INTEGER NOT NULL DEFAULT 0;
UPDATE jobs SET own_user = coalesce(json_extract(definition, '$.username'), '') <> '';

DROP INDEX jobs_queue;
CREATE INDEX jobs_queue ON jobs (vcenter, priority DESC, seq, claimable_at, own_user)
    WHERE claimable_at IS NOT NULL AND cancel = '';
