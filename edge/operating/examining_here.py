"""What is looked at on the device itself. Nothing of it is changed but one small file, written and removed."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import Mapping
from pathlib import Path

from tuf.api.metadata import Metadata, Root

from edge.delivery.trust_client import expires_ms
from edge.foundation import clock
from edge.foundation.disk import told
from edge.identity.service import KEY_FILE, read_root
from edge.inference import operators
from edge.models import places
from edge.operating import rules
from edge.operating.entities import Finding, Level
from edge.reporting import local
from edge.update import prover
from edge.uplink import peek
from protos.kit.files import write_durably
from protos.kit.keys import KeysFailed
from protos.kit.kinds import Kind

UNITS = {Kind.RESULTS: "results", Kind.EVENTS: "events", Kind.TELEMETRY: "intervals"}
ROOT_FILE = "root.json"
PROBE = "doctor.probe"
OTHERS = stat.S_IRWXG | stat.S_IRWXO


def folder(directory: Path) -> Finding:
    """Whether the data folder takes files that last."""
    if not directory.exists():
        mend = "name the agent's folder with --dir, or start the agent, which makes it"
        return Finding("data folder", Level.WARNING, f"{directory} does not exist yet", mend)
    probe = directory / PROBE
    try:
        write_durably(probe, b"written")
        probe.unlink()
    except OSError as error:
        mend = "mend the rights of the folder, or the mount of its disk"
        return Finding("data folder", Level.FAILURE, f"{directory}: {told(error)}", mend)
    return Finding("data folder", Level.OK, f"{directory} can be written")


def space(directory: Path, files: Mapping[Kind, Path], bounds: Mapping[Kind, int]) -> Finding:
    """Whether its disk has room for what may come. files, bounds: of the outboxes."""
    nearest = next(path for path in (directory.absolute(), *directory.absolute().parents) if path.exists())
    disk, depths = os.statvfs(nearest), [peek.depth(file) for file in files.values()]
    # Some file systems count no files: they have room for any number.
    left = disk.f_favail if disk.f_files else rules.LEAST_FREE_FILES
    held = sum(depth.bytes for depth in depths if depth)
    return rules.judged_space(disk.f_bavail * disk.f_frsize, left, sum(bounds.values()), held)


def agent(directory: Path) -> Finding:
    """Whether an agent runs on the folder, and what it complains of."""
    try:
        status = local.ask(directory / local.STATUS_SOCKET)
    except local.NoAnswer:
        mend = "start it: `littoral-edge run`, or `systemctl start littoral-edge`"
        return Finding("agent", Level.WARNING, "does not run", mend)
    complaints = [str(text) for text in [*status["alarms"], status["reason"]] if text]
    if complaints:
        return Finding("agent", Level.WARNING, f"runs, and says: {'; '.join(complaints)}", "see `littoral-edge status`")
    return Finding("agent", Level.OK, f"runs as process {status['pid']}, update {status['state']}")


def key(directory: Path) -> Finding:
    """Whether the device's key is there for the agent alone."""
    path = directory / KEY_FILE
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return Finding("device key", Level.OK, "none yet: the first start makes it")
    except OSError as error:
        return Finding("device key", Level.FAILURE, told(error), f"let the agent's user read {path}")
    if mode & OTHERS:
        found = f"{path} is open to others (mode {stat.S_IMODE(mode):o})"
        return Finding("device key", Level.WARNING, found, f"chmod 600 {path}; if somebody may have read it, forget it")
    return Finding("device key", Level.OK, f"{path} is the agent's alone")


def trust(file: Path, metadata: Path) -> list[Finding]:
    """The file that trust begins with, the newest root, and the newest metadata."""
    try:
        root = read_root(file)
    except KeysFailed as error:
        return [Finding("trust file", Level.FAILURE, str(error), "copy trust.json from the cloud's data folder")]
    if not root:
        mend = "copy the cloud's newer trust.json to this device"
        return [Finding("trust file", Level.FAILURE, f"{file} has no root: nothing is installed by it", mend)]
    return [Finding("trust file", Level.OK, f"{file} has a root that is signed as it says"), *_expiries(root, metadata)]


