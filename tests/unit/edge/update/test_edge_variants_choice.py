"""A device measures the variants of a version once, takes the fastest, and remembers what it found."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from test_edge_update_service import FACTS, Device, Shelf, ended, prove_here, receipt, sign, target

from edge.delivery.entities import Rejected
from edge.inference.service import Inference
from edge.models.service import ModelStore
from edge.update import choice
from edge.update.entities import Proof, State
from edge.update.memory import Memory
from edge.update.prover import NotProved
from edge.update.service import Updater
from edge.update.steps import Limits, Steps
from edge.update.variants import Speed
from edge.uplink.outbox import Outbox
from protos.v1 import report_pb2
from protos.v1.manifest_pb2 import DELEGATE_NONE, Artifact, Manifest
from tests import in_thread, tiny_models

INT8_FASTER: Mapping[str, float] = {"int8": 10.0, "float32": 40.0, "int8-plain": 30.0}
FLOAT_FASTER: Mapping[str, float] = {"int8": 40.0, "float32": 10.0, "int8-plain": 50.0}


@dataclass
class GappyShelf(Shelf):
    """A shelf on which some files never come, or can never be had."""

    never_come: set[bytes] = field(default_factory=set)
    rejected: set[bytes] = field(default_factory=set)

    async def artifact(
        self, artifact: Artifact, progress: Callable[[int, int], None], held: Mapping[bytes, Path]
    ) -> Path:
        if artifact.digest in self.never_come:
            progress(0, 1)
            await asyncio.Event().wait()
        if artifact.digest in self.rejected:
            raise Rejected("it is larger than promised")
        return await super().artifact(artifact, progress, held)


class MeasuringDevice(Device):
    """Golden vectors run here; how long each variant takes is set."""

    shelf: GappyShelf

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.shelf = GappyShelf(folder / "shelf")
        self.speeds: dict[str, float] = dict(INT8_FASTER)
        self.broken: set[str] = set()
        self.measured: list[str] = []
        self.facts = FACTS

    def boot(self, outbox: Outbox) -> Updater:
        self.inference = Inference(outbox, start=in_thread.start)
        store = ModelStore.open(self.folder / "models", "default")
        limits = Limits(trial_s=0.0, golden_timeout_s=60, threads=1, measured_files=2)
        self.steps = Steps(
            self.shelf, store, self.inference, limits, self.facts, prove=self._prove, measure=self._measure
        )
        updater = Updater("edge-1", Memory(self.folder, "default"), self.steps, sign, lambda: self.now_ms)
        updater.on_change = lambda: self.seen.append(updater.update)
        return updater

    async def _prove(
        self, *, digest: bytes, manifest: bytes, artifact: bytes, variant: str, model: Path, timeout_s: float
    ) -> Proof:
        if variant in self.broken:
            raise NotProved(f"{variant} crashed")
        return await prove_here(
            digest=digest, manifest=manifest, artifact=artifact, variant=variant, model=model, timeout_s=timeout_s
        )

    async def _measure(
        self,
        *,
        digest: bytes,
        manifest: bytes,
        artifact: bytes,
        variant: str,
        model: Path,
        timeout_s: float,
        threads: int,
    ) -> tuple[Proof, Speed]:
        self.measured.append(variant)
        assert threads == 1
        proof = await self._prove(
            digest=digest, manifest=manifest, artifact=artifact, variant=variant, model=model, timeout_s=timeout_s
        )
        return proof, Speed(self.speeds[variant] + 5, self.speeds[variant])

    def gathered(self) -> list[str]:
        return [path.name for path in (self.folder / "models" / "default").glob("variants/*")]


@pytest.fixture
def device(tmp_path: Path) -> MeasuringDevice:
    return MeasuringDevice(tmp_path)


def files(version: int) -> dict[str, bytes]:
    weights = tiny_models.weights() * (1 - version / 10)
    return {"int8": tiny_models.int8(weights), "float32": tiny_models.float32(weights)}


def manifest(version: int = 1) -> Manifest:
    return tiny_models.manifest(files(version), version=version)


def put(device: MeasuringDevice, made: Manifest) -> bytes:
    return device.shelf.put(made, *files(made.version).values())


def test_the_fastest_variant_is_committed_and_its_receipt_names_it(device: MeasuringDevice) -> None:
    device.speeds = dict(FLOAT_FASTER)
    updater = device.settle(target(1, put(device, manifest())))
    proof = receipt(updater.update)
    assert (proof.outcome, proof.variant) == (report_pb2.OUTCOME_COMMITTED, "float32")
    assert proof.artifact == hashlib.sha256(files(1)["float32"]).digest()
    assert device.inference.blueprint is not None or updater.running


def test_the_table_of_the_running_version_is_kept(device: MeasuringDevice) -> None:
    device.settle(target(1, put(device, manifest())))
    table = device.steps.table
    assert table
    assert table.chosen == "int8"
    assert [(row.variant, row.single_us, row.frame_us, row.problem) for row in table.rows] == [
        ("int8", 15.0, 10.0, ""),
        ("float32", 45.0, 40.0, ""),
    ]


def test_a_version_with_one_variant_is_not_measured_and_leaves_nothing_on_the_disk(device: MeasuringDevice) -> None:
    device.settle(target(1, device.shelf.put(tiny_models.manifest({"int8": files(1)["int8"]}), files(1)["int8"])))
    assert device.measured == []
    assert device.steps.table is None
    assert not (device.folder / "models" / "default" / "variants.json").exists()


def test_after_a_restart_it_serves_without_measuring_again(device: MeasuringDevice) -> None:
    digest = put(device, manifest())
    device.settle(target(1, digest))
    device.measured.clear()
    again = device.settle()
    assert again.running
    assert again.running.variant == "int8"
    assert device.steps.table
    device.settle(target(2, digest))
    assert device.measured == []


def test_what_was_gathered_is_removed_once_the_version_is_committed(device: MeasuringDevice) -> None:
    device.settle(target(1, put(device, manifest())))
    assert device.gathered() == []


def test_a_variant_that_crashes_here_is_left_out_and_the_other_is_run(device: MeasuringDevice) -> None:
    device.broken = {"int8"}
    updater = device.settle(target(1, put(device, manifest())))
    assert (updater.update.state, receipt(updater.update).variant) == (State.COMMITTED, "float32")
    assert device.steps.table
    assert [row.problem for row in device.steps.table.rows] == ["int8 crashed", ""]


def test_a_version_none_of_whose_variants_holds_is_refused(device: MeasuringDevice) -> None:
    device.broken = {"int8", "float32"}
    updater = device.settle(target(1, put(device, manifest())))
    assert updater.update.state is State.REFUSED
    assert "int8 crashed" in updater.update.reason
    assert "float32 crashed" in updater.update.reason


@pytest.mark.parametrize(
    ("gap", "why"), [("never_come", "its file has not come"), ("rejected", "larger than promised")]
)
def test_an_update_does_not_wait_for_a_file_that_is_only_to_be_measured(
    device: MeasuringDevice, monkeypatch: pytest.MonkeyPatch, gap: str, why: str
) -> None:
    monkeypatch.setattr(choice, "STALLED_S", 0.05)
    getattr(device.shelf, gap).add(hashlib.sha256(files(1)["float32"]).digest())
    updater = device.settle(target(1, put(device, manifest())))
    assert (updater.update.state, receipt(updater.update).variant) == (State.COMMITTED, "int8")
    assert device.steps.table
    first, second = device.steps.table.rows
    assert first.problem == ""
    assert why in second.problem


def test_the_file_of_the_first_variant_is_waited_for(device: MeasuringDevice, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "STALLED_S", 0.0)
    device.shelf.never_come.add(hashlib.sha256(files(1)["int8"]).digest())

    async def scenario(updater: Updater) -> State:
        updater.desire(target(1, put(device, manifest())))
        await asyncio.sleep(0.2)
        device.shelf.never_come.clear()
        updater.desire(target(2, put(device, manifest())))
        await ended(updater, 2)
        return updater.update.state

    assert device.live(scenario) is State.COMMITTED
    assert State.REFUSED not in {update.state for update in device.seen}


def test_variants_of_one_file_cost_one_file(device: MeasuringDevice) -> None:
    made = tiny_models.manifest({"int8": files(1)["int8"], "int8-plain": files(1)["int8"]})
    made.variants[1].delegate = DELEGATE_NONE
    device.speeds["int8-plain"] = 1.0
    updater = device.settle(target(1, device.shelf.put(made, files(1)["int8"])))
    assert len(device.shelf.fetched) == 1
    assert receipt(updater.update).variant == "int8-plain"
    assert updater.running


def test_the_next_version_fetches_only_what_was_not_clearly_slower(device: MeasuringDevice) -> None:
    device.settle(target(1, put(device, manifest(1))))
    device.measured.clear()
    device.shelf.fetched.clear()
    updater = device.settle(target(2, put(device, manifest(2)), version=2))
    assert device.shelf.fetched == [hashlib.sha256(files(2)["int8"]).digest()]
    assert device.measured == []
    assert receipt(updater.update).variant == "int8"
    assert device.steps.table
    assert [(row.variant, row.measured_in) for row in device.steps.table.rows] == [("int8", 1), ("float32", 1)]


def test_what_was_slower_is_tried_when_the_faster_one_does_not_hold_any_more(device: MeasuringDevice) -> None:
    device.settle(target(1, put(device, manifest(1))))
    device.broken = {"int8"}
    updater = device.settle(target(2, put(device, manifest(2)), version=2))
    assert (updater.update.state, receipt(updater.update).variant) == (State.COMMITTED, "float32")


def test_on_other_hardware_the_next_deployment_measures_anew(device: MeasuringDevice) -> None:
    digest = put(device, manifest())
    device.settle(target(1, digest))
    device.facts = type(FACTS)(FACTS.architecture, FACTS.agent_version, FACTS.operators, "another processor")
    device.speeds = dict(FLOAT_FASTER)
    updater = device.settle(target(2, digest))
    assert receipt(updater.update).variant == "float32"
    assert updater.running
    assert updater.running.variant == "float32"


def test_a_damaged_table_is_measured_again(device: MeasuringDevice) -> None:
    device.settle(target(1, put(device, manifest(1))))
    (device.folder / "models" / "default" / "variants.json").write_text('[{"manifest": 1}]')
    device.measured.clear()
    device.settle(target(2, put(device, manifest(2)), version=2))
    assert sorted(device.measured) == ["float32", "int8"]
