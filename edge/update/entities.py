"""The nouns of an update: what is wanted, how far it has come, what can happen to it."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


class State(StrEnum):
    """How far the newest deployment has come. The last three are final: each has one receipt."""

    IDLE = "idle"  # nothing was ever desired
    DOWNLOADING = "downloading"
    VERIFYING = "verifying"
    STAGED = "staged"
    TRIAL = "trial"
    COMMITTED = "committed"
    REFUSED = "refused"
    ROLLED_BACK = "rolled_back"

    @property
    def is_final(self) -> bool:
        """Nothing more is done for this generation."""
        return self in {State.COMMITTED, State.REFUSED, State.ROLLED_BACK}


@dataclass(frozen=True, slots=True)
class Target:
    """What a verified deployment asks for. An empty manifest digest: run no model.

    share: of the champion's frames, for a challenger; 0: it is none.
    """

    slot: str
    model: str
    version: int
    manifest: bytes
    generation: int
    issued_ms: int
    expires_ms: int
    rollout: str
    share: float = 0.0


@dataclass(frozen=True, slots=True)
class Proof:
    """The golden vectors of `manifest` went through `artifact` on this device; `golden_outputs` is what came out."""

    manifest: bytes
    artifact: bytes
    variant: str
    golden_outputs: bytes


@dataclass(frozen=True, slots=True)
class Running:
    """The model that answers the frames now. manifest: its digest. variant: how it is run; tells no two apart."""

    model: str
    version: int
    manifest: bytes
    variant: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class Progress:
    """Chunks of the artifact being fetched: all, and those on this device."""

    total: int = 0
    present: int = 0


@dataclass(frozen=True, slots=True)
class Update:
    """All that must survive a power cut about the newest deployment.

    proof: of the target, once its golden vectors held. proven: of the model that was committed last. takeovers: how
    often the target was put into use and not taken out again in order. attempts: tries of the present step that failed
    for a passing reason. receipt: bytes of a Signed Receipt, in final states only. since_ms: Unix time when the state
    was entered.
    """

    state: State = State.IDLE
    target: Target | None = None
    reason: str = ""
    proof: Proof | None = None
    proven: Proof | None = None
    takeovers: int = 0
    attempts: int = 0
    receipt: bytes = b""
    since_ms: int = 0

    @property
    def generation(self) -> int:
        """The newest generation accepted; 0: none yet."""
        return self.target.generation if self.target else 0


class Effect(StrEnum):
    """What the device does next. At most one of a decision's effects is work that ends in another event: the last."""

    PAUSE = "pause"  # wait before the work is tried again
    OBTAIN = "obtain"  # manifest and artifact onto this device; nothing to do if it runs already
    PROVE = "prove"  # golden vectors in a child process
    TAKE_OVER = "take over"  # into the other slot, then into use
    HOLD = "hold"  # watch it for the trial period, then commit the slot
    GO_BACK = "go back"  # the committed model into use again
    SIGN = "sign"  # the receipt for a final state


@dataclass(frozen=True, slots=True)
class Desired:
    """A deployment that passed every check."""

    target: Target


@dataclass(frozen=True, slots=True)
class Obtained:
    """Manifest and artifact are on the device, verified."""


@dataclass(frozen=True, slots=True)
class Settled:
    """The device already does what is desired: it runs the proven model, or (no proof) no model as asked."""

    proof: Proof | None


@dataclass(frozen=True, slots=True)
class Proved:
    """Every golden vector held."""

    proof: Proof


@dataclass(frozen=True, slots=True)
class TakenOver:
    """The new model answers the frames now."""


@dataclass(frozen=True, slots=True)
class Held:
    """The trial period passed without an error; the slot is committed."""


@dataclass(frozen=True, slots=True)
class Unfit:
    """This model can never run here."""

    reason: str


@dataclass(frozen=True, slots=True)
class Broke:
    """The model was in use and did not hold."""

    reason: str


@dataclass(frozen=True, slots=True)
class Delayed:
    """The step could not be done now: link, disk. It is tried again."""

    reason: str


@dataclass(frozen=True, slots=True)
class Recalled:
    """A person on the device told it to go back to the model before."""

    reason: str


@dataclass(frozen=True, slots=True)
class Decayed:
    """The committed model is no longer whole on this device's disk. It is obtained again."""

    reason: str


@dataclass(frozen=True, slots=True)
class Restarted:
    """The agent began anew with what it remembered."""


Event = (
    Desired | Obtained | Settled | Proved | TakenOver | Held | Unfit | Broke | Delayed | Recalled | Decayed | Restarted
)


class IllegalEvent(Exception):
    """This event cannot happen in this state: a defect of the caller. Nothing was changed."""
