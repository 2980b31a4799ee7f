-- +goose Up
-- As in package postgres.
ALTER TABLE jobs ADD COLUMN daemon TEXT NOT NULL DEFAULT '';
ALTER TABLE jobs ADD COLUMN daemon_before TEXT NOT NULL DEFAULT '';
