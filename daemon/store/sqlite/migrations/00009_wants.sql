-- +goose Up
-- Which labels of a daemon a job wants, as <site=dc1>; empty is any daemon.
ALTER TABLE jobs ADD COLUMN wants TEXT NOT NULL DEFAULT '';
DROP INDEX jobs_queue;
CREATE INDEX jobs_queue ON jobs (vcenter, priority DESC, seq, claimable_at, own_user, wants)
    WHERE claimable_at IS NOT NULL AND cancel = '';
