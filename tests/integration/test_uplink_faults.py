"""Whatever is killed, whenever: what was acknowledged is stored, and nothing is stored twice, of any kind.

Two ingests behind one address, on one database; devices with their outboxes. All are processes, killed by SIGKILL.
"""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from sqlalchemy import func, select

from cloud.fleet.service import Fleet
from cloud.foundation.database import Database
from cloud.uplink import tables
from cloud.uplink.entities import Audited
from edge.uplink.outbox import Outbox
from protos.kit.kinds import Kind
from protos.v1.report_pb2 import Report
from simulators.postgresql import Cluster, NoPostgresql, cluster
from tests import kinds
from tests.integration import uplink_processes as processes
from tests.integration.uplink_processes import acknowledged, either, free_port, kill, outbox_of, start
from tests.kinds import ingest_of_all_kinds
from tests.waiting import until

ROUNDS = 100
DEVICES = 2
INGESTS = 2
PATIENCE_S = 90
BATCHES_S = 60.0
"""Of each kind."""


@dataclass
class Site:
    """The processes by name, and how each is started again."""

    database: Database
    folder: Path
    starts: dict[str, Callable[[], object]] = field(default_factory=dict)
    running: dict[str, object] = field(default_factory=dict)

    @property
    def stop(self) -> Path:
        return self.folder / "stop"

    def outbox(self, name: str) -> Path:
        return self.folder / f"{name}.db"

    def add(self, name: str, begin: Callable[[], object]) -> None:
        if name.startswith("edge"):
            Fleet(self.database).observe(Report(device=name, public_key=bytes(32)), 1)
        self.starts[name] = begin
        self.running[name] = begin()

    def restart(self, name: str) -> None:
        running = self.running[name]
        if isinstance(running, Cluster):
            running.kill()
            running.start()
        else:
            kill(running)  # type: ignore[arg-type]
            self.running[name] = self.starts[name]()

    def end(self) -> None:
        for running in self.running.values():
            if not isinstance(running, Cluster):
                kill(running)  # type: ignore[arg-type]
        self.database.close()


def site_with(database_url: str, folder: Path, ingests: int = INGESTS, devices: int = DEVICES) -> Site:
    site = Site(Database(database_url), folder)
    site.database.create()
    ports = [free_port() for _ in range(ingests)]
    for port in ports:
        site.add(f"ingest-{port}", lambda port=port: start(processes.serve, database_url, port))  # type: ignore[misc]
    for name in (f"edge-{n}" for n in range(devices)):
        # Half of the devices know the replicas in the other order.
        target = either(ports if name[-1] in "02468" else ports[::-1])
        arguments = (target, name, site.outbox(name), site.stop, BATCHES_S)
        site.add(name, lambda arguments=arguments: start(processes.device, *arguments))  # type: ignore[misc]
    return site


def stored(database: Database, name: str, kind: Kind = Kind.RESULTS) -> int:
    """How many frames, events or intervals of a device there are: each once, and none is missing below the last."""
    with database.reading() as connection:
        numbers = kinds.stored(connection, name, kind)
    assert numbers == list(range(1, len(numbers) + 1))
    return len(numbers)


def check(site: Site) -> None:
    """In this order: what a device knows to be acknowledged now must be in the database when it is asked."""
    for kind in Kind:
        assert not [one for one in ingest_of_all_kinds(site.database).audit(kind) if one.lost or one.doubled]
        for name in (name for name in site.running if name.startswith("edge")):
            told = acknowledged(outbox_of(site.outbox(name), kind))
            assert stored(site.database, name, kind) >= told


def accounted(database: Database, device: str) -> list[int]:
    """How many results of a device the accounts by minute speak of."""
    accounts = (tables.result_minutes, tables.result_minute_labels)
    wanted = [
        select(func.sum(account.c.results)).join(tables.sources, tables.sources.c.id == account.c.source)
        for account in accounts
    ]
    with database.reading() as connection:
        return [int(connection.execute(one.where(tables.sources.c.device == device)).scalar_one()) for one in wanted]


def drain(site: Site) -> None:
    """No more frames; every device sends what it has and ends. Then every frame ever taken is stored, once."""
    site.stop.touch()
    devices = [name for name in site.running if name.startswith("edge")]
    for name in devices:
        site.running[name].join(PATIENCE_S)  # type: ignore[attr-defined]
        assert site.running[name].exitcode == 0, f"{name} could not send everything"  # type: ignore[attr-defined]
    for name, kind in itertools.product(devices, Kind):
        outbox = Outbox.open(outbox_of(site.outbox(name), kind), 1 << 30)
        taken = outbox.source_watermark(processes.SOURCE)
        outbox.close()
        assert stored(site.database, name, kind) == taken > 0
        if kind is Kind.RESULTS:
            assert accounted(site.database, name) == [taken, taken]
        audited = next(one for one in ingest_of_all_kinds(site.database).audit(kind) if one.device == name)
        assert replace(audited, said_ms=None) == Audited(name, made=taken, sent=taken, stored=taken)
        assert audited.said_ms is not None
    for name in devices:
        newest = Fleet(site.database).device(name).telemetry
        assert newest
        assert newest.inferences == stored(site.database, name, Kind.TELEMETRY)


def test_kills_of_servers_devices_and_postgresql_lose_and_double_nothing(tmp_path: Path) -> None:
    chance = random.Random(6)
    try:
        with cluster(durable=False) as server:
            site = site_with(server.new_database(), tmp_path)
            site.running["postgresql"] = server
            try:
                for number in range(ROUNDS):
                    time.sleep(chance.random() * 0.15)
                    site.restart(chance.choice(list(site.running)))
                    if number % 10 == 9:
                        check(site)
                # On a slow disk a killed life may have been too short for anything: the last one is not.
                devices = [f"edge-{number}" for number in range(DEVICES)]
                until(lambda: all(stored(site.database, *one) for one in itertools.product(devices, Kind)))
                drain(site)
            finally:
                site.end()
    except NoPostgresql as missing:
        pytest.skip(str(missing))


def test_a_server_killed_between_commit_and_acknowledgement_stores_everything_once(
    database_url: str, tmp_path: Path
) -> None:
    site = site_with(database_url, tmp_path, ingests=0, devices=0)
    port = free_port()
    arguments = (either([port]), "edge-0", site.outbox("edge-0"), site.stop, BATCHES_S)
    site.add("edge-0", lambda: start(processes.device, *arguments))
    try:
        for commit in range(1, 11):
            dying = start(processes.serve, database_url, port, commit)
            dying.join(PATIENCE_S)
            assert dying.exitcode == -9
            check(site)
        site.add("ingest", lambda: start(processes.serve, database_url, port))
        drain(site)
    finally:
        site.end()


def test_of_two_replicas_one_is_killed_and_its_devices_go_on_with_the_other(
    postgresql: Cluster, tmp_path: Path
) -> None:
    site = site_with(postgresql.new_database(), tmp_path, devices=4)
    try:
        while not all(stored(site.database, f"edge-{n}") for n in range(4)):
            time.sleep(0.05)
        first, _ = (name for name in site.running if name.startswith("ingest"))
        kill(site.running[first])  # type: ignore[arg-type]
        drain(site)
        check(site)
    finally:
        site.end()
