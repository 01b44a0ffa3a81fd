"""`python -m roster_peer` is `roster-peer`."""

from roster_peer.cli import entry

entry()
