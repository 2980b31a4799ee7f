-- +goose Up
-- Jobs that have ended, the first first.
CREATE INDEX IF NOT EXISTS jobs_ended ON jobs (completed_at, seq, status) WHERE completed_at IS NOT NULL;
