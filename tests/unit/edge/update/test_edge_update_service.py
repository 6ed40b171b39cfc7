"""The updater on a real disk with a real interpreter; the broker is simulated, golden vectors need no child here."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from edge.delivery.entities import NotDelivered, Rejected
from edge.foundation.clock import EARLIEST_MS
from edge.inference.service import Inference
from edge.models.service import ModelStore
from edge.update import deployment, trial
from edge.update.entities import Proof, Running, State, Target, Update
from edge.update.memory import Memory
from edge.update.prover import NotProved
from edge.update.requirements import Facts
from edge.update.service import Updater
from edge.update.steps import Limits, Steps
from edge.uplink.outbox import Outbox
from protos.kit import envelope
from protos.v1 import report_pb2
from protos.v1.manifest_pb2 import Artifact, Manifest, Requirements, Signed, VariantOperators
from tests import in_thread, tiny_models

KEY = Ed25519PrivateKey.from_private_bytes(b"d" * 32)
NOW_MS = EARLIEST_MS + 1000
FACTS = Facts("x86_64", "1.2", frozenset({"FULLY_CONNECTED"}))
T = TypeVar("T")


@dataclass
class Shelf:
    """Delivery without a broker: what is on the shelf is delivered, with faults to switch on."""

    folder: Path
    manifests: dict[bytes, bytes] = field(default_factory=dict)
    files: dict[bytes, bytes] = field(default_factory=dict)
    fetched: list[bytes] = field(default_factory=list)
    held: list[list[bytes]] = field(default_factory=list)
    fault: Exception | None = None
    unlisted: Exception | None = None
    stuck: bool = False

    def put(self, manifest: Manifest, *files: bytes) -> bytes:
        payload = manifest.SerializeToString()
        digest = hashlib.sha256(payload).digest()
        self.manifests[digest] = payload
        self.files |= {hashlib.sha256(file).digest(): file for file in files}
        return digest

    async def check(self, model: str, version: int, manifest: bytes, issued_ms: int) -> None:  # noqa: ARG002 - the port's
        if self.unlisted:
            raise self.unlisted

    async def manifest(self, digest: bytes) -> bytes:
        if self.stuck:
            await asyncio.Event().wait()
        if self.fault:
            raise self.fault
        return self.manifests[digest]

    async def artifact(
        self, artifact: Artifact, progress: Callable[[int, int], None], held: Mapping[bytes, Path]
    ) -> Path:
        self.forget(artifact.digest)
        self.fetched.append(artifact.digest)
        self.held.append(sorted(held))
        progress(1, 1)
        path = self.folder / artifact.digest.hex()
        await asyncio.to_thread(path.write_bytes, self.files[artifact.digest])
        return path

    def forget(self, keep: bytes | None = None) -> None:
        for path in self.folder.iterdir():
            if keep is None or path.name != keep.hex():
                path.unlink()


class Device:
    """One device's disk and, while `running`, its updater."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "shelf").mkdir()
        self.shelf = Shelf(folder / "shelf")
        self.now_ms = NOW_MS
        self.trial_s = 0.0
        self.seen: list[Update] = []

    def boot(self, outbox: Outbox) -> Updater:
        self.inference = Inference(outbox, start=in_thread.start)
        store = ModelStore.open(self.folder / "models", "default")
        limits = Limits(trial_s=self.trial_s, golden_timeout_s=60, threads=1)
        steps = Steps(self.shelf, store, self.inference, limits, FACTS, prove=prove_here)
        updater = Updater("edge-1", Memory(self.folder, "default"), steps, sign, lambda: self.now_ms)
        updater.on_change = lambda: self.seen.append(updater.update)
        return updater

    def live(self, scenario: Callable[[Updater], Awaitable[T]]) -> T:
        """One life of the agent: boot, act out the scenario, die without a farewell."""

        async def life() -> T:
            outbox = Outbox.open(self.folder / "outbox.sqlite", 2**20)
            updater = self.boot(outbox)
            await updater.serve()
            running = asyncio.create_task(updater.run())
            acting = asyncio.ensure_future(scenario(updater))
            await asyncio.wait({running, acting}, return_when=asyncio.FIRST_COMPLETED)
            if running.done():
                running.result()
            running.cancel()
            await asyncio.wait({running})
            outbox.close()
            return acting.result()

        return asyncio.run(life())

    def settle(self, *targets: Target) -> Updater:
        """A life in which these are desired, one after the other has ended."""

        async def scenario(updater: Updater) -> Updater:
            for target in targets:
                updater.desire(target)
                await ended(updater, target.generation)
            return updater

        return self.live(scenario)


