"""`roster-peer serve` on a store with a gate, for the tests of a drain.

The gate opens when a line comes on standard input. "call" goes to standard
output for each look-up at the gate. The argument is the grace in seconds.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterable

from support import GateStore

from roster_peer import Server, User
from roster_peer.serve import serve


class AnnouncingStore(GateStore):
    """Prints a line when a look-up arrives."""

    def get(self, ids: Iterable[int]) -> list[User]:
        print("call", flush=True)
        return super().get(ids)


def main() -> int:
    store = AnnouncingStore()

    def open_gate() -> None:
        sys.stdin.readline()
        store.gate.set()

    threading.Thread(target=open_gate, daemon=True).start()
    server = Server(store, "127.0.0.1:0", workers=1)
    return serve(server, "behind a gate", grace=float(sys.argv[1]))


if __name__ == "__main__":
    sys.exit(main())
