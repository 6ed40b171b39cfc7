"""The examination: everything that a device needs is looked at, each thing once, none stopped by another's trouble."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from edge import wiring
from edge.foundation import clock
from edge.foundation.settings import EdgeSettings
from edge.operating import examining_beyond as beyond
from edge.operating import examining_here as here
from edge.operating import rules
from edge.operating.entities import Finding, Level

REPORT_IT = "this is a defect of the doctor: report it, with this line"


async def examine(settings: EdgeSettings) -> list[Finding]:
    """All findings, those on the device first."""
    (api, cloud_ms), broker, uplink, models = await asyncio.gather(
        beyond.api(settings.api),
        beyond.broker(settings.broker, settings.id, settings.mqtt),
        beyond.uplink(settings.uplink),
        here.models(settings.dir / wiring.MODELS_FOLDER, settings.golden_timeout_s),
    )
    found = await asyncio.to_thread(_on_the_device, settings)
    return [rules.judged_clock(clock.now_ms(), cloud_ms), *found, *models, broker, uplink, api]


def _on_the_device(settings: EdgeSettings) -> list[Finding]:
    folder, files = settings.dir, {kind: settings.dir / name for kind, name in wiring.OUTBOX_FILES.items()}
    looks: dict[str, Callable[[], Finding | list[Finding]]] = {
        "data folder": lambda: here.folder(folder),
        "disk space": lambda: here.space(folder, files, wiring.outbox_bounds(settings)),
        "outbox": lambda: here.outboxes(files, wiring.outbox_bounds(settings)),
        "device key": lambda: here.key(folder),
        "trust file": lambda: here.trust(settings.trust, folder / wiring.METADATA_FOLDER),
        "interpreter": lambda: here.interpreter(settings.threads),
        "agent": lambda: here.agent(folder),
    }
    return [finding for name, look in looks.items() for finding in _looked(name, look)]


def _looked(name: str, look: Callable[[], Finding | list[Finding]]) -> list[Finding]:
    try:
        found = look()
    except Exception as error:  # noqa: BLE001 - whatever it is, the other findings are wanted
        return [Finding(name, Level.FAILURE, f"cannot be examined: {type(error).__name__}: {error}", REPORT_IT)]
    return found if isinstance(found, list) else [found]
