"""One stream's samples: what may wait, and what a device is told of its policies."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from cloud.samples.entities import Policy
from cloud.samples.rpc import SampleStreams
from protos.topics import MAX_SAMPLE_OFFERS, MAX_SAMPLE_PIECES
from protos.v1.samples_pb2 import SamplePiece
from protos.v1.uplink_pb2 import UplinkMessage, UplinkReply
from tests.samples_cloud import SamplesCloud, samples_cloud


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[SamplesCloud]:
    made = samples_cloud(f"sqlite:///{tmp_path}/littoral.db", tmp_path / "cloud")
    yield made
    made.database.close()


def play(cloud: SamplesCloud, *messages: UplinkMessage) -> list[UplinkReply]:
    """One stream that is told its policies, then hears these messages; all replies."""

    async def main() -> list[UplinkReply]:
        replies, enough = list[UplinkReply](), asyncio.Event()

        async def write(reply: UplinkReply) -> None:
            replies.append(reply)
            if len(replies) == 1 + len(messages):
                enough.set()

        stream = SampleStreams(cloud.samples).stream("edge-1", write)
        running = asyncio.create_task(stream.run())
        for message in messages:
            assert stream.take(message)
        await enough.wait()
        running.cancel()
        await asyncio.wait({running})
        return replies

    return asyncio.run(main())


def piece(number: int) -> UplinkMessage:
    return UplinkMessage(sample_piece=SamplePiece(id=number, data=b"x"))


def test_a_device_is_told_its_policies_first_even_if_there_are_none(cloud: SamplesCloud) -> None:
    (told,) = play(cloud)
    assert told.WhichOneof("body") == "sample_policies"
    assert not told.sample_policies.policies
    cloud.samples.set_policy(Policy("unsure", 1000, "digits", below=0.5, share=0.25))
    (told,) = play(cloud)
    (policy,) = told.sample_policies.policies
    assert (policy.name, policy.model, policy.below, policy.share, policy.bytes_per_day) == (
        "unsure",
        "digits",
        0.5,
        0.25,
        1000,
    )


def test_a_piece_of_what_was_not_offered_is_refused(cloud: SamplesCloud) -> None:
    refused = {
        reply.sample_answer.id: reply.sample_answer.refused
        for reply in play(cloud, piece(7))
        if reply.HasField("sample_answer")
    }
    assert refused == {7: "it was not offered on this stream"}


def test_more_than_may_be_without_an_answer_is_not_taken(cloud: SamplesCloud) -> None:
    async def write(_: UplinkReply) -> None:
        """Nobody listens."""

    stream = SampleStreams(cloud.samples).stream("edge-1", write)
    taken = [stream.take(piece(number)) for number in range(100)]
    assert taken == sorted(taken, reverse=True)
    assert MAX_SAMPLE_OFFERS + MAX_SAMPLE_PIECES <= sum(taken) < 100