def _expiries(root: bytes, metadata: Path) -> list[Finding]:
    try:
        newest = (metadata / ROOT_FILE).read_bytes()
    except OSError:
        newest = root  # no newer one has come
    try:
        expires = Metadata[Root].from_bytes(newest).signed.expires
    except Exception as error:  # noqa: BLE001 - tuf's own reader raises what it likes
        mend = f"remove the folder {metadata}: the agent fetches it anew"
        return [Finding("trust root", Level.FAILURE, f"{metadata / ROOT_FILE} is damaged: {error}", mend)]
    found = [rules.judged_root(int(expires.timestamp() * 1000), clock.now_ms())]
    if until := expires_ms(metadata):
        renew = "see that broker or API can be reached, and that the cloud runs: it signs a newer one by itself"
        return [*found, rules.judged_expiry("metadata", until, clock.now_ms(), renew)]
    return [*found, Finding("metadata", Level.WARNING, "none has come yet", "see that broker or API can be reached")]


def interpreter(threads: int) -> list[Finding]:
    """Whether there is one, what it knows, and how many threads it is given."""
    try:
        from edge.inference.engine import Interpreter  # noqa: PLC0415 - what is examined is whether it can be
    except ImportError as error:
        mend = "install the extra: pip install 'littoral[edge]'"
        return [Finding("interpreter", Level.FAILURE, f"none can be loaded: {error}", mend)]
    known = operators.known()
    count = f"knows {len(known)} operators" if known is not None else "does not tell which operators it knows"
    found = Finding("interpreter", Level.OK, f"{Interpreter.__module__} {count}")
    return [found, rules.judged_threads(threads, len(os.sched_getaffinity(0)))]


async def models(folder: Path, timeout_s: float) -> list[Finding]:
    """Whether the committed model of each slot still answers its golden vectors here."""
    slots = await asyncio.to_thread(places.slots, folder)
    if not slots:
        return [Finding("model", Level.OK, "none has come yet")]
    return [await _model(folder / slot, f"model {slot}", timeout_s) for slot in slots]


async def _model(slot: Path, name: str, timeout_s: float) -> Finding:
    damaged = [kept.name for kept in places.kept(slot.parent, slot.name) if kept.place and not kept.installed]
    installed = await asyncio.to_thread(places.committed, slot)
    if installed is None:
        mend = "let the agent run: it fetches the model again; else deploy one"
        return Finding(name, Level.FAILURE if damaged else Level.OK, "none is committed", mend if damaged else "")
    manifest, variant = installed.manifest, installed.variant
    called = f"{manifest.model} version {manifest.version} ({variant.name})"
    try:
        await prover.prove(
            digest=installed.digest,
            manifest=manifest.SerializeToString(),
            artifact=variant.artifact.digest,
            variant=variant.name,
            model=installed.path,
            timeout_s=timeout_s,
        )
    except (prover.NotProved, OSError) as error:
        return Finding(
            name, Level.FAILURE, f"{called}: {error}", "go back (`littoral-edge rollback`), or deploy another"
        )
    if damaged:
        mend = "the disk may be failing: check it; the next deployment replaces what is damaged"
        return Finding(name, Level.WARNING, f"{called} holds; place {', '.join(damaged)} is damaged", mend)
    return Finding(name, Level.OK, f"{called} answers its {len(manifest.golden)} golden vectors")


def outboxes(files: Mapping[Kind, Path], bounds: Mapping[Kind, int]) -> list[Finding]:
    """How full each is, as far as that can be told."""
    return [_outbox(kind, file, bounds[kind]) for kind, file in files.items()]


def _outbox(kind: Kind, path: Path, most_bytes: int) -> Finding:
    name = "outbox" if kind is Kind.RESULTS else f"{kind}"
    depth = peek.depth(path)
    if depth is None:
        return Finding(name, Level.OK, "in use by the agent: see `littoral-edge status`")
    found = f"{depth.rows} {UNITS[kind]} wait, {depth.bytes} bytes, {depth.dropped} dropped"
    if depth.dropped or depth.bytes > most_bytes * 0.9:
        mend = f"see that the uplink can be reached, or raise {name}_bytes"
        return Finding(name, Level.WARNING, found, mend)
    return Finding(name, Level.OK, found)