async def prove_here(
    *, digest: bytes, manifest: bytes, artifact: bytes, variant: str, model: Path, timeout_s: float
) -> Proof:
    """What the child process does, in a thread of this one."""
    del timeout_s
    answer = await asyncio.to_thread(trial.run, Manifest.FromString(manifest), model, variant)
    if answer["problem"]:
        raise NotProved(answer["problem"])
    return Proof(digest, artifact, variant, bytes.fromhex(answer["golden_outputs"]))


async def ended(updater: Updater, generation: int) -> None:
    await until(lambda: updater.update.generation == generation and updater.update.state.is_final)


async def until(holds: Callable[[], bool]) -> None:
    while not holds():  # noqa: ASYNC110 - the state is polled as a person would look at it
        await asyncio.sleep(0.005)


def sign(purpose: str, payload: bytes) -> Signed:
    return envelope.sign(purpose, payload, KEY)


def receipt(update: Update) -> report_pb2.Receipt:
    keys = {envelope.key_id(KEY.public_key()): KEY.public_key()}
    return report_pb2.Receipt.FromString(envelope.verify(envelope.RECEIPT, envelope.parse(update.receipt), keys))


def target(generation: int, manifest: bytes, version: int = 1, model: str = "tiny") -> Target:
    expires_ms = NOW_MS + 1_000_000
    return Target("default", model, version, manifest, generation, NOW_MS - 1000, expires_ms, rollout="")


GOOD = [tiny_models.int8(tiny_models.weights() * scale) for scale in (1.0, 0.9, 0.8)]
BAD = tiny_models.int8(tiny_models.weights(shift=1))


@pytest.fixture
def device(tmp_path: Path) -> Device:
    return Device(tmp_path)


def good(device: Device, version: int = 1) -> bytes:
    """The digest of a good model's manifest."""
    file = GOOD[version - 1]
    return device.shelf.put(tiny_models.manifest({"int8": file}, version=version), file)


def bad(device: Device, version: int) -> bytes:
    manifest = tiny_models.manifest({"int8": BAD}, version=version, judged_by={"int8": GOOD[0]})
    manifest.variants[0].artifact.CopyFrom(tiny_models.artifact(BAD))
    return device.shelf.put(manifest, BAD)


def test_a_good_model_is_committed_and_serves_with_a_receipt_of_its_outputs(device: Device) -> None:
    digest = good(device)
    updater = device.settle(target(1, digest))
    assert updater.running == Running("tiny", 1, digest)
    proof = receipt(updater.update)
    assert (proof.outcome, proof.generation, proof.manifest) == (report_pb2.OUTCOME_COMMITTED, 1, digest)
    assert proof.artifact == hashlib.sha256(GOOD[0]).digest()
    assert len(proof.golden_outputs) == 32


def test_the_states_are_gone_through_in_order(device: Device) -> None:
    device.settle(target(1, good(device)))
    order = list(dict.fromkeys(update.state for update in device.seen))
    assert order == [
        State.IDLE, State.DOWNLOADING, State.VERIFYING, State.STAGED, State.TRIAL, State.COMMITTED,
    ]  # fmt: skip


def test_a_model_that_answers_wrongly_is_refused_and_the_former_serves_on(device: Device) -> None:
    first = good(device)
    updater = device.settle(target(1, first), target(2, bad(device, 2), version=2))
    assert (updater.update.state, updater.running) == (State.REFUSED, Running("tiny", 1, first))
    refusal = receipt(updater.update)
    assert refusal.outcome == report_pb2.OUTCOME_REFUSED
    assert refusal.reason.startswith("golden vectors: 4 of 4 wrong")


