from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner

from edge.cli import main

needs_systemd = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")


def unit(config: str) -> str:
    result = CliRunner().invoke(main, ["unit", "--config", config])
    assert result.exit_code == 0
    return result.output


def test_it_starts_this_installations_agent_with_the_settings_file() -> None:
    found = re.search(r"^ExecStart=(\S+) run --config (\S+)$", unit("/etc/littoral/edge.toml"), re.MULTILINE)
    assert found
    assert os.access(found[1], os.X_OK)
    assert found[2] == "/etc/littoral/edge.toml"


def test_signs_that_mean_something_to_systemd_are_kept_in_a_path() -> None:
    assert '--config "/etc/a b/100%%.toml"' in unit("/etc/a b/100%.toml")


@needs_systemd
def test_systemd_finds_no_fault_with_it_and_little_that_it_exposes(tmp_path: Path) -> None:
    path = tmp_path / "littoral-edge.service"
    path.write_text(unit("/etc/littoral/edge.toml"))
    verified = subprocess.run(["systemd-analyze", "verify", path], capture_output=True, text=True, check=False)
    assert (verified.returncode, [line for line in verified.stderr.splitlines() if "littoral" in line]) == (0, [])
    # 10.0 is a service without a sandbox; below 2.0 systemd calls it well protected.
    command = ["systemd-analyze", "security", "--offline=true", "--threshold=20", path]
    exposed = subprocess.run(command, capture_output=True, text=True, check=False)
    assert exposed.returncode == 0, exposed.stdout
