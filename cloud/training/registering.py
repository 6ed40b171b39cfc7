"""A trained model is handed to the cloud over its HTTP API: where it was trained there is no database and no key.

The form is that of cloud/registry/receiving.py. A run registers once, however often it is repeated.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from typing import Any
from urllib.parse import quote, urlencode

import urllib3

from cloud.registry.receiving import LENGTH_BYTES
from cloud.training.entities import Refused, Unavailable
from protos.kit.bearer import from_environment
from protos.v1.manifest_pb2 import Manifest

PIECE_BYTES = 64 * 1024
ANSWER_S = 120.0
PATIENCE_S = 300.0
PAUSE_S = (0.5, 10.0)
"""Between two tries: at first, at last."""


class Registrations:
    """The API at `address`, asked again until it answers or `patience_s` is over. Raises Unavailable, Refused."""

    def __init__(self, address: str, patience_s: float = PATIENCE_S) -> None:
        self._address = address.rstrip("/")
        self._patience_s = patience_s
        # One connection, no proxy: the API is a neighbour. What is tried again is decided here.
        self._http = urllib3.PoolManager(1, retries=False, timeout=urllib3.Timeout(connect=10.0, read=ANSWER_S))

    def of(self, run: str, model: str) -> Mapping[str, Any] | None:
        """What the run has registered; None: nothing yet, and it may. Refused if such a model could not be listed."""
        return self._ask("GET", f"{_path(run)}?{urlencode({'model': model})}")

    def register(self, run: str, draft: Manifest, files: Mapping[str, bytes]) -> Mapping[str, Any]:
        """The version that `draft` has become, or the one that this run had become before."""
        answer = self._ask("PUT", _path(run), body(draft, files))
        if answer is None:
            raise Refused(f"the API at {self._address} takes no registrations: is it of an older version?")
        return answer

    def _ask(self, method: str, path: str, parts: list[bytes] | None = None) -> Mapping[str, Any] | None:
        deadline, pause, why = time.monotonic() + self._patience_s, PAUSE_S[0], ""
        while True:
            try:
                return self._once(method, path, parts)
            except _TryAgain as again:
                why = str(again)
            if time.monotonic() + pause > deadline:
                raise Unavailable(f"the API at {self._address} did not take it for {self._patience_s:g} s: {why}")
            time.sleep(pause)
            pause = min(2 * pause, PAUSE_S[1])

    def _once(self, method: str, path: str, parts: list[bytes] | None) -> Mapping[str, Any] | None:
        length = {"Content-Length": str(sum(map(len, parts)))} if parts else {}
        headers = length | from_environment()
        try:
            answer = self._http.request(
                method, f"{self._address}{path}", body=_pieces(parts) if parts else None, headers=headers
            )
        except urllib3.exceptions.HTTPError as error:
            raise _TryAgain(f"{type(error).__name__}: {error}") from error
        if answer.status == HTTPStatus.NOT_FOUND:
            return None
        if answer.status >= HTTPStatus.INTERNAL_SERVER_ERROR or answer.status == HTTPStatus.TOO_MANY_REQUESTS:
            raise _TryAgain(f"it answered {answer.status}")
        if answer.status >= HTTPStatus.BAD_REQUEST:
            raise Refused(f"the API refused it ({answer.status}): {_sentence(answer.data)}")
        return _json(answer.data)


def body(draft: Manifest, files: Mapping[str, bytes]) -> list[bytes]:
    """What is sent: the draft's length, the draft with digest and size of each variant's file, each file once."""
    sent = Manifest()
    sent.CopyFrom(draft)
    for variant in sent.variants:
        data = files[variant.name]
        variant.artifact.digest, variant.artifact.size = hashlib.sha256(data).digest(), len(data)
    head = sent.SerializeToString()
    return [len(head).to_bytes(LENGTH_BYTES, "big"), head, *dict.fromkeys(files[each.name] for each in sent.variants)]


class _TryAgain(Exception):
    """It may go better next time."""


def _path(run: str) -> str:
    return f"/api/v1/registrations/{quote(run, safe='')}"


def _pieces(parts: list[bytes]) -> Iterator[bytes]:
    for part in parts:
        for start in range(0, len(part), PIECE_BYTES):
            yield part[start : start + PIECE_BYTES]


def _json(data: bytes) -> Mapping[str, Any]:
    try:
        read: Mapping[str, Any] = json.loads(data)
    except ValueError as error:
        raise _TryAgain("it does not answer in JSON: is it Littoral's API?") from error
    return read


def _sentence(data: bytes) -> str:
    try:
        return str(json.loads(data)["detail"])
    except (ValueError, KeyError, TypeError):
        return data[:200].decode(errors="replace")
