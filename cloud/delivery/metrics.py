"""What Prometheus is told of the publisher."""

from __future__ import annotations

from prometheus_client import Counter

CHUNKS = Counter("littoral_delivery_chunks", "Chunks of models that the broker has acknowledged.")
CHUNK_BYTES = Counter("littoral_delivery_chunk_bytes", "Bytes of these chunks.")
DESIRED = Counter("littoral_delivery_desired", "Desired states that the broker has acknowledged.")
