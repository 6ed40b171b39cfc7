"""The nouns of a rollout: waves, members, gates; what can happen to it, and what it wants done.

Vocabulary as in Eclipse hawkBit and AWS IoT Jobs where they have a word.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from protos.topics import DEFAULT_SLOT


class State(StrEnum):
    """Of a rollout. The last four are final."""

    RUNNING = "running"
    PAUSED = "paused"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    ABORTED = "aborted"
    SUPERSEDED = "superseded"  # its owner's next rollout took its place: devices keep what they have until that comes


ACTIVE = frozenset({State.RUNNING, State.PAUSED})
GONE_BACK = frozenset({State.FAILED, State.ABORTED})
"""Every member that had the version was given back what it had before."""


class MemberState(StrEnum):
    """Of one device in a rollout."""

    PENDING = "pending"  # not yet given the version
    HELD = "held"  # not given it for as long as its node takes no new model
    DEPLOYED = "deployed"  # given, not yet answered
    UNREACHABLE = "unreachable"  # given, and not seen for longer than its lease
    SUCCEEDED = "succeeded"  # proved it with a receipt
    FAILED = "failed"  # refused it, or did not answer in time
    ROLLED_BACK = "rolled_back"  # used it, and went back by itself
    INCOMPATIBLE = "incompatible"  # the version is not for this device
    SUPERSEDED = "superseded"  # a newer rollout took the device over
    WITHDRAWN = "withdrawn"  # the rollout ended before it answered


OPEN = frozenset({MemberState.DEPLOYED, MemberState.UNREACHABLE})
"""Given the version, and still to answer."""


@dataclass(frozen=True, slots=True)
class Gates:
    """What a wave must show before the next one starts.

    Shares are of the wave's members that can be reached, 0 to 1. soak_s: seconds after a wave's last success. lease_s:
    seconds without a sign of life after which a device counts as unreachable. timeout_s: seconds in which a device that
    can be reached must answer.
    """

    max_failed_share: float = 0.0
    min_succeeded_share: float = 1.0
    soak_s: float = 0
    lease_s: float = 60
    timeout_s: float = 300


@dataclass(frozen=True, slots=True)
class Former:
    """What a slot was to run before a rollout gave it the version. generation 0: it was never given anything."""

    generation: int = 0
    model: str = ""
    version: int = 0
    manifest: bytes = b""
    rollout: str = ""


@dataclass(frozen=True, slots=True)
class Member:
    """One device of a rollout. Times in Unix ms, 0: not yet.

    wave: from 0. generation: of the deployment that gave it the version; 0: none yet. waiting_ms: since when it can be
    reached and has not answered. succeeded_ms: when its proof was taken.
    """

    device: str
    wave: int
    state: MemberState = MemberState.PENDING
    generation: int = 0
    reason: str = ""
    waiting_ms: int = 0
    succeeded_ms: int = 0
    former: Former = field(default_factory=Former)


@dataclass(frozen=True, slots=True)
class Rollout:
    """A model version on its way to the devices that a selector chose.

    number: grows with each rollout, so the higher one is newer. wave: index of the newest wave that was begun, -1:
    none. waves: how many there are. revision: how often it was written.
    """

    id: str
    model: str
    version: int
    manifest: bytes
    selector: Mapping[str, str]
    gates: Gates
    waves: int
    members: Mapping[str, Member]
    created_ms: int
    slot: str = DEFAULT_SLOT
    state: State = State.RUNNING
    reason: str = ""
    wave: int = -1
    number: int = 0
    revision: int = 0


@dataclass(frozen=True, slots=True)
class Candidate:
    """A device that a rollout may choose. closed: it takes no new model now."""

    device: str
    labels: Mapping[str, str]
    online: bool
    closed: bool = False


@dataclass(frozen=True, slots=True)
class Request:
    """What a person asks for. waves: counts ("5"), shares of all targets ("25%"), "rest" as the last."""

    model: str
    version: int
    waves: tuple[str, ...]
    selector: Mapping[str, str] = field(default_factory=dict)
    gates: Gates = field(default_factory=Gates)
    slot: str = DEFAULT_SLOT


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to be the one active controller. Times in Unix ms.

    token: fences off whoever held it before, growing by one with each new holder. since_ms: when this holder took it.
    """

    owner: str
    token: int
    expires_ms: int
    since_ms: int


