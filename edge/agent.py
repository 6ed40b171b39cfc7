"""The running agent: the rooms' tasks, started in order and ended in the reverse order, on a folder of its own."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
from collections.abc import Coroutine, Iterator, Mapping
from contextlib import AsyncExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import structlog

from edge.events.lives import living
from edge.foundation import memory, sd_notify
from edge.foundation.checked import FRAMES_SOCKET
from edge.foundation.settings import EdgeSettings
from edge.foundation.version import agent_version
from edge.inference import local as local_ends
from edge.inference.local import Ends
from edge.inference.rpc import Ports, SocketUnusable, frames_server
from edge.models.entities import WrongStep
from edge.reporting import local, offline
from edge.reporting import mqtt as reporting_mqtt
from edge.reporting.intervals import Intervals
from edge.reporting.watch import Watch
from edge.samples.entities import SamplesFailed
from edge.uplink.entities import OutboxFailed
from edge.wiring import MODELS_FOLDER, OUTBOX_FILES, Rooms, Slot, rooms
from protos.kit.files import remove_leftovers
from protos.kit.keys import KeysFailed
from protos.kit.kinds import Kind

LOCK_FILE = "agent.lock"
FAREWELL_S = 2.0

log = structlog.get_logger()


class AgentFailed(Exception):
    """The agent cannot start, or had to end. The message says why and what to do."""


class Agent:
    """One device's agent; `run` it once."""

    def __init__(self, settings: EdgeSettings) -> None:
        self._settings = settings

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop` is set. Raises AgentFailed."""
        settings = self._settings
        structlog.contextvars.bind_contextvars(device=settings.id)
        try:
            with (
                holding(settings.dir, settings.id),
                living(settings.dir, agent_version()) as started,
                rooms(settings) as parts,
            ):
                parts.journal.tell(started)
                await _work(parts, settings, stop)
        except (KeysFailed, OutboxFailed, SamplesFailed, SocketUnusable) as error:
            raise AgentFailed(str(error)) from error
        except OSError as error:
            raise AgentFailed(f"data folder {settings.dir} cannot be used: {error}") from error
        log.info("agent ended")


@contextmanager
def holding(folder: Path, device: str) -> Iterator[None]:
    """The data folder is this process's alone within the block. Raises AgentFailed if another agent has it.

    What a kill left half written in it is removed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOCK_FILE).open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = _holder(folder) or {"device": "unknown", "pid": "unknown"}
            raise AgentFailed(
                f"another agent (device {holder['device']}, process {holder['pid']}) runs on the data folder {folder}: "
                "end it, or give this one a folder of its own with --dir"
            ) from None
        remove_leftovers(folder)
        file.truncate(0)
        file.write(json.dumps({"device": device, "pid": os.getpid()}))
        file.flush()
        yield


def status(folder: Path) -> dict[str, object]:
    """What the agent of this folder tells; if none runs, what lies in the folder. Raises AgentFailed."""
    try:
        return {"agent_running": True, **local.ask(folder / local.STATUS_SOCKET)}
    except local.NoAnswer:
        pass
    holder = _holder(folder)
    if holder is None:
        raise AgentFailed(f"no agent has run on the data folder {folder} yet: name another one with --dir")
    outboxes = {kind: folder / name for kind, name in OUTBOX_FILES.items()}
    found = offline.status(folder, folder / MODELS_FOLDER, outboxes)
    return {"agent_running": False, "device": holder["device"], **found}


def last_device(folder: Path) -> str:
    """The id of the agent that has the folder, or had it last; empty: none had."""
    holder = _holder(folder)
    return str(holder["device"]) if holder else ""


def _holder(folder: Path) -> dict[str, object] | None:
    """Device and process of the agent that has the folder, or had it last."""
    try:
        holder = json.loads((folder / LOCK_FILE).read_text())
        return {"device": str(holder["device"]), "pid": int(holder["pid"])}
    except (OSError, ValueError, KeyError, TypeError):
        return None


async def _work(rooms: Rooms, settings: EdgeSettings, stop: asyncio.Event) -> None:
    """Until `stop`, or until a task fails, which ends all others and is raised."""
    frames = settings.dir / FRAMES_SOCKET
    await asyncio.gather(*(slot.updater.serve() for slot in rooms.slots))
    for slot in rooms.slots:
        await slot.desired.listen()
    await rooms.challenger.desired.listen()
    async with AsyncExitStack() as doors:
        ports = Ports(settings.infer_http_port, settings.infer_grpc_port)
        await doors.enter_async_context(frames_server(rooms.inference, frames, ports))
        async with asyncio.TaskGroup() as group:
            ends = local_ends.ends(settings, rooms.inference, rooms.journal.tell)
            tasks = [group.create_task(work, name=name) for name, work in _tasks(rooms, settings, ends).items()]
            memory.tidy()
            await rooms.journal.write()  # whoever kills an agent that is ready finds its start told
            log.info("agent ready", frames=str(frames), broker=settings.broker, uplink=settings.uplink)
            sd_notify.notify(sd_notify.READY)
            await stop.wait()
            sd_notify.notify(sd_notify.STOPPING)
            log.info("agent stops")
            await doors.aclose()  # no new frames; what is not settled its source hands in again
            await _farewell(rooms.reports)
            for task in tasks:
                task.cancel()


def _tasks(rooms: Rooms, settings: EdgeSettings, ends: Ends) -> dict[str, Coroutine[Any, Any, None]]:
    takes_telemetry = partial(rooms.uplink.takes, Kind.TELEMETRY)
    outbox = rooms.parts.outboxes[Kind.TELEMETRY]
    intervals = Intervals(rooms.reporter.telemetry, outbox, takes_telemetry, settings.telemetry_s)
    return {
        **ends.tasks,
        **rooms.challenger.tasks(),
        **({f"drift {slot.name}": slot.drift.run() for slot in rooms.slots} if settings.drift_s else {}),
        **{name: work for slot in rooms.slots for name, work in slot.tasks().items()},
        "link": rooms.link.run(),
        "trust": rooms.trust.run(),
        "uplink": rooms.uplink.run(),
        "samples": rooms.sampler.run(),
        "reports": rooms.reports.run(),
        "telemetry": intervals.run(),
        "events": rooms.journal.run(),
        "watch": Watch(rooms.parts.alarms, rooms.parts.outbox, rooms.journal.tell).run(),
        "health": rooms.health.run(),
        **_monitor(rooms, settings.monitor, ends),
        "status": local.serve(settings.dir / local.STATUS_SOCKET, rooms.reporter.status),
        "orders": local.take_orders(settings.dir / local.ORDERS_SOCKET, _orders(rooms)),
    }


def _monitor(rooms: Rooms, address: str, ends: Ends) -> dict[str, Coroutine[Any, Any, None]]:
    if not address:
        return {}
    from edge.reporting import monitor  # noqa: PLC0415 - its library takes memory that a device without it keeps

    host, _, port = address.rpartition(":")
    return {"monitor": monitor.serve(host.strip("[]"), int(port), rooms.health, rooms.parts, ends.sinks)}


def _orders(rooms: Rooms) -> dict[str, local.Order]:
    """What a person on the device may have done, by its name."""

    async def roll_back(slot: Slot) -> Mapping[str, object]:
        try:
            await slot.updater.recall()
        except WrongStep as error:
            raise local.Refused(str(error)) from error
        return rooms.reporter.status()

    return {f"rollback {slot.name}": partial(roll_back, slot) for slot in rooms.slots}


async def _farewell(reports: reporting_mqtt.Reports) -> None:
    try:
        async with asyncio.timeout(FAREWELL_S):
            await reports.farewell()
    except TimeoutError:
        log.warning("the broker does not answer; it will publish this device's will")
