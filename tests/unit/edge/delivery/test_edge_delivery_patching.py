"""What the cloud's patches make of a file that is here; and what wrong ones make of it: nothing."""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from cloud.registry import patches
from edge.delivery import rules, unpacking
from edge.delivery.entities import Rejected
from edge.delivery.partial import Partial
from protos.kit.patches import as_artifact
from protos.topics import MAX_DICTIONARY_BYTES
from protos.v1.manifest_pb2 import PATCH_KIND_DICTIONARY, PATCH_KIND_DIFFERENCE, Artifact, ChunkRef, Patch, PatchKind
from tests.crashes import each_kill

pytestmark = pytest.mark.forks

MAKE = {PATCH_KIND_DIFFERENCE: patches.difference, PATCH_KIND_DICTIONARY: patches.by_dictionary}
kinds = pytest.mark.parametrize("kind", MAKE)

OLD = os.urandom(5000)
NEW = bytes([*OLD[:2000], 1, 2, 3, *OLD[2000:]])


def artifact(data: bytes, **claims: int) -> Artifact:
    return Artifact(digest=hashlib.sha256(data).digest(), **{"size": len(data)} | claims)


def applied(folder: Path, travelling: bytes, kind: PatchKind, wanted: Artifact, base: bytes = OLD) -> bytes:
    (folder / "base").write_bytes(base)
    pieces = unpacking.patched(io.BytesIO(travelling), kind, folder / "base")
    unpacking.write(pieces, wanted, folder / "new")
    return (folder / "new").read_bytes()


def refused(folder: Path, travelling: bytes, kind: PatchKind, wanted: Artifact, base: bytes = OLD) -> str:
    """The reason why; it must leave nothing behind but the base, as it was."""
    with pytest.raises(Rejected) as found:
        applied(folder, travelling, kind, wanted, base)
    assert [path.name for path in folder.iterdir()] == ["base"]
    assert (folder / "base").read_bytes() == base
    return str(found.value)


edits = st.lists(st.tuples(st.integers(0, 300), st.integers(0, 20), st.binary(max_size=20)), max_size=4)


@given(st.binary(max_size=300), edits, st.sampled_from(list(MAKE)))
def test_a_patch_makes_the_new_file_of_the_old_one(
    tmp_path_factory: pytest.TempPathFactory, old: bytes, changes: list[tuple[int, int, bytes]], kind: PatchKind
) -> None:
    new = old or b"x"
    for place, removed, inserted in changes:
        new = new[:place] + inserted + new[place + removed :] or b"x"
    folder = tmp_path_factory.mktemp("patch")
    assert applied(folder, MAKE[kind](old, new), kind, artifact(new), old) == new


@kinds
@pytest.mark.parametrize("grown", [-700_000, 0, 700_000])
def test_files_of_many_pieces_are_patched_too(tmp_path: Path, kind: PatchKind, grown: int) -> None:
    old = os.urandom(1_000_000)
    new = old[: len(old) + min(grown, 0)] + os.urandom(max(grown, 0))
    assert applied(tmp_path, MAKE[kind](old, new), kind, artifact(new), old) == new


