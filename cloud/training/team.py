"""Who trains together: the workers' addresses, and which of them this process is. Pure.

TensorFlow reads it from the environment variable TF_CONFIG. Where nobody gives that, it is made from what an indexed
Job of Kubernetes tells its pods: JOB_COMPLETION_INDEX, and host names that differ in the index alone.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

TF_CONFIG = "TF_CONFIG"
INDEX = "JOB_COMPLETION_INDEX"
PLACE = "{index}"
MOST_WORKERS = 16
WORKER = "worker"


class BadTeam(ValueError):
    """It is not clear who trains together; the message says what is wrong and where."""


@dataclass(frozen=True, slots=True)
class Team:
    """The workers, host:port each in the order of their numbers, and this one's number. One alone needs no address."""

    addresses: tuple[str, ...] = ("",)
    index: int = 0

    def __len__(self) -> int:
        return len(self.addresses)

    @property
    def is_chief(self) -> bool:
        """The first one keeps the checkpoints, and judges and registers what all have trained."""
        return self.index == 0

    def tf_config(self) -> str:
        """As TensorFlow reads it."""
        return json.dumps(
            {"cluster": {WORKER: list(self.addresses)}, "task": {"type": WORKER, "index": self.index}}, sort_keys=True
        )


def team_of(environment: Mapping[str, str], peers: str = "", workers: int | None = None) -> Team:
    """The team by TF_CONFIG, else by `peers` (an address with {index} in it) and the Job's index. Raises BadTeam.

    workers: how many there are; by TF_CONFIG it need not be said.
    """
    if given := environment.get(TF_CONFIG):
        team = _read(given)
        if workers is not None and workers != len(team):
            raise BadTeam(f"--workers says {workers}, {TF_CONFIG} names {len(team)}: leave one of them out")
        return team
    if workers is None or workers == 1:
        return Team()
    return Team(_addresses(peers, workers), _index(environment, workers))


def _addresses(peers: str, workers: int) -> tuple[str, ...]:
    if peers.count(PLACE) != 1:
        raise BadTeam(
            f"--peers is {peers!r}: {workers} workers need an address with {PLACE} in it, as run-{PLACE}:2222"
        )
    return tuple(_checked(peers.replace(PLACE, str(index)), "--peers") for index in range(workers))


def _index(environment: Mapping[str, str], workers: int) -> int:
    text = environment.get(INDEX, "")
    if not text.isdecimal() or int(text) >= workers:
        raise BadTeam(f"{INDEX} is {text!r}: each of {workers} workers needs its own number, from 0 to {workers - 1}")
    return int(text)


def _read(text: str) -> Team:
    try:
        read = json.loads(text)
        cluster, task = read["cluster"], read["task"]
        addresses, index, kind = cluster[WORKER], task["index"], task["type"]
    except (ValueError, KeyError, TypeError) as error:
        raise BadTeam(
            f"{TF_CONFIG} is not of the form {Team(('host:port',)).tf_config()}: {type(error).__name__}: {error}"
        ) from error
    if kind != WORKER or set(cluster) != {WORKER}:
        raise BadTeam(f"{TF_CONFIG} names {sorted(cluster)} and the task {kind!r}: all must be of the type {WORKER!r}")
    if not isinstance(addresses, list) or not 1 <= len(addresses) <= MOST_WORKERS:
        raise BadTeam(f"{TF_CONFIG} must list 1 to {MOST_WORKERS} workers, as host:port each")
    if not isinstance(index, int) or isinstance(index, bool) or not 0 <= index < len(addresses):
        raise BadTeam(f"{TF_CONFIG} says that this is worker {index!r}: there are 0 to {len(addresses) - 1}")
    return Team(tuple(_checked(address, TF_CONFIG) for address in addresses), index)


def _checked(address: object, where: str) -> str:
    host, _, port = str(address).rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 1 << 16:
        raise BadTeam(f"{where} has the address {address!r}: write host:port")
    return str(address)
