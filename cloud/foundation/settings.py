"""The cloud's settings; `protos.kit.settings` reads them from file, environment and flags."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from protos.kit.link import Address, Mqtt
from protos.kit.settings import SHOWN_DEFAULT

TOKEN = re.compile(r"[A-Za-z0-9._~+/=-]*")
"""What may stand in the header of a request (RFC 6750)."""

Port = Annotated[int, Field(ge=1, le=65535)]


class CloudSettings(BaseSettings):
    """Every setting of `littoral serve` and of the commands beside it."""

    model_config = SettingsConfigDict(env_prefix="LITTORAL_", extra="forbid")

    dir: Path = Field(
        default=Path("littoral-data"),
        description="Folder with the database, the artifacts' files and the signing keys.",
    )
    database: str = Field(
        default="",
        description="SQLAlchemy URL of the database; empty: a SQLite file in the data folder.",
    )
    artifacts: Literal["folder", "database"] = Field(
        default="folder",
        description="Where models' files and samples' frames are: folder (in dir), database (for replicas).",
    )
    broker: str = Field(
        default="", description="MQTT broker as mqtt://[user:password@]host:port; empty: the embedded one."
    )
    mqtt: Mqtt = Field(default="auto", description="Version of MQTT; auto: 5, or 3.1.1 if the broker lacks it.")
    broker_kind: Literal["auto", "mosquitto", "amqtt"] = Field(
        default="auto",
        description="Embedded broker: mosquitto (a child process), amqtt (in process); auto: mosquitto if installed.",
    )
    broker_port: Port = Field(default=1883, description="TCP port of the embedded broker.")
    host: str = Field(
        default="127.0.0.1",
        description="Address that API, ingest and embedded broker listen on; 0.0.0.0: let other machines in.",
    )
    api_port: Port = Field(default=8080, description="TCP port of the HTTP API.")
    ingest_port: Port = Field(default=8081, description="TCP port of the gRPC ingest.")
    metrics_port: Annotated[int, Field(ge=0, le=65535)] = Field(
        default=0,
        description="TCP port of its own for /metrics, /healthz and /readyz, which the API's port has, too; 0: none.",
    )
    api: str = Field(default="http://127.0.0.1:8080", description="Where the commands find the HTTP API.")
    api_token: str = Field(
        default="",
        description="What whoever changes something over the HTTP API must show; empty: nothing. "
        "Commands and training take it from the environment.",
    )
    signing_keys: Path = Field(
        default=Path(),
        description="Folder of the keys that the cloud signs with; replicas share one.",
        json_schema_extra={SHOWN_DEFAULT: "keys in dir"},
    )
    offline_keys: Path = Field(
        default=Path(),
        description="Folder of the offline keys, for commands that sign with them; keep it away from the server.",
        json_schema_extra={SHOWN_DEFAULT: "dir with -offline-keys at its end"},
    )
    timestamp_hours: float = Field(
        default=24.0,
        gt=0,
        allow_inf_nan=False,
        description="Hours after which devices take the cloud's silence for an attack: an alarm, nothing installed.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Least severe log lines written."
    )
    ingest_rows: int = Field(
        default=5000,
        ge=1,
        description="Rows after which merged result batches are committed: larger is faster, and later.",
    )
    ingest_ms: int = Field(
        default=50,
        ge=0,
        description="Milliseconds after which they are committed at the latest: bounds the delay of acknowledgements.",
    )
    result_days: int = Field(
        default=0,
        ge=0,
        description="Whole days (UTC) that results are kept, and their truths; 0: for ever.",
    )
    aggregate_days: int = Field(
        default=0,
        ge=0,
        description="Whole days (UTC) that counts and histograms by minute are kept; 0: for ever.",
    )
    quarantine_days: int = Field(
        default=90,
        ge=0,
        description="Whole days (UTC) that batches in quarantine are kept; 0: for ever.",
    )
    event_days: int = Field(
        default=365,
        ge=0,
        description="Whole days (UTC) that events of devices are kept; 0: for ever.",
    )
    telemetry_days: int = Field(
        default=7,
        ge=0,
        description="Whole days (UTC) that the history of devices' telemetry is kept; 0: for ever.",
    )
    drift_days: int = Field(
        default=90,
        ge=0,
        description="Whole days (UTC) that the account of drift by hour is kept; 0: for ever.",
    )
    sample_days: int = Field(default=0, ge=0, description="Days that sampled frames are kept; 0: for ever.")
    sample_bytes: int = Field(
        default=10 * 1024**3,
        ge=0,
        description="Bytes of sampled frames kept; beyond it the oldest are dropped. 0: without limit.",
    )
    device_rows_s: int = Field(
        default=0,
        ge=0,
        description="Most results a second that one device may send; one that sends more is told to wait. 0: no limit.",
    )
    device_bytes_s: int = Field(
        default=0, ge=0, description="Most bytes a second that one device may send, samples included. 0: no limit."
    )
    deployment_days: int = Field(
        default=30,
        ge=1,
        description="Days after which a device no longer starts a deployment it has not seen: bounds replay.",
    )
    cluster: bool = Field(
        default=False,
        description="The active controller follows a Kubernetes cluster: our objects in it, and its nodes.",
    )
    cluster_namespace: str = Field(
        default="",
        description="Namespace of these objects.",
        json_schema_extra={SHOWN_DEFAULT: "that of its pod or kubeconfig"},
    )
    training_image: str = Field(default="", description="Image that a TrainingRun trains in if it names none.")
    training_account: str = Field(
        default="", description="Service account of a TrainingRun's pods; empty: the namespace's default."
    )
    training_token: str = Field(
        default="", description="Secret with api_token for a TrainingRun's pods, under the key `token`; empty: none."
    )

    drift_psi: float = Field(
        default=0.2,
        gt=0,
        allow_inf_nan=False,
        description="PSI of labels or confidences from which on a model drifts, if drift_p holds, too.",
    )
    drift_p: float = Field(
        default=0.001, gt=0, lt=1, description="Probability below which such a difference is no chance."
    )
    drift_shift: float = Field(
        default=1.0,
        gt=0,
        allow_inf_nan=False,
        description="Shift of the frames' brightness, in standard deviations, from which on a model drifts.",
    )
    patched_versions: int = Field(
        default=3,
        ge=0,
        le=16,
        description="Earlier versions from which a new one is patched where that is short; 0: devices fetch it whole.",
    )

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.signing_keys == Path():
            self.signing_keys = self.dir / "keys"
        if self.offline_keys == Path():
            folder = self.dir.absolute().resolve()
            self.offline_keys = folder.with_name(f"{folder.name}-offline-keys")
        return self

    @field_validator("broker")
    @classmethod
    def _is_broker(cls, value: str) -> str:
        if value:
            Address.parse(value)
        return value

    @field_validator("api_token")
    @classmethod
    def _is_token(cls, value: str) -> str:
        if not TOKEN.fullmatch(value):
            raise ValueError("a token is made of letters, digits and -._~+/=, without spaces: openssl rand -hex 24")
        return value

    @field_validator("api")
    @classmethod
    def _is_http(cls, value: str) -> str:
        if not value.startswith(("http://", "https://")):
            raise ValueError("an address of the API begins with http:// or https://")
        return value.rstrip("/")

    @property
    def database_url(self) -> str:
        """The database's SQLAlchemy URL, the default filled in."""
        return self.database or f"sqlite:///{self.dir.absolute() / 'littoral.db'}"

    @property
    def blobs(self) -> Path:
        """Folder of the artifacts' files."""
        return self.dir / "blobs"

    @property
    def samples(self) -> Path:
        """Folder of the sampled frames; the roles ingest and api share it."""
        return self.dir / "samples"
