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
    """A place is "a" or "b"; empty: none. former: was committed before, and lies there still.

    recalled: digest in hex of the manifest that the device was told to go back from; until another is committed.
    """

    committed: str = ""
    trial: str = ""
    former: str = ""
    recalled: str = ""
    places: dict[str, Place] = field(default_factory=dict)

    @property
    def spare(self) -> str:
        """The place that the next model goes to."""
        return "b" if self.committed == "a" else "a"

    def emptied(self, name: str) -> Journal:
        """Nothing counts that lies in place `name`."""
        roles = {role: "" for role in ("committed", "trial", "former") if getattr(self, role) == name}
        return replace(self, **roles, places={key: place for key, place in self.places.items() if key != name})

    def filled(self, name: str, place: Place) -> Journal:
        """`place` lies at `name`."""
        return replace(self, places=self.places | {name: place})

    def with_committed(self, name: str) -> Journal:
        """Place `name` is committed; what was committed before may be needed again if its bytes decay."""
        former = self.committed if self.committed != name else self.former
        return replace(self, committed=name, trial="", former=former, recalled="")

    def gone_back(self) -> Journal:
        """The former place is committed again; what was committed lies there still, but nothing falls back on it."""
        recalled = self.places[self.committed].manifest if self.committed else ""
        return replace(self, committed=self.former, trial="", former="", recalled=recalled)

    def fallen_back(self) -> Journal:
        """The former place is committed again; what lies in the one that decayed does not count."""
        return replace(self.emptied(self.committed), committed=self.former, former="")


def read(folder: Path) -> Journal:
    """The journal in `folder`; an empty one if there is none or it is damaged."""
    try:
        content = json.loads((folder / FILE).read_text())
        places = {name: Place(**place) for name, place in content["places"].items() if name in PLACES}
        roles = {role: _known(content.get(role, ""), places) for role in ("committed", "trial", "former")}
        return Journal(**roles, recalled=str(content.get("recalled", "")), places=places)
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
