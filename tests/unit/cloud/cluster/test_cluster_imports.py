"""Whoever follows no cluster pays nothing for those who do."""

from __future__ import annotations

import subprocess
import sys

import pytest

SCRIPT = """
import sys
import {module}
print([name for name in ("kopf", "kubernetes", "aiohttp") if name in sys.modules])
"""


@pytest.mark.parametrize("module", ["cloud.app", "cloud.commands", "cloud.cli"])
def test_the_libraries_of_a_cluster_are_not_imported_without_one(module: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(module=module)], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
