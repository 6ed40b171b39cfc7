"""What a run came to: what the API tells at the end, as one JSON object, and what of it is not as it must be."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Entry = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Versions:
    """The versions that the run published: the first, the better one, the damaged one."""

    first: int
    good: int
    bad: int


@dataclass(frozen=True, slots=True)
class Findings:
    """The API's answers once everything has settled. refusals: receipts of devices that refused a version."""

    models: Sequence[Entry]
    devices: Sequence[Entry]
    rollouts: Sequence[Entry]
    refusals: Sequence[Entry]
    summary: Entry

    def as_json(self) -> dict[str, Any]:
        """The object that `littoral demo --json` prints."""
        return {
            "models": _picked(self.models, "version", "digest", "bytes", "accuracy_float", "accuracy_int8"),
            "devices": _picked(self.devices, "id", "version", "generation"),
            "rollouts": [
                {
                    **_only(rollout, "version", "state", "reason"),
                    "waves": _picked(rollout["waves"], "size", "succeeded", "failed"),
                }
                for rollout in self.rollouts
            ],
            "refusals": _picked(self.refusals, "device", "version", "reason"),
            "results": _only(self.summary, "sent", "stored", "lost", "duplicated", "accuracy"),
        }

    def complaints(self, devices: Sequence[str], versions: Versions) -> list[str]:
        """What is not as it must be, a line each; empty: all `devices` run the good version, nothing was lost."""
        return [
            *self._about_devices(devices, versions),
            *self._about_rollouts(versions),
            *self._about_refusals(versions),
            *self._about_results(),
        ]

    def canary(self, version: int) -> str:
        """The one device of the first wave of the rollout of `version`; empty if there is none."""
        members = [member for rollout in self._of(version) for member in rollout["members"]]
        first = min((member["wave"] for member in members), default=None)
        names = [member["device"] for member in members if member["wave"] == first]
        return str(names[0]) if len(names) == 1 else ""

    def _about_devices(self, devices: Sequence[str], versions: Versions) -> list[str]:
        running = {device["id"]: device["version"] for device in self.devices}
        return [
            f"{device} runs version {running.get(device)}, not {versions.good}"
            for device in devices
            if running.get(device) != versions.good
        ]

    def _about_rollouts(self, versions: Versions) -> list[str]:
        wanted = {versions.first: "succeeded", versions.good: "succeeded", versions.bad: "failed"}
        found = {version: [rollout["state"] for rollout in self._of(version)] for version in wanted}
        return [
            f"the rollout of version {version} is {', '.join(found[version]) or 'missing'}, not {state}"
            for version, state in wanted.items()
            if found[version] != [state]
        ]

    def _about_refusals(self, versions: Versions) -> list[str]:
        refused = [(refusal["device"], refusal["version"]) for refusal in self.refusals]
        wanted = (self.canary(versions.bad), versions.bad)
        if refused == [wanted]:
            return []
        told = ", ".join(f"version {version} by {device}" for device, version in refused) or "nothing"
        return [f"refused was {told}; it should be version {wanted[1]} by its canary {wanted[0]} alone"]

    def _about_results(self) -> list[str]:
        summary = self.summary
        lines = [f"{summary[name]} results {name}" for name in ("lost", "duplicated", "quarantined") if summary[name]]
        if not summary["sent"] == summary["stored"] > 0:
            lines.append(f"{summary['stored']} results stored of {summary['sent']} frames sent")
        return lines

    def _of(self, version: int) -> list[Entry]:
        return [rollout for rollout in self.rollouts if rollout["version"] == version]


def collect(get: Callable[[str], Any]) -> Findings:
    """Ask the API for everything; `get` answers a path."""
    rollouts = [get(f"/api/v1/rollouts/{rollout['id']}") for rollout in get("/api/v1/rollouts")]
    return Findings(
        models=sorted(get("/api/v1/models"), key=lambda model: int(model["version"])),
        devices=sorted(get("/api/v1/devices"), key=lambda device: str(device["id"])),
        rollouts=sorted(rollouts, key=lambda rollout: (int(rollout["created_ms"]), int(rollout["version"]))),
        refusals=get("/api/v1/receipts?outcome=refused"),
        summary=get("/api/v1/summary"),
    )


def _only(entry: Entry, *names: str) -> dict[str, Any]:
    return {name: entry[name] for name in names}


def _picked(entries: Sequence[Entry], *names: str) -> list[dict[str, Any]]:
    return [_only(entry, *names) for entry in entries]
