"""A slot's challenger put together: an updater of its own, with folders of its own, that ends in `Shadow`."""

from __future__ import annotations

import platform
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from edge.delivery import entities as delivery
from edge.delivery.mqtt import Fetcher
from edge.delivery.trust import Trust
from edge.foundation.clock import now_ms
from edge.foundation.events import Tell
from edge.foundation.settings import EdgeSettings
from edge.foundation.version import agent_version
from edge.identity.service import DeviceIdentity
from edge.inference import operators
from edge.models.service import ModelStore
from edge.shadow.disagreements import Folder, Keep, each
from edge.shadow.record import Record
from edge.shadow.service import Ports, Shadow
from edge.update.memory import Memory
from edge.update.mqtt import DesiredState
from edge.update.one_at_a_time import OneAtATime, Turns
from edge.update.requirements import Facts
from edge.update.service import Updater
from edge.update.steps import Limits, Steps
from protos import topics
from protos.kit.link import Link
from protos.v1.uplink_pb2 import UplinkMessage

DOWNLOADS_FOLDER = "shadow-downloads"
DISAGREEMENTS_FOLDER = "disagreements"


@dataclass(frozen=True, slots=True)
class Challenger:
    """What brings a challenger to this device and runs it."""

    updater: Updater
    desired: DesiredState
    shadow: Shadow

    @property
    def slot_notice(self) -> str:
        """What a person should know of it beside the state of its update."""
        return self.shadow.ended or self.updater.notice

    def tasks(self) -> dict[str, Coroutine[Any, Any, None]]:
        """What is to run beside the agent, by name; each until it is cancelled."""
        return {"shadow": self.shadow.run(), "challenger": self._work(), "desired challenger": self.desired.run()}

    async def _work(self) -> None:
        await self.updater.serve()
        await self.updater.run()


def put_together(
    settings: EdgeSettings,
    champion: str,
    *,
    link: Link,
    trust: Trust,
    identity: DeviceIdentity,
    beside: ModelStore,
    offer: Callable[[UplinkMessage], None],
    turns: Turns,
    sample: Keep,
    tell: Tell,
) -> Challenger:
    """The challenger to the champion in the slot of this name, whose models are `beside`. turns: of all slots.

    Frames on which they disagree are kept on the device, and given to `sample`; `tell` hears what a person should know.
    """
    slot, pace = topics.shadow_slot(champion), delivery.Limits(settings.delivery_rate, settings.delivery_jitter_s)
    memory, folder = Memory(settings.dir, slot), Folder(settings.dir / DISAGREEMENTS_FOLDER, settings.shadow_bytes)
    ports = Ports(lambda: updater.update.target, offer, folder, each(folder, sample), tell)
    shadow = Shadow(champion, Record(settings.dir, champion), ports, settings.shadow_s)
    steps = Steps(
        OneAtATime(Fetcher(link, trust, settings.dir / DOWNLOADS_FOLDER, pace), turns),
        ModelStore.open(settings.dir / "models", slot),
        shadow,
        Limits(settings.trial_s, settings.golden_timeout_s, threads=1),
        Facts(platform.machine(), agent_version(), operators.known()),
        beside=[beside],
    )
    shadow.on_ended = steps.ended
    updater = Updater(settings.id, memory, steps, identity.sign, now_ms)
    updater.tell = tell
    desired = DesiredState(link, updater, settings.id, slot, trust)
    return Challenger(updater, desired, shadow)
