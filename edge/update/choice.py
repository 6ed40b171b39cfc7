"""Which variant of a version this device runs: fetched, proved and measured, each in a limited child, and remembered.

A version with one variant, or with one that fits, costs nothing here: no file more, no measurement, no word on disk.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import structlog

from edge.delivery.entities import Rejected
from edge.foundation.threads import finished
from edge.update import variants
from edge.update.entities import Proof
from edge.update.ports import Measure
from edge.update.prover import NotProved
from edge.update.requirements import Facts
from edge.update.tables import Tables
from edge.update.variants import Means, Plan, Speed, Table
from protos.kit.files import digest_of, sync_folder
from protos.kit.link import Offline
from protos.v1.manifest_pb2 import Artifact, Manifest, Variant

FOLDER = "variants"

log = structlog.get_logger()


STALLED_S = 8.0
"""No chunk for so long, though each was asked for anew, and a variant that was only to be measured is left out."""

Progress = Callable[[int, int], None]
Fetch = Callable[[Artifact, Progress], Awaitable[Path]]


@dataclass(frozen=True, slots=True)
class Chosen:
    """The variant to run, its file and its proof."""

    variant: Variant
    file: Path
    proof: Proof


class Choice:
    """The variants of one slot's versions. Files to choose from lie in `folder`/variants until `forget`."""

    def __init__(self, folder: Path, facts: Facts, means: Means, measure: Measure, timeout_s: float) -> None:
        self._folder = folder / FOLDER
        self._tables = Tables(folder)
        self._facts = facts
        self._means = means
        self._measure = measure
        self._timeout_s = timeout_s
        self._distrusted = b""  # a version that earlier measurements misled about

    def table(self, manifest: bytes) -> Table | None:
        """What is known of the version with this manifest digest."""
        return self._tables.of(manifest)

    def is_outdated(self, manifest: bytes) -> bool:
        """Whether the variant of this version was chosen on other hardware than this."""
        table = self._tables.of(manifest)
        return table is not None and table.hardware != self._hardware

    def plan(self, digest: bytes, manifest: Manifest) -> Plan:
        """What there is to choose from; one option, if the choice was made already. Raises Incompatible, Unusable."""
        if digest == self._distrusted:
            return variants.plan(manifest, self._facts, self._means)
        known = self._tables.of(digest)
        if known and known.hardware == self._hardware:
            chosen = tuple(variant for variant in manifest.variants if variant.name == known.chosen)
            return Plan(chosen, known.rows)
        return variants.plan(manifest, self._facts, self._means, self._tables.newest(manifest.model, self._hardware))

    def files(self) -> dict[bytes, Path]:
        """Files that were gathered and lie here whole, by their digest."""
        if not self._folder.is_dir():
            return {}
        found = {digest_of(path): path for path in self._folder.iterdir()}
        return {digest: path for digest, path in found.items() if path.name == digest.hex()}

    async def gather(self, plan: Plan, fetch: Fetch, tell: Progress) -> tuple[Plan, dict[bytes, Path]]:
        """The files of the options, by their digest; those that are here already are not fetched.

        Only the first must come: an update does not wait for another one that does not. Then the plan is without it.
        """
        wanted = {option.artifact.digest: option.artifact for option in plan.options}
        files = await finished(self._kept, set(wanted))
        problems: dict[bytes, str] = {}
        for digest, artifact in wanted.items():
            if digest in files:
                continue
            if not files and not problems:
                files[digest] = await finished(self._take, digest, await fetch(artifact, tell))
                continue
            try:
                files[digest] = await finished(self._take, digest, await _unless_stalled(artifact, fetch, tell))
            except (TimeoutError, Offline, Rejected) as error:
                problems[digest] = f"not measured: {str(error) or 'its file has not come'}"
        absent = {one.name: problems[one.artifact.digest] for one in plan.options if one.artifact.digest in problems}
        return plan.without(absent), files

    async def choose(self, digest: bytes, manifest: Manifest, plan: Plan, files: Mapping[bytes, Path]) -> Chosen:
        """Measure the options and remember the table. Raises NotProved if none can be run, or OSError."""
        found: dict[str, Speed | str] = {}
        proofs: dict[str, Proof] = {}
        for option in plan.options:
            try:
                proofs[option.name], found[option.name] = await self._measured(digest, manifest, option, files)
            except NotProved as error:
                found[option.name] = str(error)
        rows = variants.decided(manifest, found, plan)
        name = variants.choose(rows, plan.options)
        log.info("variants measured", model=manifest.model, version=manifest.version, chosen=name, found=found)
        if not name:
            self._give_up(digest, plan, found)
        table = Table(digest.hex(), manifest.model, manifest.version, self._hardware, name, rows)
        await finished(self._tables.put, table)
        variant = next(option for option in plan.options if option.name == name)
        return Chosen(variant, files[variant.artifact.digest], proofs[name])

    async def settle(self, digest: bytes, manifest: Manifest, plan: Plan) -> None:
        """Remember why it is the only option, if there are others."""
        if len(manifest.variants) > 1:
            name = plan.options[0].name
            table = Table(digest.hex(), manifest.model, manifest.version, self._hardware, name, plan.rows)
            await finished(self._tables.put, table)

    def distrust(self, digest: bytes, plan: Plan) -> bool:
        """The only option did not hold: whether others are worth a try that were left out for an earlier version."""
        if not plan.relies_on_former or digest == self._distrusted:
            return False
        self._distrusted = digest
        return True

    def forget(self) -> None:
        """Remove what was gathered."""
        if self._folder.is_dir():
            shutil.rmtree(self._folder)

    @property
    def _hardware(self) -> str:
        return f"{self._facts.hardware}, {self._means.threads} threads"

    async def _measured(
        self, digest: bytes, manifest: Manifest, option: Variant, files: Mapping[bytes, Path]
    ) -> tuple[Proof, Speed]:
        return await self._measure(
            digest=digest,
            manifest=manifest.SerializeToString(),
            artifact=option.artifact.digest,
            variant=option.name,
            model=files[option.artifact.digest],
            timeout_s=self._timeout_s,
            threads=variants.threads_of(option, self._means.threads),
        )

    def _give_up(self, digest: bytes, plan: Plan, found: dict[str, Speed | str]) -> None:
        if self.distrust(digest, plan):
            raise OSError("no variant held that was fast in an earlier version: the others are tried, too")
        raise NotProved("; ".join(f"{name}: {problem}" for name, problem in found.items()))

    def _kept(self, wanted: set[bytes]) -> dict[bytes, Path]:
        """What is here of the wanted files; everything else is removed."""
        self._folder.mkdir(exist_ok=True)
        files = {digest: path for digest, path in self.files().items() if digest in wanted}
        for path in self._folder.iterdir():
            if path not in files.values():
                path.unlink()
        return files

    def _take(self, digest: bytes, fetched: Path) -> Path:
        path = self._folder / digest.hex()
        fetched.replace(path)
        sync_folder(self._folder)
        return path


async def _unless_stalled(artifact: Artifact, fetch: Fetch, tell: Progress) -> Path:
    """As `fetch`. Raises TimeoutError when no chunk comes for a while."""
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(STALLED_S) as patience:

        def told(present: int, total: int) -> None:
            if not patience.expired():
                patience.reschedule(loop.time() + STALLED_S if present < total else None)
            tell(present, total)

        return await fetch(artifact, told)
