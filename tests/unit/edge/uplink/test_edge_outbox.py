"""The outbox on a real disk."""

import os
import resource
import signal
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.uplink.entities import Depth, NewBatch, OutboxFailed, OutOfOrder, StoredBatch
from edge.uplink.outbox import Outbox

PLENTY = 1 << 30


def batch(last_frame: int, count: int = 1, source: str = "s", size: int = 10) -> NewBatch:
    return NewBatch(count, bytes([last_frame % 256]) * size, source, last_frame)


def opened(folder: Path, max_bytes: int = PLENTY) -> Outbox:
    return Outbox.open(folder / "outbox.db", max_bytes)


def test_what_was_appended_is_there_after_reopening(tmp_path: Path) -> None:
    outbox = opened(tmp_path)
    outbox.append([batch(3, 3), batch(5, 2)])
    epoch = outbox.epoch
    outbox.close()
    again = opened(tmp_path)
    assert again.epoch == epoch
    assert again.after(0, 10) == [StoredBatch(1, 3, b"\3" * 10), StoredBatch(4, 2, b"\5" * 10)]
    assert again.depth() == Depth(rows=5, bytes=20, dropped=0)
    assert again.source_watermark("s") == 5


def test_two_outboxes_have_different_epochs(tmp_path: Path) -> None:
    epochs = {Outbox.open(tmp_path / name, PLENTY).epoch for name in "abc"}
    assert len(epochs) == 3
    assert all(0 < epoch < 2**63 for epoch in epochs)


def test_reading_begins_at_the_batch_that_holds_the_next_result(tmp_path: Path) -> None:
    outbox = opened(tmp_path)
    outbox.append([batch(3, 3), batch(5, 2), batch(6)])
    assert [b.first_seq for b in outbox.after(3, 10)] == [4, 6]
    assert [b.first_seq for b in outbox.after(2, 2)] == [1, 4]


def test_an_acknowledgement_deletes_whole_batches_only(tmp_path: Path) -> None:
    outbox = opened(tmp_path)
    outbox.append([batch(3, 3), batch(5, 2)])
    outbox.acknowledge(4)
    assert [b.first_seq for b in outbox.after(0, 10)] == [4]
    assert outbox.depth() == Depth(rows=2, bytes=10, dropped=0)


def test_an_acknowledgement_of_very_many_batches_deletes_them_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge.uplink.outbox.DELETED_AT_ONCE", 10)
    outbox = opened(tmp_path)
    outbox.append([batch(n) for n in range(1, 41)])
    outbox.acknowledge(30)
    assert [b.first_seq for b in outbox.after(0, 100)] == list(range(31, 41))
    outbox.acknowledge(40)
    assert outbox.depth() == Depth(0, 0, 0)
    assert outbox.ledger.acknowledged == 40


def test_an_acknowledgement_of_what_never_was_deletes_nothing(tmp_path: Path) -> None:
    outbox = opened(tmp_path)
    outbox.append([batch(3, 3)])
    with pytest.raises(OutOfOrder):
        outbox.acknowledge(4)
    assert outbox.depth().rows == 3


def test_sequence_numbers_go_on_after_everything_was_acknowledged_and_the_file_reopened(tmp_path: Path) -> None:
    outbox = opened(tmp_path)
    outbox.append([batch(3, 3)])
    outbox.acknowledge(3)
    outbox.close()
    again = opened(tmp_path)
    again.append([batch(4)])
    assert [b.first_seq for b in again.after(0, 10)] == [4]


def test_a_source_that_resends_after_a_crash_doubles_nothing(tmp_path: Path) -> None:
    outbox = opened(tmp_path)
    outbox.append([batch(3, 3)])
    outbox.close()
    again = opened(tmp_path)
    again.append([batch(3, 3), batch(4)])
    assert [b.first_seq for b in again.after(0, 10)] == [1, 4]


def test_over_its_bound_the_oldest_are_dropped_and_counted_for_good(tmp_path: Path) -> None:
    outbox = opened(tmp_path, max_bytes=25)
    outbox.append([batch(1), batch(2), batch(3)])
    outbox.close()
    again = opened(tmp_path, max_bytes=25)
    assert [b.first_seq for b in again.after(0, 10)] == [2, 3]
    assert again.depth() == Depth(rows=2, bytes=20, dropped=1)


def test_a_new_epoch_keeps_what_is_held(tmp_path: Path) -> None:
    outbox = opened(tmp_path)
    outbox.append([batch(3, 3)])
    before = outbox.epoch
    outbox.begin_epoch()
    assert outbox.epoch != before
    assert [b.first_seq for b in outbox.after(0, 10)] == [1]
    assert outbox.source_watermark("s") == 3