def test_a_model_that_can_never_be_had_is_refused(device: Device) -> None:
    digest = good(device)
    device.shelf.fault = Rejected("unpacks to more than its manifest promises")
    assert receipt(device.settle(target(1, digest)).update).reason == "unpacks to more than its manifest promises"


def test_a_deployment_whose_manifest_is_of_another_version_is_refused(device: Device) -> None:
    updater = device.settle(target(1, good(device), version=9))
    assert "tiny version 9" in receipt(updater.update).reason


def test_a_manifest_without_a_variant_for_this_device_is_refused(device: Device) -> None:
    manifest = tiny_models.manifest({"int8": GOOD[0]})
    manifest.variants[0].name = "float16"
    updater = device.settle(target(1, device.shelf.put(manifest)))
    assert "no variant can be run here: the manifest has 'float16'" in receipt(updater.update).reason


def test_what_runs_already_is_acknowledged_without_being_fetched_again(device: Device) -> None:
    digest = good(device)
    device.settle(target(1, digest))
    device.shelf.fault = NotDelivered("nobody publishes it any more")
    updater = device.settle(target(2, digest))
    proof = receipt(updater.update)
    assert (proof.outcome, proof.generation) == (report_pb2.OUTCOME_COMMITTED, 2)
    assert len(proof.golden_outputs) == 32


def test_going_back_after_a_refusal_is_acknowledged_at_once(device: Device) -> None:
    first = good(device)
    device.settle(target(1, first), target(2, bad(device, 2), version=2))
    device.shelf.fault = NotDelivered("nobody publishes it any more")
    updater = device.settle(target(3, first))
    assert (updater.update.state, updater.running) == (State.COMMITTED, Running("tiny", 1, first))


def test_the_version_before_is_still_on_the_device(device: Device) -> None:
    first = good(device)
    device.settle(target(1, first), target(2, good(device, 2), version=2))
    device.shelf.fault = NotDelivered("nobody publishes it any more")
    updater = device.settle(target(3, first))
    assert (updater.update.state, updater.running) == (State.COMMITTED, Running("tiny", 1, first))


def test_what_runs_is_proved_again_where_its_proof_is_forgotten(device: Device) -> None:
    digest = good(device)
    device.settle(target(1, digest))
    Memory(device.folder, "default").path.unlink()
    updater = device.settle(target(2, digest))
    assert updater.update.state is State.COMMITTED
    assert len(receipt(updater.update).golden_outputs) == 32
    assert len(device.shelf.fetched) == 1


def test_what_lies_here_may_spare_the_next_model_its_transfer(device: Device) -> None:
    device.settle(target(1, good(device)), target(2, good(device, 2), version=2), target(3, bad(device, 3), version=3))
    one, two = (hashlib.sha256(file).digest() for file in GOOD[:2])
    assert device.shelf.held == [[], [one], sorted([one, two])]


def test_an_empty_manifest_takes_the_model_out_of_use_for_good(device: Device) -> None:
    device.settle(target(1, good(device)))
    updater = device.settle(target(2, b"", version=0, model=""))
    assert (updater.update.state, updater.running) == (State.COMMITTED, None)
    assert receipt(updater.update).manifest == b""
    assert device.settle().running is None


def test_a_committed_model_serves_from_the_start_whatever_the_broker_does(device: Device) -> None:
    digest = good(device)
    before = device.settle(target(1, digest)).update
    device.shelf.stuck = True
    after = device.settle()
    assert (after.running, after.update) == (Running("tiny", 1, digest), before)


@pytest.mark.parametrize("state", [State.DOWNLOADING, State.VERIFYING, State.STAGED, State.TRIAL])
def test_an_agent_killed_in_any_state_serves_the_former_model_and_then_finishes(device: Device, state: State) -> None:
    first, second = good(device), good(device, 2)
    device.settle(target(1, first))

    async def killed(updater: Updater) -> None:
        updater.desire(target(2, second, version=2))
        await until(lambda: any(update.state is state and update.generation == 2 for update in device.seen))

    async def served(updater: Updater) -> tuple[Running | None, Running | None]:
        at_first = updater.running
        await ended(updater, 2)
        return at_first, updater.running

    device.live(killed)
    at_first, at_last = device.live(served)
    assert at_first in {Running("tiny", 1, first), Running("tiny", 2, second)}
    assert at_last == Running("tiny", 2, second)


