import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from edge.models.entities import WrongStep
from edge.models.service import ModelStore
from protos.v1.manifest_pb2 import Artifact, Manifest, Variant
from tests.crashes import each_kill

pytestmark = pytest.mark.forks

OLD, NEW, THIRD = 1, 2, 3


def file_of(version: int) -> bytes:
    return b"model %d" % version * 1000


def payload_of(version: int) -> bytes:
    artifact = Artifact(digest=hashlib.sha256(file_of(version)).digest(), size=len(file_of(version)))
    return Manifest(
        model="digits", version=version, variants=[Variant(name="int8", artifact=artifact)]
    ).SerializeToString(deterministic=True)


def digest_of(version: int) -> bytes:
    return hashlib.sha256(payload_of(version)).digest()


def fetched(tmp_path: Path, version: int) -> Path:
    path = tmp_path / f"fetched-{version}"
    path.write_bytes(file_of(version))
    return path


def opened(tmp_path: Path) -> ModelStore:
    return ModelStore.open(tmp_path / "models", "default")


def take(store: ModelStore, tmp_path: Path, version: int) -> None:
    store.stage(payload_of(version), "int8", fetched(tmp_path, version))
    store.begin_trial()
    store.commit()


def running(store: ModelStore) -> int:
    """The version in use, 0 for none; its bytes are what the manifest says."""
    installed = store.running()
    if installed is None:
        return 0
    version = installed.manifest.version
    assert installed.digest == digest_of(version)
    assert installed.path.read_bytes() == file_of(version)
    return version


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def damage(store: ModelStore) -> None:
    installed = store.running()
    assert installed
    flip(installed.path)


def test_a_new_device_runs_no_model(tmp_path: Path) -> None:
    assert running(opened(tmp_path)) == 0


def test_a_staged_model_is_not_yet_the_devices(tmp_path: Path) -> None:
    store = opened(tmp_path)
    take(store, tmp_path, OLD)
    installed = store.stage(payload_of(NEW), "int8", fetched(tmp_path, NEW))
    assert (installed.digest, installed.variant.name) == (digest_of(NEW), "int8")
    assert installed.path.read_bytes() == file_of(NEW)
    assert running(store) == OLD


def test_a_committed_model_is_there_after_a_restart(tmp_path: Path) -> None:
    store = opened(tmp_path)
    take(store, tmp_path, OLD)
    take(store, tmp_path, NEW)
    assert running(store) == running(opened(tmp_path)) == NEW


def test_the_whole_files_of_both_places_are_offered_to_what_comes_next(tmp_path: Path) -> None:
    store = opened(tmp_path)
    assert store.files() == {}
    take(store, tmp_path, OLD)
    take(store, tmp_path, NEW)
    assert {digest: path.read_bytes() for digest, path in store.files().items()} == {
        hashlib.sha256(file_of(version)).digest(): file_of(version) for version in (OLD, NEW)
    }
    damage(store)
    assert list(store.files()) == [hashlib.sha256(file_of(OLD)).digest()]


def test_going_back_leaves_the_committed_model(tmp_path: Path) -> None:
    store = opened(tmp_path)
    take(store, tmp_path, OLD)
    store.stage(payload_of(NEW), "int8", fetched(tmp_path, NEW))
    store.begin_trial()
    store.roll_back()
    assert running(store) == running(opened(tmp_path)) == OLD
    with pytest.raises(WrongStep):
        store.commit()


def test_a_trial_does_not_outlive_the_process(tmp_path: Path) -> None:
    store = opened(tmp_path)
    take(store, tmp_path, OLD)
    store.stage(payload_of(NEW), "int8", fetched(tmp_path, NEW))
    store.begin_trial()
    again = opened(tmp_path)
    assert running(again) == OLD
    with pytest.raises(WrongStep):
        again.commit()


def test_steps_out_of_order_are_refused_and_change_nothing(tmp_path: Path) -> None:
    store = opened(tmp_path)
    with pytest.raises(WrongStep):
        store.begin_trial()
    with pytest.raises(WrongStep):
        store.commit()
    store.roll_back()
    assert running(store) == 0