def test_a_new_epoch_remembers_which_numbers_are_of_earlier_ones(tmp_path: Path) -> None:
    outbox = opened(tmp_path)
    outbox.append([batch(n, 2) for n in range(1, 4)])
    outbox.acknowledge(4)
    outbox.begin_epoch()
    outbox.close()
    assert opened(tmp_path).ledger.before == 4


def test_a_file_of_an_agent_that_did_not_remember_them_is_opened(tmp_path: Path) -> None:
    outbox = opened(tmp_path)
    outbox.append([batch(1)])
    outbox.close()
    old = sqlite3.connect(tmp_path / "outbox.db")
    old.execute("ALTER TABLE ledger DROP COLUMN before")
    old.commit()
    old.close()
    outbox = opened(tmp_path)
    outbox.append([batch(2)])
    assert (outbox.ledger.rows, outbox.ledger.before) == (2, 0)


def test_listeners_hear_of_each_append_until_they_stop(tmp_path: Path) -> None:
    outbox, heard = opened(tmp_path), []
    stop = outbox.on_append(lambda: heard.append(outbox.depth().rows))
    outbox.append([batch(1)])
    outbox.append([batch(2)])
    stop()
    outbox.append([batch(3)])
    assert heard == [1, 2]


def test_a_second_process_with_the_same_outbox_is_refused(tmp_path: Path) -> None:
    outbox = opened(tmp_path)
    outbox.append([batch(1)])
    code = (
        "import sys; from pathlib import Path; from edge.uplink.outbox import Outbox; Outbox.open(Path(sys.argv[1]), 1)"
    )
    other = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "outbox.db")], capture_output=True, text=True, check=False
    )
    assert "another process has it open" in other.stderr
    assert outbox.depth().rows == 1


@pytest.mark.parametrize("damage", ["header", "pages"])
def test_a_damaged_file_is_set_aside_and_a_new_epoch_begins(tmp_path: Path, damage: str) -> None:
    outbox = opened(tmp_path)
    outbox.append([batch(n, size=1000) for n in range(1, 50)])
    epoch = outbox.epoch
    outbox.close()
    path = tmp_path / "outbox.db"
    data = bytearray(path.read_bytes())
    if damage == "header":
        data[:100] = b"\xff" * 100
    else:
        data[8192:] = b"\xff" * (len(data) - 8192)
    path.write_bytes(data)
    again = opened(tmp_path)
    assert again.epoch != epoch
    assert again.depth() == Depth(0, 0, 0)
    assert (tmp_path / "outbox.db.damaged").read_bytes() == bytes(data)
    again.append([batch(1)])
    assert again.depth().rows == 1


def test_a_folder_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "outbox.db").mkdir()
    with pytest.raises(OutboxFailed, match=r"outbox\.db"):
        opened(tmp_path)


def test_a_closed_outbox_says_so(tmp_path: Path) -> None:
    outbox = opened(tmp_path)
    outbox.close()
    with pytest.raises(OutboxFailed):
        outbox.append([batch(1)])


def test_a_full_disk_leaves_what_was_held_and_the_outbox_goes_on_when_there_is_room(tmp_path: Path) -> None:
    outbox = opened(tmp_path)
    outbox.append([batch(1)])
    outbox._database.execute("PRAGMA max_page_count = 8")
    with pytest.raises(OutboxFailed, match="disk is full"):
        outbox.append([batch(2), batch(3, size=100_000)])
    assert outbox.depth() == Depth(1, 10, 0)
    assert outbox.source_watermark("s") == 1
    assert [b.first_seq for b in outbox.after(0, 10)] == [1]
    outbox._database.execute("PRAGMA max_page_count = 100000")
    outbox.append([batch(2), batch(3, size=100_000)])
    assert [b.first_seq for b in outbox.after(0, 10)] == [1, 2, 3]


def test_a_write_that_the_system_refuses_leaves_what_was_held(tmp_path: Path) -> None:
    # The limit holds for the whole process, hence a child: it may write no file beyond 64 KiB.
    code = f"""
import resource, signal, sys
from pathlib import Path
from edge.uplink.entities import NewBatch, OutboxFailed
from edge.uplink.outbox import Outbox
outbox = Outbox.open(Path(sys.argv[1]), {PLENTY})
outbox.append([NewBatch(1, b"x", "s", 1)])
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (65536, {resource.RLIM_INFINITY}))
try:
    outbox.append([NewBatch(1, b"x" * 200_000, "s", 2)])
except OutboxFailed as error:
    print(outbox.depth().rows, outbox.source_watermark("s"), len(outbox.after(0, 9)))
"""
    run = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "outbox.db")], capture_output=True, text=True, check=False
    )
    assert run.stdout.split() == ["1", "1", "1"], run.stderr
    assert opened(tmp_path).depth().rows == 1


