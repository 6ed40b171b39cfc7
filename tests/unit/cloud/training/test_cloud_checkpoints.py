"""A run's checkpoint: the newest whole one of this training, or none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cloud.training.checkpoints import Checkpoint, Checkpoints
from tests.crashes import each_kill

STATE = {"network/a": np.arange(6, dtype=np.float32).reshape(2, 3), "optimizer/iteration": np.array(7, np.int64)}


@pytest.fixture
def checkpoints(tmp_path: Path) -> Checkpoints:
    return Checkpoints(tmp_path / "new" / "folder", "run", "this training")


def test_what_was_saved_last_is_loaded(checkpoints: Checkpoints) -> None:
    checkpoints.save(Checkpoint(1, 0, 0, {"network/a": np.zeros(1)}))
    checkpoints.save(Checkpoint(2, 1, 3, STATE))
    found = checkpoints.load()
    assert found is not None
    assert (found.epochs, found.restarts, found.tries, set(found.state)) == (2, 1, 3, set(STATE))
    for name, value in STATE.items():
        assert found.state[name].dtype == value.dtype
        assert np.array_equal(found.state[name], value)


def test_there_is_none_at_the_beginning_nor_after_the_end(checkpoints: Checkpoints) -> None:
    assert checkpoints.load() is None
    checkpoints.save(Checkpoint(1, 0, 0, STATE))
    checkpoints.remove()
    assert checkpoints.load() is None
    checkpoints.remove()


def test_what_killed_writes_left_goes_with_it_and_that_of_other_runs_stays(checkpoints: Checkpoints) -> None:
    checkpoints.save(Checkpoint(1, 0, 0, STATE))
    left, of_another = (checkpoints.path.with_name(f".{run}.checkpoint.abc.unfinished") for run in ("run", "other"))
    left.touch()
    of_another.touch()
    checkpoints.remove()
    assert list(checkpoints.path.parent.iterdir()) == [of_another]


def test_another_run_and_another_training_do_not_go_on_from_it(checkpoints: Checkpoints) -> None:
    checkpoints.save(Checkpoint(1, 0, 0, STATE))
    folder = checkpoints.path.parent
    assert Checkpoints(folder, "other", "this training").load() is None
    assert Checkpoints(folder, "run", "with another seed").load() is None


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty"])
def test_a_damaged_one_is_none(checkpoints: Checkpoints, damage: str) -> None:
    checkpoints.save(Checkpoint(1, 0, 0, STATE))
    data = bytearray(checkpoints.path.read_bytes())
    if damage == "flipped":
        data[len(data) // 2] ^= 1
    checkpoints.path.write_bytes({"cut": data[: len(data) // 2], "flipped": data, "empty": b""}[damage])
    assert checkpoints.load() is None


@pytest.mark.forks
def test_a_kill_at_any_step_leaves_the_old_one_or_the_new_one(checkpoints: Checkpoints) -> None:
    checkpoints.save(Checkpoint(1, 0, 0, STATE))

    def back() -> None:
        checkpoints.save(Checkpoint(1, 0, 0, STATE))

    for _ in each_kill(back, lambda: checkpoints.save(Checkpoint(2, 0, 0, STATE))):
        found = checkpoints.load()
        assert found is not None
        assert found.epochs in {1, 2}
