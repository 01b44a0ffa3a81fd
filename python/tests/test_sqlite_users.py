"""Users from SQLite: what is read, and the error of each bad file."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from support import ANN, BOB, USERS, USERS_CSV, ZOE

from roster_peer import UsersFileError, load_users

TABLE = "CREATE TABLE users(id INTEGER PRIMARY KEY, name, age, email)"


def make(path: Path, *statements: str) -> Path:
    with closing(sqlite3.connect(path)) as database:
        for statement in statements:
            database.execute(statement)
        database.commit()
    return path


def insert(values: str) -> str:
    return f"INSERT INTO users(id, name, age, email) VALUES {values}"


GOOD = insert(
    "(1, 'Ann Lee', 31, 'ann@example.com'), (2, 'Bob Ng', 0, ''), "
    "(-7, 'Zoë Ødegård', 150, 'zoe@example.com')"
)


@pytest.mark.parametrize("name", ["users.db", "users.sqlite", "users", "users.csv"])
def test_a_database_is_known_by_its_content(tmp_path: Path, name: str) -> None:
    store = load_users(make(tmp_path / name, TABLE, GOOD))
    assert len(store) == len(USERS)
    assert store.get([1, 2, -7]) == [ANN, BOB, ZOE]


def test_a_table_as_roster_itself_makes_it_is_read(tmp_path: Path) -> None:
    table = (
        "CREATE TABLE users(id INTEGER PRIMARY KEY, name TEXT NOT NULL, "
        "age INTEGER NOT NULL, email TEXT NOT NULL, revision INTEGER DEFAULT 1)"
    )
    path = make(tmp_path / "roster.db", "PRAGMA journal_mode=WAL", table, GOOD)
    assert load_users(path).get([1, 2, -7]) == [ANN, BOB, ZOE]


def test_numbers_as_text_and_a_null_email_are_read(tmp_path: Path) -> None:
    path = make(
        tmp_path / "users.db",
        "CREATE TABLE users(id, name, age, email)",
        insert("('1', 'Ann Lee', '31', 'ann@example.com'), ('2', 'Bob Ng', '0', NULL)"),
    )
    assert load_users(path).get([1, 2]) == [ANN, BOB]


def test_a_path_with_characters_of_a_uri_is_read(tmp_path: Path) -> None:
    path = make(tmp_path / "a?mode=rwc&b#c%20.db", TABLE, GOOD)
    assert load_users(path).get([1]) == [ANN]


def test_the_file_is_only_read(tmp_path: Path) -> None:
    path = make(tmp_path / "users.db", TABLE, GOOD)
    path.chmod(0o444)
    before = path.read_bytes()
    assert load_users(path).get([1]) == [ANN]
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["users.db"]


def test_what_a_running_writer_has_committed_is_read(tmp_path: Path) -> None:
    path = make(tmp_path / "users.db", "PRAGMA journal_mode=WAL", TABLE, GOOD)
    with closing(sqlite3.connect(path)) as writer:
        writer.execute(insert("(3, 'Not yet', 1, '')"))
        assert len(load_users(path)) == 3
        writer.commit()
        assert len(load_users(path)) == 4


@pytest.mark.parametrize(
    ("statements", "message"),
    [
        pytest.param(
            ["CREATE TABLE people(id)"],
            ": has no table users(id INTEGER PRIMARY KEY, name, age, email)",
            id="no table",
        ),
        pytest.param(
            ["CREATE TABLE users(id INTEGER PRIMARY KEY, name, email)"],
            ": the table users has no column age",
            id="no column",
        ),
        pytest.param(
            [TABLE, insert("(1, 'Ann', 'x', '')")],
            ", user with id 1: age 'x' is not a whole number",
            id="bad age",
        ),
        pytest.param(
            [TABLE, insert("(1, 'Ann', 31.5, '')")],
            ", user with id 1: age 31.5 is not a whole number",
            id="fractional age",
        ),
        pytest.param(
            [TABLE, insert("(1, 'Ann', NULL, '')")],
            ", user with id 1: age None is not a whole number",
            id="no age",
        ),
        pytest.param(
            [TABLE, insert("(1, NULL, 31, '')")],
            ", user with id 1: name is empty",
            id="no name",
        ),
        pytest.param(
            [TABLE, insert("(1, x'00ff', 31, '')")],
            ", user with id 1: name b'\\x00\\xff' is not text",
            id="a blob",
        ),
        pytest.param(
            [TABLE, insert("(1, CAST(x'5ae9' AS TEXT), 31, '')")],
            ", user with id 1: name is not UTF-8",
            id="wrong encoding",
        ),
        pytest.param(
            [TABLE, insert("(5000000000, 'Ann', 31, '')")],
            ", user with id 5000000000: id 5000000000 is not between -2147483648 and "
            "2147483647",
            id="id too large",
        ),
        pytest.param(
            [
                "CREATE TABLE users(id, name, age, email)",
                insert("(1, 'Ann', 31, ''), (1, 'Bob', 31, '')"),
            ],
            ", user with id 1: the id is there more than once",
            id="duplicate id",
        ),
    ],
)
def test_a_bad_table_is_told_what_is_wrong(
    tmp_path: Path, statements: list[str], message: str
) -> None:
    path = make(tmp_path / "users.db", *statements)
    with pytest.raises(UsersFileError) as caught:
        load_users(path)
    assert str(caught.value) == f"{path}{message}"


@pytest.mark.parametrize("content", [USERS_CSV, ""], ids=["CSV", "empty"])
@pytest.mark.parametrize("name", ["users.db", "USERS.SQLITE", "users.sqlite3"])
def test_what_is_no_database_but_is_called_one_is_refused(
    tmp_path: Path, name: str, content: str
) -> None:
    path = tmp_path / name
    path.write_text(content, encoding="utf-8")
    with pytest.raises(UsersFileError) as caught:
        load_users(path)
    assert str(caught.value) == (
        f"{path}: is not a SQLite database, though its name says so; a CSV file "
        "needs another suffix, such as .csv"
    )


def test_a_damaged_database_is_refused(tmp_path: Path) -> None:
    path = make(tmp_path / "users.db", TABLE, GOOD)
    content = path.read_bytes()
    path.write_bytes(content[:100] + b"\xff" * (len(content) - 100))
    with pytest.raises(UsersFileError) as caught:
        load_users(path)
    assert str(caught.value).startswith(f"{path}: SQLite cannot read it: ")
    assert "malformed" in str(caught.value)


def test_a_database_locked_for_too_long_is_refused(tmp_path: Path) -> None:
    path = make(tmp_path / "users.db", TABLE, GOOD)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(UsersFileError) as caught:
            load_users(path, busy_timeout=0.1)
        assert str(caught.value) == (
            f"{path}: SQLite cannot read it: database is locked "
            "(waited up to 0.1 s for locks)"
        )
        other.execute("COMMIT")
    assert load_users(path).get([1]) == [ANN]
