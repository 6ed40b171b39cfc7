import errno
import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from edge.delivery import rules
from edge.delivery.entities import Chunk, Rejected
from edge.delivery.partial import Partial
from protos.v1.manifest_pb2 import COMPRESSION_NONE, COMPRESSION_ZSTD, Artifact, ChunkRef
from tests.crashes import each_kill

pytestmark = pytest.mark.forks

CHUNK = 1000


@dataclass(frozen=True)
class Sent:
    """A file as a publisher sends it; `claims` are what its manifest says otherwise than is true."""

    data: bytes
    travelling: bytes
    artifact: Artifact

    @property
    def chunks(self) -> list[tuple[int, bytes]]:
        starts = range(0, len(self.travelling), CHUNK)
        return [(start // CHUNK, self.travelling[start : start + CHUNK]) for start in starts]


def sent(data: bytes, travelling: bytes | None = None, **claims: object) -> Sent:
    compression = COMPRESSION_NONE if travelling is None else COMPRESSION_ZSTD
    travelling = data if travelling is None else travelling
    pieces = [travelling[start : start + CHUNK] for start in range(0, len(travelling), CHUNK)]
    values: dict[str, object] = {"digest": hashlib.sha256(data).digest(), "size": len(data)}
    artifact = Artifact(
        compression=compression,
        chunks=[ChunkRef(digest=hashlib.sha256(piece).digest(), size=len(piece)) for piece in pieces],
        **values | claims,  # type: ignore[arg-type]
    )
    return Sent(data, travelling, artifact)


def noise(size: int, seed: int = 1) -> bytes:
    return hashlib.shake_128(bytes([seed])).digest(size)


PLAIN = sent(noise(5500))
DATA = noise(5000, 2) + bytes(5000)
PACKED = sent(DATA, zstandard.compress(DATA))


def opened(tmp_path: Path, what: Sent) -> Partial:
    partial = Partial(tmp_path / "artifact.part", rules.plan(what.artifact))
    partial.prove()
    return partial


def unpacked(tmp_path: Path, what: Sent, chunks: Iterable[tuple[int, bytes]]) -> bytes:
    with opened(tmp_path, what) as partial:
        partial.take(list(chunks))
        assert partial.download.complete
        partial.unpack(what.artifact, tmp_path / "model")
    return (tmp_path / "model").read_bytes()


@pytest.mark.parametrize("what", [PLAIN, PACKED])
def test_all_chunks_in_any_order_are_the_file_and_nothing_else_is_left(tmp_path: Path, what: Sent) -> None:
    assert unpacked(tmp_path, what, reversed(what.chunks)) == what.data
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_each_chunk_is_told_apart(tmp_path: Path) -> None:
    with opened(tmp_path, PLAIN) as partial:
        first, second = PLAIN.chunks[:2]
        taken = partial.take([first, (1, first[1]), first, (99, b"x"), (-1, b"x"), (1, b""), second])
    new, duplicate, corrupt = Chunk.NEW, Chunk.DUPLICATE, Chunk.CORRUPT
    assert taken == [new, corrupt, duplicate, corrupt, corrupt, corrupt, new]


def test_what_was_written_is_there_after_a_restart(tmp_path: Path) -> None:
    with opened(tmp_path, PLAIN) as partial:
        partial.take([PLAIN.chunks[0], PLAIN.chunks[3], PLAIN.chunks[5]])
    with opened(tmp_path, PLAIN) as partial:
        assert list(partial.download.missing) == [1, 2, 4]


def test_bytes_that_are_not_the_chunk_any_more_are_missing_after_a_restart(tmp_path: Path) -> None:
    with opened(tmp_path, PLAIN) as partial:
        partial.take(PLAIN.chunks)
    with (tmp_path / "artifact.part").open("r+b") as file:
        file.seek(2 * CHUNK + 5)
        file.write(b"?")
    with opened(tmp_path, PLAIN) as partial:
        assert list(partial.download.missing) == [2]


@pytest.mark.parametrize("left", [b"", b"short", noise(99999, 3)])
def test_whatever_file_was_left_there_the_artifact_is_exact(tmp_path: Path, left: bytes) -> None:
    (tmp_path / "artifact.part").write_bytes(left)
    assert unpacked(tmp_path, PLAIN, PLAIN.chunks) == PLAIN.data


@given(st.lists(st.integers(0, 3), min_size=1, max_size=8), st.lists(st.integers(0, 5), max_size=8), st.integers(0, 99))
def test_chunks_of_other_files_are_taken_over_and_only_those(
    tmp_path_factory: pytest.TempPathFactory, ours: list[int], others: list[int], tail: int
) -> None:
    """Files are rows of chunks by their numbers; where both have the same number, its bytes need not travel."""
    folder = tmp_path_factory.mktemp("reuse")
    what = sent(b"".join(noise(CHUNK, number) for number in ours))
    (folder / "other").write_bytes(b"".join(noise(CHUNK, number) for number in others) + bytes(tail))
    with opened(folder, what) as partial:
        reused = partial.reuse([folder / "gone", folder, folder / "other"])
        seen = others[: len(ours)]
        assert list(partial.download.missing) == [place for place, number in enumerate(ours) if number not in seen]
        assert reused == partial.download.count
        partial.take(what.chunks)
        partial.unpack(what.artifact, folder / "model")
    assert (folder / "model").read_bytes() == what.data


def with_window(log: int, data: bytes) -> bytes:
    """A frame that asks the decompressor for 2 ** log bytes of memory."""
    parameters = zstandard.ZstdCompressionParameters(window_log=log)
    compressor = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    return compressor.compress(data) + compressor.flush()


BOMB = bytes(50_000_000)


@pytest.mark.parametrize(
    ("what", "reason"),
    [
        (sent(BOMB, zstandard.compress(BOMB), size=10_000), "more than the 10000 bytes"),
        (sent(DATA, zstandard.compress(DATA), digest=bytes(32)), "not those that the manifest names"),
        (sent(DATA, zstandard.compress(DATA)[:-20], size=len(DATA)), "not those that the manifest names"),
        (sent(DATA, b"this is not zstd", size=len(DATA)), "cannot be unpacked"),
        (sent(DATA, with_window(27, DATA)), "cannot be unpacked"),
        (sent(PLAIN.data, None, size=5499), "more than the 5499 bytes"),
    ],
)
def test_a_signed_promise_that_is_not_kept_is_rejected_and_leaves_no_file(
    tmp_path: Path, what: Sent, reason: str
) -> None:
    with pytest.raises(Rejected, match=reason):
        unpacked(tmp_path, what, what.chunks)
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_gives_back_other_bytes_is_not_the_manifests_fault(tmp_path: Path) -> None:
    with opened(tmp_path, PLAIN) as partial:
        partial.take(PLAIN.chunks)
        with (tmp_path / "artifact.part").open("r+b") as file:
            file.seek(2 * CHUNK)
            file.write(b"decayed")
        with pytest.raises(OSError, match="other bytes than were written"):
            partial.unpack(PLAIN.artifact, tmp_path / "model")
        assert list(partial.download.missing) == [2]
        partial.take(PLAIN.chunks)
        partial.unpack(PLAIN.artifact, tmp_path / "model")
    assert (tmp_path / "model").read_bytes() == PLAIN.data


def test_a_disk_without_room_is_found_out_before_anything_is_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match="No space"):
        Partial(tmp_path / "artifact.part", rules.plan(PLAIN.artifact))
    assert (tmp_path / "artifact.part").stat().st_size == 0


def test_a_file_system_that_cannot_reserve_serves_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unable(*_: int) -> None:
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    monkeypatch.setattr(os, "posix_fallocate", unable)
    assert unpacked(tmp_path, PLAIN, PLAIN.chunks) == PLAIN.data


def test_a_kill_at_any_act_leaves_what_is_proven_and_the_rest_comes_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge.delivery.partial.SYNC_EVERY_BYTES", 2 * CHUNK)
    round_, folder = 0, tmp_path

    def prepare() -> None:
        nonlocal round_, folder
        round_ += 1
        folder = tmp_path / str(round_)
        folder.mkdir()

    for number in each_kill(prepare, lambda: bool(unpacked(folder, PACKED, PACKED.chunks))):
        target = folder / "model"
        if not target.exists():
            assert unpacked(folder, PACKED, PACKED.chunks) == DATA, f"killed before act {number}"
        assert target.read_bytes() == DATA, "never a part of it"


def test_a_kill_costs_no_chunk_that_was_written(tmp_path: Path) -> None:
    folder = tmp_path / "fresh"

    def prepare() -> None:
        folder.mkdir(exist_ok=True)
        for path in folder.iterdir():
            path.unlink()

    missing = []
    for _ in each_kill(prepare, lambda: bool(unpacked(folder, PLAIN, PLAIN.chunks))):
        if (folder / "artifact.part").exists():
            with opened(folder, PLAIN) as partial:
                missing.append(len(list(partial.download.missing)))
    assert missing == sorted(missing, reverse=True)
    assert {0, 1, 2, 3, 4, 5, 6} <= set(missing)
