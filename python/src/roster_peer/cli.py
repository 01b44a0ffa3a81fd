"""The command line: roster-peer serve, get and health.

Exit codes: 0 done, 1 failed, 2 wrong usage. Data goes to standard output,
everything else to standard error.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import math
import os
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Callable, NamedTuple, NoReturn

from roster_peer.address import Address
from roster_peer.client import AsyncClient, Client
from roster_peer.errors import RosterPeerError
from roster_peer.serve import serve
from roster_peer.server import Server
from roster_peer.tls import TLS
from roster_peer.user import INT32_MAX, INT32_MIN, User
from roster_peer.users_file import load_users


def entry() -> None:
    """Runs the program of the command line, and exits."""
    sys.exit(run(sys.argv[1:]))


def run(argv: Sequence[str]) -> int:
    """Runs a command and returns its exit code; wrong usage is SystemExit(2)."""
    arguments = _parser().parse_args(argv)
    command: Callable[[argparse.Namespace], int] = arguments.command
    try:
        code = command(arguments)
        sys.stdout.flush()
        return code
    except RosterPeerError as error:
        print(f"roster-peer: {_printable(str(error))}", file=sys.stderr)
    except KeyboardInterrupt:
        print("roster-peer: interrupted", file=sys.stderr)
    except BrokenPipeError:
        # The reader has closed the pipe, as head does. Without this, Python
        # reports it again when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 1


def _serve(arguments: argparse.Namespace) -> int:
    store = load_users(arguments.users)
    server = Server(
        store,
        arguments.address,
        workers=arguments.workers,
        max_batch=arguments.max_batch,
    )
    what = f"{len(store)} users from {arguments.users}"
    return serve(server, what, arguments.grace)


def _get(arguments: argparse.Namespace) -> int:
    ids, timeout = arguments.ids, arguments.timeout
    target = _Target.of(arguments)
    if arguments.use_async:
        users = asyncio.run(_get_async(target, ids, timeout))
    else:
        with target.client() as client:
            users = client.get(ids, timeout)
    if arguments.output == "json":
        _print_json([{"name": u.name, "age": u.age, "email": u.email} for u in users])
    else:
        _print_table(users)
    if len(users) < len(ids):
        print(f"roster-peer: {len(users)} of {len(ids)} ids found", file=sys.stderr)
    return 0


async def _get_async(target: _Target, ids: list[int], timeout: float) -> list[User]:
    async with target.async_client() as client:
        return await client.get(ids, timeout)


def _health(arguments: argparse.Namespace) -> int:
    address, timeout = arguments.server, arguments.timeout
    target = _Target.of(arguments)
    if arguments.use_async:
        asyncio.run(_health_async(target, timeout))
    else:
        with target.client() as client:
            client.health(timeout)
    if arguments.output == "json":
        _print_json({"server": address, "healthy": True})
    else:
        print(f"{address} is healthy")
    return 0


async def _health_async(target: _Target, timeout: float) -> None:
    async with target.async_client() as client:
        await client.health(timeout)


class _Target(NamedTuple):
    """The server to call, and the credentials to call it with."""

    address: str
    tls: TLS | None
    token: str | None
    token_in_clear: bool
    wrong_usage: Callable[[str], NoReturn]

    @classmethod
    def of(cls, arguments: argparse.Namespace) -> _Target:
        return cls(
            arguments.server,
            _tls(arguments),
            _token(arguments),
            arguments.token_in_clear,
            arguments.wrong_usage,
        )

    def client(self) -> Client:
        try:
            return Client(
                *(self.address, self.tls),
                token=self.token,
                token_in_clear=self.token_in_clear,
            )
        except ValueError as error:
            self.wrong_usage(f"--token: {error}")

    def async_client(self) -> AsyncClient:
        try:
            return AsyncClient(
                *(self.address, self.tls),
                token=self.token,
                token_in_clear=self.token_in_clear,
            )
        except ValueError as error:
            self.wrong_usage(f"--token: {error}")


def _tls(arguments: argparse.Namespace) -> TLS | None:
    files = (arguments.ca, arguments.cert, arguments.key)
    if not arguments.tls and files != (None, None, None):
        arguments.wrong_usage("--ca, --cert and --key need --tls")
    if (arguments.cert is None) != (arguments.key is None):
        arguments.wrong_usage("--cert and --key go together")
    return TLS(*files) if arguments.tls else None


def _token(arguments: argparse.Namespace) -> str | None:
    given: str = arguments.token or os.environ.get("ROSTER_TOKEN", "")
    if not given.startswith("@"):
        return given or None
    try:
        return Path(given[1:]).read_text(encoding="ascii").strip()
    except OSError as error:
        why = error.strerror or str(error)
    except UnicodeDecodeError:
        why = "has no token in it"
    arguments.wrong_usage(f"--token {given}: {why}")
    return None


def _print_json(value: object) -> None:
    """Prints JSON. Its structure is that of `roster get` and `roster health`."""
    print(json.dumps(value, indent=2))


def _print_table(users: list[User]) -> None:
    rows = [("NAME", "AGE", "EMAIL")]
    rows += [(_printable(u.name), str(u.age), _printable(u.email)) for u in users]
    name_width = max(len(row[0]) for row in rows)
    age_width = max(len(row[1]) for row in rows)
    # A name with characters that the terminal lacks must not raise an error.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    for name, age, email in rows:
        print(f"{name:<{name_width}}  {age:<{age_width}}  {email}".rstrip())


def _printable(text: str) -> str:
    """Returns text without control characters: a server may send anything."""
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode() for c in text
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="roster-peer",
        description="Roster's Python peer: serves users over gRPC, and calls any "
        "server of the contract.",
        epilog="Exit codes: 0 done, 1 failed, 2 wrong usage.",
    )
    parser.add_argument(
        "--version", action="version", version=f"roster-peer {version('roster-peer')}"
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    serve_ = commands.add_parser(
        "serve",
        help="host users from a file",
        description="Hosts MyService, grpc.health.v1 and reflection without TLS. "
        "The first SIGTERM or ctrl-C drains, the second ends at once.",
        epilog="Example: roster-peer serve --users examples/users.csv",
    )
    serve_.set_defaults(command=_serve)
    serve_.add_argument(
        "--users",
        metavar="FILE",
        required=True,
        help="CSV with the header id,name,age,email, or SQLite with the table "
        "users(id INTEGER PRIMARY KEY, name, age, email)",
    )
    serve_.add_argument(
        "--address",
        metavar="HOST:PORT",
        type=_address,
        default="localhost:50051",
        help="where to listen; port 0 takes a free one (%(default)s)",
    )
    serve_.add_argument(
        "--workers",
        metavar="N",
        type=_count,
        default=10,
        help="threads, each answering one call at a time (%(default)s)",
    )
    serve_.add_argument(
        "--max-batch",
        metavar="N",
        type=_count,
        default=10_000,
        help="ids in one call; more are RESOURCE_EXHAUSTED (%(default)s)",
    )
    serve_.add_argument(
        "--grace",
        metavar="SECONDS",
        type=_seconds,
        default=10.0,
        help="how long running calls may take to finish at a drain (%(default)s)",
    )

    get = commands.add_parser(
        "get",
        help="look users up by id",
        description="Prints the users in the order asked. A repeated id is "
        "answered each time, an unknown one left out.",
        epilog="Example: roster-peer get 1 2 --output json",
    )
    get.set_defaults(command=_get)
    get.add_argument("ids", metavar="ID", type=_id, nargs="+", help="an int32")
    _add_call_arguments(get)

    health = commands.add_parser(
        "health",
        help="ask whether a server answers",
        description="Calls MyService.Health; exit code 0 if it answers.",
        epilog="Example: roster-peer health --server localhost:50051",
    )
    health.set_defaults(command=_health)
    _add_call_arguments(health)
    return parser


def _add_call_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--server",
        metavar="HOST:PORT",
        type=_address,
        default="localhost:50051",
        help="the server to call (%(default)s)",
    )
    parser.add_argument("--tls", action="store_true", help="call over TLS")
    parser.add_argument(
        "--ca",
        metavar="FILE",
        help="PEM file with the issuers to trust, instead of grpcio's own",
    )
    parser.add_argument(
        "--cert",
        metavar="FILE",
        help="PEM file with the certificate to show to a server that asks for one",
    )
    parser.add_argument(
        "--key", metavar="FILE", help="PEM file with the private key of --cert"
    )
    parser.add_argument(
        "--token",
        metavar="TOKEN|@FILE",
        help="token to call with, or the file to read it from; ROSTER_TOKEN in the "
        "environment keeps it out of the list of processes",
    )
    parser.add_argument(
        "--token-in-clear",
        action="store_true",
        help="send the token without TLS to another machine: for a network that is "
        "encrypted by itself",
    )
    parser.set_defaults(wrong_usage=parser.error)
    parser.add_argument(
        "--timeout",
        metavar="SECONDS",
        type=_seconds,
        default=1.0,
        help="for the whole call, connecting included (%(default)s)",
    )
    parser.add_argument(
        "--output",
        choices=["table", "json"],
        default="table",
        help="how to print the answer (%(default)s)",
    )
    parser.add_argument(
        "--async",
        dest="use_async",
        action="store_true",
        help="call with grpc.aio, the asyncio client",
    )


def _address(text: str) -> str:
    try:
        Address.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return text


def _id(text: str) -> int:
    return _whole_number(text, INT32_MIN, INT32_MAX)


def _count(text: str) -> int:
    return _whole_number(text, 1, INT32_MAX)


def _whole_number(text: str, least: int, greatest: int) -> int:
    wrong = f"{text!r} is not a whole number from {least} to {greatest}"
    try:
        number = int(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(wrong) from error
    if not least <= number <= greatest:
        raise argparse.ArgumentTypeError(wrong)
    return number


def _seconds(text: str) -> float:
    wrong = f"{text!r} is not a number of seconds above 0"
    try:
        seconds = float(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(wrong) from error
    if not math.isfinite(seconds) or seconds <= 0:
        raise argparse.ArgumentTypeError(wrong)
    return seconds
