"""What the cloud's rooms are tried with."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from cloud.foundation.database import Database


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """One empty database with all tables."""
    made = Database(database_url)
    made.create()
    yield made
    made.close()
