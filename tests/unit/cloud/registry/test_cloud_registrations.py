"""A model that comes over HTTP becomes a version, once for each name, or is refused with the reason."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st

from cloud.foundation.database import Database
from cloud.foundation.settings import CloudSettings
from cloud.registry import receiving, registration_routes
from cloud.registry.blobs import Blobs
from cloud.registry.entities import Unpublishable
from cloud.registry.receiving import Receiving
from cloud.registry.registration_routes import PREFIX, router
from cloud.registry.service import Registry
from cloud.routes import create_api
from cloud.training import registering
from protos.kit import envelope
from protos.kit.keys import KeysFailed
from protos.v1.manifest_pb2 import Lineage, Manifest, Variant

KEY = Ed25519PrivateKey.generate()
INT8, FLOAT = random.Random(1).randbytes(1000), random.Random(2).randbytes(4000)
FILES = {"int8": INT8, "float32": FLOAT}


def draft(*variants: str, model: str = "digits") -> Manifest:
    return Manifest(model=model, variants=[Variant(name=name) for name in variants], lineage=Lineage(restarts=2))


def body(made: Manifest, files: Mapping[str, bytes]) -> bytes:
    """As a training sends it."""
    return b"".join(registering.body(made, files))


@pytest.fixture
def registry(database_url: str, tmp_path: Path) -> Registry:
    database = Database(database_url)
    database.create()
    blobs = Blobs(CloudSettings(dir=tmp_path).blobs)
    return Registry(database, blobs, lambda purpose, payload: envelope.sign(purpose, payload, KEY))


@pytest.fixture
def client(registry: Registry) -> Iterator[TestClient]:
    def check(model: str, _now_ms: int) -> None:
        if model == "secret":
            raise KeysFailed("model 'secret' has no role yet")

    with TestClient(create_api([router(registry, check, lambda: 17)], dict, streamed=[PREFIX])) as client:
        yield client


def put(client: TestClient, content: bytes, name: str = "run-1") -> Any:
    return client.put(f"{PREFIX}/{name}", content=content)


def test_a_draft_with_its_files_becomes_the_next_version(client: TestClient, registry: Registry) -> None:
    answer = put(client, body(draft("int8", "float32"), FILES))
    assert (answer.status_code, answer.json()["version"], answer.json()["created_ms"]) == (201, 1, 17)
    assert answer.json()["lineage"]["restarts"] == 2
    for variant in registry.latest("digits").parsed().variants:
        assert registry.file(variant.artifact.digest) == FILES[variant.name]


def test_what_is_registered_again_under_its_name_is_what_was_registered_first(client: TestClient) -> None:
    first = put(client, body(draft("int8"), {"int8": INT8}))
    again = put(client, body(draft("int8"), {"int8": INT8}))
    other = put(client, body(draft("float32"), {"float32": FLOAT}))  # trained again, with other files
    assert [answer.status_code for answer in (first, again, other)] == [201, 200, 200]
    assert first.json() == again.json() == other.json() == client.get(f"{PREFIX}/run-1").json()
    assert put(client, body(draft("int8"), {"int8": INT8}), "run-2").json()["version"] == 2


def test_two_that_register_under_one_name_at_once_get_one_version(registry: Registry) -> None:
    made = registry.register(draft("int8"), {"int8": INT8}, 1, "run-1")
    assert registry.register(draft("int8"), {"int8": INT8}, 2, "run-1") == made
    assert len(registry.list("digits")) == 1


def test_files_that_several_variants_share_travel_once(client: TestClient) -> None:
    content = body(draft("int8", "int8-plain"), {"int8": INT8, "int8-plain": INT8})
    assert len(content) < 2 * len(INT8)
    assert len(put(client, content).json()["variants"]) == 2


def test_an_unknown_name_is_not_found_and_a_model_that_could_not_be_promised_is_told_before(client: TestClient) -> None:
    assert client.get(f"{PREFIX}/run-1", params={"model": "digits"}).status_code == 404
    refused = client.get(f"{PREFIX}/run-1", params={"model": "secret"})
    assert (refused.status_code, refused.json()["detail"]) == (409, "model 'secret' has no role yet")


def test_a_file_larger_than_a_request_elsewhere_may_be_is_taken(client: TestClient) -> None:
    large = random.Random(3).randbytes(3 << 20)
    assert put(client, body(draft("int8"), {"int8": large})).json()["bytes"] == len(large)


def test_files_over_the_limit_are_refused_before_they_are_sent(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receiving, "MAX_FILES_BYTES", 4000)
    whole = body(draft("int8", "float32"), FILES)
    refused = put(client, whole[: -len(FLOAT) - len(INT8)])
    assert refused.status_code == 422
    assert "the files have 5000 bytes: allowed are 1 for each to 4000" in refused.json()["detail"]


WHOLE = body(draft("int8", "float32"), FILES)


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (b"", "broke off"),
        (WHOLE[:-1], "broke off"),
        (WHOLE[: -len(FLOAT)], "broke off"),
        (WHOLE + b"x", "more came"),
        (WHOLE[:-1] + bytes([WHOLE[-1] ^ 1]), "damaged on its way"),
        (b"\xff" * 100, "the draft has 4294967295 bytes"),
        ((5).to_bytes(4, "big") + b"\xff" * 5, "not a Manifest"),
        (body(Manifest(model="digits"), {}), "each variant needs a name"),
        (body(draft("int8", model="a/b"), {"int8": INT8}), "'a/b' is not a name"),
    ],
)
def test_what_is_no_model_is_refused_with_the_reason_and_registers_nothing(
    client: TestClient, registry: Registry, content: bytes, named: str
) -> None:
    refused = put(client, content)
    assert refused.status_code == 422
    assert named in refused.json()["detail"]
    assert registry.list() == []


def test_a_name_is_letters_digits_and_few_signs(client: TestClient) -> None:
    assert put(client, WHOLE, "a b").status_code == 422
    assert put(client, WHOLE, "a" * 129).status_code == 422


def test_who_sends_nothing_is_sent_away(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registration_routes, "PIECE_S", 0.01)
    sent: list[dict[str, Any]] = []

    async def never() -> dict[str, Any]:
        await asyncio.sleep(60)
        raise AssertionError

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "PUT", "path": f"{PREFIX}/run-1", "headers": [], "query_string": b""}
    asyncio.run(create_api([router(registry, lambda *_: None)], dict, streamed=[PREFIX])(scope, never, send))
    assert sent[0]["status"] == 408


@given(st.lists(st.integers(0, len(WHOLE)), max_size=8))
def test_it_does_not_matter_in_which_pieces_it_comes(cuts: list[int]) -> None:
    places = [0, *sorted(cuts), len(WHOLE)]
    received = Receiving()
    for start, end in itertools.pairwise(places):
        received.take(WHOLE[start:end])
    assert received.finished() == FILES
    assert received.draft.model == "digits"


@given(st.integers(0, len(WHOLE) - 1))
def test_no_beginning_of_it_is_taken_for_the_whole(length: int) -> None:
    received = Receiving()
    received.take(WHOLE[:length])
    with pytest.raises(Unpublishable):
        received.finished()
