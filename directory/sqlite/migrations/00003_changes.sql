-- +goose Up
-- Before the schema changes, so that the log has the cookie of the file as it was (log.go).
UPDATE directory SET
    previous = mark,
    mark     = lower(hex(randomblob(16))),
    cookie   = (SELECT schema_version FROM pragma_schema_version);

-- The last change that was recorded in the tables below. Every change sets it to its own revision.
ALTER TABLE directory ADD COLUMN recorded INTEGER NOT NULL DEFAULT 0;
-- The changes after this revision are all there.
ALTER TABLE directory ADD COLUMN oldest INTEGER NOT NULL DEFAULT 0;
-- The highest id that a user ever had.
ALTER TABLE directory ADD COLUMN highest_id INTEGER NOT NULL DEFAULT 0;
-- The keys of users from this id on may be wrong, because another program has written to the file; null
-- if all are right.
ALTER TABLE directory ADD COLUMN unkeyed INTEGER;

-- Every revision from directory.oldest on, with the time in microseconds since 1970, who made it, and
-- how many changes there were up to and including it. The time never falls.
CREATE TABLE revisions (
    revision INTEGER PRIMARY KEY,
    time     INTEGER NOT NULL,
    actor    TEXT    NOT NULL,
    total    INTEGER NOT NULL
) STRICT;

-- What each revision after directory.oldest did to each user: kind 1 created, 2 changed, 3 deleted it.
-- Then name, age, email and created are the user's; name_before and email_before are null unless they
-- were others.
CREATE TABLE changes (
    revision     INTEGER NOT NULL,
    id           INTEGER NOT NULL,
    kind         INTEGER NOT NULL,
    name         TEXT    NOT NULL,
    age          INTEGER NOT NULL,
    email        TEXT    NOT NULL,
    created      INTEGER NOT NULL,
    name_before  TEXT,
    email_before TEXT,
    PRIMARY KEY (revision, id)
) STRICT, WITHOUT ROWID;

INSERT INTO revisions SELECT revision, CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER) * 1000, '', 0
FROM directory;

-- A table made anew: rows that grow where they are would split every page.
CREATE TABLE users_with_times (
    id        INTEGER PRIMARY KEY,
    name      TEXT    NOT NULL,
    age       INTEGER NOT NULL,
    email     TEXT    NOT NULL,
    -- The revision that wrote the row last.
    revision  INTEGER NOT NULL,
    -- In microseconds since 1970. Users from before this column have the time of its migration.
    created   INTEGER NOT NULL,
    updated   INTEGER NOT NULL,
    -- directory.FoldKey of the name and of the email.
    name_key  TEXT    NOT NULL DEFAULT '',
    email_key TEXT    NOT NULL DEFAULT ''
) STRICT;

INSERT INTO users_with_times
SELECT id, name, age, email, revision, (SELECT time FROM revisions), (SELECT time FROM revisions),
    roster_fold_key(name), roster_fold_key(email)
FROM users ORDER BY id;

DROP TABLE users;
ALTER TABLE users_with_times RENAME TO users;
CREATE INDEX users_by_name ON users (name_key);
-- Not unique: a store may have equal emails from before they were refused.
CREATE INDEX users_by_email ON users (email_key);

UPDATE directory SET
    recorded   = revision,
    oldest     = revision,
    highest_id = max(0, coalesce((SELECT max(id) FROM users WHERE id <= 2147483647), 0));

-- +goose StatementBegin
-- An older version of Roster that still has the file open goes on reading. It does not set recorded.
CREATE TRIGGER directory_recorded BEFORE UPDATE OF revision ON directory
WHEN NEW.revision <> OLD.revision AND NEW.recorded <> NEW.revision
BEGIN
    SELECT RAISE(ABORT, 'a newer version of Roster has brought this store up to date, and this version would not record its changes: restart it with the newer version');
END;
-- +goose StatementEnd

-- +goose StatementBegin
-- Another program that changes a user leaves its revision. Nobody may take the user for the one before.
CREATE TRIGGER users_edited AFTER UPDATE OF name, age, email ON users
WHEN NEW.revision = OLD.revision
BEGIN
    INSERT INTO revisions SELECT d.revision + 1, r.time, '', r.total
        FROM directory AS d JOIN revisions AS r ON r.revision = d.revision;
    UPDATE directory SET revision = revision + 1, recorded = revision + 1, oldest = revision + 1,
        unkeyed = min(coalesce(unkeyed, NEW.id), NEW.id);
    UPDATE users SET revision = (SELECT revision FROM directory), name_key = lower(NEW.name), email_key = lower(NEW.email)
        WHERE id = NEW.id;
END;
-- +goose StatementEnd

PRAGMA user_version = 3;
