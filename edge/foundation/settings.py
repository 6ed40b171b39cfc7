"""The settings of one device's agent."""

from __future__ import annotations

import os
import re
import socket
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from edge.foundation.shares import Shares
from protos.kit.link import Address, Mqtt
from protos.kit.settings import SHOWN_DEFAULT, Labels
from protos.topics import DEFAULT_SLOT, MAX_BATCH_ROWS, checked_name

FRAMES_SOCKET = "frames.sock"
TRUST_FILE = "trust.json"
MAX_SOCKET_PATH_BYTES = 107
"""Linux keeps a Unix socket's path in 108 bytes, the last one zero."""

MEBIBYTE = 1024 * 1024


def id_of_host(hostname: str) -> str:
    """The device id that a host's name gives: lower-case, what a name may not hold replaced by '-', at most 63 long."""
    return re.sub(r"[^a-z0-9.-]", "-", hostname.lower())[:63].strip("-.")


def _host_id() -> str:
    return id_of_host(socket.gethostname())


def _checked_id(value: str) -> str:
    return checked_name(value, "device id")


def _checked_broker(value: str) -> str:
    Address.parse(value)
    return value


def _checked_local_broker(value: str) -> str:
    return _checked_broker(value) if value else ""


def _checked_uplink(value: str) -> str:
    host, _, port = value.rpartition(":")
    if not host or "/" in host or not port.isdecimal() or not 0 < int(port) < 2**16:
        raise ValueError("not of the form host:port")
    return value


def _checked_api(value: str) -> str:
    if value and not value.startswith(("http://", "https://")):
        raise ValueError("an address of the API begins with http:// or https://")
    return value.rstrip("/")


