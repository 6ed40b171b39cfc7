"""What an update needs of others: models delivered, and made to prove themselves."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

from edge.update.entities import Proof
from edge.update.variants import Speed
from protos.v1.manifest_pb2 import Artifact


class Delivery(Protocol):
    """How manifests and artifacts come to this device. All raise OSError for what may be had later."""

    async def check(self, model: str, version: int, manifest: bytes, issued_ms: int) -> None:
        """That fresh metadata promises this manifest for the version. Raises Rejected if it promises another."""

    async def manifest(self, digest: bytes) -> bytes:
        """The bytes of a manifest, its digest verified."""

    async def artifact(
        self, artifact: Artifact, progress: Callable[[int, int], None], held: Mapping[bytes, Path]
    ) -> Path:
        """The verified file. `progress` is told chunks present and in all. Raises Rejected for what can never be.

        `held`: files by their digest that spare it chunks. What was fetched of other artifacts is removed.
        """

    def forget(self, keep: bytes | None = None) -> None:
        """Remove the files of `artifact`, but for those of the artifact digest `keep`."""


class Prove(Protocol):
    """How a model is made to prove itself: `prover.prove`."""

    async def __call__(
        self, *, digest: bytes, manifest: bytes, artifact: bytes, variant: str, model: Path, timeout_s: float
    ) -> Proof:
        """The proof. Raises NotProved, or OSError for what may be possible later."""


class Measure(Protocol):
    """How a variant is proved and measured: `prover.measure`."""

    async def __call__(
        self,
        *,
        digest: bytes,
        manifest: bytes,
        artifact: bytes,
        variant: str,
        model: Path,
        timeout_s: float,
        threads: int,
    ) -> tuple[Proof, Speed]:
        """The proof, and what a frame takes. Raises NotProved, or OSError for what may be possible later."""
