-- +goose Up
-- The daemon that claimed a job last, and the one that did before, as people call them.
ALTER TABLE jobs ADD COLUMN daemon text NOT NULL DEFAULT '';
ALTER TABLE jobs ADD COLUMN daemon_before text NOT NULL DEFAULT '';
INSERT INTO compatibility (version, needs) VALUES (8, 3);