def _checked_dir(value: Path) -> Path:
    path = value.expanduser()
    if path.exists() and not path.is_dir():
        raise ValueError("exists and is not a folder: name another one")
    length = len(os.fsencode(path / FRAMES_SOCKET))
    if length > MAX_SOCKET_PATH_BYTES:
        raise ValueError(
            f"the path of the socket {FRAMES_SOCKET} in it would have {length} bytes, the system allows "
            f"{MAX_SOCKET_PATH_BYTES}: name a folder with a shorter path, or a relative one"
        )
    return path


Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class EdgeSettings(BaseSettings):
    """What an operator may set on a device; `LITTORAL_EDGE_` before each name in the environment."""

    model_config = SettingsConfigDict(env_prefix="LITTORAL_EDGE_", extra="forbid")

    id: Annotated[str, AfterValidator(_checked_id)] = Field(
        default_factory=_host_id,
        description="Name of this device, unique in the fleet; it names its topics and its rows.",
        json_schema_extra={SHOWN_DEFAULT: "the host's name"},
    )
    dir: Annotated[Path, AfterValidator(_checked_dir)] = Field(
        default=Path("littoral-edge-data"),
        description="Folder with this device's key, models, outbox and socket; one agent a folder.",
    )
    broker: Annotated[str, AfterValidator(_checked_broker)] = Field(
        default="mqtt://127.0.0.1:1883",
        description="MQTT broker that brings models and takes reports, mqtt://[user:password@]host[:port].",
    )
    mqtt: Mqtt = Field(default="auto", description="Version of MQTT; auto: 5, or 3.1.1 if the broker lacks it.")
    uplink: Annotated[str, AfterValidator(_checked_uplink)] = Field(
        default="127.0.0.1:8081", description="host:port of the gRPC ingest that takes the results."
    )
    trust: Path = Field(
        default=Path(),
        description="File with the keys from which this device's trust in its cloud begins (trust.json).",
        json_schema_extra={SHOWN_DEFAULT: "trust.json in dir"},
    )
    api: Annotated[str, AfterValidator(_checked_api)] = Field(
        default="",
        description="HTTP API of the cloud, asked for trust's metadata when the broker does not bring it; empty: none.",
    )
    metadata_s: Seconds = Field(
        default=600.0, description="Seconds between two looks for newer metadata, where no deployment asks for one."
    )
    labels: Labels = Field(
        default_factory=dict,
        description="What rollouts select devices by, k=v,k=v (in a settings file also a table).",
    )
    threads: Annotated[int, Field(ge=1, le=256)] = Field(
        default=1, description="Threads of the interpreter, of all slots together; more than the cores only cost."
    )
    slots: Shares = Field(
        default={DEFAULT_SLOT: 1},
        description="Models that run at once, each in a slot with a share of threads and cores, name=share,name=share "
        "(in a settings file also a table); the first is the device's main model.",
        json_schema_extra={SHOWN_DEFAULT: f"`{DEFAULT_SLOT}=1`"},
    )
    measured_files: Annotated[int, Field(ge=1, le=8)] = Field(
        default=2,
        description="Files of a version that are fetched to find out which of its variants is the fastest here; "
        "1: only the first that fits.",
    )
    outbox_bytes: Annotated[int, Field(ge=MEBIBYTE)] = Field(
        default=256 * MEBIBYTE,
        description="Bytes of results kept while the cloud is away; beyond it the oldest are dropped and counted.",
    )
    batch_frames: Annotated[int, Field(ge=1, le=MAX_BATCH_ROWS)] = Field(
        default=1024, description="Most frames handed to the model at once; latency_ms may allow fewer."
    )
    latency_ms: Annotated[float, Field(gt=0, allow_inf_nan=False)] = Field(
        default=50.0,
        description="Milliseconds that frames handed to the model at once may take; more raise the rate under load.",
    )
    watch: Path = Field(
        default=Path(),
        description="Folder whose files are inferred, then removed: raw pixels, .npy, PGM or PPM, moved in whole.",
        json_schema_extra={SHOWN_DEFAULT: "none"},
    )
    watch_slot: str = Field(default="", description="Slot whose model infers the files in watch; empty: the main one.")
    delivery_rate: Annotated[int, Field(ge=0)] = Field(
        default=0, description="Most bytes a second that models are fetched with; 0: without limit."
    )
    delivery_jitter_s: Annotated[float, Field(ge=0, allow_inf_nan=False)] = Field(
        default=0.5,
        description="Longest wait, drawn by lot, before a model is fetched: a fleet does not begin all at once.",
    )
    local_broker: Annotated[str, AfterValidator(_checked_local_broker)] = Field(
        default="",
        description="MQTT broker on the device or beside it, for frames_topic and results_topic; empty: none.",
    )
    frames_topic: str = Field(
        default="",
        description="Topic of the local broker whose messages are frames: raw pixels, .npy, PGM or PPM; empty: none.",
    )
    frames_slot: str = Field(
        default="", description="Slot whose model infers the frames of frames_topic; empty: the main one."
    )
    results_topic: str = Field(
        default="", description="Topic of the local broker that gets results as JSON arrays; empty: none."
    )
    results_file: Path = Field(
        default=Path(),
        description="File that gets results as JSON lines, - for standard output.",
        json_schema_extra={SHOWN_DEFAULT: "none"},
    )
    report_s: Seconds = Field(default=5.0, description="Seconds between two reports of the state when nothing changes.")
    telemetry_s: Seconds = Field(default=1.0, description="Seconds that one telemetry message covers.")
    trial_s: Annotated[float, Field(ge=0, allow_inf_nan=False)] = Field(
        default=1.0, description="Seconds that a new model must hold under load before it is committed."
    )
    golden_timeout_s: Seconds = Field(
        default=20.0, description="Seconds that a new model may take for its golden vectors before it counts as hung."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Least severe log lines that are written."
    )

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if (self.frames_topic or self.results_topic) and not self.local_broker:
            raise ValueError("frames_topic and results_topic are topics of local_broker: give it, too")
        for name, slot in (("watch_slot", self.watch_slot), ("frames_slot", self.frames_slot)):
            if slot and slot not in self.slots:
                raise ValueError(f"{name} is {slot!r}, which is none of the slots: {', '.join(self.slots)}")
        self.trust = self.dir / TRUST_FILE if self.trust == Path() else self.trust.expanduser()
        return self
