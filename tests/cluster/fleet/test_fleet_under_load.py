"""Upgrades, rollbacks and kills while sensors run: nothing is lost, and nothing is there twice."""

from __future__ import annotations

from tests.charts import HELM
from tests.cluster.fleet import sensors_kit
from tests.cluster.fleet.fleet_kit import AGENTS, CLOUD, EDGE, Fleet
from tests.cluster.fleet.images_kit import NEXT, NOW
from tests.waiting import until

COMPONENT = "app.kubernetes.io/component"
RELEASES = {"littoral": CLOUD, "littoral-edge": EDGE}


def _tags(fleet: Fleet) -> set[str]:
    """The tags of the images of all pods of our own that run."""
    pods = [pod for namespace in RELEASES.values() for pod in fleet.listed(namespace=namespace)]
    images = [pod["spec"]["containers"][0]["image"] for pod in pods if pod["status"]["phase"] == "Running"]
    return {image.split(":")[1] for image in images if image.startswith(("littoral-cloud:", "littoral-edge:"))}


def _kill(fleet: Fleet, namespace: str, *pods: str) -> None:
    fleet.kubectl("-n", namespace, "delete", "pod", *pods, "--grace-period=0", "--force")


def test_an_upgrade_of_both_charts_and_its_rollback_lose_and_double_nothing(fed: Fleet) -> None:
    for release, namespace in RELEASES.items():
        tag = f"image.tag={NEXT}"
        fed.helm("-n", namespace, "upgrade", release, str(HELM / release), "--reset-then-reuse-values", "--set", tag)
    fed.rolled_out()
    until(lambda: _tags(fed) == {NEXT})

    for release, namespace in RELEASES.items():
        fed.helm("-n", namespace, "rollback", release)
    fed.rolled_out()
    until(lambda: _tags(fed) == {NOW})

    assert sensors_kit.books(fed) == {(0, 0)}


def test_an_ingest_the_controller_and_an_agent_are_killed_and_the_rollout_goes_on(fed: Fleet) -> None:
    version = fed.train("killed", 1)
    fed.roll_out("killed", version)
    until(lambda: fed.phase("killed") == "Progressing")

    # All controllers, for only one of them is active.
    _kill(fed, CLOUD, *fed.pods(f"{COMPONENT}=ingest")[:1], *fed.pods(f"{COMPONENT}=controller"))
    _kill(fed, EDGE, *fed.pods(AGENTS, EDGE)[:1])

    fed.succeeded("killed")
    assert set(fed.versions().values()) == {version}
    assert sensors_kit.books(fed) == {(0, 0)}