WRITER = """
import sys
from pathlib import Path
from edge.uplink.entities import NewBatch
from edge.uplink.outbox import Outbox
outbox = Outbox.open(Path(sys.argv[1]), 1 << 30)
frame = outbox.source_watermark("s")
while True:
    new = [NewBatch(3, (f"{frame + 3 * n}".encode()).rjust(2000), "s", frame + 3 * n) for n in range(1, 6)]
    outbox.append(new)
    frame += 15
    print(frame, flush=True)
    if frame % 4 == 0:
        outbox.acknowledge(frame - 10)
"""


def test_a_killed_writer_leaves_every_batch_it_reported_and_no_half_of_one(tmp_path: Path) -> None:
    path = tmp_path / "outbox.db"
    for round_number in range(6):
        with subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdout is not None
            reported = [int(writer.stdout.readline()) for _ in range(1 + 7 * round_number)]
            os.kill(writer.pid, signal.SIGKILL)
            reported += [int(line) for line in writer.stdout if line.endswith("\n")]
        outbox = Outbox.open(path, PLENTY)
        ledger, held = outbox.ledger, outbox.after(0, 1_000_000)
        outbox.close()
        # One result a frame: the sequence number of a result is its frame, so all can be told from the books.
        assert ledger.last_seq == ledger.watermarks["s"] >= reported[-1]
        assert ledger.last_seq % 15 == 0
        assert [b.last_seq for b in held] == [int(b.payload) for b in held]
        assert [b.first_seq for b in held[1:]] == [b.last_seq + 1 for b in held[:-1]]
        assert held[-1].last_seq == ledger.last_seq
        assert held[0].first_seq <= ledger.acknowledged + 1
        assert (ledger.rows, ledger.bytes) == (sum(b.count for b in held), sum(len(b.payload) for b in held))


APPEND = st.tuples(st.just("append"), st.lists(st.tuples(st.integers(1, 4), st.integers(0, 30)), max_size=4))
ACKNOWLEDGE = st.tuples(st.just("acknowledge"), st.integers(0, 60))
REOPEN = st.tuples(st.just("reopen"), st.none())


@settings(max_examples=40, deadline=None)
@given(st.lists(APPEND | ACKNOWLEDGE | REOPEN, max_size=15))
def test_numbers_rise_and_nothing_unacknowledged_is_lost_unless_counted(steps: list[tuple[str, object]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        outbox = opened(Path(folder), max_bytes=100)
        expected: list[StoredBatch] = []
        appended = dropped = acknowledged = 0
        for step, value in steps:
            if step == "append":
                new = []
                for count, size in value:  # type: ignore[attr-defined]
                    expected.append(StoredBatch(appended + 1, count, b"x" * size))
                    appended += count
                    new.append(NewBatch(count, b"x" * size, "s", appended))
                outbox.append(new)
                while sum(len(b.payload) for b in expected) > 100:
                    dropped += expected.pop(0).count
            elif step == "acknowledge":
                watermark = min(int(value), appended)  # type: ignore[call-overload]
                acknowledged = max(acknowledged, watermark)
                outbox.acknowledge(watermark)
                expected = [b for b in expected if b.last_seq > watermark]
            else:
                outbox.close()
                outbox = opened(Path(folder), max_bytes=100)
            assert outbox.after(0, 1000) == expected
            held = sum(b.count for b in expected)
            assert outbox.depth() == Depth(held, sum(len(b.payload) for b in expected), dropped)
            assert outbox.ledger.last_seq == outbox.source_watermark("s") == appended
            assert appended - acknowledged <= held + dropped
        outbox.close()


def test_the_file_is_a_plain_database_in_write_ahead_mode_with_full_sync(tmp_path: Path) -> None:
    outbox = opened(tmp_path)
    outbox.append([batch(1)])
    assert outbox._database.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert outbox._database.execute("PRAGMA synchronous").fetchone() == (2,)
    outbox.close()
    with sqlite3.connect(tmp_path / "outbox.db") as reader:
        assert reader.execute("SELECT count(*) FROM batches").fetchone() == (1,)
