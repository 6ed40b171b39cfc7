"""What Prometheus scrapes of this process, and the metrics that belong to no room.

Each room declares its own metrics in its `metrics.py`. They live in the library's registry of the process, beside its
own of memory, processor time and open files.
"""

from __future__ import annotations

from prometheus_client import REGISTRY, Counter, Gauge
from prometheus_client.exposition import choose_encoder

DATABASE_UP = Gauge("littoral_database_up", "Whether the database answers: 1 or 0.")
DATABASE_ERRORS = Counter(
    "littoral_database_errors", "What the database refused, failed or did not answer, by what was asked.", ["asked"]
)
BROKER_CONNECTED = Gauge("littoral_broker_connected", "Whether the MQTT broker is connected: 1 or 0.")


def exposition(accept: str) -> tuple[bytes, str]:
    """All metrics of this moment in the format that an Accept header asks for, and that format's media type."""
    encode, media_type = choose_encoder(accept)
    return encode(REGISTRY), media_type
