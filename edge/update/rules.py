"""The device's update as one table of transitions, and the small decisions around it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from edge.update.entities import (
    Broke,
    Decayed,
    Delayed,
    Desired,
    Effect,
    Event,
    Held,
    IllegalEvent,
    Obtained,
    Proof,
    Proved,
    Recalled,
    Restarted,
    Settled,
    State,
    TakenOver,
    Unfit,
    Update,
)

Effects = tuple[Effect, ...]

RECALLED = "rolled back by a person on the device"
DECAYED = "the committed model is damaged on this device's disk: it is fetched again"

FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 30.0
MOST_TAKEOVERS = 5
"""A model that was in use each of so many times when the agent ended, without once holding, is what ends the agent."""

# fmt: off
TABLE: Mapping[State, Mapping[type[Event], tuple[State, Effects]]] = {
    State.IDLE: {
        Desired:   (State.DOWNLOADING, (Effect.OBTAIN,)),
        Recalled:  (State.IDLE,        (Effect.GO_BACK,)),
        Restarted: (State.IDLE,        ()),
    },
    State.DOWNLOADING: {
        Desired:   (State.DOWNLOADING, (Effect.OBTAIN,)),
        Obtained:  (State.VERIFYING,   (Effect.PROVE,)),
        Settled:   (State.COMMITTED,   (Effect.SIGN,)),
        Unfit:     (State.REFUSED,     (Effect.SIGN,)),
        Delayed:   (State.DOWNLOADING, (Effect.PAUSE, Effect.OBTAIN)),
        Recalled:  (State.DOWNLOADING, (Effect.GO_BACK, Effect.OBTAIN)),
        Restarted: (State.DOWNLOADING, (Effect.OBTAIN,)),
    },
    State.VERIFYING: {
        Desired:   (State.DOWNLOADING, (Effect.OBTAIN,)),
        Proved:    (State.STAGED,      (Effect.TAKE_OVER,)),
        Settled:   (State.COMMITTED,   (Effect.SIGN,)),
        Unfit:     (State.REFUSED,     (Effect.SIGN,)),
        Delayed:   (State.DOWNLOADING, (Effect.PAUSE, Effect.OBTAIN)),
        Recalled:  (State.DOWNLOADING, (Effect.GO_BACK, Effect.OBTAIN)),
        Restarted: (State.DOWNLOADING, (Effect.OBTAIN,)),
    },
    State.STAGED: {
        Desired:   (State.DOWNLOADING, (Effect.GO_BACK, Effect.OBTAIN)),
        TakenOver: (State.TRIAL,       (Effect.HOLD,)),
        Unfit:     (State.REFUSED,     (Effect.GO_BACK, Effect.SIGN)),
        Broke:     (State.ROLLED_BACK, (Effect.GO_BACK, Effect.SIGN)),
        Delayed:   (State.DOWNLOADING, (Effect.GO_BACK, Effect.PAUSE, Effect.OBTAIN)),
        Recalled:  (State.ROLLED_BACK, (Effect.GO_BACK, Effect.SIGN)),
        Restarted: (State.DOWNLOADING, (Effect.OBTAIN,)),
    },
    State.TRIAL: {
        Desired:   (State.DOWNLOADING, (Effect.GO_BACK, Effect.OBTAIN)),
        Held:      (State.COMMITTED,   (Effect.SIGN,)),
        Broke:     (State.ROLLED_BACK, (Effect.GO_BACK, Effect.SIGN)),
        Delayed:   (State.TRIAL,       (Effect.PAUSE, Effect.HOLD)),
        Recalled:  (State.ROLLED_BACK, (Effect.GO_BACK, Effect.SIGN)),
        Restarted: (State.DOWNLOADING, (Effect.OBTAIN,)),
    },
    State.COMMITTED: {
        Desired:   (State.DOWNLOADING, (Effect.OBTAIN,)),
        Recalled:  (State.ROLLED_BACK, (Effect.GO_BACK, Effect.SIGN)),
        Decayed:   (State.DOWNLOADING, (Effect.OBTAIN,)),
        Restarted: (State.COMMITTED,   ()),
    },
    State.REFUSED: {
        Desired:   (State.DOWNLOADING, (Effect.OBTAIN,)),
        Recalled:  (State.REFUSED,     (Effect.GO_BACK,)),
        Restarted: (State.REFUSED,     ()),
    },
    State.ROLLED_BACK: {
        Desired:   (State.DOWNLOADING, (Effect.OBTAIN,)),
        Recalled:  (State.ROLLED_BACK, (Effect.GO_BACK,)),
        Restarted: (State.ROLLED_BACK, ()),
    },
}
# fmt: on


def decide(update: Update, event: Event, now_ms: int) -> tuple[Update, Effects]:
    """The update after `event`, and what to do then. Raises IllegalEvent for what cannot happen in this state."""
    move = TABLE[update.state].get(type(event))
    if move is None:
        raise IllegalEvent(f"{type(event).__name__} while {update.state}")
    if isinstance(event, Desired) and event.target.generation <= update.generation:
        raise IllegalEvent(f"generation {event.target.generation} after {update.generation}")
    state, effects = move
    since_ms = now_ms if state is not update.state else update.since_ms
    return replace(_learn(update, event), state=state, since_ms=since_ms), effects


def resumption(update: Update) -> Event:
    """What the start of the agent means for the update that it remembers."""
    in_use = update.state in {State.STAGED, State.TRIAL}
    if in_use and update.takeovers >= MOST_TAKEOVERS:
        return Broke(f"the agent ended {update.takeovers} times while this model was taken into use")
    return Restarted()


def discrepancy(update: Update, recalled: bytes, running: bytes) -> Event | None:
    """What the models on the disk tell that the remembered update does not: the agent ended between, or flash decayed.

    Manifest digests, recalled: of the model that a person went back from; running: of that which serves; empty: none.
    """
    wanted = update.target.manifest if update.target else b""
    if update.state is not State.COMMITTED or not wanted or running == wanted:
        return None
    return Recalled(RECALLED) if recalled == wanted else Decayed(DECAYED)


def known_proof(update: Update) -> Proof | None:
    """What this device proved of the target before: on the way to it, or when it was committed last."""
    wanted = update.target.manifest if update.target else b""
    return next((proof for proof in (update.proof, update.proven) if proof and proof.manifest == wanted), None)


def pause_s(attempts: int, randomness: float) -> float:
    """Seconds before try `attempts` + 1: capped exponential backoff, at least half of it, `randomness` in [0, 1)."""
    longest = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** min(attempts, 16))
    return longest * (0.5 + randomness / 2)


def _learn(update: Update, event: Event) -> Update:
    """What the event tells, apart from the state."""
    learnt = replace(update, reason="", attempts=0)
    match event:
        case Desired(target):
            learnt = Update(target=target, proven=update.proven)
        case Settled(proof):
            learnt = replace(learnt, proof=proof, proven=proof)
        case Proved(proof):
            # Counted before the act: a model that ends the agent must find its take-over remembered.
            learnt = replace(learnt, proof=proof, takeovers=update.takeovers + 1)
        case Held():
            learnt = replace(learnt, proven=update.proof)
        case Unfit(reason) | Broke(reason):
            learnt = replace(learnt, reason=reason)
        case Delayed(reason):
            # A take-over that was given up in order is none that ended the agent.
            takeovers = update.takeovers - (update.state is State.STAGED)
            learnt = replace(learnt, reason=reason, attempts=update.attempts + 1, takeovers=takeovers)
        case Recalled(reason):
            # What was never used here, or was gone back from before, keeps its own reason and receipt.
            is_gone_back = update.state in {State.STAGED, State.TRIAL, State.COMMITTED}
            learnt = replace(learnt, reason=reason) if is_gone_back else update
        case Decayed(reason):
            learnt = replace(learnt, reason=reason, receipt=b"", takeovers=0)
        case Restarted():
            learnt = update
    return learnt
