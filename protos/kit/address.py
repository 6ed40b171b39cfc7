"""Where a broker listens."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import unquote, urlsplit


@dataclass(frozen=True, slots=True)
class Address:
    """Host and port, and with what to log in."""

    host: str
    port: int
    username: str | None = None
    password: str | None = None

    @classmethod
    def parse(cls, url: str) -> Address:
        """From `mqtt://[user:password@]host[:1883]`. Raises ValueError that says what is wrong."""
        form = "not of the form mqtt://[user:password@]host[:port]"
        try:
            parts = urlsplit(url)
            port = 1883 if parts.port is None else parts.port
        except ValueError as error:
            raise ValueError(f"{form}: {error}") from error
        if parts.scheme != "mqtt" or not parts.hostname or parts.path.strip("/") or parts.query or parts.fragment:
            raise ValueError(form)
        if port == 0:
            raise ValueError(f"{form}: port 0 is nobody's")
        return cls(parts.hostname, port, _decoded(parts.username), _decoded(parts.password))

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"mqtt://{host}:{self.port}"


def _decoded(part: str | None) -> str | None:
    return None if part is None else unquote(part)
