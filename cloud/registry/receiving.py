"""A draft and its files as they come over HTTP, a piece at a time. Pure.

Four bytes say, big-endian, how long the draft is; the draft (a Manifest) follows, and names digest and size of each
variant's file; then come the files in the order of the variants, one that several share once. So every byte is known to
be wanted before it is taken, and a file that arrived otherwise than it was sent is found out.
"""

from __future__ import annotations

import hashlib

from google.protobuf.message import DecodeError

from cloud.registry.entities import Unpublishable
from protos.topics import MAX_MANIFEST_BYTES
from protos.v1.manifest_pb2 import Artifact, Manifest

LENGTH_BYTES = 4

NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}"
"""What a registration may be called."""

MAX_FILES_BYTES = 256 * 1024 * 1024
"""Of all files together: they are in memory at once while patches to them are made."""


class Receiving:
    """Takes what comes; `draft` and `files` are complete after `finished`. Every method raises Unpublishable."""

    def __init__(self) -> None:
        self.draft = Manifest()
        self._head = bytearray()
        self._expected: list[Artifact] | None = None
        self._parts: list[bytearray] = []

    def take(self, data: bytes) -> None:
        """The next bytes."""
        rest = memoryview(data)
        if self._expected is None:
            rest = self._take_head(rest)
        while rest:
            rest = self._take_file(rest)

    def finished(self) -> dict[str, bytes]:
        """The files by variant, whole and as promised."""
        whole = [bytes(part) for part in self._parts]
        if self._expected is None or len(whole) < len(self._expected) or self._left():
            raise Unpublishable("the files broke off before their end: send them again")
        by_digest = {hashlib.sha256(data).digest(): data for data in whole}
        for artifact in self._expected:
            if artifact.digest not in by_digest:
                raise Unpublishable(f"no file with the digest {artifact.digest.hex()} came: one was damaged on its way")
        return {variant.name: by_digest[variant.artifact.digest] for variant in self.draft.variants}

    def _take_head(self, rest: memoryview) -> memoryview:
        """The length, then the draft."""
        rest = self._fill(rest, LENGTH_BYTES)
        if len(self._head) < LENGTH_BYTES:
            return rest
        length = int.from_bytes(self._head[:LENGTH_BYTES], "big")
        if not 0 < length <= MAX_MANIFEST_BYTES:
            raise Unpublishable(f"the draft has {length} bytes: allowed are 1 to {MAX_MANIFEST_BYTES}")
        rest = self._fill(rest, LENGTH_BYTES + length)
        if len(self._head) == LENGTH_BYTES + length:
            self._begin(bytes(self._head[LENGTH_BYTES:]))
        return rest

    def _fill(self, rest: memoryview, length: int) -> memoryview:
        missing = max(length - len(self._head), 0)
        self._head += rest[:missing]
        return rest[missing:]

    def _begin(self, head: bytes) -> None:
        try:
            self.draft.ParseFromString(head)
        except DecodeError as error:
            raise Unpublishable("the draft is not a Manifest (protos/v1/manifest.proto)") from error
        files = {variant.artifact.digest: variant.artifact for variant in self.draft.variants}
        total = sum(artifact.size for artifact in files.values())
        if total > MAX_FILES_BYTES or any(not artifact.size for artifact in files.values()):
            raise Unpublishable(
                f"the files have {total} bytes: allowed are 1 for each to {MAX_FILES_BYTES} for all. "
                "Register a larger model where the database is: littoral register"
            )
        self._expected = list(files.values())

    def _take_file(self, rest: memoryview) -> memoryview:
        assert self._expected is not None
        if not self._left():
            if len(self._parts) == len(self._expected):
                raise Unpublishable("more came than the draft names")
            self._parts.append(bytearray())
        left = self._left()
        self._parts[-1] += rest[:left]
        return rest[left:]

    def _left(self) -> int:
        """Bytes that the file lacks which is coming now."""
        if not self._parts or self._expected is None:
            return 0
        return int(self._expected[len(self._parts) - 1].size) - len(self._parts[-1])
