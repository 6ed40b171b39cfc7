"""How a gRPC connection finds out that nobody is at its other end."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class KeepAlive:
    """A connection that is silent for `time_s` is asked for a sign of life, and is over without one in `timeout_s`.

    gRPC notices no other way that a cable was pulled, until the system gives up sending again: after a quarter of an
    hour, or never while there is nothing to send. On a slow line the question waits behind what is being sent: give it
    time for as much as the other end reads ahead, 256 kB.
    """

    time_s: float
    timeout_s: float

    def options(self) -> tuple[tuple[str, int], ...]:
        """As channel or server arguments; it asks even while no call is under way."""
        return (
            ("grpc.keepalive_time_ms", round(self.time_s * 1000)),
            ("grpc.keepalive_timeout_ms", round(self.timeout_s * 1000)),
            ("grpc.keepalive_permit_without_calls", 1),
            # For how long gRPC waits for a ping's answer is another setting, by itself a minute; and while one ping is
            # under way it sends no second. So no pings but ours: by itself it also measures the line with them.
            ("grpc.http2.ping_timeout_ms", round(self.timeout_s * 1000)),
            ("grpc.http2.bdp_probe", 0),
        )
