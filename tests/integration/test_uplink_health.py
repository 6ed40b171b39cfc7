"""The ingest's health as load balancers and Prometheus see it, with a database that is killed, hangs, and returns."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, closing, contextmanager, suppress
from pathlib import Path

import grpc
import httpx
import pytest
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import select

from cloud.foundation.database import Database
from cloud.uplink import tables
from edge.uplink.entities import NewBatch
from edge.uplink.outbox import Outbox
from edge.uplink.rpc import Uplink
from simulators.ports import free_port
from simulators.postgresql import USER, Cluster, NoPostgresql, cluster
from simulators.wire import Wire
from tests.integration.uplink_kit import Cloud, batch, device_of, running_cloud
from tests.waiting import eventually

SERVING, NOT_SERVING = HealthCheckResponse.SERVING, HealthCheckResponse.NOT_SERVING
UPLINK = "littoral.v1.Uplink"
ROWS = 10


def play(database_url: str, scenario: Callable[[Cloud], Awaitable[None]]) -> None:
    async def scene() -> None:
        async with running_cloud(database_url) as cloud:
            await scenario(cloud)

    asyncio.run(scene())


@pytest.mark.parametrize("service", ["", UPLINK])
def test_a_running_ingest_serves(database_url: str, service: str) -> None:
    async def scenario(cloud: Cloud) -> None:
        async with grpc.aio.insecure_channel(cloud.address) as channel:
            answer = await HealthStub(channel).Check(HealthCheckRequest(service=service))
            assert answer.status == SERVING

    play(database_url, scenario)


def test_who_watches_is_told_when_it_drains_and_does_not_hold_the_stop_up(database_url: str) -> None:
    async def scenario(cloud: Cloud) -> None:
        async with grpc.aio.insecure_channel(cloud.address) as channel:
            watch = HealthStub(channel).Watch(HealthCheckRequest(service=UPLINK))
            assert (await watch.read()).status == SERVING
            stopping = asyncio.create_task(cloud.server.stop(3600))
            assert (await watch.read()).status == NOT_SERVING
            await stopping

    play(database_url, scenario)


def test_it_drains_while_a_device_still_streams_and_takes_no_new_one(database_url: str) -> None:
    async def scenario(cloud: Cloud) -> None:
        async with device_of(cloud.address) as device, device_of(cloud.address) as late:
            await device.hello()
            await device.send(1, ROWS)
            await device.until_acknowledged(ROWS)
            stopping = asyncio.create_task(cloud.server.stop(3600))
            assert (await device.end())[0] is grpc.StatusCode.UNAVAILABLE
            assert (await late.end())[0] is not grpc.StatusCode.OK
            await stopping
        assert cloud.stored() == list(range(1, ROWS + 1))

    play(database_url, scenario)


def test_tools_find_the_contract_by_reflection(database_url: str) -> None:
    def ask(address: str) -> tuple[set[str], str]:
        with grpc.insecure_channel(address) as channel:
            reflected = ProtoReflectionDescriptorDatabase(channel)
            connect = DescriptorPool(reflected).FindServiceByName(UPLINK).FindMethodByName("Connect")
            return set(reflected.get_services()), connect.input_type.full_name

    async def scenario(cloud: Cloud) -> None:
        services, message = await asyncio.to_thread(ask, cloud.address)
        assert {UPLINK, "grpc.health.v1.Health"} <= services
        assert message == "littoral.v1.UplinkMessage"

    play(database_url, scenario)


class Site:
    """`littoral serve --role ingest` as a process, its PostgreSQL at the far end of a wire."""

    def __init__(self, process: subprocess.Popen[bytes], ports: dict[str, int], wire: Wire, url: str) -> None:
        self.process = process
        self.ports = ports
        self.wire = wire
        self.url = url  # past the wire

    @property
    def ingest(self) -> str:
        return f"127.0.0.1:{self.ports['ingest']}"

    async def get(self, path: str) -> httpx.Response:
        async with httpx.AsyncClient(trust_env=False) as client:
            return await client.get(f"http://127.0.0.1:{self.ports['metrics']}{path}")

    async def metric(self, name: str, **labels: str) -> float:
        families = text_string_to_metric_families((await self.get("/metrics")).text)
        samples = [sample for family in families for sample in family.samples]
        (value,) = [one.value for one in samples if one.name == name and one.labels == labels]
        return value

    async def until(self, status: HealthCheckResponse.ServingStatus) -> None:
        while await self.health() != status:
            assert self.process.poll() is None, "the process has ended"
            await asyncio.sleep(0.05)

    async def health(self) -> HealthCheckResponse.ServingStatus | None:
        with suppress(grpc.aio.AioRpcError):
            async with grpc.aio.insecure_channel(self.ingest) as channel:
                return (await HealthStub(channel).Check(HealthCheckRequest(service=UPLINK))).status
        return None


@pytest.fixture(scope="module")
def own_server() -> Iterator[Cluster]:
    """A server that these tests may kill."""
    try:
        with cluster(durable=False) as made:
            yield made
    except NoPostgresql as missing:
        pytest.skip(str(missing))


@asynccontextmanager
async def serving(server: Cluster, folder: Path) -> AsyncIterator[Site]:
    wire, url = Wire(lambda: asyncio.open_unix_connection(server.socket)), server.new_database()
    async with wire.serving() as port:
        over_wire = url.replace(f"@/{USER}?host={server.socket.parent}&", f"@127.0.0.1:{port}/{USER}?")
        ports = {"ingest": free_port(), "metrics": free_port()}
        with process(folder, over_wire, ports) as running:
            site = Site(running, ports, wire, url)
            await site.until(SERVING)
            yield site


@contextmanager
def process(folder: Path, url: str, ports: dict[str, int]) -> Iterator[subprocess.Popen[bytes]]:
    flags = ["--role", "ingest", "--dir", str(folder / "data"), "--database", url]
    flags += [word for name in ports for word in (f"--{name}-port", str(ports[name]))]
    with (folder / "log").open("wb") as log:
        running = subprocess.Popen([sys.executable, "-m", "cloud.cli", "serve", *flags], stderr=log)
    try:
        yield running
    finally:
        running.kill()
        running.wait()


async def out_of_order(site: Site) -> None:
    await site.until(NOT_SERVING)
    assert (await site.get("/readyz")).status_code == 503
    assert (await site.get("/healthz")).status_code == 200
    assert await site.metric("littoral_database_up") == 0


async def in_order(site: Site) -> None:
    await site.until(SERVING)
    assert (await site.get("/readyz")).json() == {"database": True, "serving": True}
    assert await site.metric("littoral_database_up") == 1


def test_it_does_not_serve_while_the_database_is_down_or_hangs_and_serves_again_after(
    own_server: Cluster, tmp_path: Path
) -> None:
    async def main() -> None:
        async with serving(own_server, tmp_path) as site:
            await in_order(site)
            own_server.kill()
            await out_of_order(site)
            own_server.start()
            await in_order(site)
            site.wire.fall_silent()
            await out_of_order(site)
            site.wire.speak()
            await in_order(site)
            assert await site.metric("littoral_database_errors_total", asked="health") >= 2

    asyncio.run(main())


@pytest.mark.parametrize("hangs", [False, True], ids=["the database answers", "the database hangs"])
def test_asked_to_stop_it_ends_and_has_stored_all_that_it_acknowledged(
    own_server: Cluster, tmp_path: Path, *, hangs: bool
) -> None:
    """Whatever the database does: the last words are said, and then nothing is waited for."""
    outbox = Outbox.open(tmp_path / "outbox.db", 1 << 30)

    async def main() -> int:
        async with serving(own_server, tmp_path) as site:
            uplink = asyncio.create_task(Uplink(site.ingest, "edge-1", outbox, lambda: 0.05).run())
            append(outbox, 1)
            await eventually(lambda: outbox.depth().rows == 0)
            if hangs:
                site.wire.fall_silent()
            for first in range(1 + ROWS, 200 * ROWS, ROWS):
                await asyncio.to_thread(append, outbox, first)
                if first == 1 + 100 * ROWS:
                    site.process.terminate()
            code = await asyncio.to_thread(site.process.wait)
            uplink.cancel()
            await asyncio.gather(uplink, return_exceptions=True)
            site.wire.speak()
            # No model is registered here: what is committed is set aside, all of it.
            watermark, set_aside = committed(site.url)
            assert set_aside == watermark >= outbox.ledger.acknowledged >= ROWS
            return code

    assert asyncio.run(main()) == (1 if hangs else 0)
    outbox.close()


def committed(url: str) -> tuple[int, int]:
    with closing(Database(url)) as database, database.reading() as connection:
        s = tables.streams.c
        return tuple(connection.execute(select(s.watermark, s.set_aside)).one())


def append(outbox: Outbox, first: int) -> None:
    outbox.append([NewBatch(ROWS, batch(first, ROWS), "camera", first + ROWS - 1)])
