"""What is looked at beyond the device: broker, uplink, API. Under another name than the agent's, which goes on."""

from __future__ import annotations

import asyncio
from email.utils import parsedate_to_datetime

import aiomqtt
import grpc.aio
import urllib3

from edge.operating.entities import Finding, Level
from protos.kit.address import Address
from protos.kit.client import Client
from protos.kit.session import Mqtt, Versions
from protos.topics import MAX_METADATA_BYTES

PATIENCE_S = 10.0
NOT_LET_IN = frozenset({4, 5, 0x86, 0x87})
"""CONNACK's codes for a wrong name or password, and for one without rights: MQTT 3.1.1's and 5's."""

HTTP_OK = 200


async def broker(url: str, device: str, mqtt: Mqtt) -> Finding:
    """Whether it can be reached and lets this device in."""
    address, versions = Address.parse(url), Versions(mqtt)
    while True:
        version = versions.next
        try:
            async with asyncio.timeout(PATIENCE_S):
                async with Client(address, f"littoral-{device}-doctor", None, version, _ignored):
                    return Finding("broker", Level.OK, f"{address} lets this device in, MQTT {version.name}")
        except (aiomqtt.MqttError, OSError) as error:
            if not versions.failed(error):
                return _broker_failed(address, error)


def _ignored(_: str, __: bytes) -> bool:
    return True


def _broker_failed(address: Address, error: Exception) -> Finding:
    if getattr(getattr(error, "rc", None), "value", None) in NOT_LET_IN:
        mend = "put the right name and password into the setting broker: mqtt://name:password@host"
        return Finding("broker", Level.FAILURE, f"{address} does not let this device in: {error}", mend)
    why = str(error.__cause__ or error) or f"no answer in {PATIENCE_S:g} s"
    mend = "see that the address in the setting broker is right, the broker runs, and no firewall is between"
    return Finding("broker", Level.FAILURE, f"{address} cannot be reached: {why}", mend)


async def uplink(target: str) -> Finding:
    """Whether the ingest takes connections."""
    async with grpc.aio.insecure_channel(target) as channel:
        try:
            async with asyncio.timeout(PATIENCE_S):
                await channel.channel_ready()
        except TimeoutError:
            mend = "see that the setting uplink is right and the cloud's ingest runs; results are kept until then"
            return Finding("uplink", Level.FAILURE, f"{target} took no connection in {PATIENCE_S:g} s", mend)
    return Finding("uplink", Level.OK, f"{target} takes connections")


async def api(address: str) -> tuple[Finding, int | None]:
    """Whether the cloud's API brings metadata, and the time that it told, Unix milliseconds."""
    if not address:
        return Finding("api", Level.OK, "not set: metadata comes by the broker alone"), None
    try:
        return await asyncio.to_thread(_asked, address)
    except (urllib3.exceptions.HTTPError, ValueError, TypeError) as error:
        mend = "see that the setting api is right and the cloud's API runs"
        return Finding("api", Level.FAILURE, f"{address} cannot be asked: {error}", mend), None


def _asked(address: str) -> tuple[Finding, int | None]:
    url = f"{address}/api/v1/metadata/timestamp.json"
    timeout = urllib3.Timeout(total=PATIENCE_S)
    answer = urllib3.request("GET", url, retries=False, timeout=timeout, redirect=False, preload_content=False)
    try:
        answer.read(MAX_METADATA_BYTES)
        date = answer.headers.get("Date")
        told_ms = int(parsedate_to_datetime(date).timestamp() * 1000) if date else None
    finally:
        answer.close()
    if answer.status != HTTP_OK:
        mend = "see that this is the address of a Littoral cloud's API"
        return Finding("api", Level.FAILURE, f"{url} answers {answer.status}", mend), told_ms
    return Finding("api", Level.OK, f"{address} brings metadata"), told_ms
