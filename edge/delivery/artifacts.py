"""The cheapest way to an artifact: from what is here already, by a patch, or whole."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial as with_arguments
from pathlib import Path

import structlog

from edge.delivery import rules, unpacking
from edge.delivery.entities import Limits, NotDelivered, Rejected
from edge.delivery.partial import Partial, Read
from edge.delivery.transfer import MOST_REPAIRS, Progress, Transfer
from edge.foundation.threads import finished
from protos.kit.files import digest_of
from protos.kit.link import Link
from protos.kit.patches import as_artifact, bytes_of
from protos.v1.manifest_pb2 import COMPRESSION_NONE, Artifact, Patch

log = structlog.get_logger()

REPAIRS_OF_A_PATCH = 1
"""Requests to the cloud in vain after which the whole file is fetched instead: not long, since there is another way."""

Held = Mapping[bytes, Path]
"""Files on this device by their digest. They are only read."""


@dataclass(frozen=True, slots=True)
class _Wanted:
    """An artifact that is on its way."""

    artifact: Artifact
    target: Path
    progress: Progress
    held: Held

    def part(self, patch: Patch | None = None) -> Path:
        """Where its chunks are gathered, or those of a patch to it."""
        return self.target.with_suffix(f".{patch.digest.hex()}.part" if patch else ".part")


@dataclass(frozen=True, slots=True)
class _Way:
    """What is fetched for it, a patch or the whole, and how far that is."""

    wanted: _Wanted
    partial: Partial
    patch: Patch | None = None

    @property
    def digest(self) -> bytes:
        """What names the chunks' topics."""
        return self.patch.digest if self.patch else self.wanted.artifact.digest

    def unpack(self) -> None:
        """Make the file of what was fetched."""
        read: Read | None = None
        if self.patch:
            base = self.wanted.held[self.patch.base]
            read = with_arguments(unpacking.patched, kind=self.patch.kind, base=base)
        self.partial.unpack(self.wanted.artifact, self.wanted.target, read)
        self.partial.close()


class Artifacts:
    """Brings artifacts into `folder`, each in a file named by its digest.

    Most artifacts are small: what is done with files on both ends of a transfer is one piece of work for a thread each.
    """

    def __init__(self, link: Link, folder: Path, limits: Limits) -> None:
        self._link = link
        self._limits = limits
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    async def fetch(self, artifact: Artifact, progress: Progress, held: Held) -> Path:
        """The proven file. As Fetcher.artifact."""
        chunks = len(rules.plan(artifact).digests)
        wanted = _Wanted(artifact, self._folder / f"{artifact.digest.hex()}.tflite", progress, held)
        with ExitStack() as opened:
            way = await finished(self._begin, wanted, opened)
            if way is None:
                progress(chunks, chunks)
            elif way.patch is None:
                await self._bring(way)
            elif not await self._by_patch(way, way.patch):
                await self._bring(await finished(self._begin_whole, wanted, opened))
        return wanted.target

    def forget(self, keep: bytes | None = None) -> None:
        """Remove what was fetched, whole or in part, but for the artifact `keep`."""
        for path in self._folder.iterdir():
            if keep is None or not path.name.startswith(keep.hex()):
                path.unlink(missing_ok=True)

    def _begin(self, wanted: _Wanted, opened: ExitStack) -> _Way | None:
        """The cheapest way to it; None: it is here. One that was begun whole had no patch, or none that was good."""
        if _is_here(wanted):
            self.forget(wanted.artifact.digest)
            return None
        patch = rules.choose_patch(wanted.artifact, wanted.held)
        if patch is None or wanted.part().exists():
            return self._begin_whole(wanted, opened)
        self.forget(wanted.artifact.digest)
        partial = opened.enter_context(Partial(wanted.part(patch), rules.plan(as_artifact(patch))))
        partial.prove()
        return _Way(wanted, partial, patch)

    def _begin_whole(self, wanted: _Wanted, opened: ExitStack) -> _Way:
        """Find out what is here already; then what is left of others goes."""
        partial = opened.enter_context(self._opened(wanted))
        partial.prove()
        if reused := partial.reuse(self._others(wanted)):
            log.info("chunks were here already", artifact=wanted.artifact.digest.hex(), chunks=reused)
        self.forget(wanted.artifact.digest)
        return _Way(wanted, partial)

    def _opened(self, wanted: _Wanted) -> Partial:
        """Its place on the disk; what is left of others goes only when there is no room beside it."""
        path, empty = wanted.part(), rules.plan(wanted.artifact)
        try:
            return Partial(path, empty)
        except OSError:
            self.forget(wanted.artifact.digest)
            return Partial(path, empty)

    async def _by_patch(self, way: _Way, patch: Patch) -> bool:
        """Whether a patch brought it. What is wrong with one costs its own few bytes, never the artifact."""
        artifact = way.wanted.artifact
        told = log.bind(artifact=artifact.digest.hex(), patch=patch.digest.hex(), base=patch.base.hex())
        try:
            await self._bring(way, REPAIRS_OF_A_PATCH)
        except (Rejected, NotDelivered) as error:
            told.warning("no patch; the whole file is fetched", error=str(error))
            await finished(way.wanted.part(patch).unlink, missing_ok=True)
            return False
        told.info("artifact patched", bytes=bytes_of(patch), whole=bytes_of(artifact))
        return True

    async def _bring(self, way: _Way, most_repairs: int = MOST_REPAIRS) -> None:
        progress, limits = way.wanted.progress, self._limits
        transfer = Transfer(self._link, way.digest, way.partial, progress, limits, most_repairs=most_repairs)
        await transfer.run(then=way.unpack)

    def _others(self, wanted: _Wanted) -> Iterable[Path]:
        """Files that may have chunks of it: other downloads, and where its chunks are pieces of the file, files."""
        own, plain = wanted.artifact.digest.hex(), wanted.artifact.compression == COMPRESSION_NONE
        fetched = [path for path in self._folder.iterdir() if not path.name.startswith(own)]
        return [*fetched, *(wanted.held.values() if plain else ())]


def _is_here(wanted: _Wanted) -> bool:
    """Whether the file is here whole, after it was copied if another version has the very same."""
    digest, target = wanted.artifact.digest, wanted.target
    if target.exists() and digest_of(target) == digest:
        return True
    if digest not in wanted.held:
        return False
    try:
        with wanted.held[digest].open("rb") as file:
            unpacking.write(unpacking.as_it_is(file), wanted.artifact, target)
    except (Rejected, OSError) as error:
        log.warning("a file on this device cannot be used again", artifact=digest.hex(), error=str(error))
        return False
    return True
