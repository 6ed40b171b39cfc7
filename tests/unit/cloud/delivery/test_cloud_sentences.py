"""What `littoral watch-mqtt` says of a message."""

from __future__ import annotations

import hashlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud.delivery import sentences
from cloud.delivery.crossings import Crossing, Reading, read
from protos import topics
from protos.channels import CHANNELS, Encoded
from protos.v1.delivery_pb2 import RepairRequest
from protos.v1.deployment_pb2 import Deployment
from protos.v1.manifest_pb2 import Artifact, ChunkRef, Manifest, Signature, Signed, Variant
from protos.v1.metadata_pb2 import MetadataIndex
from protos.v1.report_pb2 import (
    UPDATE_STATE_COMMITTED,
    UPDATE_STATE_DOWNLOADING,
    UPDATE_STATE_REFUSED,
    Report,
    SlotState,
)

ARTIFACT = bytes(range(32))
SHORT = ARTIFACT.hex()[:12]
FILE = Artifact(size=105_080, chunks=[ChunkRef(), ChunkRef()])
MANIFEST = Manifest(model="digits", version=2, variants=[Variant(name="int8", artifact=FILE)]).SerializeToString()


def signed(payload: bytes) -> bytes:
    return Signed(payload=payload, signatures=[Signature(key_id="aa")]).SerializeToString()


def reading(topic: str, payload: bytes, *, retained: bool = True) -> Reading:
    return read(Crossing(topic, payload, qos=1, retained=retained))


def deployment(**fields: object) -> Reading:
    message = Deployment(device="edge-1", slot="default", generation=3, **fields)
    return reading(topics.desired("edge-1"), signed(message.SerializeToString()))


def repair(missing: bytes) -> Reading:
    request = RepairRequest(artifact=ARTIFACT, missing=missing).SerializeToString()
    return reading(topics.repair(ARTIFACT), request, retained=False)


def report(*slots: SlotState, uplink: str = "") -> Reading:
    message = Report(device="edge-1", slots=slots, uplink=uplink).SerializeToString()
    return reading(topics.reported("edge-1"), message)


DOWNLOADING = SlotState(slot="default", state=UPDATE_STATE_DOWNLOADING, generation=3, chunks_present=1, chunks_total=4)
COMMITTED = SlotState(
    slot="default",
    state=UPDATE_STATE_COMMITTED,
    generation=3,
    running=b"m",
    running_model="digits",
    running_version=2,
    receipt=Signed(payload=b"r"),
)
REFUSED = SlotState(slot="default", state=UPDATE_STATE_REFUSED, generation=4, reason="golden vectors: 4 of 4 wrong")

SAID = {
    "metadata": (reading(topics.metadata("3.snapshot.json"), b"{}"), "2 bytes, 44136fa355b3"),
    "index": (
        reading(topics.METADATA_INDEX, MetadataIndex(root=2, timestamp=57).SerializeToString()),
        "newest: root 2, timestamp 57",
    ),
    "alarm": (
        reading(topics.reported("edge-1"), Report(device="edge-1", alarms=["a", "b"]).SerializeToString()),
        "alarm: a; alarm: b",
    ),
    "manifest": (
        reading(topics.manifest(hashlib.sha256(MANIFEST).digest()), signed(MANIFEST)),
        "digits 2: int8 (105,080 bytes, 2 chunks)",
    ),
    "chunk": (reading(topics.chunk(ARTIFACT, 3), bytes(1000)), "1,000 bytes, 541b3e9daa09"),
    "cleared chunk": (reading(topics.chunk(ARTIFACT, 3), b""), "cleared"),
    "repair": (repair(b"\x39\x02"), "asks for 5 chunks: 0, 3-5, 9"),
    "deployment": (
        deployment(model="digits", version=2, manifest=b"m", rollout="r-1"),
        "digits 2, generation 3, rollout r-1",
    ),
    "no model": (deployment(), "no model, generation 3"),
    "downloading": (report(DOWNLOADING), "default: downloading, generation 3, runs no model, 1/4 chunks"),
    "committed": (
        report(COMMITTED, uplink="streaming"),
        "default: committed, generation 3, runs digits 2, with receipt; uplink streaming",
    ),
    "refused": (
        report(REFUSED),
        "default: refused (golden vectors: 4 of 4 wrong), generation 4, runs no model",
    ),
    "a state of a newer agent": (
        report(SlotState(slot="default", state=99)),  # type: ignore[arg-type]
        "default: state 99, generation 0, runs no model",
    ),
    "presence": (reading(topics.presence("edge-1"), b"online"), "online"),
}


@pytest.mark.parametrize("case", SAID)
def test_a_message_is_said_in_one_line(case: str) -> None:
    found, sentence = SAID[case]
    assert sentences.said(found) == sentence


def test_every_protobuf_message_of_the_contract_has_its_sentence() -> None:
    assert {row.payload.message for row in CHANNELS if isinstance(row.payload, Encoded)} == {*sentences.SENTENCES}


@pytest.mark.parametrize(
    ("case", "named"),
    [
        ("metadata", "3.snapshot.json"),
        ("manifest", hashlib.sha256(MANIFEST).hexdigest()[:12]),
        ("chunk", f"{SHORT}/3"),
        ("repair", SHORT),
        ("deployment", "edge-1/default"),
        ("committed", "edge-1"),
        ("presence", "edge-1"),
    ],
)
def test_it_names_whom_it_is_of_or_for(case: str, named: str) -> None:
    assert sentences.who(SAID[case][0]) == named


def test_a_breach_is_said_with_every_reason() -> None:
    found = reading(topics.presence("edge-1"), b"maybe", retained=False)
    assert sentences.said(found) == "breach: it is not retained; it is none of the words online, offline"


def test_a_topic_of_no_channel_is_shown_whole() -> None:
    found = reading("littoral/v1/other", b"x")
    assert (sentences.kind(found), sentences.who(found)) == ("unknown", "littoral/v1/other")


def test_programs_get_the_whole_message() -> None:
    found = json.loads(json.dumps(sentences.document(deployment(model="digits", version=2, manifest=b"m"))))
    assert found == {
        "channel": "desired",
        "topic": "littoral/v1/devices/edge-1/desired/default",
        "parameters": {"device": "edge-1", "slot": "default"},
        "retained": True,
        "qos": 1,
        "bytes": found["bytes"],
        "said": "digits 2, generation 3",
        "signers": ["aa"],
        "message": {
            "device": "edge-1",
            "slot": "default",
            "model": "digits",
            "version": "2",
            "manifest": "bQ==",
            "generation": "3",
        },
        "breaches": [],
    }


@given(st.text(max_size=600))
def test_no_text_of_a_stranger_commands_the_terminal_or_fills_it(text: str) -> None:
    shown = sentences.printable(text)
    assert shown.isprintable()
    assert len(shown) <= sentences.LONGEST


def test_what_a_device_writes_cannot_break_out_of_its_line() -> None:
    found = report(SlotState(slot="default", state=UPDATE_STATE_REFUSED, reason="\x1b[2J\nonline"))
    assert r"(\x1b[2J\nonline)" in sentences.said(found)