def test_the_largest_files_for_a_dictionary_fit_into_the_memory_for_one(tmp_path: Path) -> None:
    old = os.urandom(64 * 1024) * (MAX_DICTIONARY_BYTES // 64 // 1024)
    new = old[100:] + bytes(100)
    travelling = patches.by_dictionary(old, new)
    assert applied(tmp_path, travelling, PATCH_KIND_DICTIONARY, artifact(new), old) == new


@kinds
def test_another_base_makes_no_file(tmp_path: Path, kind: PatchKind) -> None:
    reason = refused(tmp_path, MAKE[kind](OLD, NEW), kind, artifact(NEW), base=OLD[:-1] + b"?")
    assert reason == "the unpacked bytes are not those that the manifest names"


@given(st.sampled_from(list(MAKE)), st.floats(0, 1, exclude_max=True), st.integers(0, 7))
def test_a_damaged_patch_makes_the_right_file_or_none(
    tmp_path_factory: pytest.TempPathFactory, kind: PatchKind, where: float, bit: int
) -> None:
    folder, wrong = tmp_path_factory.mktemp("patch"), bytearray(MAKE[kind](OLD, NEW))
    wrong[int(where * len(wrong))] ^= 1 << bit
    try:
        assert applied(folder, bytes(wrong), kind, artifact(NEW)) == NEW, "a bit that did not matter"
    except Rejected:
        assert [path.name for path in folder.iterdir()] == ["base"]


@kinds
def test_half_a_patch_makes_no_file(tmp_path: Path, kind: PatchKind) -> None:
    good = MAKE[kind](OLD, NEW)
    assert refused(tmp_path, good[: len(good) // 2], kind, artifact(NEW))


@kinds
def test_a_bomb_ends_at_the_promised_size(tmp_path: Path, kind: PatchKind) -> None:
    bomb = zstandard.compress(bytes(50_000_000))
    assert "more than the 10000 bytes" in refused(tmp_path, bomb, kind, artifact(NEW, size=10_000))


@kinds
def test_a_patch_that_asks_for_too_much_memory_makes_no_file(tmp_path: Path, kind: PatchKind) -> None:
    parameters = zstandard.ZstdCompressionParameters(window_log=27)
    compressor = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    greedy = compressor.compress(NEW) + compressor.flush()
    assert "cannot be unpacked" in refused(tmp_path, greedy, kind, artifact(NEW))


def test_a_base_too_large_for_a_dictionary_is_not_read_into_memory(tmp_path: Path) -> None:
    base = bytes(MAX_DICTIONARY_BYTES + 1)
    travelling = patches.by_dictionary(OLD, NEW)
    assert "too large" in refused(tmp_path, travelling, PATCH_KIND_DICTIONARY, artifact(NEW), base)


@kinds
def test_a_base_that_is_gone_makes_no_file(tmp_path: Path, kind: PatchKind) -> None:
    pieces = unpacking.patched(io.BytesIO(MAKE[kind](OLD, NEW)), kind, tmp_path / "gone")
    with pytest.raises(Rejected, match="cannot be patched"):
        unpacking.write(pieces, artifact(NEW), tmp_path / "new")
    assert list(tmp_path.iterdir()) == []


@kinds
def test_a_kill_at_any_act_of_patching_leaves_the_old_file_and_the_new_one_comes_later(
    tmp_path: Path, kind: PatchKind
) -> None:
    travelling = MAKE[kind](OLD, NEW)
    digest = hashlib.sha256(travelling).digest()
    patch = Patch(digest=digest, kind=kind, chunks=[ChunkRef(digest=digest, size=len(travelling))])

    def prepare() -> None:
        for path in tmp_path.iterdir():
            path.unlink()
        (tmp_path / "base").write_bytes(OLD)

    def act() -> None:
        with Partial(tmp_path / "patch.part", rules.plan(as_artifact(patch))) as partial:
            partial.prove()
            partial.take([(0, travelling)])
            read = lambda file: unpacking.patched(file, kind, tmp_path / "base")  # noqa: E731
            partial.unpack(artifact(NEW), tmp_path / "new", read)

    for _ in each_kill(prepare, act):
        assert (tmp_path / "base").read_bytes() == OLD
        assert not (tmp_path / "new").exists() or (tmp_path / "new").read_bytes() == NEW
        act()
        assert sorted(path.name for path in tmp_path.iterdir()) == ["base", "new"]
        assert (tmp_path / "new").read_bytes() == NEW


APPLY = """
import sys
from pathlib import Path
from edge.delivery import unpacking
from protos.v1.manifest_pb2 import PATCH_KIND_DIFFERENCE, Artifact

def most_memory():
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024

folder, before = Path(sys.argv[1]), most_memory()
with (folder / "patch").open("rb") as file:
    pieces = unpacking.patched(file, PATCH_KIND_DIFFERENCE, folder / "base")
    unpacking.write(pieces, Artifact.FromString((folder / "artifact").read_bytes()), folder / "new")
print(most_memory() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the system does not tell a process's memory")
def test_a_difference_takes_little_memory_however_large_the_file_is(tmp_path: Path) -> None:
    size = 8 * unpacking.MAX_WINDOW_BYTES
    old = os.urandom(size)
    new = bytes(reversed(old[: size // 4])) + old[size // 4 :]
    (tmp_path / "base").write_bytes(old)
    (tmp_path / "patch").write_bytes(patches.difference(old, new))
    (tmp_path / "artifact").write_bytes(artifact(new).SerializeToString())
    ran = subprocess.run([sys.executable, "-c", APPLY, str(tmp_path)], check=True, capture_output=True)
    assert (tmp_path / "new").read_bytes() == new
    assert int(ran.stdout) < 2 * unpacking.MAX_WINDOW_BYTES
