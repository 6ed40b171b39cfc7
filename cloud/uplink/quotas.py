"""How much one device may send: token buckets for rows and bytes, by device, whichever of its streams they come over.

What comes is taken, and may bring a bucket into debt; the device then waits until the debt is paid. So a batch larger
than a second's share passes, and over time nobody sends more than the quota.
"""

from __future__ import annotations

from dataclasses import dataclass

from cloud.uplink.rules import Bucket, spent, wait_s

MAX_DEVICES = 10_000
"""Devices whose buckets are remembered before those are forgotten that owe nothing."""


@dataclass(frozen=True, slots=True)
class Quota:
    """Of one device, each second; 0: no limit."""

    rows_s: int = 0
    bytes_s: int = 0


class Quotas:
    """The buckets of all devices that stream to this process."""

    def __init__(self, quota: Quota | None = None) -> None:
        self._quota = quota or Quota()
        self._buckets: dict[str, tuple[Bucket, Bucket]] = {}

    @property
    def limited(self) -> bool:
        """Whether there is any limit."""
        return bool(self._quota.rows_s or self._quota.bytes_s)

    def spend(self, device: str, rows: int, size: int, now_s: float) -> float:
        """Take what a device has sent from its buckets; returns for how many seconds it should wait."""
        row_bucket, byte_bucket = self._buckets.get(device, (Bucket(), Bucket()))
        row_bucket = spent(row_bucket, rows, self._quota.rows_s, now_s)
        byte_bucket = spent(byte_bucket, size, self._quota.bytes_s, now_s)
        self._buckets[device] = row_bucket, byte_bucket
        if len(self._buckets) > MAX_DEVICES:
            self._forget(now_s)
        return max(wait_s(row_bucket, self._quota.rows_s), wait_s(byte_bucket, self._quota.bytes_s))

    def _forget(self, now_s: float) -> None:
        quota = self._quota
        self._buckets = {
            device: (rows, size)
            for device, (rows, size) in self._buckets.items()
            if spent(rows, 0, quota.rows_s, now_s).debt or spent(size, 0, quota.bytes_s, now_s).debt
        }
