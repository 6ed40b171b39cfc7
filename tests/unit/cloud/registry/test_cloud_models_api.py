"""The registry as people and programs see it: HTTP and `littoral models`."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
import zstandard
from click.testing import CliRunner, Result
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from fastapi import FastAPI
from fastapi.testclient import TestClient

from cloud.foundation.database import Database
from cloud.foundation.settings import CloudSettings
from cloud.registry.blobs import Blobs
from cloud.registry.commands import models
from cloud.registry.routes import router
from cloud.registry.service import Registry
from protos.kit import envelope
from protos.v1.manifest_pb2 import Lineage, Manifest, Variant

KEY = Ed25519PrivateKey.generate()


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    settings = CloudSettings(dir=tmp_path)
    database = Database(settings.database_url)
    database.create()
    return Registry(database, Blobs(settings.blobs), lambda purpose, payload: envelope.sign(purpose, payload, KEY))


def register(registry: Registry) -> None:
    draft = Manifest(model="digits", variants=[Variant(name="int8")], lineage=Lineage(parameters={"epochs": "3"}))
    registry.register(draft, {"int8": b"model" * 100}, 1_700_000_000_000)


def run(folder: Path, *arguments: str) -> Result:
    return CliRunner().invoke(models, [*arguments, "--dir", str(folder)])


def test_the_api_lists_and_shows_versions(registry: Registry) -> None:
    register(registry)
    app = FastAPI()
    app.include_router(router(registry))
    with TestClient(app) as client:
        listed = client.get("/api/v1/models").json()
        assert [(each["model"], each["version"], each["bytes"]) for each in listed] == [("digits", 1, 500)]
        assert client.get("/api/v1/models/digits/versions/1").json() == listed[0]
        assert client.get("/api/v1/models?model=cats").json() == []
        missing = client.get("/api/v1/models/digits/versions/9")
        assert (missing.status_code, missing.json()["detail"]) == (
            404,
            "model 'digits' has no version 9: its newest is 1",
        )


def model_file() -> bytes:
    """Several chunks long when compressed."""
    return random.Random(7).randbytes(150_000) + bytes(150_000)


@pytest.fixture
def client(registry: Registry) -> Iterator[TestClient]:
    app = FastAPI()
    app.include_router(router(registry))
    with TestClient(app) as client:
        yield client


def registered(registry: Registry, file: bytes) -> str:
    """The digest of a registered file, in hex."""
    draft = Manifest(model="digits", variants=[Variant(name="int8")])
    return registry.register(draft, {"int8": file}, 0).parsed().variants[0].artifact.digest.hex()


def test_an_artifact_is_streamed_compressed_to_whoever_takes_zstd(registry: Registry, client: TestClient) -> None:
    file = model_file()
    digest = registered(registry, file)
    with client.stream("GET", f"/api/v1/artifacts/{digest}", headers={"Accept-Encoding": "gzip, zstd;q=1.0"}) as answer:
        travelled = b"".join(answer.iter_raw())
    assert (answer.status_code, answer.headers["Content-Encoding"]) == (200, "zstd")
    assert int(answer.headers["Content-Length"]) == len(travelled) < len(file)
    assert zstandard.decompress(travelled) == file


def test_an_artifact_is_unpacked_for_whoever_does_not(registry: Registry, client: TestClient) -> None:
    file = model_file()
    digest = registered(registry, file)
    answer = client.get(f"/api/v1/artifacts/{digest}", headers={"Accept-Encoding": "identity"})
    assert (answer.content, "Content-Encoding" in answer.headers) == (file, False)
    assert answer.headers["Content-Length"] == str(len(file))
    assert "immutable" in answer.headers["Cache-Control"]


def test_an_artifact_that_does_not_compress_travels_as_it_is(registry: Registry, client: TestClient) -> None:
    file = random.Random(7).randbytes(100)
    answer = client.get(f"/api/v1/artifacts/{registered(registry, file)}", headers={"Accept-Encoding": "zstd"})
    assert (answer.content, "Content-Encoding" in answer.headers) == (file, False)


@pytest.mark.parametrize("digest", ["00" * 32, "no-digest", "0"])
def test_an_unknown_artifact_is_not_found(client: TestClient, digest: str) -> None:
    answer = client.get(f"/api/v1/artifacts/{digest}")
    assert answer.status_code == 404
    assert digest in answer.json()["detail"]


def test_a_damaged_blob_is_not_sent(registry: Registry, client: TestClient, tmp_path: Path) -> None:
    digest = registered(registry, b"model" * 100)
    for blob in (tmp_path / "blobs").glob("*/*"):
        blob.write_bytes(bytes(blob.stat().st_size))
    answer = client.get(f"/api/v1/artifacts/{digest}")
    assert answer.status_code == 500
    assert "damaged" in answer.json()["detail"]


def test_the_commands_print_the_api_s_json(registry: Registry, tmp_path: Path) -> None:
    register(registry)
    listed = json.loads(run(tmp_path, "list", "--json").stdout)
    assert [(each["model"], each["version"]) for each in listed] == [("digits", 1)]
    assert json.loads(run(tmp_path, "show", "digits", "1", "--json").stdout) == listed[0]
    assert json.loads(run(tmp_path, "show", "digits", "--json").stdout) == listed[0]


def test_the_commands_draw_tables_for_people(registry: Registry, tmp_path: Path) -> None:
    register(registry)
    assert "2023-11-14 22:13:20 UTC" in run(tmp_path, "list").stdout
    assert "epochs" in run(tmp_path, "show", "digits").stdout


def test_an_empty_registry_says_how_to_train_and_looking_makes_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "none"
    listed = run(folder, "list")
    assert (listed.exit_code, "littoral train" in listed.stdout) == (0, True)
    assert json.loads(run(folder, "list", "--json").stdout) == []
    shown = run(folder, "show", "digits")
    assert (shown.exit_code, "littoral train" in shown.output) == (1, True)
    assert not folder.exists()


def test_an_unknown_version_is_one_sentence(registry: Registry, tmp_path: Path) -> None:
    register(registry)
    result = run(tmp_path, "show", "digits", "9")
    assert (result.exit_code, result.output) == (1, "Error: model 'digits' has no version 9: its newest is 1\n")


def test_a_folder_that_is_no_folder_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    result = run(tmp_path / "file", "list")
    assert result.exit_code == 1
    assert "cannot be opened" in result.output


@pytest.mark.parametrize("command", ["list", "show"])
def test_help_shows_an_example(command: str) -> None:
    assert "littoral models" in CliRunner().invoke(models, [command, "--help"]).output
