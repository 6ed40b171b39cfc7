"""A sample is stored once its bytes are; equal frames share a file; what is dropped leaves nothing behind."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cloud.samples.entities import Answer, InvalidPolicy, Offer, Policy, UnknownPolicy, UnknownSample, Wanted
from cloud.samples.rules import MAX_POLICIES
from cloud.samples.store_frames import DatabaseFrames, DatabaseParts
from protos.v1.report_pb2 import Report
from tests.samples_cloud import FRAME_BYTES, SamplesCloud, samples_cloud

DAY_MS = 86_400_000
NOW_MS = 20_000 * DAY_MS
STORED = Answer(stored=True)


@pytest.fixture(params=["folder", "database"])
def cloud(request: pytest.FixtureRequest, database_url: str, tmp_path: Path) -> Iterator[SamplesCloud]:
    made = samples_cloud(database_url, tmp_path / "cloud", in_database=request.param == "database")
    yield made
    made.database.close()


@pytest.fixture
def on_disk(database_url: str, tmp_path: Path) -> Iterator[SamplesCloud]:
    made = samples_cloud(database_url, tmp_path / "cloud")
    yield made
    made.database.close()


def picture(number: int) -> bytes:
    return number.to_bytes(4, "big") * (FRAME_BYTES // 4)


def offer(cloud: SamplesCloud, number: int, frame: int | None = None) -> Offer:
    digest, manifest = hashlib.sha256(picture(number)).digest(), cloud.version.manifest_digest
    frame = number if frame is None else frame
    return Offer(digest, FRAME_BYTES, "camera", frame, 5, "digits", 1, manifest, 3, 0.25, "low confidence")


def upload(cloud: SamplesCloud, number: int, device: str = "edge-1", now_ms: int = NOW_MS) -> None:
    offered = offer(cloud, number)
    if cloud.samples.offered(device, offered, now_ms) != STORED:
        assert cloud.samples.piece(device, offered, 0, picture(number), now_ms) == STORED


def frames(cloud: SamplesCloud) -> list[int]:
    return [one.offer.frame for one in cloud.samples.listed(Wanted())]


def test_a_frame_that_has_come_whole_is_a_sample(cloud: SamplesCloud) -> None:
    offered = offer(cloud, 7)
    assert cloud.samples.offered("edge-1", offered, NOW_MS) == Answer(offset=0)
    assert cloud.samples.piece("edge-1", offered, 0, picture(7)[:30_000], NOW_MS) == Answer(offset=30_000)
    assert frames(cloud) == []
    assert cloud.samples.piece("edge-1", offered, 30_000, picture(7)[30_000:], NOW_MS) == STORED
    (found,) = cloud.samples.listed(Wanted())
    assert (found.device, found.offer, found.received_ms, found.result) == ("edge-1", offered, NOW_MS, None)
    assert cloud.samples.frame(cloud.samples.sample(found.id)) == picture(7)
    assert cloud.samples.offered("edge-1", offer(cloud, 8), NOW_MS) == Answer(offset=0)


def test_it_goes_on_where_the_bytes_end_and_takes_none_beyond(cloud: SamplesCloud) -> None:
    offered = offer(cloud, 7)
    cloud.samples.piece("edge-1", offered, 0, picture(7)[:1000], NOW_MS)
    assert cloud.samples.offered("edge-1", offered, NOW_MS) == Answer(offset=1000)
    assert cloud.samples.piece("edge-1", offered, 2000, b"x" * 10, NOW_MS) == Answer(offset=1000)
    assert cloud.samples.piece("edge-1", offered, 1000, b"x" * FRAME_BYTES, NOW_MS) == Answer(offset=1000)
    assert cloud.samples.piece("edge-1", offered, 500, picture(7)[500:2000], NOW_MS) == Answer(offset=2000)


def test_bytes_with_another_digest_are_no_sample_and_have_to_come_again(cloud: SamplesCloud) -> None:
    offered = offer(cloud, 7)
    assert cloud.samples.piece("edge-1", offered, 0, picture(8), NOW_MS) == Answer(wrong=True)
    assert frames(cloud) == []
    assert cloud.stored == []
    assert cloud.samples.piece("edge-1", offered, 0, picture(7), NOW_MS) == STORED


def test_equal_frames_of_two_devices_are_stored_once(cloud: SamplesCloud) -> None:
    upload(cloud, 7, "edge-1")
    assert cloud.samples.offered("edge-2", offer(cloud, 7), NOW_MS) == STORED
    assert [one.device for one in cloud.samples.listed(Wanted())] == ["edge-2", "edge-1"]
    assert len(cloud.stored) == 1
    assert (cloud.samples.totals().samples, cloud.samples.totals().bytes) == (2, FRAME_BYTES)


def test_the_same_sample_again_changes_nothing(cloud: SamplesCloud) -> None:
    upload(cloud, 7)
    upload(cloud, 7)
    assert frames(cloud) == [7]


def test_a_file_that_was_lost_is_asked_for_again(on_disk: SamplesCloud) -> None:
    upload(on_disk, 7)
    on_disk.files[0].unlink()
    assert on_disk.samples.offered("edge-2", offer(on_disk, 7), NOW_MS) == Answer(offset=0)


def test_what_is_too_old_is_dropped_and_its_files_unless_a_newer_sample_has_the_same_frame(cloud: SamplesCloud) -> None:
    upload(cloud, 1, now_ms=NOW_MS - 3 * DAY_MS)
    upload(cloud, 2, now_ms=NOW_MS - 3 * DAY_MS)
    upload(cloud, 2, "edge-2")
    assert cloud.samples.expire(NOW_MS, days=2, most_bytes=0) == 2
    assert [(one.device, one.offer.frame) for one in cloud.samples.listed(Wanted())] == [("edge-2", 2)]
    assert cloud.stored == [offer(cloud, 2).digest.hex()]


def test_what_is_too_much_is_dropped_the_oldest_first(cloud: SamplesCloud) -> None:
    for number in range(1, 61):
        upload(cloud, number, now_ms=NOW_MS + number)
    cloud.samples.expire(NOW_MS, days=0, most_bytes=20 * FRAME_BYTES)
    left = frames(cloud)
    assert left == list(range(60, 60 - len(left), -1))
    assert 0 < len(left) <= 20
    assert len(cloud.stored) == len(left)


def test_files_that_nobody_knows_and_parts_that_nobody_finishes_go_in_time(on_disk: SamplesCloud) -> None:
    cloud = on_disk
    upload(cloud, 1)
    upload(cloud, 2)
    orphan = cloud.folder / "frames" / "ab" / ("ab" * 32)
    orphan.parent.mkdir(exist_ok=True)
    orphan.write_bytes(b"written, and killed before its row")
    unfinished = orphan.with_name(f".{orphan.name}.x.unfinished")
    unfinished.write_bytes(b"killed while it was writ")
    cloud.samples.piece("edge-1", offer(cloud, 3), 0, b"part", NOW_MS)
    (part,) = (cloud.folder / "partials").iterdir()
    now_s = part.stat().st_mtime
    cloud.samples.expire(int(now_s * 1000), 0, 0)
    assert (orphan.exists(), unfinished.exists(), part.exists()) == (True, True, True)
    cloud.samples.expire(int(now_s + 8 * 86_400) * 1000, 0, 0)
    assert (orphan.exists(), unfinished.exists(), part.exists()) == (False, False, False)
    assert len(cloud.files) == 2


def test_rows_that_nobody_knows_and_parts_that_nobody_finishes_go_in_time(database_url: str, tmp_path: Path) -> None:
    cloud = samples_cloud(database_url, tmp_path / "cloud", in_database=True)
    upload(cloud, 1)
    kept, parts = DatabaseFrames(cloud.database), DatabaseParts(cloud.database)
    orphan = kept.put(b"written, and killed before its row")
    cloud.samples.piece("edge-1", offer(cloud, 3), 0, b"part", NOW_MS)
    now_ms = int(time.time() * 1000)
    cloud.samples.expire(now_ms, 0, 0)
    assert (kept.size(orphan), parts.length("edge-1", offer(cloud, 3).digest)) == (34, 4)
    cloud.samples.expire(now_ms + 8 * DAY_MS, 0, 0)
    assert (kept.size(orphan), parts.length("edge-1", offer(cloud, 3).digest)) == (None, 0)
    assert cloud.stored == [offer(cloud, 1).digest.hex()]
    cloud.database.close()


def test_a_frame_that_begins_at_one_replica_ends_at_another(database_url: str, tmp_path: Path) -> None:
    one, other = (samples_cloud(database_url, tmp_path / name, in_database=True) for name in ("one", "other"))
    offered = offer(one, 7)
    assert one.samples.piece("edge-1", offered, 0, picture(7)[:30_000], NOW_MS) == Answer(offset=30_000)
    assert other.samples.offered("edge-1", offered, NOW_MS) == Answer(offset=30_000)
    assert other.samples.piece("edge-1", offered, 30_000, picture(7)[30_000:], NOW_MS) == STORED
    (found,) = one.samples.listed(Wanted())
    assert one.samples.frame(found) == picture(7)
    for replica in (one, other):
        replica.database.close()


def test_samples_are_found_by_what_they_are_and_paged(cloud: SamplesCloud) -> None:
    for number in range(1, 6):
        upload(cloud, number, f"edge-{number % 2}")
    assert [one.offer.frame for one in cloud.samples.listed(Wanted(device="edge-1"))] == [5, 3, 1]
    assert [one.offer.frame for one in cloud.samples.listed(Wanted(source="camera", frame=3))] == [3]
    assert cloud.samples.listed(Wanted(reason="random")) == []
    assert cloud.samples.listed(Wanted(model="faces")) == []
    page = cloud.samples.listed(Wanted(limit=2))
    assert [one.offer.frame for one in cloud.samples.listed(Wanted(before=page[-1].id))] == [3, 2, 1]


def test_a_sample_that_is_not_there_is_named(cloud: SamplesCloud) -> None:
    with pytest.raises(UnknownSample, match="no sample 9"):
        cloud.samples.sample(9)


def test_policies_reach_the_devices_that_their_labels_fit(cloud: SamplesCloud) -> None:
    report = Report(device="edge-1", public_key=b"k" * 32, labels={"site": "harbour"}, reported_ms=NOW_MS)
    assert cloud.fleet.observe(report, NOW_MS) == []
    cloud.samples.set_policy(Policy("all", 10, share=0.1))
    cloud.samples.set_policy(Policy("harbour", 10, selector={"site": "harbour"}, below=0.5))
    for asked in (["edge-1", "edge-2"], ["edge-1"], ["edge-2"]):
        followed = cloud.samples.followed_by(asked)
        for device in asked:
            names = [one.name for one in followed[device]]
            assert names == (["harbour", "all"] if device == "edge-1" else ["all"])


def test_a_policy_of_the_same_name_takes_the_place_of_the_one_before(cloud: SamplesCloud) -> None:
    cloud.samples.set_policy(Policy("p", 10, below=0.5))
    cloud.samples.set_policy(Policy("p", 20, below=0.25))
    assert cloud.samples.policies() == [Policy("p", 20, below=0.25)]
    cloud.samples.remove_policy("p")
    with pytest.raises(UnknownPolicy, match="no sample policy 'p'"):
        cloud.samples.remove_policy("p")


def test_there_are_only_so_many_policies(cloud: SamplesCloud) -> None:
    for number in range(MAX_POLICIES):
        cloud.samples.set_policy(Policy(f"p{number}", 10, below=0.5))
    with pytest.raises(InvalidPolicy, match="remove one first"):
        cloud.samples.set_policy(Policy("one-more", 10, below=0.5))
    cloud.samples.set_policy(Policy("p0", 20, below=0.5))
