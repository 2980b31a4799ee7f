-- +goose Up
CREATE TABLE audit (
    number INTEGER PRIMARY KEY,
    hash   BLOB NOT NULL,
    data   BLOB NOT NULL                 -- JSON, the bytes that were hashed
);
-- Entries are only ever added. The triggers keep mistakes away; what finds intent
-- is the hashes.
-- +goose StatementBegin
CREATE TRIGGER audit_kept BEFORE DELETE ON audit BEGIN
    SELECT RAISE(ABORT, 'audit entries are never removed');
END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER audit_fixed BEFORE UPDATE ON audit BEGIN
    SELECT RAISE(ABORT, 'audit entries are never changed');
END;
-- +goose StatementEnd
