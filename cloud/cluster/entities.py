"""The nouns of the cluster: what an object asks for, what is to be done for it, and what its status says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from cloud.rollouts.entities import Request, Wish

GROUP = "littoral.dev"
VERSION = "v1alpha1"
ROLLOUTS = "modelrollouts"
GROUPS = "devicegroups"
RUNS = "trainingruns"

Status = Mapping[str, Any]
"""An object's status as it is written; what is not in it has no value."""


class Phase(StrEnum):
    """Of an object, in one word."""

    PENDING = "Pending"
    PROGRESSING = "Progressing"
    PAUSED = "Paused"
    RUNNING = "Running"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    ABORTED = "Aborted"


ENDED = frozenset({Phase.SUCCEEDED, Phase.FAILED, Phase.ABORTED})
"""Nothing more happens to an object in one of these while its spec stays as it is."""


@dataclass(frozen=True, slots=True)
class Object:
    """One of our objects. uid: of this one, and of no other that bears its name later. generation: of its spec."""

    namespace: str
    name: str
    uid: str
    generation: int
    spec: Mapping[str, Any]
    status: Status


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a ModelRollout asks for. group: the DeviceGroup whose labels select the devices; empty: none."""

    request: Request
    group: str
    attempt: int
    paused: bool
    abort_when_deleted: bool


@dataclass(frozen=True, slots=True)
class Begin:
    """Begin what is wanted as a rollout of this id, in the place of these."""

    rollout: str
    replaces: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Tell:
    """Tell a rollout of ours a wish."""

    rollout: str
    wish: Wish


Act = Begin | Tell


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why what an object asks for cannot be done now. reason: one word in capitals and small letters, for machines."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Worker:
    """A pod of a TrainingRun. message: what it said when it ended, exit_code: with which; None: it has not ended."""

    index: int
    exit_code: int | None = None
    message: str = ""
    ended: str = ""


@dataclass(frozen=True, slots=True)
class Workshop:
    """Where an installation trains: what a TrainingRun does not say itself.

    api: where workers register the model. token: the Secret with what they show there.
    """

    image: str = ""
    account: str = ""
    api: str = ""
    token: str = ""


class NoSuchGroup(Exception):
    """A ModelRollout names a DeviceGroup that its namespace does not have."""
