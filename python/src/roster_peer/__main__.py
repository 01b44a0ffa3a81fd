"""`python -m roster_peer` runs the command `roster-peer`."""

from roster_peer.cli import entry

entry()
