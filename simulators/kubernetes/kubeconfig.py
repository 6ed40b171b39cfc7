"""How a client reaches a cluster: kubeconfig files, and a look at an address of the API."""

from __future__ import annotations

import base64
import json
import ssl
import urllib.request
from pathlib import Path
from typing import Any

from simulators.kubernetes.certificates import Authority, Identity


def write(path: Path, server: str, authority: Authority, user: Identity) -> Path:
    """Write the kubeconfig of a user into `path`, all certificates within it; return the path."""
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "littoral",
        "contexts": [{"name": "littoral", "context": {"cluster": "littoral", "user": "littoral"}}],
        "clusters": [{"name": "littoral", "cluster": _cluster(server, authority)}],
        "users": [{"name": "littoral", "user": _user(user)}],
    }
    path.touch(mode=0o600)
    path.write_text(json.dumps(content, indent=2))
    return path


def _cluster(server: str, authority: Authority) -> dict[str, str]:
    return {"server": server, "certificate-authority-data": _data(authority.certificate)}


def _user(user: Identity) -> dict[str, str]:
    return {"client-certificate-data": _data(user.certificate), "client-key-data": _data(user.key)}


def _data(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()


class Api:
    """The API as one user sees it, for the few questions that starting a cluster has."""

    def __init__(self, server: str, authority: Authority, user: Identity) -> None:
        self._server = server
        self._context = ssl.create_default_context(cafile=str(authority.certificate))
        self._context.load_cert_chain(user.certificate, user.key)

    def answers(self, path: str) -> bool:
        """Whether a GET of `path` succeeds."""
        return self.get(path) is not None

    def get(self, path: str) -> bytes | None:
        """What a GET of `path` answers; None where it fails."""
        try:
            with urllib.request.urlopen(self._server + path, timeout=5, context=self._context) as answer:  # noqa: S310 - https
                content: bytes = answer.read()
                return content
        except OSError:
            return None

    def ready_nodes(self) -> set[str]:
        """The names of the nodes whose condition Ready is true."""
        listed = json.loads(self.get("/api/v1/nodes") or b'{"items": []}')
        return {node["metadata"]["name"] for node in listed["items"] if _is_ready(node)}


def _is_ready(node: dict[str, Any]) -> bool:
    conditions = node.get("status", {}).get("conditions", [])
    return any(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions)
