-- +goose Up
-- The passwords that are kept are few among many jobs.
CREATE INDEX IF NOT EXISTS jobs_secrets ON jobs (completed_at) WHERE secret IS NOT NULL;
