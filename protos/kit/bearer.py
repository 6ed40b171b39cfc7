"""The token that the cloud's API may ask for of whoever changes something (RFC 6750)."""

from __future__ import annotations

import hmac
import os
from collections.abc import Mapping

VARIABLE = "LITTORAL_API_TOKEN"
_SCHEME = "Bearer "


def from_environment() -> dict[str, str]:
    """The headers with which a request shows the token in LITTORAL_API_TOKEN; none without it."""
    token = os.environ.get(VARIABLE, "").strip()
    return {"Authorization": f"{_SCHEME}{token}"} if token else {}


def shows(headers: Mapping[bytes, bytes], token: str) -> bool:
    """Whether a request with these headers, their names in small letters, shows the token."""
    shown = headers.get(b"authorization", b"")
    return hmac.compare_digest(shown, f"{_SCHEME}{token}".encode())
