"""One try of one worker, in a process of its own: `python -m cloud.training.worker ORDER`. Imports TensorFlow.

It tells what it does in lines of JSON on standard output; see cloud/training/overseer.py, which starts and watches it.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from typing import Any

from cloud.training.entities import Ending, Order, QuantisationLoss, Refused, Say, Unavailable, UnreadableDataset
from cloud.training.team import Team

_ABORTED = "Collective ops is aborted by: "


def main(text: str) -> int:
    """Do what the order says. Returns the exit code."""
    say, order = _said_on_standard_output(), read(text)
    try:
        Worker(order, say).run()
    except Exception as error:  # noqa: BLE001 - whatever it is, the Job has to know what to do
        ending, reason = _judged(error, alone=len(order.team) == 1)
        if ending is Ending.FAILED:
            sys.excepthook(type(error), error, error.__traceback__)
        say("failed", code=int(ending), reason=reason)
        return int(ending)
    return int(Ending.DONE)


def read(text: str) -> Order:
    """An order, from JSON."""
    fields = json.loads(text)
    team = Team(tuple(fields["team"]["addresses"]), fields["team"]["index"])
    return Order(**fields | {"team": team})


class Worker:
    """Trains with the others; the first one also keeps the checkpoints, judges and registers."""

    def __init__(self, order: Order, say: Say) -> None:
        from cloud.training.registering import Registrations  # noqa: PLC0415 - the parent needs none of this

        self._order, self._say = order, say
        self._cloud = Registrations(order.api)

    def run(self) -> None:
        """Everything, to the end. Raises what `_judged` knows, or what nobody foresaw."""
        order = self._order
        known = self._cloud.of(order.run, order.model)
        if known:  # this try follows one that was lost after it had registered
            self._say("registered", **_shown(known))
            return
        from cloud.training import datasets, rules, service  # noqa: PLC0415 - slow to import
        from cloud.training.together import Together  # noqa: PLC0415

        data = datasets.load(order.data)
        epochs = order.epochs or rules.default_epochs(len(data.train_labels))
        origin = service.lineage(data, order.options, epochs, service.code_version(), len(order.team))
        together = Together(data, order, epochs, origin.training_run)
        self._say("started", workers=len(order.team), epochs=epochs, images=len(data.train_labels))
        origin.restarts = together.train(self._say)
        if order.team.is_chief:
            self._say("judging")
            trained = service.judged(data, together.files(), origin)
            draft = service.draft(trained, order.model)
            self._say("registered", **_shown(self._cloud.register(order.run, draft, trained.files)))
            together.forget()
        else:
            self._say("waiting")  # so that all go on together if the first one is lost before it has registered
        together.part()
        self._say("done")


def _shown(version: Mapping[str, Any]) -> dict[str, Any]:
    names = ("model", "version", "manifest", "accuracy_float", "accuracy_int8")
    return {name: version.get(name) for name in names}


def _judged(error: Exception, *, alone: bool) -> tuple[Ending, str]:
    """How a try ends that met this error, and why in words. alone: there is no other worker."""
    if isinstance(error, UnreadableDataset | QuantisationLoss | Refused):
        return Ending.REFUSED, str(error)
    if isinstance(error, Unavailable):
        return Ending.UNAVAILABLE, str(error)
    if not alone and _is_of_a_peer(error):
        return Ending.PEER_LOST, f"another worker was lost: {_telling_line(error)}"
    return Ending.FAILED, f"{type(error).__name__}: {_telling_line(error)}"


def _is_of_a_peer(error: Exception) -> bool:
    """Whether TensorFlow says that somebody else is gone, has begun anew, or has given up."""
    tensorflow = sys.modules.get("tensorflow")
    if tensorflow is None:
        return False
    kinds: Any = tensorflow.errors
    gone = (
        kinds.UnavailableError,
        kinds.AbortedError,
        kinds.CancelledError,
        kinds.DeadlineExceededError,
        kinds.FailedPreconditionError,
    )
    # As INTERNAL the coordination service tells of a heartbeat that another worker missed.
    return isinstance(error, gone) or (isinstance(error, kinds.InternalError) and "ollective" in str(error))


def _telling_line(error: Exception) -> str:
    """The line that says why: TensorFlow puts it between where in the graph it was and what to do."""
    lines = str(error).splitlines() or [""]
    return next((line.partition(_ABORTED)[2] for line in lines if _ABORTED in line), lines[0])


def _said_on_standard_output() -> Say:
    """Lines of JSON go where standard output led; what libraries print goes to standard error from now on."""
    out = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)

    def say(event: str, **facts: object) -> None:
        out.write(json.dumps({"event": event, **facts}) + "\n")

    return say


if __name__ == "__main__":
    code = main(sys.argv[1])
    sys.stderr.flush()
    os._exit(code)  # TensorFlow's own end would wait for workers that are no more