def test_a_file_that_is_not_the_manifests_is_not_staged(tmp_path: Path) -> None:
    store = opened(tmp_path)
    take(store, tmp_path, OLD)
    with pytest.raises(WrongStep):
        store.stage(payload_of(NEW), "int8", fetched(tmp_path, THIRD))
    with pytest.raises(WrongStep):
        store.stage(payload_of(NEW), "float32", fetched(tmp_path, NEW))
    assert running(store) == OLD
    assert store.held(digest_of(NEW)) is None


def test_the_model_before_the_last_can_be_taken_again_without_being_fetched(tmp_path: Path) -> None:
    store = opened(tmp_path)
    take(store, tmp_path, OLD)
    take(store, tmp_path, NEW)
    again = opened(tmp_path)
    assert again.held(digest_of(OLD))
    again.begin_trial()
    again.commit()
    assert running(again) == running(opened(tmp_path)) == OLD


def test_what_is_held_is_what_goes_on_trial_wherever_it_lies(tmp_path: Path) -> None:
    store = opened(tmp_path)
    take(store, tmp_path, OLD)
    take(store, tmp_path, NEW)
    for version in (NEW, OLD, NEW):
        store.clear()
        assert running(store) == 0
        assert store.held(digest_of(version))
        staged = store.staged()
        assert staged is not None
        assert staged.digest == digest_of(version)
        store.begin_trial()
        store.commit()
        assert running(store) == version


def test_the_committed_model_itself_may_be_tried_again(tmp_path: Path) -> None:
    store = opened(tmp_path)
    take(store, tmp_path, OLD)
    assert store.held(digest_of(OLD))
    store.begin_trial()
    store.roll_back()
    assert running(store) == OLD


def test_a_cleared_device_runs_no_model_after_a_restart_either(tmp_path: Path) -> None:
    store = opened(tmp_path)
    take(store, tmp_path, OLD)
    take(store, tmp_path, NEW)
    store.clear()
    assert running(store) == running(opened(tmp_path)) == 0


def test_slots_know_nothing_of_each_other(tmp_path: Path) -> None:
    take(opened(tmp_path), tmp_path, OLD)
    assert ModelStore.open(tmp_path / "models", "other").running() is None


@pytest.mark.parametrize("file", ["model.tflite", "manifest.pb"])
def test_a_model_whose_bytes_have_decayed_is_not_used(tmp_path: Path, file: str) -> None:
    store = opened(tmp_path)
    take(store, tmp_path, OLD)
    installed = store.running()
    assert installed
    flip(installed.path.with_name(file))
    assert running(store) == running(opened(tmp_path)) == 0


def test_the_model_before_takes_the_place_of_one_that_has_decayed(tmp_path: Path) -> None:
    store = opened(tmp_path)
    take(store, tmp_path, OLD)
    take(store, tmp_path, NEW)
    damage(store)
    again = opened(tmp_path)
    assert running(again) == OLD
    again.stage(payload_of(THIRD), "int8", fetched(tmp_path, THIRD))
    assert running(again) == running(opened(tmp_path)) == OLD


def test_a_decayed_model_is_never_replaced_by_one_that_was_not_committed(tmp_path: Path) -> None:
    store = opened(tmp_path)
    take(store, tmp_path, OLD)
    take(store, tmp_path, NEW)
    store.stage(payload_of(THIRD), "int8", fetched(tmp_path, THIRD))
    damage(store)
    assert running(store) == running(opened(tmp_path)) == 0


@pytest.mark.parametrize("text", ["", "{", "[]", '{"committed": 3}', '{"places": {"a": {"x": 1}}}'])
def test_a_damaged_journal_means_no_model_and_the_next_one_is_taken(tmp_path: Path, text: str) -> None:
    store = opened(tmp_path)
    take(store, tmp_path, OLD)
    (tmp_path / "models" / "default" / "journal.json").write_text(text)
    again = opened(tmp_path)
    assert running(again) == 0
    take(again, tmp_path, NEW)
    assert running(opened(tmp_path)) == NEW


def test_a_journal_without_the_former_place_is_understood(tmp_path: Path) -> None:
    take(opened(tmp_path), tmp_path, OLD)
    journal = tmp_path / "models" / "default" / "journal.json"
    content = json.loads(journal.read_text())
    del content["former"]
    journal.write_text(json.dumps(content))
    assert running(opened(tmp_path)) == OLD


