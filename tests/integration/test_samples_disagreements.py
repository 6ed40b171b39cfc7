"""Frames that champion and challenger answer differently come to the cloud, by `littoral serve` and an agent."""

from __future__ import annotations

from pathlib import Path

from tests import tiny_models
from tests.integration.loop_kit import Loop, play
from tests.integration.test_shadow_loop import challenged, good_and_other

POLICY = {"model": "tiny", "disagreement": True, "bytes_per_day": 1000}
FRAMES = tiny_models.frames()


def test_disagreements_come_to_the_cloud_within_the_budget_with_the_champions_results(tmp_path: Path) -> None:
    async def scene(loop: Loop) -> None:
        (await loop.api.put("/api/v1/sample-policies/differ", json=POLICY)).raise_for_status()
        await challenged(loop)
        await loop.device.logged("samples are chosen by new policies")
        await loop.feed(FRAMES)
        found = await loop.until(lambda: loop.get("/samples"), lambda found: len(found) == 2)
        assert sorted((one["frame"], one["label"], one["version"], one["reason"]) for one in found) == [
            (3, 2, 1, "disagreement"),
            (4, 3, 1, "disagreement"),
        ]
        for one in found:
            assert one["result"], "a sample comes after its result"
            data = (await loop.api.get(f"/api/v1/samples/{one['id']}/frame")).content
            assert data == FRAMES[one["frame"] - 1].tobytes()

    play(tmp_path, good_and_other, scene)
