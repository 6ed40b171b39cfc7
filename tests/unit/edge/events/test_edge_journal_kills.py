"""The journal, killed at every system call that changes its file."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from edge.events.service import Journal
from edge.foundation.events import Event
from edge.uplink.outbox import Outbox
from protos.v1.uplink_pb2 import EventBatch
from tests.syscalls import Call, Verdict, supervise, supported
from tests.waiting import eventually

pytestmark = [
    pytest.mark.skipif(not supported(), reason="the kernel does not tell of system calls (seccomp user notification)"),
    pytest.mark.forks,
]

END = Event("update.rolled_back", "it did not hold", series="default", number=7)
"""What a new life tells again, since it cannot know whether it was told."""


def live(folder: Path) -> None:
    """A life that tells how an update ended, until that is written; an older life may have told it."""

    async def main() -> None:
        outbox = Outbox.open(folder / "events.db", 1 << 30)
        journal = Journal(outbox, now_ms=lambda: 1)
        running = asyncio.create_task(journal.run())
        journal.tell(END)
        journal.tell(Event("agent.started", "again"))
        before = outbox.source_watermark("journal")
        await eventually(lambda: outbox.source_watermark("journal") > before)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        outbox.close()

    asyncio.run(main())


def kinds(folder: Path) -> list[str]:
    outbox = Outbox.open(folder / "events.db", 1 << 30)
    found = [EventBatch.FromString(batch.payload).events[0].kind for batch in outbox.after(0, 1000)]
    outbox.close()
    return found


def test_a_kill_at_any_call_loses_no_end_of_an_update_and_doubles_none(tmp_path: Path) -> None:
    def in_folder(name: str) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        return folder

    rehearsal = in_folder("rehearsal")
    calls = supervise(lambda: live(rehearsal), rehearsal, lambda _: Verdict.GO_ON).calls
    for number in range(1, len(calls) + 1):
        folder = in_folder(str(number))

        def killed(call: Call, number: int = number) -> Verdict:
            return Verdict.KILL if call.number == number else Verdict.GO_ON

        assert supervise(lambda folder=folder: live(folder), folder, killed).killed  # type: ignore[misc]
        supervise(lambda folder=folder: live(folder), folder, lambda _: Verdict.GO_ON)  # type: ignore[misc]
        found = kinds(folder)
        assert found.count("update.rolled_back") == 1, calls[number - 1]
        assert found.count("agent.started") in {1, 2}
