from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import pytest

from edge import agent
from edge.models.service import ModelStore
from edge.operating.recall import roll_back
from edge.update.entities import Proof, State, Target, Update
from edge.update.memory import Memory
from protos.v1.manifest_pb2 import Artifact, Manifest, Variant
from tests.crashes import each_kill

pytestmark = pytest.mark.forks


def put(folder: Path, version: int) -> bytes:
    """Commit a version; its manifest's digest."""
    data = b"model %d" % version * 100
    file = folder / "fetched"
    file.write_bytes(data)
    variant = Variant(name="int8", artifact=Artifact(digest=hashlib.sha256(data).digest(), size=len(data)))
    payload = Manifest(model="digits", version=version, variants=[variant]).SerializeToString()
    store = ModelStore.open(folder / "models", "default")
    store.stage(payload, "int8", file)
    store.begin_trial()
    store.commit()
    return hashlib.sha256(payload).digest()


def device(folder: Path) -> None:
    """One that committed version 1, then version 2 by generation 7."""
    shutil.rmtree(folder, ignore_errors=True)
    with agent.holding(folder, "edge-1"):
        put(folder, 1)
        digest = put(folder, 2)
        target = Target("default", "digits", 2, digest, 7, issued_ms=1, expires_ms=2, rollout="")
        proof = Proof(digest, b"a" * 32, "int8", b"o" * 32)
        Memory(folder, "default").save(Update(State.COMMITTED, target, proof=proof, proven=proof, receipt=b"\n\x00"))


def test_a_kill_at_any_instruction_leaves_one_of_the_models_and_a_status_that_is_true_of_it(tmp_path: Path) -> None:
    folder = tmp_path / "edge"
    seen = set()
    for _ in each_kill(lambda: device(folder), lambda: roll_back(folder, "edge-1", "default")):
        found = agent.status(folder)
        assert isinstance(found["running"], dict)
        seen.add((found["running"]["version"], found["state"]))
        assert seen <= {(2, "committed"), (1, "rolled_back")}
    assert len(seen) == 2
