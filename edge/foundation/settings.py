"""The settings of one device's agent."""

from __future__ import annotations

import re
import socket
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from edge.foundation import checked
from edge.foundation.shares import Shares
from protos.kit.link import Mqtt
from protos.kit.settings import SHOWN_DEFAULT, Labels
from protos.topics import DEFAULT_SLOT, MAX_BATCH_ROWS

TRUST_FILE = "trust.json"
MEBIBYTE = 1024 * 1024


def id_of_host(hostname: str) -> str:
    """The device id that a host's name gives: lower-case, what a name may not hold replaced by '-', at most 63 long."""
    return re.sub(r"[^a-z0-9.-]", "-", hostname.lower())[:63].strip("-.")


def _host_id() -> str:
    return id_of_host(socket.gethostname())


Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]

Port = Annotated[int, Field(ge=0, lt=2**16)]


class EdgeSettings(BaseSettings):
    """What an operator may set on a device; `LITTORAL_EDGE_` before each name in the environment."""

    model_config = SettingsConfigDict(env_prefix="LITTORAL_EDGE_", extra="forbid")

    id: Annotated[str, AfterValidator(checked.device)] = Field(
        default_factory=_host_id,
        description="Name of this device, unique in the fleet; it names its topics and its rows.",
        json_schema_extra={SHOWN_DEFAULT: "the host's name"},
    )
    dir: Annotated[Path, AfterValidator(checked.folder)] = Field(
        default=Path("littoral-edge-data"),
        description="Folder with this device's key, models, outbox and socket; one agent a folder.",
    )
    broker: Annotated[str, AfterValidator(checked.broker)] = Field(
        default="mqtt://127.0.0.1:1883",
        description="MQTT broker that brings models and takes reports, mqtt://[user:password@]host[:port].",
    )
    mqtt: Mqtt = Field(default="auto", description="Version of MQTT; auto: 5, or 3.1.1 if the broker lacks it.")
    uplink: Annotated[str, AfterValidator(checked.uplink)] = Field(
        default="127.0.0.1:8081", description="host:port of the gRPC ingest that takes the results."
    )
    trust: Path = Field(
        default=Path(),
        description="File with the keys from which this device's trust in its cloud begins (trust.json).",
        json_schema_extra={SHOWN_DEFAULT: "trust.json in dir"},
    )
    api: Annotated[str, AfterValidator(checked.api)] = Field(
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
    events_bytes: Annotated[int, Field(ge=MEBIBYTE)] = Field(
        default=4 * MEBIBYTE,
        description="Bytes of events kept while the cloud is away; beyond it the oldest are dropped and counted.",
    )
    telemetry_bytes: Annotated[int, Field(ge=MEBIBYTE)] = Field(
        default=4 * MEBIBYTE,
        description="Bytes of telemetry kept while the cloud is away, for some two weeks; as above.",
    )
    samples_bytes: Annotated[int, Field(ge=0)] = Field(
        default=64 * MEBIBYTE,
        description="Bytes of sampled frames kept while the cloud is away; beyond it none are added. 0: no samples.",
    )
    batch_frames: Annotated[int, Field(ge=1, le=MAX_BATCH_ROWS)] = Field(
        default=1024, description="Most frames handed to the model at once; latency_ms may allow fewer."
    )
    latency_ms: Annotated[float, Field(gt=0, allow_inf_nan=False)] = Field(
        default=50.0,
        description="Milliseconds that frames handed to the model at once may take; more raise the rate under load.",
    )
    infer_http_port: Port = Field(
        default=0, description="TCP port on 127.0.0.1 for the Open Inference Protocol by HTTP (/v2); 0: none."
    )
    infer_grpc_port: Port = Field(
        default=0, description="The same by gRPC, which frames.sock in dir speaks as well; 0: none."
    )
    watch: Path = Field(
        default=Path(),
        description="Folder whose files are inferred, then removed: raw pixels, .npy, PGM or PPM, moved in whole.",
        json_schema_extra={SHOWN_DEFAULT: "none"},
    )
    watch_slot: str = Field(default="", description="Slot whose model infers the files in watch; empty: the main one.")
    sensor: Path = Field(
        default=Path(),
        description="File, FIFO, serial port or - with a line of numbers for each sample: windows are inferred.",
        json_schema_extra={SHOWN_DEFAULT: "none"},
    )
    sensor_hop: Annotated[int, Field(ge=0)] = Field(
        default=0, description="Samples from the begin of one window to that of the next; 0: as many as a window has."
    )
    sensor_columns: Annotated[str, AfterValidator(checked.columns)] = Field(
        default="", description="Which numbers of a line are the model's channels, as 2,3,4; empty: all."
    )
    sensor_baud: Annotated[int, Field(ge=0)] = Field(
        default=0, description="Rate of a serial port; 0: as it is set already."
    )
    sensor_slot: str = Field(default="", description="Slot whose model infers sensor's windows; empty: the main one.")
    camera: Annotated[str, AfterValidator(checked.camera)] = Field(
        default="",
        description="Camera (0, /dev/video0, rtsp://...) or video file whose pictures are inferred; empty: none.",
    )
    camera_slot: str = Field(
        default="", description="Slot whose model infers the camera's pictures; empty: the main one."
    )
    delivery_rate: Annotated[int, Field(ge=0)] = Field(
        default=0, description="Most bytes a second that models are fetched with; 0: without limit."
    )
    delivery_jitter_s: Annotated[float, Field(ge=0, allow_inf_nan=False)] = Field(
        default=0.5,
        description="Longest wait, drawn by lot, before a model is fetched: a fleet does not begin all at once.",
    )
    local_broker: Annotated[str, AfterValidator(checked.local_broker)] = Field(
        default="",
        description="MQTT broker on the device or beside it: frames_topic, results_topic, home_assistant; empty: none.",
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
    home_assistant: Annotated[str, AfterValidator(checked.prefix)] = Field(
        default="",
        description="Prefix of Home Assistant's MQTT discovery on local_broker, usually homeassistant; empty: none.",
    )
    webhook: Annotated[str, AfterValidator(checked.webhook)] = Field(
        default="", description="Address that gets results as JSON by HTTP POST, http(s)://...; empty: none."
    )
    webhook_token: str = Field(
        default="", description="Secret that goes with them, as Authorization: Bearer; best by the environment."
    )
    webhook_timeout_s: Seconds = Field(default=10.0, description="Seconds that one POST may take.")
    monitor: Annotated[str, AfterValidator(checked.monitor)] = Field(
        default="",
        description="host:port of a page with /metrics, /healthz and /readyz, such as 127.0.0.1:9464; empty: none.",
    )
    uplink_rate: Annotated[int, Field(ge=0)] = Field(
        default=0,
        description="Most bytes a second that results are sent with, and what else waits, lest days offline fill the "
        "link; what is new of events and telemetry goes first; 0: without limit.",
    )
    report_s: Seconds = Field(default=5.0, description="Seconds between two reports of the state when nothing changes.")
    telemetry_s: Seconds = Field(
        default=10.0,
        description="Seconds that one interval of telemetry covers, at least a minute while the cloud is away; each is "
        "a write to the disk and a row in the cloud.",
    )
    trial_s: Annotated[float, Field(ge=0, allow_inf_nan=False)] = Field(
        default=1.0, description="Seconds that a new model must hold under load before it is committed."
    )
    golden_timeout_s: Seconds = Field(
        default=20.0, description="Seconds that a new model may take for its golden vectors before it counts as hung."
    )
    drift_s: Annotated[float, Field(ge=0, allow_inf_nan=False)] = Field(
        default=60.0,
        description="Seconds of results that are compared with the model's reference at once; 0: no watch for drift.",
    )
    drift_psi: Annotated[float, Field(gt=0, allow_inf_nan=False)] = Field(
        default=0.2, description="PSI of labels or confidences from which on drift is an alarm, if drift_p holds, too."
    )
    drift_p: Annotated[float, Field(gt=0, lt=1)] = Field(
        default=0.001, description="Probability below which such a difference is no chance."
    )
    drift_shift: Annotated[float, Field(gt=0, allow_inf_nan=False)] = Field(
        default=1.0,
        description="Shift of the frames' brightness, in standard deviations, from which on drift is an alarm.",
    )
    shadow_s: Seconds = Field(
        default=30.0, description="Seconds between two words on how a challenger does beside the champion."
    )
    shadow_bytes: Annotated[int, Field(ge=0)] = Field(
        default=16 * MEBIBYTE,
        description="Bytes of frames kept on which champion and challenger disagree, the oldest go first; 0: none.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Least severe log lines that are written."
    )

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if (self.frames_topic or self.results_topic or self.home_assistant) and not self.local_broker:
            raise ValueError("frames_topic, results_topic and home_assistant are on local_broker: give it, too")
        for name in ("watch_slot", "sensor_slot", "camera_slot", "frames_slot"):
            slot = getattr(self, name)
            if slot and slot not in self.slots:
                raise ValueError(f"{name} is {slot!r}, which is none of the slots: {', '.join(self.slots)}")
        self.trust = self.dir / TRUST_FILE if self.trust == Path() else self.trust.expanduser()
        return self
