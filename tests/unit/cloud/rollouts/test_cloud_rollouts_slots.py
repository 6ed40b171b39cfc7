"""Rollouts to one of several slots of a device: each slot has deployments of its own."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from small_fleet import Catalogue, manifest_of, sign

from cloud.fleet.service import Fleet
from cloud.foundation.database import Database
from cloud.rollouts.entities import MemberState, NoTargets, Request, Rollout, State
from cloud.rollouts.service import Rollouts
from protos.kit import envelope
from protos.topics import shadow_slot
from protos.v1.report_pb2 import OUTCOME_COMMITTED, UPDATE_STATE_COMMITTED, Receipt, Report, SlotState

NOW_MS = 1_800_000_000_000
KEYS = {name: Ed25519PrivateKey.generate() for name in ("edge-1", "edge-2", "edge-3")}


class SmallCloud:
    """A database, a fleet, and rollouts that are numbered."""

    def __init__(self, database_url: str) -> None:
        database = Database(database_url)
        database.create()
        self.fleet = Fleet(database)
        self._made = 0
        self.rollouts = Rollouts(database, Catalogue(), self.fleet, sign, make_id=self._next_id)
        self._now_ms = NOW_MS

    def _next_id(self) -> str:
        self._made += 1
        return f"r-{self._made}"

    def now_ms(self) -> int:
        self._now_ms += 1000
        return self._now_ms

    def report(self, device: str, *slots: str, proves: dict[str, tuple[int, int]] | None = None) -> None:
        """The device has these slots; proves: for a slot the generation and the version that it committed."""
        key, now_ms = KEYS[device], self.now_ms()
        states = []
        for slot in slots:
            state = SlotState(slot=slot)
            if slot in (proves or {}):
                generation, version = (proves or {})[slot]
                receipt = Receipt(
                    device=device,
                    slot=slot,
                    generation=generation,
                    manifest=manifest_of(version),
                    outcome=OUTCOME_COMMITTED,
                )
                state = SlotState(slot=slot, generation=generation, state=UPDATE_STATE_COMMITTED)
                state.receipt.CopyFrom(envelope.sign(envelope.RECEIPT, receipt.SerializeToString(), key))
            states.append(state)
        public_key = key.public_key().public_bytes_raw()
        assert (
            self.fleet.observe(Report(device=device, public_key=public_key, slots=states, reported_ms=now_ms), now_ms)
            == []
        )
        self.fleet.presence(device, online=True, now_ms=now_ms)

    def create(self, version: int, slot: str) -> Rollout:
        return self.rollouts.create(Request("digits", version, ("1", "rest"), slot=slot), self.now_ms())

    def step(self) -> None:
        self.rollouts.step(self.now_ms())


@pytest.fixture
def cloud(database_url: str) -> SmallCloud:
    made = SmallCloud(database_url)
    made.report("edge-1", "default", "doors")
    made.report("edge-2", "default")
    return made


def test_only_devices_that_have_the_slot_are_given_the_version(cloud: SmallCloud) -> None:
    rollout = cloud.create(1, "doors")
    assert list(rollout.members) == ["edge-1"]
    doors = cloud.fleet.desired("edge-1", "doors")
    assert doors
    assert (doors.generation, doors.version) == (1, 1)
    assert cloud.fleet.desired("edge-1") is None


def test_no_rollout_goes_to_a_challengers_slot(cloud: SmallCloud) -> None:
    cloud.report("edge-1", "default", shadow_slot("default"))
    with pytest.raises(NoTargets, match=r"there are default$"):
        cloud.create(1, shadow_slot("default"))


def test_a_slot_that_no_device_has_is_told_with_those_there_are(cloud: SmallCloud) -> None:
    with pytest.raises(NoTargets, match=r"no device that matches has a slot 'window'.*there are default, doors"):
        cloud.create(1, "window")


def test_rollouts_to_two_slots_of_a_device_do_not_take_each_others_place(cloud: SmallCloud) -> None:
    doors, main = cloud.create(1, "doors"), cloud.create(2, "default")
    cloud.step()
    cloud.report("edge-1", "default", "doors", proves={"doors": (1, 1), "default": (1, 2)})
    cloud.step()
    cloud.report("edge-2", "default", proves={"default": (1, 2)})
    cloud.step()
    for rollout in (doors, main):
        found = cloud.rollouts.get(rollout.id)
        assert found.state is State.SUCCEEDED
        assert {member.state for member in found.members.values()} == {MemberState.SUCCEEDED}


def test_an_aborted_rollout_gives_its_slot_back_and_leaves_the_other_alone(cloud: SmallCloud) -> None:
    cloud.create(2, "default")
    doors = cloud.create(1, "doors")
    cloud.rollouts.abort(doors.id, cloud.now_ms())
    given_back, main = cloud.fleet.desired("edge-1", "doors"), cloud.fleet.desired("edge-1")
    assert given_back
    assert main
    assert (given_back.generation, given_back.manifest) == (2, b"")
    assert (main.generation, main.manifest) == (1, manifest_of(2))


def test_a_device_that_comes_to_have_the_slot_joins(cloud: SmallCloud) -> None:
    rollout = cloud.create(1, "doors")
    cloud.report("edge-3", "default")
    cloud.step()
    assert list(cloud.rollouts.get(rollout.id).members) == ["edge-1"]
    cloud.report("edge-2", "default", "doors")
    cloud.report("edge-3", "default", "doors")
    cloud.step()
    assert sorted(cloud.rollouts.get(rollout.id).members) == ["edge-1", "edge-2", "edge-3"]
