"""`littoral migrate --wait`: a server that is not up yet, as in the first moments of a pod."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from cloud.cli import littoral
from simulators.postgresql import NoPostgresql, cluster


def test_a_server_that_comes_up_meanwhile_is_migrated() -> None:
    try:
        made = cluster(durable=False)
        with made as server:
            url = server.new_database()
            server.stop()
            shown: list[Result] = []
            command = ["migrate", "--wait", "60", "--database", url]
            waiting = threading.Thread(target=lambda: shown.append(CliRunner().invoke(littoral, command)))
            waiting.start()
            server.start()
            waiting.join()
    except NoPostgresql as missing:
        pytest.skip(str(missing))
    assert shown[0].exit_code == 0, shown[0].output
    assert "was without" in shown[0].output.replace("\n", " ")


def test_without_waiting_a_server_that_is_not_there_is_named_at_once(tmp_path: Path) -> None:
    url = f"postgresql+psycopg://littoral@/littoral?host={tmp_path}"
    shown = CliRunner().invoke(littoral, ["migrate", "--database", url])
    assert shown.exit_code == 1
    assert "Is the server running?" in shown.output.replace("\n", " ")
