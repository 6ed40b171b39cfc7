"""The fleet over HTTP: devices and what they proved."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Query
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from cloud.fleet.entities import Device, DeviceTelemetry, NodeState, Outcome, Receipt, Slot, UnknownDevice
from cloud.fleet.service import Fleet
from protos.kit.latency import BOUNDS_US

MAX_PAGE = 10_000


class TelemetryView(BaseModel):
    """The newest interval measured on a device."""

    inferences_per_s: float
    latency_p50_us: int
    latency_p95_us: int
    outbox_rows: int
    inference_errors: int
    measured_ms: int


class VariantView(BaseModel):
    """What a variant of the running version came to on the device; times in µs a frame, 0: not measured."""

    variant: str
    problem: str
    frame_us: float
    single_us: float
    accuracy: float
    threads: int
    measured_in: int


class SlotView(BaseModel):
    """One of the models that a device runs at once, by its own report. variants: what `variant` was chosen from."""

    slot: str
    state: str
    version: int | None
    model: str | None
    generation: int
    reason: str
    threads: int
    variant: str
    variants: list[VariantView]


class NodeView(BaseModel):
    """What a cluster says of the node that a device is. state: ready, not_ready or gone."""

    state: NodeState
    cordoned: bool


class DeviceView(BaseModel):
    """A device and its slots; state, version (null: none), model, generation and reason are the main slot's.

    node: null if the device is no node of a cluster.
    """

    id: str
    online: bool
    state: str
    version: int | None
    model: str | None
    generation: int
    reason: str
    labels: dict[str, str]
    last_seen_ms: int
    telemetry: TelemetryView | None
    alarms: list[str]
    hardware: str
    node: NodeView | None
    slots: list[SlotView]


class SlotHealthView(BaseModel):
    """What one of several models did in that interval."""

    slot: str
    model: str
    version: int
    inferences: int
    inference_errors: int
    latency_p50_us: int
    latency_p95_us: int
    frames_dropped: int
    model_crashes: int


class HealthView(BaseModel):
    """How a device was: shares 0 to 1, sizes in bytes (0: not known), counts of the newest interval.

    latency_counts: frames by latency, up to each of latency_bounds_us; the last: above. slots: none where it runs one
    model.
    """

    measured_ms: int
    processor: float
    memory: int
    memory_available: int
    disk: int
    disk_free: int
    temperature_c: float | None
    queued_frames: int
    frames_dropped: int
    model_crashes: int
    uptime_ms: int
    latency_counts: list[int]
    latency_bounds_us: list[int]
    slots: list[SlotHealthView]


class ReceiptView(BaseModel):
    """What a device proved for a deployment."""

    device: str
    model: str
    version: int
    outcome: Outcome
    reason: str
    generation: int
    received_ms: int


def router(fleet: Fleet) -> APIRouter:
    """The routes of this room."""
    routes = APIRouter(prefix="/api/v1", tags=["fleet"])

    @routes.get("/devices", response_model=list[DeviceView])
    def list_devices(
        limit: Annotated[int, Query(ge=1, le=MAX_PAGE, description="Devices a page.")] = MAX_PAGE,
        after: Annotated[str, Query(max_length=63, description="Last id of the page before.")] = "",
    ) -> JSONResponse:
        """Devices by id."""
        # Built by hand: checking ten thousand views against their own model takes longer than reading them.
        return JSONResponse([device_json(device) for device in fleet.devices(after, limit)])

    @routes.get("/devices/{device}", response_model=DeviceView)
    def get_device(device: str) -> dict[str, Any]:
        """One device."""
        with known_device(device):
            return device_json(fleet.device(device))

    @routes.get("/devices/{device}/health", response_model=HealthView)
    def get_health(device: str) -> dict[str, Any]:
        """How a device and its machine were when it told last."""
        with known_device(device):
            found = fleet.health(device)
        if found is None:
            raise HTTPException(404, f"device {device!r} has told nothing of its health yet")
        return asdict(found) | {"latency_bounds_us": BOUNDS_US}

    @routes.delete("/devices/{device}", status_code=204)
    def forget_device(device: str) -> None:
        """Forget a device's key, so that one that was set up anew may take its name."""
        with known_device(device):
            fleet.forget(device)

    @routes.get("/receipts", response_model=list[ReceiptView])
    def list_receipts(
        outcome: Annotated[Outcome | None, Query(description="Only this outcome.")] = None,
        device: Annotated[str | None, Query(max_length=63, description="Only this device.")] = None,
        limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = 1000,
    ) -> JSONResponse:
        """Verified receipts, the newest first."""
        return JSONResponse([receipt_json(receipt) for receipt in fleet.receipts(outcome, device, limit)])

    return routes


def device_json(device: Device) -> dict[str, Any]:
    """As in DeviceView."""
    slot = device.main
    return {
        "id": device.id,
        "online": device.online,
        "state": slot.state.value,
        "version": slot.running_version or None,
        "model": slot.running_model or None,
        "generation": slot.generation,
        "reason": slot.reason,
        "labels": dict(device.labels),
        "last_seen_ms": device.last_seen_ms,
        "telemetry": _telemetry_json(device.telemetry) if device.telemetry else None,
        "alarms": list(device.alarms),
        "hardware": device.hardware,
        "node": device.node and {"state": device.node.state.value, "cordoned": device.node.cordoned},
        "slots": [_slot_json(slot) for _, slot in sorted(device.slots.items())],
    }


def _slot_json(slot: Slot) -> dict[str, Any]:
    return {
        "slot": slot.slot,
        "state": slot.state.value,
        "version": slot.running_version or None,
        "model": slot.running_model or None,
        "generation": slot.generation,
        "reason": slot.reason,
        "threads": slot.threads,
        "variant": slot.variant,
        "variants": [asdict(row) for row in slot.variants],
    }


def receipt_json(receipt: Receipt) -> dict[str, Any]:
    """As in ReceiptView."""
    return {
        "device": receipt.device,
        "model": receipt.model,
        "version": receipt.version,
        "outcome": receipt.outcome.value,
        "reason": receipt.reason,
        "generation": receipt.generation,
        "received_ms": receipt.received_ms,
    }


def _telemetry_json(telemetry: DeviceTelemetry) -> dict[str, Any]:
    return {
        "inferences_per_s": telemetry.inferences_per_s,
        "latency_p50_us": telemetry.latency_p50_us,
        "latency_p95_us": telemetry.latency_p95_us,
        "outbox_rows": telemetry.outbox_rows,
        "inference_errors": telemetry.inference_errors,
        "measured_ms": telemetry.measured_ms,
    }


@contextmanager
def known_device(device: str) -> Iterator[None]:
    """A device that has not reported is one that is not there."""
    try:
        yield
    except UnknownDevice as error:
        raise HTTPException(
            404, f"no device {device!r} has reported: GET /api/v1/devices lists those that have"
        ) from error
