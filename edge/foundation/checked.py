"""What the values of settings are held to, beyond their types. Each raises ValueError that says what is wrong."""

from __future__ import annotations

import os
import re
from importlib.util import find_spec
from pathlib import Path

from protos.kit.link import Address
from protos.topics import checked_name

FRAMES_SOCKET = "frames.sock"
MAX_SOCKET_PATH_BYTES = 107
"""Linux keeps a Unix socket's path in 108 bytes, the last one zero."""


def device(value: str) -> str:
    """A name of a device."""
    return checked_name(value, "device id")


def broker(value: str) -> str:
    """An address of a broker."""
    Address.parse(value)
    return value


def local_broker(value: str) -> str:
    """One, or none."""
    return broker(value) if value else ""


def uplink(value: str) -> str:
    """host:port."""
    host, _, port = value.rpartition(":")
    if not host or "/" in host or not port.isdecimal() or not 0 < int(port) < 2**16:
        raise ValueError("not of the form host:port")
    return value


def monitor(value: str) -> str:
    """host:port, or nothing."""
    return uplink(value) if value else ""


def api(value: str) -> str:
    """An address of the API, or nothing."""
    if value and not value.startswith(("http://", "https://")):
        raise ValueError("an address of the API begins with http:// or https://")
    return value.rstrip("/")


def columns(value: str) -> str:
    """Numbers from 1, or nothing."""
    if value and not re.fullmatch(r"[1-9]\d{0,3}(,[1-9]\d{0,3})*", value):
        raise ValueError("columns are numbers from 1, with commas between them: 2,3,4")
    return value


def webhook(value: str) -> str:
    """An address for POST, or nothing."""
    if value and not re.fullmatch(r"https?://[^/\s]\S*", value):
        raise ValueError("an address begins with http:// or https:// and names a host")
    return value


def prefix(value: str) -> str:
    """The first parts of a topic, or nothing."""
    if re.search(r"[+#\s]", value) or value.startswith("/") or value.endswith("/"):
        raise ValueError("a prefix of topics has no + or #, and no / at its ends: it is usually homeassistant")
    return value


def camera(value: str) -> str:
    """A camera needs OpenCV."""
    if value and find_spec("cv2") is None:
        raise ValueError("a camera needs OpenCV, which is not installed: pip install 'littoral[camera]'")
    return value


def folder(value: Path) -> Path:
    """A folder whose sockets have room in the system's tables."""
    path = value.expanduser()
    if path.exists() and not path.is_dir():
        raise ValueError("exists and is not a folder: name another one")
    length = len(os.fsencode(path / FRAMES_SOCKET))
    if length > MAX_SOCKET_PATH_BYTES:
        raise ValueError(
            f"the path of the socket {FRAMES_SOCKET} in it would have {length} bytes, the system allows "
            f"{MAX_SOCKET_PATH_BYTES}: name a folder with a shorter path, or a relative one"
        )
    return path
