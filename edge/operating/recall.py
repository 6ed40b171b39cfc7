"""Back to the former model by a person's word: through the running agent, or on the disk of one that does not run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from edge import agent, wiring
from edge.foundation.clock import now_ms
from edge.identity.service import DeviceIdentity
from edge.models.entities import WrongStep
from edge.models.service import ModelStore
from edge.reporting import local
from edge.update import receipts, rules
from edge.update.entities import Recalled
from edge.update.memory import Memory


class NotDone(Exception):
    """The device runs what it ran. The message says why."""


def roll_back(folder: Path, device: str, slot: str) -> dict[str, Any]:
    """The status after it. device: its id, where no agent has told it yet. Raises NotDone, or AgentFailed."""
    try:
        return {"agent_running": True, **local.order(folder / local.ORDERS_SOCKET, f"rollback {slot}")}
    except local.Refused as error:
        raise NotDone(str(error)) from error
    except local.NoAnswer:
        _on_disk(folder, agent.last_device(folder) or device, slot)
        return agent.status(folder)


def _on_disk(folder: Path, device: str, slot: str) -> None:
    """While no agent can start. A kill between the two writes is made good by the agent's next start."""
    with agent.holding(folder, device):
        store = ModelStore.open(folder / wiring.MODELS_FOLDER, slot)
        try:
            store.recall()
        except (WrongStep, OSError) as error:
            raise NotDone(str(error)) from error
        memory = Memory(folder, slot)
        update = memory.load()
        if update.target and rules.discrepancy(update, bytes.fromhex(store.recalled), b"") == Recalled(rules.RECALLED):
            update, _ = rules.decide(update, Recalled(rules.RECALLED), now_ms())
            sign = DeviceIdentity.load(folder, device).sign
            memory.save(replace(update, receipt=receipts.issue(update, device, now_ms(), sign)))