def test_a_passing_problem_is_shown_and_outlived(device: Device) -> None:
    digest = good(device)
    device.shelf.fault = NotDelivered("2 chunks have not come")

    async def scenario(updater: Updater) -> str:
        updater.desire(target(1, digest))
        await until(lambda: bool(updater.update.reason))
        reason, device.shelf.fault = updater.update.reason, None
        await ended(updater, 1)
        return reason

    assert device.live(scenario) == "2 chunks have not come"
    assert device.seen[-1].state is State.COMMITTED


def test_a_newer_generation_takes_the_place_of_one_at_work(device: Device) -> None:
    first, second = good(device), good(device, 2)
    device.shelf.stuck = True

    async def scenario(updater: Updater) -> None:
        updater.desire(target(1, first))
        await until(lambda: updater.update.generation == 1)
        device.shelf.stuck = False
        updater.desire(target(3, second, version=2))
        await ended(updater, 3)

    device.live(scenario)
    assert {update.generation for update in device.seen if update.receipt} == {3}


@pytest.mark.parametrize("generation", [0, 1, 2])
def test_an_old_generation_is_turned_away_across_a_restart(device: Device, generation: int) -> None:
    first, second = good(device), good(device, 2)
    device.settle(target(2, first))

    async def scenario(updater: Updater) -> None:
        updater.desire(target(generation, second, version=2))

    with pytest.raises(deployment.NotForUs):
        device.live(scenario)


def test_an_expired_deployment_is_not_started_and_the_device_says_why(device: Device) -> None:
    digest = good(device)
    device.now_ms = NOW_MS + 2_000_000

    async def scenario(updater: Updater) -> str:
        with pytest.raises(deployment.Expired):
            updater.desire(target(1, digest))
        return updater.notice

    assert "expired" in device.live(scenario)
    assert device.seen[-1].state is State.IDLE


def test_a_deployment_that_was_signed_anew_is_carried_out_after_its_expired_copy(device: Device) -> None:
    digest = good(device)

    async def scenario(updater: Updater) -> str:
        device.now_ms = NOW_MS + 2_000_000
        with pytest.raises(deployment.Expired):
            updater.desire(target(1, digest))
        device.now_ms = NOW_MS
        updater.desire(target(1, digest))
        await ended(updater, 1)
        return updater.notice

    assert device.live(scenario) == ""
    assert device.seen[-1].state is State.COMMITTED


