"""A broker where each role may do what the table of channels says and nothing else, and a witness of what crosses."""

from __future__ import annotations

import asyncio
import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from types import TracebackType

from paho.mqtt import publish

from cloud.delivery.crossings import Crossing
from cloud.delivery.watch import Watch
from protos import topics
from protos.channels import CHANNELS, Role
from protos.kit.children import bound_to
from protos.kit.link import Address
from simulators.demo.processes import listening
from simulators.ports import free_port

CLOUD, WITNESS, STRANGER = "cloud", "witness", "stranger"
DEVICES = ("edge-1", "edge-2")
PATIENCE_S = 60
MARK = "mark"
"""A topic of the stranger's: what a broker keeps comes before what is published after the subscription."""


class Broker:
    """Mosquitto with an account for the cloud and each device. The witness reads all, the stranger writes all."""

    def __init__(self, folder: Path) -> None:
        self._port = free_port()
        self._folder = folder
        self._log = folder / "mosquitto.log"

    @contextmanager
    def running(self) -> Iterator[None]:
        """The broker runs meanwhile, and forgets everything at the end."""
        (self._folder / "rights").write_text(rights())
        config = self._folder / "mosquitto.conf"
        config.write_text(
            f"listener {self._port} 127.0.0.1\nallow_anonymous true\nacl_file {self._folder / 'rights'}\n"
            f"max_inflight_messages 0\nmax_queued_messages 0\nuser root\nlog_type all\nlog_dest file {self._log}\n"
        )
        command = bound_to(os.getpid(), ["mosquitto", "-c", str(config)])
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            try:
                until(lambda: listening(self._port))
                yield
            finally:
                process.terminate()

    def address(self, account: str) -> Address:
        """Where this account connects."""
        return Address("127.0.0.1", self._port, account, "-")

    def url(self, account: str) -> str:
        """The same for a command line."""
        return f"mqtt://{account}:-@127.0.0.1:{self._port}"

    def say(self, account: str, topic: str, payload: bytes, qos: int = 1, *, retain: bool = False) -> None:
        """Publish one message."""
        login: publish.AuthParameter = {"username": account, "password": "-"}
        publish.single(topic, payload, qos, retain, "127.0.0.1", self._port, auth=login)

    def kept(self) -> dict[str, bytes]:
        """What the broker keeps now, by topic."""
        return asyncio.run(_kept(self))

    def denials(self) -> list[str]:
        """What the broker did not let pass, as it says it."""
        return [line for line in self._log.read_text().splitlines() if "Denied PUBLISH" in line]


def rights() -> str:
    """Mosquitto's access list, from the table: who sends may write, who receives may read."""
    lines = [f"user {WITNESS}", "topic read #", f"user {STRANGER}", "topic readwrite #"]
    for account, role in ((CLOUD, Role.CLOUD), *((device, Role.DEVICE) for device in DEVICES)):
        lines.append(f"user {account}")
        for channel in CHANNELS:
            pattern = topics.all_of(channel.address.replace("{device}", account if role is Role.DEVICE else "{device}"))
            lines += [f"topic write {pattern}"] if role in channel.senders else []
            lines += [f"topic read {pattern}"] if role in channel.receivers else []
    return "\n".join(lines) + "\n"


class Witness:
    """Sees everything that crosses a broker from its start on, in a thread of its own. A context manager."""

    def __init__(self, address: Address) -> None:
        self.crossings: list[Crossing] = []
        self.missed = 0
        self._address = address
        self._stop: Callable[[], object] = lambda: None
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Witness:
        self._thread.start()
        assert self._ready.wait(PATIENCE_S)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()
        self._thread.join()

    def saw(self, holds: Callable[[Crossing], bool]) -> None:
        """Wait until it has seen such a message."""
        until(lambda: any(map(holds, list(self.crossings))))

    def _run(self) -> None:
        with suppress(asyncio.CancelledError):
            asyncio.run(self._watch())

    async def _watch(self) -> None:
        task = asyncio.current_task()
        assert task
        loop = asyncio.get_running_loop()
        self._stop = partial(loop.call_soon_threadsafe, task.cancel)
        # QoS 2, so that no message is shown with less than it was published with; and all topics, ours or not.
        async with Watch(self._address, "#", qos=2) as watch:
            self._ready.set()
            while True:
                self.crossings += [seen.crossing for seen in await watch.take()]
                self.missed = watch.missed


async def _kept(broker: Broker) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    async with Watch(broker.address(WITNESS), "#") as watch, asyncio.timeout(PATIENCE_S):
        await asyncio.to_thread(broker.say, STRANGER, MARK, b"the end")
        while MARK not in found:
            found |= {seen.crossing.topic: seen.crossing.payload for seen in await watch.take()}
    del found[MARK]
    return found


def until(holds: Callable[[], bool]) -> None:
    """Wait until `holds`."""
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)
