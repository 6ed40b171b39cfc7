"""How what is measured on a device is judged: pure."""

from __future__ import annotations

from edge.foundation import clock
from edge.operating.entities import Finding, Level

MEBIBYTE = 1024 * 1024
LEAST_FREE_BYTES = 64 * MEBIBYTE
"""For models, metadata and what a database needs to work; below it the next update fails."""

LEAST_FREE_FILES = 100
MOST_SKEW_MS = 5 * 60 * 1000
SOON_MS = 14 * 24 * 3600 * 1000
"""Whoever has to sign a new root with offline keys wants to know it so long before."""

SET_CLOCK = "set the clock, by NTP where there is a network (systemd-timesyncd, chrony), else by hand"


def judged_clock(now_ms: int, cloud_ms: int | None) -> Finding:
    """cloud_ms: the time that the cloud's API told at the same moment; None: it told none."""
    shown = f"it is {clock.text(now_ms)}"
    if now_ms < clock.EARLIEST_MS:
        return Finding("clock", Level.FAILURE, f"{shown}, which is before this software was made", SET_CLOCK)
    if cloud_ms is None:
        return Finding("clock", Level.OK, shown)
    if abs(now_ms - cloud_ms) > MOST_SKEW_MS:
        found = f"{shown}, the cloud says {clock.text(cloud_ms)}"
        return Finding("clock", Level.WARNING, found, f"{SET_CLOCK}: results bear this device's time")
    return Finding("clock", Level.OK, f"{shown}, within {MOST_SKEW_MS // 60_000} minutes of the cloud's")


def judged_space(free_bytes: int, free_files: int, outbox_bytes: int, held_bytes: int) -> Finding:
    """outbox_bytes: what the outboxes may come to hold; held_bytes: what they hold."""
    free = f"{free_bytes // MEBIBYTE} MiB are free"
    if free_bytes < LEAST_FREE_BYTES:
        mend = f"make room: {LEAST_FREE_BYTES // MEBIBYTE} MiB are the least for a new model and the outbox's work"
        return Finding("disk space", Level.FAILURE, free, mend)
    if free_files < LEAST_FREE_FILES:
        return Finding("disk space", Level.FAILURE, f"{free_files} files can still be made", "remove files of no use")
    if free_bytes < LEAST_FREE_BYTES + outbox_bytes - held_bytes:
        found = f"{free}, while what waits for the cloud may take up to {outbox_bytes // MEBIBYTE} MiB"
        return Finding("disk space", Level.WARNING, found, "make room, or set outbox_bytes lower")
    return Finding("disk space", Level.OK, free)


def judged_expiry(name: str, expires_ms: int, now_ms: int, renew: str) -> Finding:
    """Of something signed that holds until then. renew: who does what to have a newer one."""
    now_ms = clock.at_least(now_ms)
    if expires_ms <= now_ms:
        return Finding(name, Level.FAILURE, f"expired at {clock.text(expires_ms)}: nothing new is installed", renew)
    return Finding(name, Level.OK, f"holds until {clock.text(expires_ms)}")


def judged_root(expires_ms: int, now_ms: int) -> Finding:
    """The root of trust: it takes a person with offline keys to renew it, so an expiry that is near is a warning."""
    renew = "have the cloud's operator sign a newer root with the offline keys (docs/trust.md)"
    finding = judged_expiry("trust root", expires_ms, now_ms, renew)
    if finding.level is Level.OK and expires_ms - clock.at_least(now_ms) < SOON_MS:
        return Finding(finding.name, Level.WARNING, f"{finding.found}, which is soon", renew)
    return finding


def judged_threads(threads: int, cores: int) -> Finding:
    """Threads of the interpreter beside the cores that this process may use."""
    found = f"{threads} of {cores} cores for the interpreter"
    if threads > cores:
        return Finding("threads", Level.WARNING, found, "set threads no higher than the cores: more only cost")
    return Finding("threads", Level.OK, found)