def do_stage(store: ModelStore, tmp_path: Path) -> None:
    store.stage(payload_of(THIRD), "int8", tmp_path / f"fetched-{THIRD}")


def do_take(store: ModelStore, tmp_path: Path) -> None:
    do_stage(store, tmp_path)
    store.begin_trial()
    store.commit()


def do_try_in_vain(store: ModelStore, tmp_path: Path) -> None:
    do_stage(store, tmp_path)
    store.begin_trial()
    store.roll_back()


def do_take_the_former(store: ModelStore, _: Path) -> None:
    assert store.held(digest_of(OLD))
    store.begin_trial()
    store.commit()


def do_clear(store: ModelStore, _: Path) -> None:
    store.clear()


def do_fall_back(store: ModelStore, _: Path) -> None:
    damage(store)
    store.running()


@pytest.mark.parametrize(
    ("action", "allowed"),
    [
        (do_stage, {NEW}),
        (do_take, {NEW, THIRD}),
        (do_try_in_vain, {NEW}),
        (do_take_the_former, {NEW, OLD}),
        (do_clear, {NEW, 0}),
        (do_fall_back, {NEW, OLD}),
    ],
)
def test_a_kill_at_any_act_leaves_exactly_the_old_or_the_new_model_and_the_device_goes_on(
    tmp_path: Path, action: Callable[[ModelStore, Path], None], allowed: set[int]
) -> None:
    round_ = 0
    folder = tmp_path

    def prepare() -> None:
        nonlocal round_, folder
        round_ += 1
        folder = tmp_path / str(round_)
        folder.mkdir()
        store = opened(folder)
        take(store, folder, OLD)
        take(store, folder, NEW)
        fetched(folder, THIRD)

    for number in each_kill(prepare, lambda: action(opened(folder), folder)):
        again = opened(folder)
        found = running(again)
        assert found in allowed, f"killed before act {number}"
        assert running(opened(folder)) == found, "the same at the next start"
        leftovers = [path for path in (folder / "models" / "default").iterdir() if path.name.startswith(".")]
        assert not leftovers
        take(again, folder, THIRD)
        assert running(opened(folder)) == THIRD, "a kill never bricks the device"


def test_a_full_disk_while_staging_leaves_the_committed_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = opened(tmp_path)
    take(store, tmp_path, OLD)
    take(store, tmp_path, NEW)
    source = fetched(tmp_path, THIRD)

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space"):
            store.stage(payload_of(THIRD), "int8", source)
    assert running(store) == running(opened(tmp_path)) == NEW
    take(store, tmp_path, THIRD)
    assert running(store) == THIRD


def test_a_recall_puts_the_former_model_back_and_remembers_which_one_was_left(tmp_path: Path) -> None:
    store = opened(tmp_path)
    take(store, tmp_path, OLD)
    take(store, tmp_path, NEW)
    store.recall()
    again = opened(tmp_path)
    assert (running(again), again.recalled) == (OLD, digest_of(NEW).hex())
    take(again, tmp_path, THIRD)
    assert again.recalled == ""


def test_a_recall_to_a_model_that_has_decayed_changes_nothing(tmp_path: Path) -> None:
    store = opened(tmp_path)
    take(store, tmp_path, OLD)
    former = store.running()
    take(store, tmp_path, NEW)
    assert former
    flip(former.path)
    with pytest.raises(WrongStep):
        store.recall()
    assert running(opened(tmp_path)) == NEW


def test_a_kill_at_any_instruction_of_a_recall_leaves_one_of_the_two_models(tmp_path: Path) -> None:
    def prepare() -> None:
        store = opened(tmp_path)
        take(store, tmp_path, OLD)
        take(store, tmp_path, NEW)

    seen = set()
    for _ in each_kill(prepare, lambda: opened(tmp_path).recall()):
        store = opened(tmp_path)
        seen.add(running(store))
        assert (running(store), store.recalled) in {(OLD, digest_of(NEW).hex()), (NEW, "")}
    assert NEW in seen
