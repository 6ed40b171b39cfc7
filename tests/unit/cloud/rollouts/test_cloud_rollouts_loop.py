"""The controller's loop, seen from the devices and from the database."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from small_fleet import Catalogue, Device, World, manifest_of
from sqlalchemy import event

from cloud.foundation.database import Database
from cloud.registry.entities import UnknownModel
from cloud.rollouts import store
from cloud.rollouts.entities import (
    Conflict,
    Gates,
    IllegalEvent,
    LeaseLost,
    MemberState,
    NoTargets,
    Rollout,
    State,
    UnknownRollout,
)
from cloud.rollouts.rules import LEASE_MS
from cloud.rollouts.service import Rollouts
from protos.kit import envelope
from protos.v1.deployment_pb2 import Deployment


class Killed(BaseException):
    """The process ends here."""


@pytest.fixture
def world(database_url: str) -> Iterator[World]:
    world = World(database_url)
    yield world
    world.database.close()


def state_of(world: World, rollout: Rollout, device: str) -> MemberState:
    return world.rollouts.get(rollout.id).members[device].state


def test_a_version_goes_to_the_canary_and_then_to_the_rest(world: World) -> None:
    rollout = world.create(1)
    assert [row.device for row in world.fleet.all_desired()] == ["edge-1"]
    world.step()
    assert [row.device for row in world.fleet.all_desired()] == ["edge-1"]
    assert world.until_end(rollout).state is State.SUCCEEDED
    assert world.running() == {manifest_of(1)}


def test_a_bad_version_is_seen_by_the_canary_alone_and_everyone_stays(world: World) -> None:
    world.until_end(world.create(1))
    for device in world.devices.values():
        device.refuses.add(manifest_of(2))
    ended = world.until_end(world.create(2))
    assert (ended.state, ended.wave) == (State.FAILED, 0)
    assert "edge-1: golden vector 0 differs" in ended.reason
    world.turns(2)
    assert world.running() == world.desired() == {manifest_of(1)}
    assert {device.name: device.accepted for device in world.devices.values()} == {
        "edge-1": [1, 2, 3],
        **{f"edge-{n}": [1] for n in range(2, 6)},
    }


def test_a_failed_first_version_leaves_devices_without_a_model(world: World) -> None:
    world.devices["edge-2"].refuses.add(manifest_of(1))
    ended = world.until_end(world.create(1))
    assert ended.state is State.FAILED
    world.turns(2)
    assert world.running() == world.desired() == {b""}


def test_an_abort_takes_the_version_back_everywhere(world: World) -> None:
    world.until_end(world.create(1))
    rollout = world.create(2, gates=Gates(soak_s=100))
    world.turns(3)
    assert world.rollouts.abort(rollout.id, world.now_ms).state is State.ABORTED
    world.turns(2)
    assert world.running() == world.desired() == {manifest_of(1)}
    with pytest.raises(IllegalEvent, match="is aborted"):
        world.rollouts.abort(rollout.id, world.now_ms)


def test_a_paused_rollout_waits(world: World) -> None:
    rollout = world.create(1)
    world.rollouts.pause(rollout.id, world.now_ms)
    world.turns(5)
    assert len(world.fleet.all_desired()) == 1
    world.rollouts.resume(rollout.id, world.now_ms)
    assert world.until_end(rollout).state is State.SUCCEEDED


def test_a_sleeping_device_gets_the_version_when_it_returns(world: World) -> None:
    world.devices["edge-4"].awake = False
    rollout = world.create(1, gates=Gates(lease_s=5))
    assert world.until_end(rollout).state is State.SUCCEEDED
    assert state_of(world, rollout, "edge-4") is MemberState.UNREACHABLE
    world.devices["edge-4"].awake = True
    world.turns(3)
    assert state_of(world, rollout, "edge-4") is MemberState.SUCCEEDED
    assert world.devices["edge-4"].running == manifest_of(1)


def test_a_device_that_stays_silent_about_it_fails_the_rollout(world: World) -> None:
    world.devices["edge-3"].mute = True
    ended = world.until_end(world.create(1, gates=Gates(timeout_s=20)))
    assert ended.state is State.FAILED
    assert "edge-3: no answer within 20 s" in ended.reason


def test_a_device_that_joins_is_taken_in(world: World) -> None:
    rollout = world.create(1, gates=Gates(soak_s=5))
    world.devices["edge-9"] = Device("edge-9", "a")
    assert world.until_end(rollout).state is State.SUCCEEDED
    assert state_of(world, rollout, "edge-9") is MemberState.SUCCEEDED


def test_only_devices_with_the_label_get_the_version(world: World) -> None:
    rollout = world.create(1, site="a")
    world.devices["edge-9"] = Device("edge-9", "b")
    assert set(world.until_end(rollout).members) == {"edge-2", "edge-4"}
    assert {row.device for row in world.fleet.all_desired()} == {"edge-2", "edge-4"}


def test_a_stuck_rollout_does_not_block_the_next_one(world: World) -> None:
    world.devices["edge-1"].mute = True
    stuck = world.create(1, gates=Gates(timeout_s=10_000))
    world.turns(3)
    world.devices["edge-1"].mute = False
    assert world.until_end(world.create(2)).state is State.SUCCEEDED
    world.turns(2)
    assert world.rollouts.get(stuck.id).state is State.ABORTED
    assert {member.state for member in world.rollouts.get(stuck.id).members.values()} == {MemberState.SUPERSEDED}
    assert world.running() == world.desired() == {manifest_of(2)}


def test_a_failed_newer_rollout_does_not_give_back_what_an_older_one_never_proved(world: World) -> None:
    world.until_end(world.create(1))
    world.devices["edge-1"].mute = True
    world.create(2, gates=Gates(timeout_s=10_000))
    world.turns(2)
    world.devices["edge-1"].mute = False
    world.devices["edge-1"].refuses.add(manifest_of(3))
    assert world.until_end(world.create(3)).state is State.FAILED
    world.turns(2)
    assert world.desired() == world.running() == {manifest_of(1)}


def test_aborting_an_older_rollout_leaves_what_a_newer_one_gave(world: World) -> None:
    world.until_end(world.create(1))
    older = world.create(2, "2", "rest", gates=Gates(soak_s=1000))
    world.turns(3)
    newer = world.create(3, "1", "rest", gates=Gates(soak_s=10))
    world.turns(3)
    world.rollouts.abort(older.id, world.now_ms)
    desired = {row.device: row.version for row in world.fleet.all_desired()}
    assert desired == {"edge-1": 3, "edge-2": 1, "edge-3": 1, "edge-4": 1, "edge-5": 1}
    assert world.until_end(newer).state is State.SUCCEEDED
    assert world.desired() == {manifest_of(3)}


def test_aborting_an_older_rollout_takes_nothing_from_a_newer_one_that_has_ended(world: World) -> None:
    world.until_end(world.create(1))
    older = world.create(2, "2", "rest", gates=Gates(soak_s=1000))
    world.turns(3)
    world.until_end(world.create(3))
    world.rollouts.abort(older.id, world.now_ms)
    assert world.desired() == {manifest_of(3)}


def test_aborting_a_rollout_leaves_the_same_version_to_a_newer_one(world: World) -> None:
    older = world.create(1, gates=Gates(soak_s=1000))
    world.turns(3)
    newer = world.create(1)
    world.turns(1)
    world.rollouts.abort(older.id, world.now_ms)
    assert world.until_end(newer).state is State.SUCCEEDED
    assert world.running() == world.desired() == {manifest_of(1)}


def test_when_both_rollouts_fail_nobody_is_left_on_either_version(world: World) -> None:
    world.until_end(world.create(1))
    older = world.create(2, gates=Gates(soak_s=1000))
    world.turns(3)
    world.devices["edge-1"].refuses.add(manifest_of(3))
    world.until_end(world.create(3))
    world.turns(2)
    assert world.devices["edge-1"].running == manifest_of(2)
    if world.rollouts.get(older.id).state is State.RUNNING:
        world.rollouts.abort(older.id, world.now_ms)
    world.turns(3)
    assert world.running() == world.desired() == {manifest_of(1)}


def test_what_cannot_be_rolled_out_is_refused_with_a_reason(world: World) -> None:
    with pytest.raises(UnknownModel):
        world.create(99)
    with pytest.raises(NoTargets, match="there are site=a, site=b"):
        world.create(1, site="c")
    with pytest.raises(UnknownRollout, match="r-0"):
        world.rollouts.get("r-0")
    assert world.rollouts.list() == []


def test_a_fleet_without_devices_has_no_targets(database_url: str) -> None:
    with pytest.raises(NoTargets, match="no device has reported yet"):
        World(database_url, devices=0).create(1)


def test_a_step_without_news_writes_nothing(world: World) -> None:
    rollout = world.create(1)
    world.until_end(rollout)
    revision = world.rollouts.get(rollout.id).revision
    assert world.rollouts.step(world.now_ms) is False
    assert world.rollouts.get(rollout.id).revision == revision


def test_the_list_shows_the_same_tallies_as_the_members(world: World) -> None:
    rollout = world.until_end(world.create(1))
    (overview,) = world.rollouts.list()
    assert [dict(tally) for tally in overview.tallies] == [{MemberState.SUCCEEDED: 1}, {MemberState.SUCCEEDED: 4}]
    assert overview.rollout.id == rollout.id


def test_only_the_holder_of_the_lease_steps(world: World) -> None:
    one, two = world.new_process(), world.new_process()
    lease = one.lead("one", world.now_ms)
    assert lease is not None
    assert two.lead("two", world.now_ms) is None
    world.create(1)
    world.devices_turn()
    world.now_ms += LEASE_MS
    taken = two.lead("two", world.now_ms)
    assert taken is not None
    with pytest.raises(LeaseLost, match="two"):
        one.step(world.now_ms, lease)
    assert two.step(world.now_ms, taken)
    two.resign(taken)
    assert one.lead("one", world.now_ms) is not None


def test_a_resignation_that_comes_too_late_takes_nobodys_lease(world: World) -> None:
    lease = world.rollouts.lead("one", world.now_ms)
    assert lease is not None
    world.now_ms += LEASE_MS
    assert world.rollouts.lead("two", world.now_ms)
    world.rollouts.resign(lease)
    assert world.rollouts.lead("three", world.now_ms) is None


def test_of_two_writers_of_one_rollout_the_second_is_told(world: World) -> None:
    rollout = world.create(1)
    world.rollouts.pause(rollout.id, world.now_ms)
    with world.database.transaction() as connection, pytest.raises(Conflict, match="meanwhile"):
        store.save(connection, rollout, replace(rollout, state=State.ABORTED))


def test_deployments_are_signed_anew_at_half_their_life(world: World) -> None:
    world.until_end(world.create(1))
    before = {row.device: row for row in world.fleet.all_desired()}
    assert world.rollouts.renew(world.now_ms) == 0
    world.now_ms += 16 * 24 * 3600 * 1000
    assert world.rollouts.renew(world.now_ms) == 5
    assert world.rollouts.renew(world.now_ms) == 0
    for row in world.fleet.all_desired():
        assert (row.generation, row.published) == (before[row.device].generation, False)
        world.devices[row.device].read(row.signed, world.now_ms)
        renewed = Deployment.FromString(envelope.parse(row.signed).payload)
        assert renewed.expires_ms == world.now_ms + 30 * 24 * 3600 * 1000


def test_deployments_that_a_former_director_key_signed_are_signed_anew_at_once(world: World) -> None:
    world.until_end(world.create(1))
    key = Ed25519PrivateKey.generate()
    rotated = Rollouts(
        world.database, Catalogue(), world.fleet, lambda purpose, data: envelope.sign(purpose, data, key), 30
    )
    assert [rotated.renew(world.now_ms + 1), rotated.renew(world.now_ms + 2)] == [5, 0]
    keys = {envelope.key_id(key.public_key()): key.public_key()}
    for row in world.fleet.all_desired():
        envelope.verify(envelope.DEPLOYMENT, envelope.parse(row.signed), keys)


@contextmanager
def killing(database: Database, at: int) -> Iterator[None]:
    """End the process before its statement `at` (from 1), or before the commit that follows the last one."""
    seen = 0

    def statement(*_: object) -> None:
        nonlocal seen
        seen += 1
        if seen == at:
            raise Killed

    listened = [(database._engine, "before_cursor_execute"), (database._engine, "commit")]
    for target, name in listened:
        event.listen(target, name, statement)
    try:
        yield
    finally:
        for target, name in listened:
            event.remove(target, name, statement)


def killed_everywhere(world: World, act: Callable[[], object]) -> int:
    """Do `act` by one new process after the other, each killed one statement later, until one gets through."""
    for at in itertools.count(1):
        try:
            with killing(world.database, at):
                act()
        except Killed:
            world.rollouts = world.new_process()
        else:
            return at
    raise AssertionError


def story(world: World, act: Callable[[Callable[[], object]], object]) -> dict[str, list[tuple[object, ...]]]:
    """Two good rollouts, a bad one, one that is aborted; whatever the cloud does is done by `act`."""
    world.step = lambda: act(lambda: world.rollouts.step(world.now_ms))
    world.devices["edge-4"].refuses.add(manifest_of(3))
    for version, name in enumerate(("r-a", "r-b", "r-c", "r-d"), 1):
        world.next_id = name
        act(lambda version=version: world.create(version, "1", "40%", "rest"))  # type: ignore[misc]
        world.turns(3 if name == "r-d" else 8)
    act(lambda: world.rollouts.abort("r-d", world.now_ms))
    world.turns(2)
    return world.dump()


def test_killing_the_controller_at_any_statement_skips_nothing_and_repeats_nothing(
    new_database: Callable[[], str],
) -> None:
    expected = story(World(new_database()), lambda act: act())
    world = World(new_database())
    kills = []
    assert story(world, lambda act: kills.append(killed_everywhere(world, act) - 1)) == expected
    assert sum(kills) > 200
    for device in world.devices.values():
        assert device.accepted == sorted(set(device.accepted))
    assert [row[1:3] for row in expected["rollouts"]] == [
        ("succeeded", ""),
        ("succeeded", ""),
        ("failed", expected["rollouts"][2][2]),
        ("aborted", "aborted on request"),
    ]
    assert world.desired() == world.running() == {manifest_of(2)}
