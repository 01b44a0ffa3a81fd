-- +goose Up
-- The history that the revision counts in: random, and another one after a restore.
ALTER TABLE directory ADD COLUMN epoch TEXT NOT NULL DEFAULT '';
-- What ties the file to its log (log.go): a random mark of the last change, the mark of the change
-- before it, the file's schema cookie then, and whether the file was closed and so has no log.
ALTER TABLE directory ADD COLUMN mark TEXT NOT NULL DEFAULT '';
ALTER TABLE directory ADD COLUMN previous TEXT NOT NULL DEFAULT '';
ALTER TABLE directory ADD COLUMN cookie INTEGER NOT NULL DEFAULT 0;
ALTER TABLE directory ADD COLUMN closed INTEGER NOT NULL DEFAULT 0;

UPDATE directory SET
    epoch    = lower(hex(randomblob(16))),
    mark     = lower(hex(randomblob(16))),
    previous = 'r' || revision,
    cookie   = (SELECT schema_version FROM pragma_schema_version);

-- The number of the newest migration, for programs and people that do not know goose's table.
PRAGMA user_version = 2;
