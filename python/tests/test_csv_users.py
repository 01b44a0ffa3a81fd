"""Users from CSV: what is read, and the error of each bad file."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest
from support import ANN, BOB, USERS, USERS_CSV, ZOE

from roster_peer import User, UsersFileError, load_users


def write(tmp_path: Path, content: str | bytes) -> Path:
    path = tmp_path / "users.csv"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(USERS_CSV, id="plain"),
        pytest.param("\ufeff" + USERS_CSV, id="with a byte order mark"),
        pytest.param(USERS_CSV.replace("\n", "\r\n"), id="with CRLF"),
        pytest.param(USERS_CSV.rstrip("\n"), id="without a last line end"),
        pytest.param(USERS_CSV.replace("\n", "\n\n"), id="with blank lines"),
        pytest.param(
            "Email,AGE, name ,id\n"
            "ann@example.com, 31 ,Ann Lee,+1\n,0,Bob Ng,2\n"
            '"zoe@example.com",150,"Zoë Ødegård",-7\n',
            id="other order and case, spaces around numbers, quotes",
        ),
    ],
)
def test_a_file_is_read(tmp_path: Path, content: str) -> None:
    store = load_users(write(tmp_path, content))
    assert len(store) == len(USERS)
    assert store.get([1, 2, -7]) == [ANN, BOB, ZOE]


def test_a_header_alone_is_an_empty_directory(tmp_path: Path) -> None:
    assert len(load_users(write(tmp_path, "id,name,age,email\n"))) == 0


HEADER = "id,name,age,email\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param("", "line 1: no header; the header is id,name,age,email"),
        pytest.param(
            "id,name,email\n1,Ann,a@b.c\n",
            "line 1: no column age; the header is id,name,age,email",
        ),
        pytest.param(
            "1,Ann,31,a@b.c\n", "line 1: no column id; the header is id,name,age,email"
        ),
        pytest.param(
            "id,name,age,email,id\n",
            "line 1: more than one column id; the header is id,name,age,email",
        ),
        pytest.param(
            "id,name,age,email,note\n",
            "line 1: unknown column 'note'; the header is id,name,age,email",
        ),
        pytest.param(
            HEADER + "1,Ann,31\n", "line 2: 3 fields, the header has 4", id="too few"
        ),
        pytest.param(
            HEADER + "1,Ann,31,a@b.c,\n",
            "line 2: 5 fields, the header has 4",
            id="too many",
        ),
        (HEADER + "1,Ann,x,\n", "line 2: age 'x' is not a whole number"),
        (HEADER + "1,Ann,,\n", "line 2: age '' is not a whole number"),
        (HEADER + "1,Ann,31.5,\n", "line 2: age '31.5' is not a whole number"),
        (HEADER + "1,Ann,-1,\n", "line 2: age -1 is not between 0 and 150"),
        (HEADER + "1,Ann,151,\n", "line 2: age 151 is not between 0 and 150"),
        (HEADER + "x,Ann,31,\n", "line 2: id 'x' is not a whole number"),
        (HEADER + "1_0,Ann,31,\n", "line 2: id '1_0' is not a whole number"),
        (
            HEADER + "2147483648,Ann,31,\n",
            "line 2: id 2147483648 is not between -2147483648 and 2147483647",
        ),
        pytest.param(
            HEADER + f"{'9' * 5000},Ann,31,\n",
            f"line 2: id '{'9' * 5000}' is not a whole number",
            id="an id of 5000 digits",
        ),
        (HEADER + "1,,31,\n", "line 2: name is empty"),
        pytest.param(
            HEADER + f"1,{'é' * 129},31,\n",
            "line 2: name has 258 bytes, the limit is 256",
            id="name too long",
        ),
        (
            HEADER + "1,A\x07n,31,\n",
            "line 2: name 'A\\x07n' has a control character",
        ),
        (HEADER + "1,Ann,31,ann\n", "line 2: email 'ann' has no @"),
        (HEADER + "1,  ,31,\n", "line 2: name is empty"),
        pytest.param(
            HEADER + "1,\u200b,31,\n",
            "line 2: name '\\u200b' has U+200B, which no name may have",
            id="a name that nobody sees",
        ),
        pytest.param(
            HEADER + "1,A\u202eB,31,\n",
            "line 2: name 'A\\u202eB' has U+202E, which no name may have",
            id="a name that turns around",
        ),
        pytest.param(
            HEADER + "1,A\x9bB,31,\n",
            "line 2: name 'A\\x9bB' has U+009B, which no name may have",
            id="a C1 control",
        ),
        pytest.param(
            HEADER + "1,\u0301,31,\n",
            "line 2: name '\u0301' has no visible character",
            id="an accent alone",
        ),
        *(
            pytest.param(
                HEADER + f"1,Ann,31,{address}\n",
                f"line 2: email {address!r} is not one address, such as "
                "ann@example.com",
                id=address,
            )
            for address in (
                "@",
                "a@",
                "@b",
                "a@b@c",
                "a@x.org;b@x.org",
                "a b@x.org",
                "a@x..org",
                "a@-x.org",
                "a@x_y",
                f"a@{'x' * 64}",
            )
        ),
        pytest.param(
            HEADER + f"1,Ann,31,{'a' * 320}@\n",
            "line 2: email has 321 bytes, the limit is 320",
            id="email too long",
        ),
        (
            HEADER + "1,Ann,31,\n2,Bob,1,\n\n1,Zoe,2,\n",
            "line 5: id 1 is on line 2 already",
        ),
        pytest.param(
            HEADER + '1,Ann,31,\n2,"Bob,1,\n3,Zoe,2,\n',
            "line 3: unexpected end of data",
            id="a quote that never ends",
        ),
        (
            HEADER + '1,"Ann"x,31,\n',
            "line 2: ',' expected after '\"'",
        ),
        pytest.param(
            HEADER + f"1,{'a' * 200_000},31,\n",
            "line 2: field larger than field limit (131072)",
            id="an endless field",
        ),
    ],
)
def test_a_bad_file_is_told_its_line(
    tmp_path: Path, content: str, message: str
) -> None:
    path = write(tmp_path, content)
    with pytest.raises(UsersFileError) as caught:
        load_users(path)
    assert str(caught.value) == f"{path}, {message}"


def test_spaces_around_values_are_taken_away(tmp_path: Path) -> None:
    path = write(tmp_path, HEADER + " 1 ,\u00a0Zo\u00eb Lee , 31 ,\ta@\u00f6.org \n")
    users = load_users(path).get([1])
    assert users == [User("Zo\u00eb Lee", 31, "a@\u00f6.org")]


def test_a_bad_row_of_several_lines_is_told_the_first(tmp_path: Path) -> None:
    path = write(tmp_path, HEADER + '1,Ann,31,\n2,"B\no\nb",2,\n')
    with pytest.raises(UsersFileError, match=r"line 3: name .* control character"):
        load_users(path)


@pytest.mark.parametrize(
    ("content", "line", "byte"),
    [
        pytest.param(USERS_CSV.encode("latin-1"), 4, "eb", id="Latin-1"),
        pytest.param(USERS_CSV.encode("utf-16"), 1, "ff", id="UTF-16"),
        pytest.param(b"\x1f\x8b\x08\x00" + bytes(20), 1, "8b", id="gzip"),
    ],
)
def test_a_wrong_encoding_is_told_its_line(
    tmp_path: Path, content: bytes, line: int, byte: str
) -> None:
    path = write(tmp_path, content)
    with pytest.raises(UsersFileError) as caught:
        load_users(path)
    assert str(caught.value) == (
        f"{path}, line {line}: byte 0x{byte} is not UTF-8; "
        "save the file as CSV in UTF-8"
    )


def test_a_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsersFileError) as caught:
        load_users(tmp_path)
    assert str(caught.value) == (
        f"{tmp_path}: is a directory; name a CSV or SQLite file"
    )


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "none.csv"
    with pytest.raises(UsersFileError) as caught:
        load_users(path)
    assert str(caught.value) == f"{path}: cannot be read: No such file or directory"


def test_a_pipe_is_read(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    writer = threading.Thread(target=path.write_text, args=(USERS_CSV, "utf-8"))
    writer.start()
    assert load_users(path).get([-7]) == [ZOE]
    writer.join()


def test_a_million_rows_are_read(tmp_path: Path) -> None:
    path = tmp_path / "users.csv"
    with path.open("w") as file:
        file.write(HEADER)
        file.writelines(f"{n},User {n},{n % 100},u{n}@b.c\n" for n in range(1_000_000))
    store = load_users(path)
    assert len(store) == 1_000_000
    assert store.get([999_999]) == [User("User 999999", 99, "u999999@b.c")]


def test_a_duplicate_after_a_million_rows_is_told_both_lines(tmp_path: Path) -> None:
    path = tmp_path / "users.csv"
    with path.open("w") as file:
        file.write(HEADER)
        file.writelines(f"{n},User,1,\n" for n in range(1_000_000))
        file.write("777777,Again,1,\n")
    with pytest.raises(UsersFileError) as caught:
        load_users(path)
    assert str(caught.value) == (
        f"{path}, line 1000002: id 777777 is on line 777779 already"
    )
