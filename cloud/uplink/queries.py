"""What people, dashboards and programs ask about results: one method for each question, synchronous."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from cloud.foundation.database import Database
from cloud.uplink import store_queries
from cloud.uplink.questions import (
    MAX_BUCKETS,
    MAX_PAGE,
    Account,
    Bucket,
    Group,
    InvalidQuestion,
    Page,
    Place,
    Which,
)
from cloud.uplink.sampled import SamplesOf, no_samples


class Queries:
    """Answers from the database; may be called from any thread."""

    def __init__(self, database: Database, samples_of: SamplesOf = no_samples) -> None:
        self._database = database
        self._samples_of = samples_of

    def results(self, which: Which, after: Place | None = None, limit: int = 100) -> Page:
        """A page of results, newest first, behind `after`. Raises InvalidQuestion."""
        if not 0 < limit <= MAX_PAGE:
            raise InvalidQuestion(f"limit {limit}: a page has 1 to {MAX_PAGE} results")
        with self._database.reading() as connection, store_queries.bounded(connection):
            rows = store_queries.page(connection, which, after, limit + 1)
            found = store_queries.named(connection, rows[:limit], self._samples_of)
        return Page(found, rows[limit - 1].place if len(rows) > limit else None)

    def in_chunks(self, which: Which, rows: int) -> Iterator[dict[str, Sequence[Any]]]:
        """All results that are meant, oldest first, as columns of at most so many rows, as `store_queries.chunks`."""
        with self._database.reading() as connection:
            yield from store_queries.chunks(connection, which, rows, self._samples_of)

    def account(self, which: Which, bucket: Bucket, groups: Iterable[Group] = ()) -> list[Account]:
        """Counts and histograms by time, read from what was kept as results arrived. Raises InvalidQuestion.

        Of a time that begins or ends within a minute, the whole minute is meant.
        """
        if which.min_confidence is not None or which.max_confidence is not None:
            raise InvalidQuestion("the account is not kept by confidence: its histogram tells how many had which")
        if which.frame is not None:
            raise InvalidQuestion("the account is not kept by frame: ask for the frame's results")
        with self._database.reading() as connection, store_queries.bounded(connection):
            found = store_queries.account(connection, which, bucket, frozenset(groups), MAX_BUCKETS + 1)
        if len(found) > MAX_BUCKETS:
            raise InvalidQuestion(
                f"that are more than {MAX_BUCKETS} entries: ask for longer buckets, a shorter time or fewer groups"
            )
        return found
