"""Several models at once: one source may feed several of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge.inference.by_slot import BySlot, UnknownSlot
from edge.inference.service import Inference
from edge.uplink.entities import NewBatch
from edge.uplink.of_slot import OfSlot
from edge.uplink.outbox import Outbox


def test_a_source_has_a_watermark_in_each_slot_that_it_feeds(tmp_path: Path) -> None:
    outbox = Outbox.open(tmp_path / "outbox.sqlite", 2**20)
    doors = OfSlot(outbox, "doors")
    outbox.append([NewBatch(3, b"main", "camera", 3)])
    doors.append([NewBatch(2, b"doors", "camera", 2)])
    outbox.close()
    again = Outbox.open(tmp_path / "outbox.sqlite", 2**20)
    assert (again.source_watermark("camera"), OfSlot(again, "doors").source_watermark("camera")) == (3, 2)
    assert OfSlot(again, "window").source_watermark("camera") == 0
    assert [batch.payload for batch in again.after(0, 10)] == [b"main", b"doors"]
    again.close()


def test_what_names_no_slot_is_for_the_main_one_and_a_wrong_name_is_told(tmp_path: Path) -> None:
    outbox = Outbox.open(tmp_path / "outbox.sqlite", 2**20)
    main, doors = Inference(outbox), Inference(OfSlot(outbox, "doors"))
    slots = BySlot({"front": main, "doors": doors})
    assert slots.of("") is slots.main is slots.of("front") is main
    assert slots.of("doors") is doors
    with pytest.raises(UnknownSlot, match="no slot 'window' on this device: it has front, doors"):
        slots.of("window")
    outbox.close()
