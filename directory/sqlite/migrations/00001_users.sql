-- +goose Up
CREATE TABLE users (
    id       INTEGER PRIMARY KEY,
    name     TEXT    NOT NULL,
    age      INTEGER NOT NULL,
    email    TEXT    NOT NULL,
    -- The revision that wrote the row last.
    revision INTEGER NOT NULL
) STRICT;

-- One row: the revision of the whole directory.
CREATE TABLE directory (
    one      INTEGER PRIMARY KEY CHECK (one = 1),
    revision INTEGER NOT NULL
) STRICT;

INSERT INTO directory (one, revision) VALUES (1, 0);