def test_a_full_disk_holds_the_update_up_until_there_is_room(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    digest = good(device)
    full = [True]
    save = Memory.save

    def save_if_room(memory: Memory, update: Update) -> None:
        if full[0]:
            raise OSError(28, "No space left on device")
        save(memory, update)

    monkeypatch.setattr(Memory, "save", save_if_room)

    async def scenario(updater: Updater) -> str:
        updater.desire(target(1, digest))
        await until(lambda: bool(updater.notice))
        notice, full[0] = updater.notice, False
        await ended(updater, 1)
        return notice

    assert "No space left" in device.live(scenario)
    assert device.seen[-1].state is State.COMMITTED


def test_a_damaged_memory_is_set_aside_and_the_committed_model_serves_on(device: Device) -> None:
    digest = good(device)
    device.settle(target(1, digest))
    memory = Memory(device.folder, "default").path
    memory.write_bytes(b"{")
    updater = device.settle()
    assert (updater.update, updater.running) == (Update(), Running("tiny", 1, digest))
    assert memory.with_name(memory.name + ".damaged").exists()


def rot(device: Device) -> None:
    for file in (device.folder / "models").rglob("*.tflite"):
        file.write_bytes(b"rot")


def test_a_committed_model_that_rots_on_the_disk_is_not_used_and_the_device_says_so(device: Device) -> None:
    device.settle(target(1, good(device)))
    rot(device)
    device.shelf.fault = NotDelivered("manifest has not come")

    async def scenario(updater: Updater) -> Updater:
        assert "no committed model can be used" in updater.notice
        await until(lambda: updater.update.attempts > 0)
        return updater

    updater = device.live(scenario)
    assert updater.running is None
    assert any("damaged on this device's disk: it is fetched again" in update.reason for update in device.seen)


@pytest.mark.parametrize("versions", [1, 2])
def test_a_committed_model_that_rots_in_every_place_is_fetched_again_by_itself(device: Device, versions: int) -> None:
    digests = [good(device, number) for number in range(1, versions + 1)]
    device.settle(*(target(number, digest, number) for number, digest in enumerate(digests, 1)))
    rot(device)

    async def scenario(updater: Updater) -> Updater:
        await until(lambda: updater.update.state is State.COMMITTED and updater.running is not None)
        return updater

    updater = device.live(scenario)
    assert updater.running == Running("tiny", versions, digests[-1])
    assert receipt(updater.update).generation == versions


def test_a_model_that_rots_is_fetched_again_while_the_former_serves(device: Device) -> None:
    first, second = good(device), good(device, 2)
    device.settle(target(1, first), target(2, second, version=2))
    (device.folder / "models" / "default" / "b" / "model.tflite").write_bytes(b"rot")
    device.shelf.stuck = True

    async def scenario(updater: Updater) -> Updater:
        await until(lambda: updater.update.state is State.DOWNLOADING)
        assert updater.running == Running("tiny", 1, first)
        device.shelf.stuck = False
        updater.desire(target(3, second, version=2))
        await ended(updater, 3)
        return updater

    assert device.live(scenario).running == Running("tiny", 2, second)


def test_with_a_damaged_memory_an_old_generation_is_still_refused_and_the_lost_one_taken_again(device: Device) -> None:
    first, second = good(device), good(device, 2)
    device.settle(target(1, first), target(2, second, version=2))
    Memory(device.folder, "default").path.write_bytes(b"{")

    async def scenario(updater: Updater) -> Updater:
        with pytest.raises(deployment.NotForUs, match="generation 1 is not newer"):
            updater.desire(target(1, first))
        updater.desire(target(2, second, version=2))
        await ended(updater, 2)
        return updater

    assert device.live(scenario).update.state is State.COMMITTED


@pytest.mark.parametrize(
    ("requires", "reason"),
    [
        (Requirements(architectures=["riscv64"]), "made for riscv64"),
        (Requirements(agent_version="1.3"), "needs agent 1.3"),
        (
            Requirements(operators=[VariantOperators(variant="int8", operators=["LSTM"])]),
            "interpreter does not know LSTM",
        ),
    ],
)
def test_a_version_for_other_devices_is_refused_before_its_artifact_is_fetched(
    device: Device, requires: Requirements, reason: str
) -> None:
    manifest = tiny_models.manifest({"int8": GOOD[0]})
    manifest.requirements.CopyFrom(requires)
    updater = device.settle(target(1, device.shelf.put(manifest, GOOD[0])))
    assert (updater.update.state, device.shelf.fetched) == (State.REFUSED, [])
    assert updater.update.reason.startswith("incompatible: ")
    assert reason in updater.update.reason


def test_what_metadata_lists_otherwise_is_refused_and_what_it_does_not_list_yet_waits(device: Device) -> None:
    digest = good(device)

    async def scenario(updater: Updater) -> None:
        device.shelf.unlisted = NotDelivered("the fleet's metadata does not list tiny version 1")
        updater.desire(target(1, digest))
        await until(lambda: updater.update.attempts > 0)
        assert "does not list tiny version 1" in updater.update.reason
        assert device.shelf.fetched == []
        device.shelf.unlisted = None
        await ended(updater, 1)
        device.shelf.unlisted = Rejected("another manifest")
        updater.desire(target(2, good(device, 2), version=2))
        await ended(updater, 2)
        assert (updater.update.state, updater.update.reason) == (State.REFUSED, "another manifest")
        assert updater.running == Running("tiny", 1, digest)

    device.live(scenario)


def test_a_version_that_lies_on_the_disk_is_run_again_only_if_metadata_still_lists_it(device: Device) -> None:
    first, second = good(device), good(device, 2)
    device.settle(target(1, first), target(2, second, version=2))
    device.shelf.unlisted = Rejected("another manifest")
    updater = device.settle(target(3, first))
    assert (updater.update.state, updater.running) == (State.REFUSED, Running("tiny", 2, second))
