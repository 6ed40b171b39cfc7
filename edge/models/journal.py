"""The journal: which place is committed, which on trial, and what lies in each. Written durably before each act."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import structlog

from edge.models.entities import Place
from protos.kit.files import write_durably

FILE = "journal.json"
PLACES = ("a", "b")

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Journal:
    """A place is "a" or "b"; empty: none."""

    committed: str = ""
    trial: str = ""
    places: dict[str, Place] = field(default_factory=dict)

    @property
    def spare(self) -> str:
        """The place that the next model goes to."""
        return "b" if self.committed == "a" else "a"

    @property
    def staged(self) -> str:
        """The place with a model that is not committed; empty: none."""
        return self.spare if self.spare in self.places else ""

    def with_place(self, name: str, place: Place | None) -> Journal:
        """The journal with `place` at `name`, or nothing there."""
        others = {key: value for key, value in self.places.items() if key != name}
        return replace(self, places=others | ({name: place} if place else {}))


def read(folder: Path) -> Journal:
    """The journal in `folder`; an empty one if there is none or it is damaged."""
    try:
        content = json.loads((folder / FILE).read_text())
        places = {name: Place(**place) for name, place in content["places"].items() if name in PLACES}
        return Journal(_known(content["committed"], places), _known(content["trial"], places), places)
    except FileNotFoundError:
        return Journal()
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        log.error(
            "the journal of the models is damaged; the models are fetched again", folder=str(folder), error=str(error)
        )
        return Journal()


def write(folder: Path, journal: Journal) -> None:
    """Replace the journal in `folder`, durably."""
    write_durably(folder / FILE, json.dumps(asdict(journal), indent=1).encode())


def _known(name: str, places: dict[str, Place]) -> str:
    return name if name in places else ""
