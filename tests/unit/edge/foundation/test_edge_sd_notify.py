from __future__ import annotations

import secrets
import socket
from pathlib import Path

import pytest

from edge.foundation import sd_notify


@pytest.mark.parametrize("abstract", [False, True])
def test_systemd_hears_what_it_is_told(tmp_path: Path, abstract: bool) -> None:  # noqa: FBT001
    name = f"littoral-{secrets.token_hex(8)}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind("\0" + name if abstract else name)
        environment = {"NOTIFY_SOCKET": f"@{name}" if abstract else name}
        assert sd_notify.notify(sd_notify.READY, "STATUS=well", environment=environment)
        assert systemd.recv(1000) == b"READY=1\nSTATUS=well"


@pytest.mark.parametrize("environment", [{}, {"NOTIFY_SOCKET": "/absent"}, {"NOTIFY_SOCKET": "vsock:2:1"}])
def test_without_a_systemd_that_listens_nothing_happens(environment: dict[str, str]) -> None:
    assert not sd_notify.notify(sd_notify.ALIVE, environment=environment)


@pytest.mark.parametrize(
    ("environment", "seconds"),
    [
        ({"WATCHDOG_USEC": "30000000"}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "7"}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "8"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({}, None),
    ],
)
def test_signs_of_life_are_given_only_where_this_process_is_watched(
    environment: dict[str, str], seconds: float | None
) -> None:
    assert sd_notify.watchdog_s(environment, pid=7) == seconds
