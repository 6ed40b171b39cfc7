"""The gRPC server around the uplink's service: its limits, its health for load balancers, reflection, its end."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import SERVICE_NAME as HEALTH
from grpc_health.v1.health import aio as health_aio  # type: ignore[attr-defined] # the stubs do not know it
from grpc_reflection.v1alpha import reflection

from cloud.uplink.rpc import UplinkService
from protos.kit.keepalive import KeepAlive
from protos.topics import MAX_GRPC_BYTES
from protos.v1 import uplink_pb2, uplink_pb2_grpc

UPLINK = uplink_pb2.DESCRIPTOR.services_by_name["Uplink"].full_name
EVERYTHING = ""
"""The name under which the health of the whole server is asked for."""

FAREWELL_S = 1.0
"""For what is no device's stream, such as who watches the health: it would not end by itself."""


class CannotListen(Exception):
    """The ingest's address cannot be used; the message says which and what to do."""


KEEP_ALIVE = KeepAlive(time_s=30.0, timeout_s=20.0)


class IngestServer:
    """The server. It says that it serves until it is told that it cannot (`serving`), or stops."""

    def __init__(self, service: UplinkService, keep_alive: KeepAlive = KEEP_ALIVE) -> None:
        self._service = service
        self._server = grpc.aio.server(options=_options(keep_alive))
        self._health = health_aio.HealthServicer()
        uplink_pb2_grpc.add_UplinkServicer_to_server(service, self._server)  # type: ignore[no-untyped-call]
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        reflection.enable_server_reflection((UPLINK, HEALTH, reflection.SERVICE_NAME), self._server)

    def bind(self, host: str, port: int) -> int:
        """Claim the address; returns the port (which `port` 0 leaves to the system). Raises CannotListen."""
        try:
            return self._server.add_insecure_port(f"[{host}]:{port}" if ":" in host else f"{host}:{port}")
        except RuntimeError as error:
            raise CannotListen(
                f"the ingest cannot listen on {host}:{port}: is another process there? "
                "Choose another port with --ingest-port"
            ) from error

    async def start(self) -> None:
        """Serve the devices that come to the claimed address."""
        await self.serving(True)
        await self._server.start()

    async def serving(self, yes: bool) -> None:  # noqa: FBT001 - what a listener is told
        """Say by the health service whether results can be taken now. Devices that come all the same may wait."""
        status = health_pb2.HealthCheckResponse.SERVING if yes else health_pb2.HealthCheckResponse.NOT_SERVING
        for name in (EVERYTHING, UPLINK):
            await self._health.set(name, status)

    async def stop(self, grace_s: float) -> None:
        """End all streams; within `grace_s` each gets the acknowledgements of all that it handed in."""
        await self._health.enter_graceful_shutdown()
        self._service.drain()
        with suppress(TimeoutError):
            async with asyncio.timeout(grace_s):
                await self._service.drained()
        await self._server.stop(min(grace_s, FAREWELL_S))


def _options(keep_alive: KeepAlive) -> Sequence[tuple[str, int]]:
    return (
        ("grpc.max_receive_message_length", MAX_GRPC_BYTES),
        ("grpc.max_send_message_length", MAX_GRPC_BYTES),
        # What gRPC reads ahead of us, for each stream: by itself it takes megabytes, and there are thousands of them.
        ("grpc.http2.lookahead_bytes", 256 * 1024),
        # Two servers on one port would share its devices by chance: the second must fail to start.
        ("grpc.so_reuseport", 0),
        # A half-open connection is found out within this time, from our side ...
        *keep_alive.options(),
        # ... and the device may ask as often from its own, without being sent away for it.
        ("grpc.http2.min_ping_interval_without_data_ms", 1_000),
        ("grpc.http2.max_ping_strikes", 0),
    )