Tally = Mapping[MemberState, int]
"""How many members of a wave are in each state."""


@dataclass(frozen=True, slots=True)
class Overview:
    """A rollout with the tallies of its waves; its members may be left out."""

    rollout: Rollout
    tallies: tuple[Tally, ...]


# What can happen to one member.


@dataclass(frozen=True, slots=True)
class Given:
    """The deployment that gives a member the version is written; `former` is what it replaced."""

    device: str
    generation: int
    former: Former


@dataclass(frozen=True, slots=True)
class DeviceSucceeded:
    """A verified receipt says that the device runs the version, and the device is alive."""

    device: str
    generation: int


@dataclass(frozen=True, slots=True)
class DeviceRefused:
    """A verified receipt says that the device never took the version into use."""

    device: str
    generation: int
    reason: str


@dataclass(frozen=True, slots=True)
class RolledBack:
    """A verified receipt says that the device used the version and went back."""

    device: str
    generation: int
    reason: str


@dataclass(frozen=True, slots=True)
class Incompatible:
    """A verified receipt says that the version is not for this kind of device."""

    device: str
    generation: int
    reason: str


@dataclass(frozen=True, slots=True)
class Seen:
    """Whether the device is connected, and when it last gave a sign of life.

    watching_ms: since when we watch without a gap. Nobody is judged by time before.
    """

    device: str
    online: bool
    last_seen_ms: int
    watching_ms: int = 0


@dataclass(frozen=True, slots=True)
class Held:
    """The device's node takes no new model now."""

    device: str


@dataclass(frozen=True, slots=True)
class Released:
    """The device's node takes new models again, or is gone."""

    device: str


@dataclass(frozen=True, slots=True)
class Superseded:
    """A newer rollout has the device now."""

    device: str
    by: str


@dataclass(frozen=True, slots=True)
class Joined:
    """A device that was not there when the rollout was made matches its selector."""

    device: str


# What can happen to the rollout.


@dataclass(frozen=True, slots=True)
class Started:
    """The first wave may begin."""


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed."""


@dataclass(frozen=True, slots=True)
class Pause:
    """No further wave begins. What was given is still judged."""


@dataclass(frozen=True, slots=True)
class Resume:
    """Waves begin again."""


@dataclass(frozen=True, slots=True)
class Abort:
    """A person ends it: everyone goes back."""


@dataclass(frozen=True, slots=True)
class Amend:
    """Other gates, from now on."""

    gates: Gates


@dataclass(frozen=True, slots=True)
class Replaced:
    """Its owner has another rollout from now on. Nobody goes back: what was given stays until that gives its own."""

    by: str


MemberEvent = Given | DeviceSucceeded | DeviceRefused | RolledBack | Incompatible | Seen | Superseded | Held | Released
Wish = Started | Pause | Resume | Abort | Amend | Replaced
Event = MemberEvent | Joined | Wish | Tick


@dataclass(frozen=True, slots=True)
class Deploy:
    """Give the device the rollout's version; answered by Given."""

    device: str


@dataclass(frozen=True, slots=True)
class Restore:
    """Give the device what it had before."""

    device: str


Effect = Deploy | Restore


class IllegalEvent(Exception):
    """This cannot be done to a rollout in this state. Nothing was changed."""


class BadWaves(ValueError):
    """The waves asked for make no sense."""


class NoTargets(Exception):
    """No device matches the selector."""


class UnknownRollout(Exception):
    """There is no rollout of this id."""


class Conflict(Exception):
    """Someone else wrote this rollout meanwhile. Nothing was changed; read it again."""


class LeaseLost(Exception):
    """Another controller is active now. Nothing was changed."""
