"""The HTTP API as commands use it: what fails becomes one sentence for the person at the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import click
import httpx

from protos.kit.bearer import from_environment

TIMEOUT_S = 30.0


class NoAnswer(click.ClickException):
    """The API does not answer now, or failed: the same may be asked again later."""


class Api:
    """The API at `address` (http://host:port). Every method raises click.ClickException that says what to do."""

    def __init__(self, address: str) -> None:
        self._address = address.rstrip("/")
        # A proxy for the outside world does not lead to a server on this machine.
        nearby = urlsplit(self._address).hostname in ("127.0.0.1", "localhost", "::1")
        self._client = httpx.Client(
            base_url=self._address, timeout=TIMEOUT_S, trust_env=not nearby, headers=from_environment()
        )

    def get(
        self,
        path: str,
        params: Mapping[str, Any] | None = None,
        patience_s: float = TIMEOUT_S,
    ) -> Any:  # noqa: ANN401 - JSON is anything
        """The JSON at `path`, which may take `patience_s`."""
        return self._ask("GET", path, params=params, timeout=patience_s)

    def download(self, path: str) -> bytes:
        """The bytes at `path`."""
        return self._answer("GET", path).content

    def put(self, path: str, json: object = None) -> Any:  # noqa: ANN401 - JSON is anything
        """What the API answers to `json` put at `path`."""
        return self._ask("PUT", path, json=json)

    def post(self, path: str, json: object = None) -> Any:  # noqa: ANN401 - JSON is anything
        """What the API answers to `json` posted to `path`."""
        return self._ask("POST", path, json=json)

    def delete(self, path: str) -> Any:  # noqa: ANN401 - JSON is anything
        """What the API answers to the removal of `path`."""
        return self._ask("DELETE", path)

    def _ask(self, method: str, path: str, **content: Any) -> Any:  # noqa: ANN401 - JSON is anything
        response = self._answer(method, path, **content)
        return _json(response) if response.content else None

    def _answer(self, method: str, path: str, **content: Any) -> httpx.Response:  # noqa: ANN401 - JSON is anything
        try:
            response = self._client.request(method, path, **content)
        except httpx.ConnectError as error:
            raise NoAnswer(
                f"no API answers at {self._address}: is `littoral serve` running? "
                "Give its address with --api or LITTORAL_API"
            ) from error
        except httpx.HTTPError as error:
            raise NoAnswer(f"the API at {self._address} broke off: {error or type(error).__name__}") from error
        if response.is_server_error:
            raise NoAnswer(f"the API at {self._address} failed ({response.status_code}): its log says why")
        if response.is_error:
            raise click.ClickException(self._complaint(response))
        return response

    def _complaint(self, response: httpx.Response) -> str:
        body = _json(response)
        detail = body.get("detail") if isinstance(body, dict) else None
        return _sentence(detail) or f"the API at {self._address} refused it ({response.status_code})"


def _json(response: httpx.Response) -> Any:  # noqa: ANN401 - JSON is anything
    try:
        return response.json()
    except ValueError as error:
        raise click.ClickException(f"{response.url} does not answer in JSON: is it Littoral's API?") from error


def _sentence(detail: object) -> str:
    """FastAPI's `detail`: a sentence, or for a request of the wrong form a list of places with what is wrong there."""
    if isinstance(detail, list):
        return "; ".join(f"{'.'.join(str(part) for part in item['loc'][1:])}: {item['msg']}" for item in detail)
    return str(detail) if detail else ""
