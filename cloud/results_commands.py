"""`littoral results`: the uplink's commands, and the export, which asks another room for the results' samples."""

from __future__ import annotations

from cloud.samples import store_links
from cloud.uplink.commands import results
from cloud.uplink.export_commands import export_command

__all__ = ["results"]

results.add_command(export_command(store_links.of_frames))
