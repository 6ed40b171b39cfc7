"""Ports of this machine for servers that are yet to start."""

from __future__ import annotations

import socket

_claimed: list[socket.socket] = []


def free_port() -> int:
    """A TCP port on loopback that nobody uses now, chosen by the system, claimed for as long as this process lasts.

    The claim is a socket that is bound and does not listen. The system then gives the port to nobody else, to no
    outgoing connection either, while a server that asks for it by its number (with SO_REUSEADDR, as all do) gets it.
    """
    claim = socket.socket()
    claim.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    claim.bind(("127.0.0.1", 0))
    _claimed.append(claim)
    return int(claim.getsockname()[1])
