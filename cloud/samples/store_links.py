"""From results to their samples, in SQL: which frames of a page, or of a hundred thousand rows, devices have sent."""

from __future__ import annotations

import json
from collections.abc import Collection

from sqlalchemy import Connection, text

from cloud.uplink.questions import Sampled
from cloud.uplink.sampled import Frame

_ASKED = {
    "postgresql": "unnest(CAST(:sources AS int[]), CAST(:frames AS bigint[])) AS asked (source, frame)",
    "sqlite": "(SELECT json_extract(value, '$[0]') AS source, json_extract(value, '$[1]') AS frame "
    "FROM json_each(:pairs)) AS asked",
}
# SQLite looks into tables in the order of a CROSS JOIN: the frames that are asked for come first, however few they are.
_WANTED = """
SELECT asked.source, asked.frame, samples.id, samples.digest FROM {asked}
CROSS JOIN result_sources CROSS JOIN samples
WHERE result_sources.id = asked.source AND samples.device = result_sources.device
AND samples.source = result_sources.source AND samples.frame = asked.frame
ORDER BY samples.id DESC
"""


def of_frames(connection: Connection, frames: Collection[Frame], /) -> dict[Frame, Sampled]:
    """The first sample of each of the frames, a source named by its integer, that has any."""
    if not frames:
        return {}
    dialect = connection.dialect.name
    found = connection.execute(text(_WANTED.format(asked=_ASKED[dialect])), _given(dialect, frames))
    return {(source, frame): Sampled(sample, bytes(digest).hex()) for source, frame, sample, digest in found}


def _given(dialect: str, frames: Collection[Frame]) -> dict[str, object]:
    if dialect == "sqlite":
        return {"pairs": json.dumps(list(frames))}
    # Arrays as the database writes them: of a hundred thousand numbers the driver makes them ten times as slowly.
    sources, numbers = (f"{{{','.join(map(str, column))}}}" for column in zip(*frames, strict=True))
    return {"sources": sources, "frames": numbers}
