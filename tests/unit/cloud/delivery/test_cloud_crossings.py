"""Messages held against the contract: what obeys is read, what breaks it is told with the reason, nothing raises."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud.delivery import rules
from cloud.delivery.crossings import Crossing, breaches, read
from protos import topics
from protos.channels import CHANNELS
from protos.v1.delivery_pb2 import RepairRequest
from protos.v1.deployment_pb2 import Deployment
from protos.v1.manifest_pb2 import Manifest, Signature, Signed
from protos.v1.metadata_pb2 import MetadataIndex
from protos.v1.report_pb2 import Report

ARTIFACT = bytes(range(32))
MANIFEST = Manifest(model="digits", version=2).SerializeToString()
DEPLOYMENT = Deployment(device="edge-1", slot="default", model="digits", generation=3).SerializeToString()


def signed(payload: bytes) -> bytes:
    return Signed(payload=payload, signatures=[Signature(key_id="aa", value=bytes(64))]).SerializeToString()


def retained(topic: str, payload: bytes) -> Crossing:
    return Crossing(topic, payload, qos=1, retained=True)


def report(device: str = "edge-1") -> Crossing:
    return retained(topics.reported("edge-1"), Report(device=device).SerializeToString())


def repair(artifact: bytes = ARTIFACT, missing: bytes = b"\x05") -> Crossing:
    payload = RepairRequest(artifact=artifact, missing=missing).SerializeToString()
    return Crossing(topics.repair(ARTIFACT), payload, qos=1, retained=False)


OBEYING = {
    "metadata": retained(topics.metadata("3.snapshot.json"), b"{}"),
    "metadata_index": retained(topics.METADATA_INDEX, MetadataIndex(root=1, timestamp=9).SerializeToString()),
    "manifest": retained(topics.manifest(hashlib.sha256(MANIFEST).digest()), signed(MANIFEST)),
    "chunk": retained(topics.chunk(ARTIFACT, 3), bytes(topics.MAX_CHUNK_BYTES)),
    "repair": repair(),
    "desired": retained(topics.desired("edge-1"), signed(DEPLOYMENT)),
    "reported": report(),
    "presence": retained(topics.presence("edge-1"), b"offline"),
}


def test_there_is_an_example_of_every_channel() -> None:
    assert list(OBEYING) == [channel.name for channel in CHANNELS]


@pytest.mark.parametrize("name", OBEYING)
def test_a_message_as_the_contract_says_breaks_nothing(name: str) -> None:
    reading = read(OBEYING[name])
    assert reading.breaches == ()
    assert reading.channel
    assert reading.channel.name == name


def test_a_signed_message_is_taken_out_of_its_envelope() -> None:
    reading = read(OBEYING["desired"])
    assert reading.message == Deployment.FromString(DEPLOYMENT)
    assert reading.signers == ("aa",)


@pytest.mark.parametrize("name", ["metadata", "manifest", "chunk"])
def test_an_empty_payload_clears_a_channel_that_may_be_cleared(name: str) -> None:
    reading = read(replace(OBEYING[name], payload=b""))
    assert reading.clears
    assert reading.breaches == ()


def test_a_broker_that_does_not_tell_what_is_retained_makes_no_breach() -> None:
    assert [breaches(replace(crossing, retained=None)) for crossing in OBEYING.values()] == [[]] * len(OBEYING)


def test_the_publisher_reads_requests_as_large_as_the_contract_allows() -> None:
    assert topics.MAX_REPAIR_BYTES == rules.MAX_REQUEST_BYTES


DESIRED, MANIFESTS = OBEYING["desired"], OBEYING["manifest"]
BROKEN = {
    "a topic of no channel": (retained("littoral/v1/devices/edge-1/secrets", b"x"), "no channel"),
    "a name that is none": (retained(topics.presence("Edge 1"), b"online"), "no channel"),
    "too many bytes": (retained(topics.chunk(ARTIFACT, 0), bytes(65_537)), "it has 65537 bytes, allowed are 65536"),
    "another QoS": (replace(OBEYING["presence"], qos=0), "published with QoS 0, the channel's is 1"),
    "forgotten at once": (replace(OBEYING["desired"], retained=False), "it is not retained"),
    "kept for ever": (replace(OBEYING["repair"], retained=True), "it is retained"),
    "another word": (retained(topics.presence("edge-1"), b"maybe"), "none of the words online, offline"),
    "cleared, but never is": (retained(topics.desired("edge-1"), b""), "nothing of this channel is ever cleared"),
    "no protobuf": (retained(topics.reported("edge-1"), b"\xff nonsense"), "it is no Report"),
    "no envelope": (retained(DESIRED.topic, b"\xff"), "it is no Signed"),
    "signed by nobody": (retained(DESIRED.topic, Signed(payload=DEPLOYMENT).SerializeToString()), "nobody signed it"),
    "an envelope around nonsense": (retained(DESIRED.topic, signed(b"\xff")), "it is no Deployment"),
    "another device's report": (report("edge-2"), "it names device 'edge-2'"),
    "another device's deployment": (retained(topics.desired("edge-2"), DESIRED.payload), "it names device 'edge-1'"),
    "another slot's": (retained(topics.desired("edge-1", "second"), DESIRED.payload), "it names slot 'default'"),
    "another artifact's repair": (repair(artifact=bytes(32)), f"it names artifact '{bytes(32).hex()}'"),
    "another digest": (retained(topics.manifest(bytes(32)), MANIFESTS.payload), "its topic is not its digest"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_breach_is_told_with_its_reason(case: str) -> None:
    crossing, reason = BROKEN[case]
    assert len(breaches(crossing)) == 1
    assert reason in breaches(crossing)[0]


def test_every_breach_of_one_message_is_told() -> None:
    assert len(breaches(Crossing(topics.presence("edge-1"), b"much too long", qos=0, retained=False))) == 4


TOPICS = st.one_of(st.text(max_size=40), st.sampled_from([crossing.topic for crossing in OBEYING.values()]))


WHATEVER = st.builds(Crossing, TOPICS, st.binary(max_size=300), st.integers(0, 2), st.none() | st.booleans())


@given(WHATEVER)
def test_whatever_crosses_is_read_or_a_breach(crossing: Crossing) -> None:
    reading = read(crossing)
    assert reading.channel or reading.breaches
