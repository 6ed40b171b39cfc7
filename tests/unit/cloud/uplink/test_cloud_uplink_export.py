"""Results as Parquet, read back by pyarrow: every row of the time once, a row group at a time."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from test_cloud_uplink_service import batch, known, payload

from cloud.foundation.database import Database
from cloud.results_commands import results
from cloud.uplink import export as exporting
from cloud.uplink.entities import DAY_MS
from cloud.uplink.export import days, export
from cloud.uplink.queries import Queries
from cloud.uplink.questions import Which
from cloud.uplink.service import Ingest

BEGIN_MS = 20_000 * DAY_MS


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """Of two devices ten results on each of three days, at noon."""
    database = Database(database_url)
    database.create()
    ingest = Ingest(database, known)
    for day in range(3):
        for device, version in (("edge-1", 1), ("edge-2", 2)):
            opened = ingest.open(device, 2**62)
            data = payload(1 + 10 * day, list(range(10)), version=version)
            arriving = batch(opened, 1 + 10 * day, data, 10, device=device)
            ingest.commit([arriving], BEGIN_MS + day * DAY_MS + DAY_MS // 2)
    yield database
    database.close()


def of(from_day: float, to_day: float, device: str | None = None) -> Which:
    begin, end = (BEGIN_MS + int(day * DAY_MS) for day in (from_day, to_day))
    return Which(device=device, from_ms=begin, to_ms=end)


def test_every_result_of_the_time_is_in_the_file_once_with_its_names(database: Database, tmp_path: Path) -> None:
    file, told = tmp_path / "all.parquet", []
    assert export(Queries(database), of(0, 3), file, told.append) == 60
    assert sum(told) == 60
    read = pq.read_table(file)
    assert read.schema.equals(exporting.SCHEMA)
    rows = read.to_pylist()
    assert {(row["device"], row["seq"]) for row in rows} == {
        (device, seq) for device in ("edge-1", "edge-2") for seq in range(1, 31)
    }
    assert [row["received_ms"] for row in rows] == sorted(row["received_ms"] for row in rows)
    (one,) = (row for row in rows if (row["device"], row["seq"]) == ("edge-2", 12))
    assert one == {
        "device": "edge-2",
        "epoch": 2**62,
        "seq": 12,
        "source": "camera",
        "frame": 12,
        "slot": "default",
        "model": "digits",
        "version": 2,
        "label": 1,
        "confidence": 0.5,
        "latency_us": 70,
        "captured_us": datetime.fromtimestamp(6e-6, UTC),
        "received_ms": datetime.fromtimestamp((BEGIN_MS + 1.5 * DAY_MS) / 1000, UTC),
        "sample": None,
        "sample_digest": None,
    }


@pytest.mark.parametrize(
    ("which", "count"),
    [(of(0, 1), 20), (of(0.5, 1.5), 20), (of(0.6, 3), 40), (of(0, 3, "edge-1"), 30), (of(5, 6), 0), (of(1, 1), 0)],
)
def test_only_the_results_that_are_meant_are_in_the_file(
    database: Database, tmp_path: Path, which: Which, count: int
) -> None:
    export(Queries(database), which, tmp_path / "some.parquet", lambda _: None)
    assert pq.read_table(tmp_path / "some.parquet").num_rows == count


def test_no_row_group_is_larger_than_what_memory_shall_hold(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporting, "GROUP_ROWS", 7)
    export(Queries(database), of(0, 3), tmp_path / "all.parquet", lambda _: None)
    file = pq.ParquetFile(tmp_path / "all.parquet").metadata
    sizes = [file.row_group(i).num_rows for i in range(file.num_row_groups)]
    assert sizes == [7, 7, 6] * 3


def test_days_make_up_the_time() -> None:
    which = of(0.5, 3.25)
    parts = list(days(which))
    assert [part.from_ms for part in parts[1:]] == [part.to_ms for part in parts[:-1]]
    assert (parts[0].from_ms, parts[-1].to_ms, len(parts)) == (which.from_ms, which.to_ms, 4)


def test_an_export_that_breaks_off_leaves_what_was_there(database: Database, tmp_path: Path) -> None:
    (tmp_path / "all.parquet").write_bytes(b"older")

    def broken(_: int) -> None:
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space left"):
        export(Queries(database), of(0, 3), tmp_path / "all.parquet", broken)
    assert [(file.name, file.read_bytes()) for file in tmp_path.glob("*all.parquet*")] == [("all.parquet", b"older")]


@pytest.mark.usefixtures("database")
def test_the_command_exports_from_the_database_it_is_given(database_url: str, tmp_path: Path) -> None:
    file = tmp_path / "day.parquet"
    begin = datetime.fromtimestamp(BEGIN_MS / 1000, UTC)
    arguments = ["export", "--from", f"{begin:%Y-%m-%d}", "--to", f"{begin:%Y-%m-%d}T23:59", "-o", str(file)]
    shown = CliRunner().invoke(results, [*arguments, "--database", database_url, "--json"])
    assert shown.exit_code == 0, shown.output
    assert json.loads(shown.stdout)["rows"] == pq.read_table(file).num_rows == 20


@pytest.mark.usefixtures("database")
@pytest.mark.parametrize(
    ("asked", "rows"),
    [
        (["--device", "edge-1", "--label", "3"], 3),
        (["--version", "2", "--slot", "default"], 30),
        (["--slot", "second"], 0),
        (["--source", "camera", "--model", "digits"], 60),
        (["--source", "door"], 0),
    ],
)
def test_the_command_exports_only_what_it_is_asked_for(
    database_url: str, tmp_path: Path, asked: list[str], rows: int
) -> None:
    arguments = ["export", "--from", "2024-10-01", "-o", str(tmp_path / "some.parquet"), *asked]
    shown = CliRunner().invoke(results, [*arguments, "--database", database_url, "--json"])
    assert shown.exit_code == 0, shown.output
    assert json.loads(shown.stdout)["rows"] == rows


@pytest.mark.usefixtures("database")
def test_no_days_are_looked_for_that_are_still_to_come(database_url: str, tmp_path: Path) -> None:
    begin = datetime.fromtimestamp(BEGIN_MS / 1000, UTC)
    arguments = ["export", "--from", f"{begin:%Y-%m-%d}", "--to", "9999-12-31", "-o", str(tmp_path / "all.parquet")]
    shown = CliRunner().invoke(results, [*arguments, "--database", database_url, "--json"])
    assert shown.exit_code == 0, shown.output
    assert json.loads(shown.stdout)["rows"] == 60


@pytest.mark.usefixtures("database")
def test_a_file_that_cannot_be_written_is_named(database_url: str, tmp_path: Path) -> None:
    arguments = ["export", "--from", "2024-10-01", "-o", str(tmp_path / "nowhere" / "x.parquet")]
    shown = CliRunner().invoke(results, [*arguments, "--database", database_url])
    assert shown.exit_code == 1
    assert "nowhere" in shown.output
