"""A person on the device goes back to the model that was committed before."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge.models.entities import WrongStep
from edge.models.service import ModelStore
from edge.update.entities import Running, State
from edge.update.service import Updater
from protos.v1 import report_pb2
from tests.unit.edge.update.test_edge_update_service import Device, ended, good, receipt, target, until


@pytest.fixture
def device(tmp_path: Path) -> Device:
    return Device(tmp_path)


def updated_twice(device: Device) -> tuple[bytes, bytes]:
    first, second = good(device), good(device, 2)
    device.settle(target(1, first), target(2, second, version=2))
    return first, second


async def recalled(updater: Updater) -> Updater:
    await updater.recall()
    return updater


def test_the_former_model_answers_again_and_a_signed_receipt_says_so(device: Device) -> None:
    first, second = updated_twice(device)
    updater = device.live(recalled)
    assert updater.running == Running("tiny", 1, first)
    assert (updater.update.state, updater.update.generation) == (State.ROLLED_BACK, 2)
    assert updater.update.reason == "rolled back by a person on the device"
    told = receipt(updater.update)
    assert (told.outcome, told.manifest) == (report_pb2.OUTCOME_ROLLED_BACK, second)


def test_it_holds_over_a_restart(device: Device) -> None:
    first, _ = updated_twice(device)
    device.live(recalled)
    updater = device.settle()
    assert (updater.running, updater.update.state) == (Running("tiny", 1, first), State.ROLLED_BACK)


def test_an_end_of_the_agent_between_journal_and_memory_is_made_good_at_the_next_start(device: Device) -> None:
    first, _ = updated_twice(device)
    ModelStore.open(device.folder / "models", "default").recall()

    async def scenario(updater: Updater) -> Updater:
        await until(lambda: updater.update.state is State.ROLLED_BACK)
        return updater

    updater = device.live(scenario)
    assert updater.running == Running("tiny", 1, first)
    assert receipt(updater.update).outcome == report_pb2.OUTCOME_ROLLED_BACK


def test_a_later_generation_takes_over_again_even_with_the_same_model(device: Device) -> None:
    _, second = updated_twice(device)
    device.live(recalled)
    fetched = len(device.shelf.fetched)
    updater = device.settle(target(3, second, version=2))
    assert (updater.running, updater.update.state) == (Running("tiny", 2, second), State.COMMITTED)
    assert len(device.shelf.fetched) == fetched
    assert device.settle().update.state is State.COMMITTED


def test_the_same_generation_does_not_bring_the_model_back(device: Device) -> None:
    _, second = updated_twice(device)

    async def scenario(updater: Updater) -> None:
        await updater.recall()
        with pytest.raises(Exception, match="not newer"):
            updater.desire(target(2, second, version=2))

    device.live(scenario)


def test_there_is_one_way_back_only(device: Device) -> None:
    first, _ = updated_twice(device)

    async def scenario(updater: Updater) -> Updater:
        await updater.recall()
        with pytest.raises(WrongStep, match="committed before"):
            await updater.recall()
        return updater

    assert device.live(scenario).running == Running("tiny", 1, first)


def test_without_a_former_model_nothing_changes(device: Device) -> None:
    digest = good(device)
    device.settle(target(1, digest))

    async def scenario(updater: Updater) -> Updater:
        with pytest.raises(WrongStep):
            await updater.recall()
        return updater

    updater = device.live(scenario)
    assert (updater.running, updater.update.state) == (Running("tiny", 1, digest), State.COMMITTED)


def test_an_update_on_its_way_goes_on_after_it(device: Device) -> None:
    first, _ = updated_twice(device)
    third = good(device, 3)
    device.shelf.stuck = True

    async def scenario(updater: Updater) -> Updater:
        updater.desire(target(3, third, version=3))
        await until(lambda: updater.update.state is State.DOWNLOADING)
        await updater.recall()
        assert (updater.running, updater.update.generation) == (Running("tiny", 1, first), 3)
        device.shelf.stuck = False
        updater.desire(target(4, third, version=3))
        await ended(updater, 4)
        return updater

    assert device.live(scenario).running == Running("tiny", 3, third)


def test_a_model_on_trial_is_given_up_for_the_committed_one(device: Device) -> None:
    first, second = good(device), good(device, 2)
    device.settle(target(1, first))
    device.trial_s = 600.0

    async def scenario(updater: Updater) -> Updater:
        updater.desire(target(2, second, version=2))
        await until(lambda: updater.update.state is State.TRIAL)
        await updater.recall()
        return updater

    updater = device.live(scenario)
    assert (updater.running, updater.update.state) == (Running("tiny", 1, first), State.ROLLED_BACK)
